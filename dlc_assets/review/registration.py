"""How two gray pictures of one scene lie to each other: a shift and a rotation, and whether anything vouches for them.

Rigs show long straight edges on a plain floor rather than details, a time stamp that the camera writes into every picture, and an
animal that sleeps where it slept before. So edges are aligned, not points; and a shift counts only where most of the picture's parts that
have edges agree with it, from one side of the picture to the other: a time stamp that stays where it is proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_COARSE = 240  # px of the shorter side, of the pictures in which shift and rotation are searched for
_ROTATIONS = np.arange(-8.0, 8.1, 1.0)  # degrees that are tried; what lies between is found from there
_FARTHEST = 0.25  # of the picture, that a shift is searched for
_TRIED = 6  # of the best guesses
_ROWS, _COLUMNS = 8, 10  # parts of the picture that are asked whether they agree
_LEAST_EDGE = 0.02  # of a part's pixels that are edges, for it to be asked
_LEAST_LIKE = 0.5  # correlation of a part's edges in both pictures
_LEAST_PARTS = 6  # that agree
_LEAST_SHARE = 0.6  # of the parts that are asked
_LEAST_SPAN = 0.4  # of the picture's width and height, between the outermost parts that agree
_SETTLED = (
    0.9  # of the correlation at most that is left two widths of an edge away: along a single straight edge all of it is
)


@dataclass(frozen=True)
class Registration:
    """Where the picture's center went, px, and how far it was turned, degrees clockwise as seen (y points down)."""

    dx: float
    dy: float
    rotation: float
    share: float  # of the picture's parts that have edges, those that agree


def register(before: np.ndarray, now: np.ndarray) -> Registration | None:
    """Return the shift and rotation that lead from *before* to *now*.

    Parameters
    ----------
    before, now
        Shape (height, width), uint8, of one size.

    Returns
    -------
    Registration or None
        None where too little in the pictures stays the same for anybody to tell: a blank wall, darkness, another scene; and where the
        picture was shifted by more than a quarter of its size, or turned by more than eight degrees.
    """
    small, factors = _reduced(before, now)
    one, other = (_edges(picture) for picture in small)
    best: tuple[float, np.ndarray] | None = None
    for guess in _guesses(one, other):
        turn = _refined(one, other, guess, 9)
        share = None if turn is None else _agreement(one, other, turn)
        if turn is not None and share is not None and (best is None or share > best[0]):
            best = share, turn
    if best is None or not _settled(one, other, best[1]):
        return None
    one, other = _edges(before), _edges(now)
    turn = _refined(one, other, _enlarged(best[1], factors), 5)
    share = None if turn is None else _agreement(one, other, turn)
    if turn is None or share is None:
        return None
    center = np.array([(before.shape[1] - 1) / 2, (before.shape[0] - 1) / 2, 1.0])
    dx, dy = turn @ center - center[:2]
    return Registration(float(dx), float(dy), float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0]))), share)


