"""The demo lab's files: recordings with their truth kept apart, and a labeled DeepLabCut project."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dlc_assets.demo.scene import BODYPARTS, SKELETON, Scene, SceneSettings
from dlc_assets.lab.files import atomic_folder, atomic_path, write_text
from dlc_assets.lab.progress import Progress
from dlc_assets.video.frames import read_frames

PROJECT = "walker-Demo-2026-01-01"
SCORER = "Demo"
CAMERA = "top"

_ZONE = timezone(timedelta(hours=2))
_SUBJECT_SEEDS = {"m01": 0, "m02": 1}
_NTSC = Fraction(30000, 1001)
_LABELED_VIDEOS = (("m01", "20260420"), ("m02", "20260420"), ("m01", "20260421"), ("m02", "20260421"))
_LABELED_RATE = Fraction(3, 2)  # labeled frames are chosen far apart, for variety
_CAMERA_RATE = 30
_ENCODER = {"crf": "18", "preset": "fast"}


@dataclass(frozen=True)
class DemoRecording:
    """One rendered recording, and where its truth lies (columns frame, bodypart, x, y, visible)."""

    subject: str
    session: str
    camera: str
    video: Path
    session_yaml: Path
    truth: Path
    start: datetime
    rate: Fraction
    frame_count: int


@dataclass(frozen=True)
class _Planned:
    subject: str
    start: datetime
    rate: Fraction
    description: str


_PLAN = (
    _Planned("m01", datetime(2026, 5, 1, 10, 12, tzinfo=_ZONE), Fraction(30), "open field with shelter, first day"),
    _Planned("m01", datetime(2026, 5, 2, 10, 5, tzinfo=_ZONE), _NTSC, "open field with shelter, second day"),
    _Planned("m02", datetime(2026, 5, 1, 11, 40, tzinfo=_ZONE), Fraction(25), "open field with shelter, first day"),
)


def write_demo_recordings(
    lab_root: Path, *, seconds_per_session: float = 8.0, seed: int = 0, on_progress: Progress | None = None
) -> list[DemoRecording]:
    """Render three sessions of two subjects under ``recordings/``, and the truth under ``truth/``.

    Each session has ``<subject>/<session>/top.mp4`` (H.264) and a session.yaml beside it; no frame of them
    is in the project of `write_demo_project`.
    """
    counts = [max(2, round(seconds_per_session * planned.rate)) for planned in _PLAN]
    written = []
    for number, (planned, count) in enumerate(zip(_PLAN, counts, strict=True)):
        before, total = sum(counts[:number]), sum(counts)
        session = planned.start.strftime("%Y%m%d")
        folder = lab_root / "recordings" / planned.subject / session
        recording = DemoRecording(
            subject=planned.subject,
            session=session,
            camera=CAMERA,
            video=folder / f"{CAMERA}.mp4",
            session_yaml=folder / "session.yaml",
            truth=lab_root / "truth" / f"{planned.subject}_{session}_{CAMERA}.parquet",
            start=planned.start,
            rate=planned.rate,
            frame_count=count,
        )
        scene = _scene(planned.subject, [seed, 1, number], count, planned.rate)
        _write_recording(recording, scene, on_progress, before, total)
        write_text(
            recording.session_yaml,
            f"start: {planned.start.isoformat()}\ndescription: {planned.description}\n",
        )
        written.append(recording)
    return written


def write_demo_project(lab_root: Path, *, labeled_frames: int, seed: int = 0) -> Path:
    """Write a labeled DeepLabCut project under ``projects/`` and return its folder.

    *labeled_frames* frames of four other videos of both subjects are labeled with the truth; hidden body parts
    have no label, as a careful person would leave them. The images have been through H.264 like the recordings.
    The videos themselves are not there.

    Raises
    ------
    FileExistsError
        The lab has the project already.
    """
    final = lab_root / "projects" / PROJECT
    shares = [len(part) for part in np.array_split(np.arange(labeled_frames), len(_LABELED_VIDEOS))]
    names = [f"{subject}_{session}_{CAMERA}" for subject, session in _LABELED_VIDEOS]
    with atomic_folder(final) as project:
        (project / "videos").mkdir()
        for number, ((subject, _), name, count) in enumerate(zip(_LABELED_VIDEOS, names, shares, strict=True)):
            if count:
                scene = _scene(subject, [seed, 2, number], count, _LABELED_RATE)
                _write_labeled_folder(project / "labeled-data" / name, scene)
        (project / "config.yaml").write_text(_project_config(final.absolute(), names), encoding="utf-8")
    return final


def encode_video(path: Path, pictures: Iterable[np.ndarray], rate: Fraction, created: datetime | None = None) -> None:
    """Write (height, width, 3) uint8 RGB pictures to *path* as H.264 in mp4 at a constant *rate* (frames/s).

    Height and width must be even. *created* becomes the container's ``creation_time``.
    """
    pictures = iter(pictures)
    first = next(pictures)
    with atomic_path(path) as partial, av.open(str(partial), "w") as container:
        if created is not None:
            container.metadata["creation_time"] = created.astimezone(UTC).isoformat().replace("+00:00", "Z")
        stream = container.add_stream("libx264", rate=rate, options=_ENCODER)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for index, picture in enumerate(itertools.chain([first], pictures)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _scene(subject: str, seeds: list[int], frames: int, rate: Fraction) -> Scene:
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    return Scene(SceneSettings(frames=frames, fps=rate, seed=seed, subject_seed=_SUBJECT_SEEDS[subject]))


def _write_recording(
    recording: DemoRecording, scene: Scene, on_progress: Progress | None, before: int, total: int
) -> None:
    points, visible = [], []

    def pictures() -> Iterable[np.ndarray]:
        for done, (picture, places, seen) in enumerate(scene.frames(), start=1):
            points.append(places)
            visible.append(seen)
            yield picture
            if on_progress is not None:
                on_progress(before + done, total, f"{recording.subject} {recording.session}")

    encode_video(recording.video, pictures(), recording.rate, recording.start)
    _write_truth(recording.truth, np.array(points), np.array(visible))


def _write_truth(path: Path, points: np.ndarray, visible: np.ndarray) -> None:
    """Write the truth as a long table, one row per frame and body part, hidden ones included."""
    import pandas as pd

    table = pd.DataFrame(
        {
            "frame": np.repeat(np.arange(len(points), dtype=np.int32), len(BODYPARTS)),
            "bodypart": np.tile(np.array(BODYPARTS, dtype=object), len(points)),
            "x": points[..., 0].ravel().astype(np.float32),
            "y": points[..., 1].ravel().astype(np.float32),
            "visible": visible.ravel(),
        }
    )
    with atomic_path(path) as partial:
        table.to_parquet(partial, index=False)


def _write_labeled_folder(folder: Path, scene: Scene) -> None:
    """Write img*.png and CollectedData_Demo.h5 and .csv, as DeepLabCut's labeling tool leaves them."""
    import pandas as pd
    from PIL import Image

    folder.mkdir(parents=True)
    rendered = list(scene.frames())
    step = int(_CAMERA_RATE / scene.settings.fps)
    images = [f"img{index * step:04d}.png" for index in range(len(rendered))]
    for name, picture in zip(images, _through_camera([picture for picture, _, _ in rendered]), strict=True):
        Image.fromarray(picture).save(folder / name)
    labels = np.array([np.where(visible[:, None], points, np.nan) for _, points, visible in rendered])
    table = pd.DataFrame(
        labels.reshape(len(rendered), -1),
        index=pd.MultiIndex.from_tuples([("labeled-data", folder.name, name) for name in images]),
        columns=pd.MultiIndex.from_product([[SCORER], BODYPARTS, ["x", "y"]], names=["scorer", "bodyparts", "coords"]),
    )
    table.to_hdf(folder / f"CollectedData_{SCORER}.h5", key="df_with_missing", mode="w")
    table.to_csv(folder / f"CollectedData_{SCORER}.csv")


