"""Reads a written NWB file and compares it with the pose tables that it was made from: bit for bit, times within a nanosecond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlc_assets.nwb.description import RecordingPoses, TrackLike
from dlc_assets.nwb.frame_times import TOLERANCE_S, FrameTimes
from dlc_assets.nwb.names import object_name
from dlc_assets.nwb.session_file import read_provenance
from dlc_assets.nwb.validation import Finding


def readback_findings(path: Path, recordings: Sequence[RecordingPoses]) -> list[Finding]:
    """Return where the file at *path* does not give back what *recordings* hold; none where it does."""
    import h5py
    import ndx_pose  # noqa: F401  # its types' own methods are used below
    from pynwb import NWBHDF5IO

    kept = read_provenance(path)["recordings"]
    findings: list[Finding] = []
    # no cache of chunks: nothing is read twice, and HDF5 would keep up to 8 MiB of every series until the end
    with h5py.File(path, "r", rdcc_nbytes=0) as file, NWBHDF5IO(file=file, mode="r") as io:
        nwbfile = io.read()
        for recording in recordings:
            checked_clocks: set[int] = set()  # of series that share their time stamps, one is read
            own = [
                entry
                for entry in kept[recording.recording]["poses"]
                if (entry["model"], entry.get("filters", "")) == (recording.model, recording.filters)
            ]
            if {entry["individual"] for entry in own} != set(recording.individuals):
                findings.append(
                    Finding("error", f"the poses of {recording.where} are not all there.", "equals_pose_table", "/")
                )
            for entry in own:
                poses = nwbfile.processing["behavior"][entry["pose_estimation"]]
                for track in recording.of(entry["individual"]):
                    series = poses[object_name(track.bodypart)]
                    where = f"/processing/behavior/{poses.name}/{series.name}"
                    findings += _track_findings(series, track, where)
                    clock = _clock(series)
                    if clock not in checked_clocks:
                        checked_clocks.add(clock)
                        findings += _time_findings(series, FrameTimes.of(recording.times), where)
    return findings


def _track_findings(series: Any, track: TrackLike, where: str) -> Iterator[Finding]:
    at = 0
    for block in track.blocks():
        rows = slice(at, at + block.shape[1])
        written = np.vstack([np.asarray(series.data[rows]).T, np.asarray(series.confidence[rows])[np.newaxis]])
        if written.shape != block.shape or not _same_bits(written, block):
            wrong = (
                np.flatnonzero((_bits(written) != _bits(block)).any(axis=0)) if written.shape == block.shape else [0]
            )
            message = f"from frame {at + int(wrong[0])} on, it differs from the pose table that it was made from."
            yield Finding("error", message, "equals_pose_table", where)
            return
        at = rows.stop
    if at != len(series.data):
        message = f"it has {len(series.data)} frames, the pose table {at}."
        yield Finding("error", message, "equals_pose_table", where)


def _bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Return the bits of float32 *values*, one pattern for everything that is not a number."""
    plain = np.ascontiguousarray(values, dtype=np.float32)
    return np.where(np.isnan(plain), np.float32(np.nan), plain).view(np.uint32)


def _same_bits(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> bool:
    return one.dtype == np.float32 and bool((_bits(one) == _bits(other)).all())


def _clock(series: Any) -> int:
    return id(series) if series.timestamps is None else hash(series.timestamps.id)


def _time_findings(series: Any, times: FrameTimes, where: str) -> Iterator[Finding]:
    at = 0
    for block in times.blocks():
        frames = slice(at, at + len(block))
        written = (
            np.asarray(series.timestamps[frames])
            if series.timestamps is not None
            else series.starting_time + np.arange(frames.start, frames.stop) / series.rate
        )
        limit = np.maximum(TOLERANCE_S, 2 * np.spacing(np.abs(block)))
        if written.shape != block.shape or (np.abs(written - block) > limit).any():
            message = f"the times of the frames {frames.start} to {frames.stop - 1} are not those of the pose table within 1 ns."
            yield Finding("error", message, "equals_pose_table", where)
            return
        at = frames.stop
