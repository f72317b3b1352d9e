"""The processes of `benchmarks.nwb`: ``python -m benchmarks.nwb_sides WHAT ...`` does one thing and prints a JSON object as its last line.

A process writes one file and ends, so that its peak memory is that of this one file. Everything that a side needs is imported before
the clock starts. The peer's side runs in another environment, with the peer's Python: it imports nothing of this project.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc_assets.nwb.description import RecordingPoses

START = datetime(2026, 5, 1, 10, 12, tzinfo=UTC)
WIDTH, HEIGHT = 640, 480  # px

_OURS = ("h5py", "ndx_pose", "pyarrow.parquet", "pynwb", "dlc_assets.nwb.session_file", "dlc_assets.poses.table_file")
_CHECKS = (*_OURS, "nwbinspector", "dlc_assets.nwb.readback", "dlc_assets.nwb.validation")
_PEER = ("h5py", "ndx_pose", "tables", "pynwb", "neuroconv.datainterfaces")
_PEER_PACKAGES = ("neuroconv", "hdmf", "hdmf-zarr", "pynwb", "ndx-pose", "h5py", "numpy", "pandas")


def write_ours(table: str, folder: str) -> dict[str, Any]:
    """Write the pose table at *table* below *folder* as an export of the product does, without the video."""
    return _measured(_OURS, lambda: _write_ours(Path(table), Path(folder)))


def write_peer(h5: str, file: str, rate: str) -> dict[str, Any]:
    """Write DeepLabCut's *h5* to the NWB *file* as the documentation of neuroconv says, with its own defaults."""
    told = _measured(_PEER, lambda: _write_peer(h5, file, float(rate)))
    return {**told, "versions": {name: version(name) for name in _PEER_PACKAGES}}


def check_ours(table: str, file: str) -> dict[str, Any]:
    """Compare our NWB *file* with its pose table, and have the schema, the inspector and DANDI's rules look at it."""
    for name in _CHECKS:
        importlib.import_module(name)
    from dlc_assets.nwb.readback import readback_findings
    from dlc_assets.nwb.validation import check_nwb

    poses = [_recording(Path(table))]
    begun = time.perf_counter()
    differences = readback_findings(Path(file), poses)
    read = time.perf_counter()
    found = check_nwb(Path(file))
    return {
        "readback_seconds": read - begun,
        "check_seconds": time.perf_counter() - read,
        "differences": [each.message for each in differences],
        "findings": [f"{each.severity}: {each.message}" for each in found],
        "peak_mb": _memory_mb("VmHWM"),
    }


def _write_ours(table: Path, folder: Path) -> str:
    from dlc_assets.nwb.description import SessionDescription, SubjectDescription, nwb_relative_path
    from dlc_assets.nwb.session_file import write_session_nwb

    session = SessionDescription(
        identifier="sub-m01_ses-1",
        session_id="1",
        start=START,
        description="Open field.",
        experimenters=("Doe, Jane",),
        institution="University of Somewhere",
        keywords=("open field",),
        experiment_description="Free exploration.",
        subject=SubjectDescription(subject_id="m01", sex="F", age="P90D", description="Mouse."),
    )
    file = folder / nwb_relative_path("m01", "1", with_video=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_session_nwb(file, session, [_recording(table)], videos="leave_out")
    return str(file)


def _recording(table: Path) -> RecordingPoses:
    from dlc_assets.nwb.description import DeviceDescription, RecordingPoses
    from dlc_assets.nwb.frame_times import FrameTimes
    from dlc_assets.poses.table_file import PoseTableFile

    opened = PoseTableFile.open(table)
    stated = opened.metadata
    return RecordingPoses(
        recording=stated.recording,
        device=DeviceDescription(name="top"),
        video_files=(),
        part_frame_counts=(stated.frame_count,),
        width=WIDTH,
        height=HEIGHT,
        times=FrameTimes(stated.frame_count, opened.time_blocks),
        rate=None if stated.rate is None else Fraction(stated.rate),
        tracks=opened.streams(),
        scorer=stated.scorer or stated.model,
        model=stated.model,
        data_version=stated.data_version,
    )


def _write_peer(h5: str, file: str, rate: float) -> str:
    interfaces = importlib.import_module("neuroconv.datainterfaces")  # of the peer's environment alone
    interface = interfaces.DeepLabCutInterface(file_path=h5, sampling_frequency=rate)
    metadata = interface.get_metadata()
    metadata["NWBFile"].update(session_start_time=START)
    interface.run_conversion(nwbfile_path=file, metadata=metadata)
    return file


def _measured(imports: tuple[str, ...], write: Callable[[], str]) -> dict[str, Any]:
    """Return the file that *write* wrote, the seconds it took and the memory (MB) of this process before it and at most."""
    for name in imports:
        importlib.import_module(name)
    imported = _memory_mb("VmRSS")
    begun, worked = time.perf_counter(), time.process_time()
    file = write()
    return {
        "file": file,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - worked,
        "imported_mb": imported,
        "peak_mb": _memory_mb("VmHWM"),
        "size_mb": Path(file).stat().st_size / 1e6,
    }


def _memory_mb(name: str) -> float:
    """Return Linux's own account of this program: `getrusage` begins with the memory of the process that started it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:"))) / 1024


_SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "write_ours": write_ours,
    "write_peer": write_peer,
    "check_ours": check_ours,
}

if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps(_SIDES[what](*arguments)))
