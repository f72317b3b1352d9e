"""One pose table's file filtered into another of the same schema; in memory is never more than one track of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.derived.filter_steps import Clock, present
from dlc_assets.derived.filtering import FilteredTrack, RecordingFilter, shares, track_name, troubles
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.filter_settings import Steps, filters_hash
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import IN_MEMORY_BYTES, PoseTableFile, TrackStream, write_poses
from dlc_assets.recordings.filter_rigs import FilterRig

SPAN_FRAMES = 400  # of a picture of what the filters do: more cannot be told apart


@dataclass(frozen=True)
class FilteredFile:
    """What became of one recording.

    Attributes
    ----------
    metadata
        As the file says it.
    rows, data_version
        Of the table.
    points
        By name of the track, the share of frames with a point before and after.
    spans
        By name of the track, where its points change most: ``frames``, the first and the last (left out) of `SPAN_FRAMES` at most, and
        ``filled``, the same of each sequence of points in it that were filled in.
    problems
        In sentences.
    """

    metadata: PoseMetadata
    rows: int
    data_version: str
    points: dict[str, dict[str, float]]
    spans: dict[str, dict[str, Any]]
    problems: list[str]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """Each step with its parameters and the shares of points that it changed; see `filtering.shares`."""
        return self.metadata.filters or []


def filter_file(source: Path, target: Path, steps: Steps, rig: FilterRig) -> FilteredFile:
    """Write at *target* the pose table of *source* after *steps*: the same rows, x and y filtered, likelihoods as they were.

    The same poses, steps and rig give the same file, byte for byte.

    Raises
    ------
    NotFoundError, InputError
        *source* is not there, or is no pose table.
    EnvironmentProblem
        The disk is full.
    """
    table = PoseTableFile.open(source)
    clock = Clock(table.times())
    frames = len(clock.times)
    streams = table.streams()
    names = [(stream.individual, stream.bodypart) for stream in streams]
    filters = RecordingFilter(steps, clock, rig, table.metadata.pcutoff)
    done: list[FilteredTrack] = []
    spans: dict[str, dict[str, Any]] = {}
    target.parent.mkdir(parents=True, exist_ok=True)
    with _kept((len(streams), 3, frames), target.parent) as values:
        for place, stream in enumerate(streams):
            track = _read(stream)
            filtered = filters.apply(track)
            after = filtered.track
            values[place] = after.x, after.y, after.likelihood
            first = _most_changed(track, after)
            span = slice(first, min(first + SPAN_FRAMES, frames))
            spans[track_name(*names[place])] = {
                "frames": [span.start, span.stop],
                "filled": _sequences(filtered.made_up[span], first),
            }
            # What is kept of a track from here on are its counts.
            nothing = after.x[:0]
            done.append(
                replace(filtered, track=replace(after, x=nothing, y=nothing, likelihood=nothing), made_up=nothing)
            )
        metadata = replace(
            table.metadata,
            origin=f"{table.metadata.origin}; filtered",
            input_hash=content_hash(
                {"poses": table.metadata.data_version, "filters": filters_hash(steps), "rig": rig.words}
            ),
            filters=shares(steps, done, frames),
        )

        def blocks(first: int, last: int) -> np.ndarray:
            start = table.first_frame
            return values[:, :, first - start : last - start].transpose(2, 0, 1)

        summary = write_poses(target, names, blocks, clock.times, metadata, first_frame=table.first_frame)
    return FilteredFile(
        metadata=metadata,
        rows=summary.rows,
        data_version=summary.data_version,
        points={
            track_name(of.track.individual, of.track.bodypart): {
                "before": round(of.points_before / frames, 6),
                "after": round(of.points_after / frames, 6),
            }
            for of in done
        },
        spans=spans,
        problems=[*filters.refusals(names), *troubles(steps, done)],
    )


def _read(stream: TrackStream) -> Track:
    return Track(stream.individual, stream.bodypart, *np.concatenate(list(stream.blocks()), axis=1))


@contextmanager
def _kept(shape: tuple[int, int, int], folder: Path) -> Iterator[np.ndarray]:
    """Give room for float32 of *shape*: in memory or, where that is too much, in a file without a name in *folder*."""
    if np.prod(shape) * 4 <= IN_MEMORY_BYTES:
        yield np.empty(shape, dtype=np.float32)
        return
    with tempfile.TemporaryFile(dir=folder) as file:
        yield np.memmap(file, dtype=np.float32, mode="w+", shape=shape)


def _sequences(marked: np.ndarray, first: int) -> list[list[int]]:
    """Return first and last (left out) place of each sequence of True, counted from *first*."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return (edges.reshape(-1, 2) + first).tolist()


def _most_changed(before: Track, after: Track) -> int:
    """Return the first frame of the span of `SPAN_FRAMES` in which most points were removed or filled in, or moved farthest."""
    was, there = (present(np.stack([track.x, track.y], axis=1)) for track in (before, after))
    moved = np.nan_to_num(np.hypot(after.x - before.x, after.y - before.y), posinf=0.0)
    # A point that came or went counts as much as one that moved by ten pixels; one that moved far does not outweigh all others.
    change = np.where(was != there, 10.0, np.minimum(moved, 10.0))
    if len(change) <= SPAN_FRAMES:
        return 0
    total = np.concatenate([[0.0], np.cumsum(change, dtype=np.float64)])
    return int(np.argmax(total[SPAN_FRAMES:] - total[:-SPAN_FRAMES]))
