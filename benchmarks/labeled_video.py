"""How fast poses are drawn onto a video, against `deeplabcut.create_labeled_video`, and how memory grows with its length.

Both draw the same five body parts and the skeleton of a rendered animal at 640x480 into a video of every frame, in one process, in
turn, DeepLabCut in its fast mode (the default). It writes MPEG-4 without B-frames, which browsers do not play; ours writes H.264. That
both have every frame and draw points where they belong is looked at, and nothing is compared otherwise. ``--video`` and ``--h5`` take a
real video and DeepLabCut's poses of it instead.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import pickle
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import yaml

from benchmarks.poses import SCORER, medians_in_turn, write_h5
from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.demo.files import encode_video
from dlc_assets.demo.scene import BODYPARTS, SKELETON, Scene, SceneSettings
from dlc_assets.inference.streaming import VideoPart
from dlc_assets.lab.labeled_video_settings import LabeledVideoSettings
from dlc_assets.poses.formats import tracks_from_dlc
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.review.labeled_video import Span, draw_video, look_of
from dlc_assets.review.pose_stretches import SpanPoses
from dlc_assets.video.planes import PictureShape
from dlc_assets.video.probe import probe_video

LEAST_SPEED_RATIO = 1.5
MOST_MEMORY_GROWTH = 50.0  # MB
_SIZE, _RATE = (640, 480), Fraction(30)
_RENDERED = 300  # frames; the walk is played forth and back
_VIDEO, _POSES = "walk.mp4", "truth.h5"
_RADIUS = 4  # px, of a point on both sides
_LIKELIHOOD = 0.99


@dataclass(frozen=True)
class Material:
    """A video, DeepLabCut's poses of it as a data frame, and the pairs of body parts that a line joins."""

    video: Path
    poses: pd.DataFrame
    skeleton: tuple[tuple[str, str], ...]

    @property
    def bodyparts(self) -> list[str]:
        return list(self.poses.columns.get_level_values("bodyparts").unique())


@cache
def _walk() -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pictures of a walk forth and back, and where the body parts are in each."""
    width, height = _SIZE
    scene = Scene(SceneSettings(_RENDERED, _RATE / 2, seed=5, subject_seed=0, width=width, height=height))
    seen = [(picture, points) for picture, points, _ in scene.frames()]
    return seen + seen[-2:0:-1]


def rendered(folder: Path, frames: int) -> Material:
    """Write a video of *frames* frames of a walking animal, and its poses, to *folder*."""
    walk = _walk()
    encode_video(folder / _VIDEO, (walk[index % len(walk)][0] for index in range(frames)), _RATE)
    poses = np.full((frames, len(BODYPARTS), 3), _LIKELIHOOD, np.float32)
    poses[..., :2] = [walk[index % len(walk)][1] for index in range(frames)]
    write_h5(folder / _POSES, poses, BODYPARTS)
    return Material(folder / _VIDEO, pd.DataFrame(pd.read_hdf(folder / _POSES)), SKELETON)


def given(video: Path, h5: Path) -> Material:
    """Return a real *video* and its poses in DeepLabCut's file *h5*; the first body part is joined to each other one."""
    poses = pd.DataFrame(pd.read_hdf(h5))
    first, *others = poses.columns.get_level_values("bodyparts").unique()
    return Material(video, poses, tuple((first, other) for other in others))


class Ours:
    """What `labeled_video` does with one recording, its session probed before, as it always is."""

    def __init__(self, folder: Path, material: Material, *, trail: float = 0.0) -> None:
        probed = probe_video(material.video)
        self.frames, self.size = probed.frame_count, (probed.width, probed.height)
        self.file = folder / "ours.mp4"
        metadata = PoseMetadata(
            model="benchmark",
            version="1",
            session="ses-1",
            recording="top",
            frame_count=self.frames,
            bodyparts=material.bodyparts,
            skeleton=[list(edge) for edge in material.skeleton],
            pcutoff=0.6,
        )
        table = folder / "top.parquet"
        write_pose_table(table, tracks_from_dlc(material.poses), probed.times, metadata)
        self._poses = SpanPoses.open(table, self.frames)
        self._parts = [VideoPart(material.video, self.frames)]
        self._shape = PictureShape.of((0, probed.width, 0, probed.height))
        settings = LabeledVideoSettings(caption=False, point_size=_RADIUS, trail=trail)
        self._look = look_of(settings, self._poses, self._shape)

    def __call__(self) -> None:
        draw_video(self.file, self._parts, self._poses, Span(0, self.frames), self._shape, self._look, size=self.size)