def _reduced(*pictures: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Return small copies of *pictures*, and how many times larger these are, in x and y."""
    import cv2

    height, width = pictures[0].shape
    factor = max(1.0, min(height, width) / _COARSE)
    size = round(width / factor), round(height / factor)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures]
    return small, np.array([width / size[0], height / size[1]])


def _width(picture: np.ndarray) -> float:
    """Return how wide edges are made, px: what is sharper than that is noise."""
    return max(1.5, min(picture.shape) / 320)


def _edges(picture: np.ndarray) -> np.ndarray:
    """Return how much of an edge each pixel is, (height, width) float32, 0 to 1: faint and strong ones alike, whatever the light."""
    import cv2

    smooth = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), _width(picture))
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8))
    floor = 3 * float(np.median(slope)) + 0.5  # grey levels per px, of noise and of light that falls off slowly
    edges: np.ndarray = slope**2 / (slope**2 + np.float32(floor**2))
    return edges


def _guesses(one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """Yield likely shifts and rotations, (2, 3) px: first that there was none, then by how well edges coincide."""
    import cv2

    yield np.eye(2, 3)
    size = one.shape[1], one.shape[0]
    one, other = one - one.mean(), other - other.mean()
    shape = tuple(cv2.getOptimalDFTSize(2 * length) for length in one.shape)
    of_other = np.fft.rfft2(other, shape)
    found = []
    for degrees in _ROTATIONS:
        turned = cv2.getRotationMatrix2D(((size[0] - 1) / 2, (size[1] - 1) / 2), -degrees, 1.0)
        rotated = cv2.warpAffine(one, turned, size)
        likeness = np.fft.irfft2(of_other * np.conj(np.fft.rfft2(rotated, shape)), shape)
        for x, y, height_of_peak in _peaks(likeness, size):
            turn = turned.copy()
            turn[:, 2] += (x, y)
            found.append((height_of_peak, turn))
    found.sort(key=lambda guess: -guess[0])
    for _, turn in found[:_TRIED]:
        yield turn


def _peaks(likeness: np.ndarray, size: tuple[int, int]) -> Iterator[tuple[int, int, float]]:
    """Yield the two highest peaks of a correlation (shift x, y px, and height) within what a shift is searched for."""
    reach_x, reach_y = (max(1, int(_FARTHEST * length)) for length in size)
    near = np.roll(likeness, (reach_y, reach_x), axis=(0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1].copy()
    for _ in range(2):
        y, x = np.unravel_index(int(near.argmax()), near.shape)
        yield int(x) - reach_x, int(y) - reach_y, float(near[y, x])
        near[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = -np.inf


def _enlarged(turn: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return what *turn* of a picture is in one that is so many times larger; pixels' centers lie at whole numbers."""
    offset = (factors - 1) / 2
    return np.column_stack([turn[:, :2], factors * turn[:, 2] + offset - turn[:, :2] @ offset])


def _refined(one: np.ndarray, other: np.ndarray, guess: np.ndarray, smoothed: int) -> np.ndarray | None:
    """Return the shift and rotation near *guess* at which edges coincide best, *smoothed* px wide; None where there is none."""
    import cv2

    steps = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-6
    try:
        _, turn = cv2.findTransformECC(
            one, other, guess.astype(np.float32), cv2.MOTION_EUCLIDEAN, steps, None, smoothed
        )
    except cv2.error:  # it did not converge
        return None
    return np.asarray(turn, dtype=np.float64)


def _warped(one: np.ndarray, other: np.ndarray, turn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return *other* laid onto *one*, and which of its pixels there are, bool."""
    import cv2

    size, flags = (one.shape[1], one.shape[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones_like(other), turn, size, flags=flags) > 0.999
    return cv2.warpAffine(other, turn, size, flags=flags), inside


def _agreement(one: np.ndarray, other: np.ndarray, turn: np.ndarray) -> float | None:
    """Return the share of the picture's parts with edges that coincide after *turn*; None where that vouches for nothing."""
    laid, inside = _warped(one, other, turn)
    rows, columns = (
        np.linspace(0, length, number + 1).astype(int)
        for length, number in zip(one.shape, (_ROWS, _COLUMNS), strict=True)
    )
    asked, agreeing = 0, []
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            part = slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])
            known = inside[part]
            if known.mean() < 0.6:
                continue
            a, b = one[part][known], laid[part][known]
            if max((a > 0.5).mean(), (b > 0.5).mean()) < _LEAST_EDGE:
                continue
            asked += 1
            if _correlation(a, b) >= _LEAST_LIKE:
                agreeing.append((row, column))
    if len(agreeing) < _LEAST_PARTS or len(agreeing) < _LEAST_SHARE * asked:
        return None
    span = np.ptp(np.array(agreeing), axis=0) + 1
    if (span < _LEAST_SPAN * np.array([_ROWS, _COLUMNS])).any():
        return None
    return len(agreeing) / asked


def _settled(one: np.ndarray, other: np.ndarray, turn: np.ndarray) -> bool:
    """Say whether edges coincide less well a little off *turn*, in whichever direction."""
    laid, inside = _warped(one, other, turn)
    best = _correlation(one[inside], laid[inside])
    away = 2 * _width(one) + 1
    for angle in np.arange(0, 2 * np.pi, np.pi / 4):
        off = turn.copy()
        off[:, 2] += away * np.array([np.cos(angle), np.sin(angle)])
        laid, inside = _warped(one, other, off)
        if _correlation(one[inside], laid[inside]) > _SETTLED * best:
            return False
    return True


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    both = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / both if both > 0 else 0.0
