"""A lab whose sessions have videos, poses of every kind, and quality reports: without networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.review.findings import Finding, Moment
from dlc_assets.review.quality_record import NAME, QualityRecord
from dlc_assets.review.report.verdict import verdict_of
from dlc_assets_tests.graph.small_lab import VERSION, film, record, video_of

SESSION = "sub-m01_ses-20260501"
LAB = """\
name: "Smith <lab> & co"
timezone: Europe/Zurich
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
devices: {top: {}}
setups: {top: [{scale: {px_per_cm: 2.0}, arena: [[4, 4], [60, 44]], regions: {nest: {circle: {center: [20, 20], radius: 6}}}}]}
"""


def filmed_lab(root: Path, frames: int = 12) -> Lab:
    """Write a lab of one probed session with a video of *frames* frames, 64x48 px at 25 frames per second."""
    film(root / video_of(SESSION), frames)
    (root / "lab.yaml").write_text(LAB, encoding="utf-8")
    lab = open_lab_folder(root)
    record(lab, SESSION)
    return lab


def walking(frames: int, *names: tuple[str, str]) -> list[Track]:
    """Return tracks that go from left to right, 6 px beside each other, all of them sure."""
    x = 10 + np.arange(frames) * 30 / max(frames, 2)
    return [
        Track(individual, part, *(np.float32(v) for v in (x, np.full(frames, 12.0 + 6 * place), np.full(frames, 0.9))))
        for place, (individual, part) in enumerate(names)
    ]


def add_poses(
    lab: Lab, tracks: Sequence[Track], *, skeleton: Sequence[Sequence[str]] = (), session: str = SESSION
) -> Manifest:
    """Store *tracks* as the pose table of *session*."""
    info, _ = need_session_info(lab.layout, session)
    times = read_times(lab.layout, session, "top")
    metadata = metadata_of(tracks, session, skeleton)
    write_pose_table(lab.layout.pose_file("walker", VERSION, session, "top"), tracks, times, metadata)
    rows = [{"recording": "top", "device": "top", "frames": len(times), "rows": len(times) * len(tracks)}]
    details = {"model": "walker", "version": VERSION, "session": session, "pcutoff": 0.6, "inference": {}}
    manifest = Manifest(
        asset="pose_table",
        key=pose_key("walker", session),
        inputs={},
        data_version=f"poses of {info.session}",
        details={**details, "recordings": rows},
    )
    manifest.write(lab.layout.pose_folder("walker", VERSION, session))
    return manifest


def metadata_of(tracks: Sequence[Track], session: str, skeleton: Sequence[Sequence[str]] = ()) -> PoseMetadata:
    """Return what a table of *tracks* says of itself."""
    return PoseMetadata(
        model="walker",
        version=VERSION,
        session=session,
        recording="top",
        frame_count=tracks[0].frame_count,
        bodyparts=list(dict.fromkeys(track.bodypart for track in tracks)),
        skeleton=[list(pair) for pair in skeleton],
        pcutoff=0.6,
        rate="25",
    )


def moment(first: int, last: int, what: str, badness: float = 1.0, *bodyparts: str) -> Moment:
    """Return a moment of the recording *top*."""
    return Moment("top", first, last, first / 25, "", bodyparts or ("snout",), what, badness)


def finding(check: str, passed: bool = True, severity: str = "warn", *moments: Moment, says: str = "") -> Finding:
    """Return what *check* says."""
    assert severity in {"warn", "error"}
    sentence = says or f"What {check} says."
    return Finding(check, passed, severity, sentence, 0.25, 0.5, moments)  # type: ignore[arg-type]  # asserted


def add_record(
    lab: Lab,
    session: str,
    day: str,
    *findings: Finding,
    model: str = "walker",
    version: str = VERSION,
    made: str = "2026-05-03T10:00:00+00:00",
) -> None:
    """Store what a report of *session* came to."""
    folder = lab.layout.derived_folder("quality_report", model, version, session)
    folder.mkdir(parents=True)
    QualityRecord(session, model, version, day, "poses", made, verdict_of(findings), findings).write(folder / NAME)