class Theirs:
    """`deeplabcut.create_labeled_video` with the files that an analysis leaves, imported before."""

    def __init__(self, folder: Path, material: Material) -> None:
        from deeplabcut import create_labeled_video

        self._label, self._video = create_labeled_video, material.video
        self._folder = folder / "deeplabcut"
        self._folder.mkdir()
        self._config = self._folder / "config.yaml"
        with av.open(str(material.video)) as container:
            width, height = container.streams.video[0].width, container.streams.video[0].height
        config = {
            "Task": "walker",
            "scorer": "Benchmark",
            "date": "Jan1",
            "multianimalproject": False,
            "identity": None,
            "project_path": str(self._folder),
            "engine": "pytorch",
            "video_sets": {str(material.video): {"crop": f"0, {width}, 0, {height}"}},
            "bodyparts": material.bodyparts,
            "skeleton": [list(edge) for edge in material.skeleton],
            "skeleton_color": "white",
            "dotsize": _RADIUS,
            "alphavalue": 0.7,
            "colormap": "rainbow",
            "pcutoff": 0.6,
            "TrainingFraction": [0.95],
            "iteration": 0,
        }
        self._config.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
        stem = f"{material.video.stem}{SCORER}"
        values = material.poses.to_numpy(np.float32).reshape(len(material.poses), -1, 3)
        write_h5(self._folder / f"{stem}.h5", values, material.bodyparts)
        said = {"data": {"cropping": False, "cropping_parameters": [0, width, 0, height]}}
        (self._folder / f"{stem}_meta.pickle").write_bytes(pickle.dumps(said))

    @property
    def file(self) -> Path:
        return next(self._folder.glob("*_labeled.mp4"))

    def __call__(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            made = self._label(
                str(self._config),
                [str(self._video)],
                destfolder=str(self._folder),
                draw_skeleton=True,
                overwrite=True,
                init_weights=SCORER.removeprefix("DLC_"),  # names the h5 without looking for a trained network
            )
        if made != [True]:
            raise AssertionError(f"deeplabcut.create_labeled_video made no video: it returned {made}")


def measure(folder: Path, material: Material, repeats: int) -> dict[str, Any]:
    """Return seconds, sizes and formats of both sides.

    Raises
    ------
    AssertionError
        One of them has not every frame, or shows no points: then there is nothing to compare.
    """
    ours, theirs = Ours(folder, material), Theirs(folder, material)
    seconds = medians_in_turn({"ours": ours, "deeplabcut": theirs}, repeats)
    for side in (ours, theirs):
        _check(side.file, material, ours.frames)
    return {
        "frames": ours.frames,
        "bodyparts": len(material.bodyparts),
        "size": list(ours.size),
        "seconds": seconds,
        "frames_per_second": {side: ours.frames / each for side, each in seconds.items()},
        "size_mb": {"ours": ours.file.stat().st_size / 1e6, "deeplabcut": theirs.file.stat().st_size / 1e6},
        "codec": {"ours": _codec(ours.file), "deeplabcut": _codec(theirs.file)},
    }


def _codec(video: Path) -> str:
    with av.open(str(video)) as container:
        return str(container.streams.video[0].codec_context.name)


def _check(labeled: Path, material: Material, frames: int) -> None:
    """Make sure that *labeled* has all frames, and differs from the video's picture where points of a frame in the middle are."""
    count, middle = 0, frames // 2
    for number, (picture, original) in enumerate(_side_by_side(labeled, material.video)):
        count += 1
        if number == middle:
            values = material.poses.iloc[middle].to_numpy().reshape(-1, 3)
            places = [(round(x), round(y)) for x, y, likelihood in values if likelihood > 0.6]
            changed = [np.abs(picture[y, x].astype(int) - original[y, x]).max() > 20 for x, y in places]
            if np.mean(changed) < 0.5:
                raise AssertionError(f"{labeled}: in frame {middle}, nothing is drawn at {places}")
    if count != frames:
        raise AssertionError(f"{labeled} has {count} frames, the video {frames}")


def _side_by_side(one: Path, other: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    with av.open(str(one)) as first, av.open(str(other)) as second:
        for frame, original in zip(first.decode(video=0), second.decode(video=0), strict=True):
            yield frame.to_ndarray(format="rgb24"), original.to_ndarray(format="rgb24")


def peak_of_labeling(folder: Path) -> float:
    """Return the most memory (MB) that this process ever had resident, after labeling what `rendered` wrote to *folder*, with trails."""
    poses = pd.DataFrame(pd.read_hdf(folder / _POSES))
    Ours(folder, Material(folder / _VIDEO, poses, SKELETON), trail=1.0)()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def run(frames: int, repeats: int, video: Path | None, h5: Path | None) -> dict[str, Any]:
    """Measure both sides and compare them with the limits."""
    on = machine()
    peaks = {}
    for length in (_RENDERED, 10 * _RENDERED):
        with (
            tempfile.TemporaryDirectory() as place,
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
        ):
            rendered(Path(place), length)
            peaks[length] = process.submit(peak_of_labeling, Path(place)).result()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        material = rendered(folder, frames) if video is None or h5 is None else given(video, h5)
        measured = measure(folder, material, repeats)
    seconds = measured["seconds"]
    targets = {
        "speed_ratio": target(seconds["deeplabcut"] / seconds["ours"], LEAST_SPEED_RATIO, "at least"),
        "memory_growth_mb": target(peaks[10 * _RENDERED] - peaks[_RENDERED], MOST_MEMORY_GROWTH),
    }
    facts = {"video": "rendered" if video is None else video.name, "repeats": repeats, **measured, "peak_mb": peaks}
    return result("labeled_video", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("labeled_video", __doc__)
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--repeats", type=int, default=3, help="videos of each side to take the median of")
    parser.add_argument("--video", type=Path, help="a real video instead of the rendered one, with --h5")
    parser.add_argument("--h5", type=Path, help="DeepLabCut's poses of --video")
    asked = parser.parse_args(arguments)
    if (asked.video is None) != (asked.h5 is None):
        parser.error("--video and --h5 go together")
    measured = run(asked.frames, asked.repeats, asked.video, asked.h5)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    width, height = measured["size"]
    return [
        f"{measured['frames']} frames of {width}x{height} px ({measured['video']}), {measured['bodyparts']} body parts and skeleton, "
        f"medians of {measured['repeats']}",
        *(
            f"  {side}: {rate:.0f} frames/s, {measured['codec'][side]}, {measured['size_mb'][side]:.1f} MB"
            for side, rate in measured["frames_per_second"].items()
        ),
        *(f"  peak memory of {length} frames: {peak:.0f} MB" for length, peak in measured["peak_mb"].items()),
    ]


if __name__ == "__main__":
    sys.exit(main())
