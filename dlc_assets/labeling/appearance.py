"""How alike two frames look, by small gray pictures of them: near-duplicates teach nothing new, and cost as much labeling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

_WIDTH, _HEIGHT = 40, 30  # px of a small picture, whatever the frame's own shape
_NOISE = 0.03  # of gray: smaller differences are the camera's noise, or the codec's
_BLOCK = 1 << 22  # numbers of differences that are in memory at a time
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})


def small_picture(frame: np.ndarray) -> np.ndarray:
    """Return what is compared of a frame, (height, width, 3) uint8 RGB: (pixels,) float32, gray, white being 1 above black, with mean 0.

    So a lamp that is turned up a little makes no new frame.
    """
    from PIL import Image

    return _small(Image.fromarray(frame))


def small_picture_of_file(path: Path) -> np.ndarray | None:
    """Return `small_picture` of an image file, None where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("L", (_WIDTH * 4, _HEIGHT * 4))  # a JPEG need not be decoded in full
            return _small(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # SyntaxError: PIL's broken PNG
        return None


def _small(image: object) -> np.ndarray:
    from PIL import Image

    assert isinstance(image, Image.Image)
    gray = (
        np.asarray(image.convert("L").resize((_WIDTH, _HEIGHT), Image.Resampling.BOX), dtype=np.float32).ravel() / 255
    )
    return gray - gray.mean()


def apart(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how unlike a small picture (pixels,) is to each of *others* (n, pixels): (n,) float32.

    It is the mean difference beyond noise. Where the camera stands still, it grows with the part of the animal that is where the
    animal was not before; how large that is depends on the animal's size and contrast, so it is judged by what is `typical`.
    """
    found = np.empty(len(others), np.float32)
    step = max(1, _BLOCK // max(1, len(one)))
    for start in range(0, len(others), step):
        difference = np.abs(others[start : start + step] - one)
        difference -= _NOISE
        found[start : start + step] = np.maximum(difference, 0, out=difference).mean(axis=1)
    return found


def nearest(pictures: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return how unlike each of *pictures* (n, pixels) is to the one of *others* (m, pixels) that is most like it: (n,), inf for none."""
    if not len(others):
        return np.full(len(pictures), np.inf, np.float32)
    return np.array([apart(picture, others).min() for picture in pictures], dtype=np.float32)


def typical(pictures: Sequence[np.ndarray]) -> float:
    """Return how unlike pictures of one recording are to each other on the whole: the median over all pairs; NaN for fewer than two."""
    stacked = np.array(pictures)
    between = [apart(stacked[at], stacked[at + 1 :]) for at in range(len(stacked) - 1)]
    return float(np.median(np.concatenate(between))) if between else float("nan")


def images_below(labeled_data: Path) -> list[Path]:
    """Return the pictures in the folders of a project's labeled-data, labeled or waiting for it, sorted; not DeepLabCut's drawings."""
    folders: Iterable[Path] = labeled_data.iterdir() if labeled_data.is_dir() else ()
    return sorted(
        path
        for folder in folders
        if folder.is_dir() and not folder.name.startswith(".") and not folder.name.endswith("_labeled")
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".") and path.is_file()
    )