def _through_camera(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Return the pictures as they look after the recordings' compression."""
    with tempfile.TemporaryDirectory() as scratch:
        video = Path(scratch) / "frames.mp4"
        encode_video(video, pictures, Fraction(_CAMERA_RATE))
        read = read_frames(video, range(len(pictures)))
    return [read[index] for index in range(len(pictures))]


def _project_config(project: Path, names: list[str]) -> str:
    """Return config.yaml with the keys, their order and comments as DeepLabCut 3 writes them."""
    import yaml

    size = SceneSettings(frames=1, fps=_LABELED_RATE, seed=0, subject_seed=0)
    crop = f"0, {size.width}, 0, {size.height}"
    videos = {str(project / "videos" / f"{name}.mp4"): {"crop": crop} for name in names}
    sections: list[tuple[str, dict[str, Any]]] = [
        (
            "Project definitions (do not edit)",
            {
                "Task": "walker",
                "scorer": SCORER,
                "date": "Jan1",
                "multianimalproject": False,
                "identity": None,
            },
        ),
        ("Project path (change when moving around)", {"project_path": str(project)}),
        (
            "Default DeepLabCut engine to use for shuffle creation (either pytorch or tensorflow)",
            {"engine": "pytorch"},
        ),
        (
            "Annotation data set configuration (and individual video cropping parameters)",
            {"video_sets": videos, "bodyparts": list(BODYPARTS)},
        ),
        (
            "Fraction of video to start/stop when extracting frames for labeling/refinement",
            {"start": 0, "stop": 1, "numframes2pick": 20},
        ),
        (
            "Plotting configuration",
            {
                "skeleton": [list(bone) for bone in SKELETON],
                "skeleton_color": "black",
                "pcutoff": 0.6,
                "dotsize": 4,
                "alphavalue": 0.7,
                "colormap": "rainbow",
            },
        ),
        (
            "Training,Evaluation and Analysis configuration",
            {
                "TrainingFraction": [0.95],
                "iteration": 0,
                "default_net_type": "resnet_50",
                "default_augmenter": "default",
                "snapshotindex": -1,
                "detector_snapshotindex": -1,
                "batch_size": 8,
                "detector_batch_size": 1,
            },
        ),
        (
            "Cropping Parameters (for analysis and outlier frame detection)",
            {"cropping": False, "x1": 0, "x2": size.width, "y1": 0, "y2": size.height},
        ),
        (
            "Refinement configuration (parameters from annotation dataset configuration also relevant in this stage)",
            {"corner2move2": [50, 50], "move2corner": True},
        ),
    ]
    texts = [f"# {title}\n{yaml.safe_dump(keys, sort_keys=False, width=1000)}" for title, keys in sections]
    return "\n\n".join(texts)
