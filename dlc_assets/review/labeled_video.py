"""The product `labeled_video`: each recording of a session as a video that browsers play, with its poses drawn in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.filtered_poses import filtered_pose_files
from dlc_assets.derived.product import Built, DerivedKind, DerivedTask, derived_files, derived_manifest, make_derived
from dlc_assets.inference.pose_tables import unchanged_parts, wanted_version
from dlc_assets.inference.streaming import Ahead, VideoPart
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash, sha256_file
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.labeled_video_settings import LabeledVideoSettings
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info
from dlc_assets.review.drawing import FrameDrawer, Look, PoseStretch, distinct_inks
from dlc_assets.review.pose_stretches import SpanPoses, joined_tracks
from dlc_assets.training.models import find_version
from dlc_assets.video.encode import TICK, H264Writer, ticks_of
from dlc_assets.video.planes import PictureShape, color_tags, planes_of_stretch

ASSET = "labeled_video"
_OWN = frozenset({"version", "recordings"})  # of a run's settings, those that lab.yaml has not
_AHEAD_BYTES = 32 << 20  # of pictures that wait for the next stage
_LEAST_RADIUS = 2.0  # px
_SIZES_OF_A_POINT = 120  # how many times the radius goes into the shorter side: 4 px at 640x480


@dataclass(frozen=True)
class Span:
    """The frames of a recording that are shown: the first, and the first one left out."""

    first: int
    end: int

    @property
    def frames(self) -> int:
        return self.end - self.first


def labeled_video_inputs(lab: Lab, session: SessionInfo, poses: Manifest) -> dict[str, str]:
    """Return the hashes that a labeled video is made from: the poses that are drawn, the videos, and how they are to look."""
    settings = lab.settings.labeled_video
    inputs = {
        "poses": poses.data_version,
        "videos": content_hash({recording.recording: recording.content_hash for recording in session.recordings}),
        "look": content_hash(settings.model_dump(exclude={"auto"})),
    }
    return {**inputs, "filtered poses": _filtered_version(lab, poses)} if settings.poses == "filtered" else inputs


def _filtered_version(lab: Lab, poses: Manifest) -> str:
    details = poses.details
    found = derived_manifest(lab, FILTERED, details["model"], details["version"], details["session"])
    return "" if found is None else found.data_version


def _made_from(lab: Lab) -> tuple[str, ...]:
    return (FILTERED,) if lab.settings.labeled_video.poses == "filtered" else ()


KIND = DerivedKind(
    ASSET, inputs=labeled_video_inputs, auto=lambda lab: lab.settings.labeled_video.auto, above=_made_from
)


def settings_of(lab: Lab, overrides: Mapping[str, Any]) -> LabeledVideoSettings:
    """Return lab.yaml's settings with what a run states itself; errors as `LabeledVideoSettings.overridden`."""
    return lab.settings.labeled_video.overridden({name: each for name, each in overrides.items() if name not in _OWN})


