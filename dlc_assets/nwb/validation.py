"""Says what is wrong with an NWB file: by the schema, the inspector, DANDI, and what none of them sees."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.nwb.contents import NEVER_DETECTED, NOTHING_LEFT
from dlc_assets.nwb.description import nwb_relative_path
from dlc_assets.nwb.extending import modalities_of
from dlc_assets.nwb.streams import CHUNK_FRAMES

if TYPE_CHECKING:
    import pynwb

Severity = Literal["error", "violation", "suggestion"]


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a file.

    `severity`: ``error`` (invalid, or DANDI refuses it), ``violation`` or ``suggestion`` (of best practice).
    `check` is the name of the rule, `location` the object inside the file (empty: the file itself).
    """

    severity: Severity
    message: str
    check: str
    location: str


def check_nwb(path: Path) -> list[Finding]:
    """Return everything that is wrong with the NWB file at *path*, worst first; none for a clean file.

    Runs pynwb's schema validation and NWB Inspector with DANDI's configuration (the default's checks, some
    stricter), and looks at what neither does: skeletons that do not fit their series, body parts without any
    position of which the file does not say so, series of unequal length, a path that names another session.

    Raises
    ------
    NotFoundError
        No such file.
    """
    if not path.is_file():
        raise NotFoundError(f"no NWB file at {path}: export the session first.")
    with warnings.catch_warnings():  # the inspector changes the process's warning filters
        findings = list(_inspector_findings(path))
        if not any(finding.check == "readable" for finding in findings):
            findings += _own_findings(path)
    order: tuple[Severity, ...] = ("error", "violation", "suggestion")
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _inspector_findings(path: Path) -> Iterator[Finding]:
    from nwbinspector import Importance, inspect_nwbfile, load_config

    severities: dict[Any, Severity] = {
        Importance.BEST_PRACTICE_SUGGESTION: "suggestion",
        Importance.BEST_PRACTICE_VIOLATION: "violation",
    }
    for message in inspect_nwbfile(nwbfile_path=path, config=load_config("dandi")):
        if message.importance is Importance.ERROR:  # its message is a traceback
            reason = message.message.strip().splitlines()[-1]
            yield Finding("error", f"the file cannot be read: {reason}", "readable", "")
            continue
        severity = severities.get(message.importance, "error")
        yield Finding(severity, message.message, message.check_function_name or "", message.location or "")


def _own_findings(path: Path) -> list[Finding]:
    import ndx_pose  # its types' own methods are used below
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "r") as io:
        nwbfile = io.read()
        findings = [*_path_findings(path, nwbfile)]
        for container in nwbfile.objects.values():
            if isinstance(container, ndx_pose.PoseEstimation):
                findings += _pose_findings(container)
    return findings


def _path_findings(path: Path, nwbfile: pynwb.NWBFile) -> Iterator[Finding]:
    subject_id = nwbfile.subject.subject_id if nwbfile.subject else None
    held = modalities_of(nwbfile)
    try:
        expected = nwb_relative_path(subject_id, nwbfile.session_id or "", with_video="image" in held, others=held)
    except InputError as error:
        yield Finding("error", str(error), "path_names_session", "/")
        return
    if path.parts[-len(expected.parts) :] != expected.parts:
        message = f"expected a path that ends in {expected}, for the subject and session that the file names."
        yield Finding("error", message, "path_names_session", "/")


def _pose_findings(poses: Any) -> Iterator[Finding]:
    location = f"/processing/{poses.parent.name}/{poses.name}"
    series = poses.pose_estimation_series
    nodes = set(poses.skeleton.nodes[:]) if poses.skeleton is not None else set()
    if nodes != set(series):
        message = f"skeleton nodes {sorted(nodes)} differ from the series' body parts {sorted(series)}."
        yield Finding("error", message, "skeleton_fits_series", location)
    lengths = {name: len(one.data) for name, one in series.items()}
    if poses.source_video is not None:
        lengths[f"video {poses.source_video.name}"] = poses.source_video.num_samples
    if len(set(lengths.values())) > 1:
        yield Finding("error", f"expected equal numbers of frames, found {lengths}.", "equal_lengths", location)
    for name, one in series.items():
        said = any(sentence in (one.description or "") for sentence in (NEVER_DETECTED, NOTHING_LEFT))
        if not said and not _has_position(one.data):
            yield Finding("violation", "no frame has a position.", "positions_present", f"{location}/{name}")


def _has_position(data: Any) -> bool:
    """Say whether any frame of a series has a position, reading no more of it at once than a chunk."""
    starts = range(0, len(data), CHUNK_FRAMES)
    return any(not np.isnan(data[start : start + CHUNK_FRAMES]).any(axis=1).all() for start in starts)