def label_session(
    lab: Lab,
    model: str,
    session_key: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Make the labeled videos of (*model*, *session_key*), one mp4 file a recording.

    Parameters
    ----------
    overrides
        A run's own settings: those of `LabeledVideoSettings`, ``version`` (of the model) and ``recordings`` (those that are shown).

    Returns
    -------
    tuple
        As `make_derived`.

    Raises
    ------
    SettingsError, NotFoundError, InputError
        Settings that do not go together; no poses; a video that is gone, has changed, or does not fit its poses; a span outside all
        recordings.
    """
    settings = settings_of(lab, overrides)
    stale = settings.poses == "filtered" and _is_of_other_filtered_poses(lab, model, session_key, overrides)
    return make_derived(
        lab,
        KIND,
        model,
        session_key,
        overrides=overrides,
        recompute=recompute or stale,
        run_id=run_id,
        log=log,
        build=_build,
    )


def _is_of_other_filtered_poses(lab: Lab, model: str, session_key: str, overrides: Mapping[str, Any]) -> bool:
    """Say whether the filtered poses have changed, which is no input of a video where only its run asked for them."""
    session, _ = need_session_info(lab.layout, session_key)
    stated = overrides.get("version")
    version = (find_version(lab.layout, f"{model}@{stated}") if stated else wanted_version(lab, model, session)).version
    existing = derived_manifest(lab, ASSET, model, version, session_key)
    filtered = derived_manifest(lab, FILTERED, model, version, session_key)
    return existing is not None and filtered is not None and existing.details["drawn"] != filtered.data_version


def labeled_video_files(lab: Lab, manifest: Manifest) -> list[Path]:
    """Return the videos of *manifest*, one a recording, in the order of its ``recordings``."""
    by_name = {path.name: path for path in derived_files(lab, manifest)}
    return [by_name[row["file"]] for row in manifest.details["recordings"]]


def _build(task: DerivedTask, folder: Path) -> Built:
    settings = settings_of(task.lab, task.overrides)
    tables = {file.recording: file.path for file in task.files}
    drawn = task.poses.data_version
    if settings.poses == "filtered":
        filtered = task.above(FILTERED)
        drawn = filtered.data_version
        tables = {file.recording: file.path for file in filtered_pose_files(task.lab, filtered)}
    chosen = task.overrides.get("recordings") or list(tables)
    rows, outside = [], []
    for name in chosen:
        recording = task.session.recording(name)
        if name not in tables:
            raise InputError(
                f"{task.session.session}, {name}: {task.version} has no poses of this recording. It has: {', '.join(tables)}."
            )
        poses = SpanPoses.open(tables[name], recording.frame_count)
        try:
            span = span_of(settings, poses.times, f"{task.session.session}, {name}")
        except InputError as error:
            outside.append(error)
            continue
        rows.append(_label_recording(task, settings, recording, poses, span, folder))
    if not rows:
        raise outside[0]
    problems = [str(error) for error in outside] + [problem for row in rows for problem in row.pop("problems")]
    for problem in problems:
        task.log(problem)
    return Built(
        data_version=content_hash({row["recording"]: row["sha256"] for row in rows}),
        details={
            "poses": settings.poses,
            "drawn": drawn,
            "filtered_poses": _filtered_version(task.lab, task.poses),
            "look": settings.model_dump(exclude={"auto"}),
            "recordings": rows,
            "frames": sum(row["frames"] for row in rows),
            "bytes": sum(row["bytes"] for row in rows),
        },
        problems=problems,
    )


def span_of(settings: LabeledVideoSettings, times: np.ndarray, what: str) -> Span:
    """Return the frames of a recording that *settings* choose, of those at *times*, (frames,) float64 s.

    Raises
    ------
    InputError
        None is chosen.
    """
    count = len(times)
    first, end = 0, count
    if settings.span_unit == "frames":
        first = 0 if settings.start is None else int(settings.start)
        end = count if settings.end is None else min(count, int(settings.end))
    else:
        first = 0 if settings.start is None else int(np.searchsorted(times, settings.start))
        end = count if settings.end is None else int(np.searchsorted(times, settings.end))
    if first >= end:
        unit = "frames" if settings.span_unit == "frames" else "s"
        asked = f"{_or(settings.start, 'the start')} to {_or(settings.end, 'the end')} {unit}"
        raise InputError(
            f"{what}: there is no frame in the span from {asked}. The recording has the frames 0 to {count - 1}, at {times[0]:.3f} to "
            f"{times[-1]:.3f} s of the session's clock. Choose a span in it."
        )
    return Span(first, end)


def _or(value: float | None, else_what: str) -> str:
    return else_what if value is None else f"{value:.10g}"


def _label_recording(
    task: DerivedTask,
    settings: LabeledVideoSettings,
    recording: RecordingInfo,
    poses: SpanPoses,
    span: Span,
    folder: Path,
) -> dict[str, Any]:
    what = f"{task.session.session}, {recording.recording}"
    parts = unchanged_parts(task.lab, task.session, recording)
    shape = _shape(settings, recording, poses)
    look = look_of(settings, poses, shape)
    file = folder / f"{recording.recording}.mp4"
    progress = LoggedProgress(task.log, f"{what}: labeling", "frames", every=5.0)
    begun = time.perf_counter()
    points = draw_video(
        file,
        parts,
        poses,
        span,
        shape,
        look,
        size=(recording.width, recording.height),
        rate=recording.video_rate,
        speed=settings.speed,
        on_frames=lambda done: progress(done, span.frames),
    )
    seconds = time.perf_counter() - begun
    ticks = ticks_of(poses.times[span.first : span.end], settings.speed)
    sure = f"reaches the p-cutoff of {look.pcutoff:g}" if look.pcutoff else "is there"
    nothing = f"{what}: not one point of the frames {span.first} to {span.end - 1} {sure}."
    return {
        "recording": recording.recording,
        "file": file.name,
        "first_frame": span.first,
        "end_frame": span.end,
        "frames": span.frames,
        "time_start": float(poses.times[span.first]),
        "seconds": round(float(ticks[-1]) * float(TICK), 3),
        "width": shape.width,
        "height": shape.height,
        "points": points,
        "bytes": file.stat().st_size,
        "sha256": sha256_file(file),
        "frames_per_second": round(span.frames / seconds, 1),
        "problems": [] if points else [nothing],
    }


def _shape(settings: LabeledVideoSettings, recording: RecordingInfo, poses: SpanPoses) -> PictureShape:
    crop = (0, recording.width, 0, recording.height)
    seen = poses.metadata.crop
    if settings.crop and seen is not None:
        crop = (*map(int, seen["x"]), *map(int, seen["y"]))  # type: ignore[assignment]  # two each
    return PictureShape.of(crop, settings.width)


def look_of(settings: LabeledVideoSettings, poses: SpanPoses, shape: PictureShape) -> Look:
    """Return how the tracks of *poses* are drawn into pictures of *shape*."""
    metadata = poses.metadata
    column = 1 if settings.color_by == "bodypart" else 0
    known = metadata.bodyparts if column else metadata.individuals
    names = list(dict.fromkeys([*known, *(track[column] for track in poses.tracks)]))
    inks = dict(zip(names, distinct_inks(len(names)), strict=True))
    # Filters decide themselves which points stay; one that they filled in keeps the likelihood of the point that was not to be trusted.
    by_poses = 0.0 if settings.poses == "filtered" else metadata.pcutoff or 0.0
    by_size = max(_LEAST_RADIUS, min(shape.width, shape.height) / _SIZES_OF_A_POINT)
    return Look(
        inks=[inks[track[column]] for track in poses.tracks],
        edges=joined_tracks(poses.tracks, metadata.skeleton) if settings.skeleton else (),
        radius=by_size if settings.point_size is None else settings.point_size,
        pcutoff=by_poses if settings.pcutoff is None else settings.pcutoff,
        hollow=settings.below_pcutoff == "hollow",
        trail=settings.trail,
        caption=settings.caption,
    )


def draw_video(
    file: Path,
    parts: Sequence[VideoPart],
    poses: SpanPoses,
    span: Span,
    shape: PictureShape,
    look: Look,
    *,
    size: tuple[int, int],
    rate: Fraction | None = None,
    speed: float = 1.0,
    on_frames: Callable[[int], None] = lambda done: None,
) -> int:
    """Write the frames of *span* with their poses to *file*, mp4 with H.264, and return how many sure points were drawn.

    Decoding, drawing and encoding work at the same time. Memory does not grow with the number of frames, but for their times.

    Parameters
    ----------
    parts
        The recording's files, in order.
    size, rate
        Of the recording, as `planes_of_stretch` takes them.
    speed
        Of playback: each frame's time, from the first of the span on, is divided by it.
    on_frames
        Called with the number of frames that are written.

    Raises
    ------
    InputError
        A file does not decode as far as it did when it was probed, or not to pictures of *size*.
    """
    ticks = ticks_of(poses.times[span.first : span.end], speed)
    average = span.frames / max(float(ticks[-1]) * float(TICK), 1e-6)
    depth = max(2, min(32, _AHEAD_BYTES // (shape.width * shape.height * 3 // 2)))
    drawer = _Drawing(poses, span, shape, look)
    decoded = Ahead(_decoded(parts, span, shape, size, rate), depth)
    writer = H264Writer(file, shape.width, shape.height, average, color_tags(parts[0].path))
    with decoded, Ahead(drawer.frames(decoded), depth) as drawn, writer:
        for index, planes in enumerate(drawn):
            writer.write(planes, int(ticks[index]), int(ticks[index + 1]))
            on_frames(index + 1)
    return drawer.points


def _decoded(
    parts: Sequence[VideoPart], span: Span, shape: PictureShape, size: tuple[int, int], rate: Fraction | None
) -> Iterator[np.ndarray]:
    before = 0
    for part in parts:
        first, last = max(span.first - before, 0), min(span.end - before, part.frames)
        before += part.frames
        if first < last:
            yield from planes_of_stretch(part.path, first, last, shape, size=size, rate=rate)


@dataclass
class _Drawing:
    """Draws the poses of a span onto its frames as they come, and counts the sure points."""

    poses: SpanPoses
    span: Span
    shape: PictureShape
    look: Look
    points: int = 0

    def frames(self, decoded: Ahead[np.ndarray]) -> Iterator[np.ndarray]:
        drawer = FrameDrawer(self.look)
        for planes, (stretch, index) in zip(decoded, self._places(), strict=True):
            drawer.draw(planes, stretch, index)
            yield planes

    def _places(self) -> Iterator[tuple[PoseStretch, int]]:
        """Give for each frame of the span the stretch of poses that it is in, and its place there."""
        for start, begin, values in self.poses.stretches(self.span.first, self.span.end, self.look.trail):
            times = self.poses.times[start : start + values.shape[2]]
            stretch = PoseStretch.of(start, times, values, self.shape, self.look)
            self.points += int(stretch.sure[:, begin - start :].sum())
            for index in range(begin - start, values.shape[2]):
                yield stretch, index
