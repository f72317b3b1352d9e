"""`filtered_pose_table`: the poses of one session by one model after the lab's filters."""

from typing import Any

import dagster as dg
import numpy as np

from dlc_assets.assets import previews
from dlc_assets.assets.derived import DerivedConfig, derived_stage
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.reporting import Made, Stage
from dlc_assets.checks import outcomes
from dlc_assets.derived.filter_figures import MOST_TRACKS, Span
from dlc_assets.derived.filtered_poses import KIND, filter_session, filtered_pose_files
from dlc_assets.derived.filtering import track_name
from dlc_assets.lab.filter_settings import steps_from
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import COLUMNS
from dlc_assets.poses.table_file import PoseTableFile, read_thinned_tracks
from dlc_assets.recordings.info import need_session_info

# Differs from its neighbours' so that a backfill never fuses them.
SESSIONS_PER_RUN = 150
# What each step can do to points, and what the UI's table shows of it.
_DOES = {
    "confidence": "removed",
    "jumps": "removed",
    "arena": "removed",
    "interpolate": "filled",
    "median": "moved",
    "savgol": "moved",
}


SPEC = dg.AssetSpec(
    KIND.asset,
    deps=[pose_table],
    description=(
        "The poses of one session by one model after the filters of `lab.yaml`, in files like those of `pose_table`.\n\n"
        "Points are removed, filled in and smoothed step by step; likelihoods stay as they were. No step reaches across a gap in time. "
        "The tables and pictures show which share of points each step changed. How to state filters: docs/how-to/filter-poses.md."
    ),
    group_name="inference",
    owners=["team:lab"],
    kinds={"parquet"},
    code_version="1",
    metadata={
        "dagster/column_schema": previews.column_schema(
            [(c.name, c.arrow, f"{c.description}{f' ({c.unit})' if c.unit else ''}") for c in COLUMNS]
        )
    },
)


def filter_stage(context: dg.AssetExecutionContext, lab: Lab, config: DerivedConfig) -> Stage:
    """Return how a run makes filtered tables."""

    def make(model: str, session: str) -> Made:
        manifest, filtered_now = filter_session(
            lab,
            model,
            session,
            overrides=config.overrides(),
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        return Made(
            manifest.data_version,
            _metadata(lab, manifest, filtered_now),
            {"pose_table": manifest.inputs["poses"]},
            outcomes.evaluations(manifest, lab.root),
        )

    return derived_stage(lab, KIND, make)


def _metadata(lab: Lab, manifest: Manifest, filtered_now: bool) -> dict[str, Any]:
    details = manifest.details
    rows = details["recordings"]
    steps = steps_from(details["filters"])
    points = [
        {"recording": row["recording"], "body part": name, **_shares(row, name)}
        for row in rows
        for name in row["points"]
    ]
    after = [of["after"] for row in rows for of in row["points"].values()]
    first = filtered_pose_files(lab, manifest)[0]
    return {
        "model version": details["version"],
        "filters": dg.MetadataValue.md("\n".join(f"{n}. {step.words}" for n, step in enumerate(steps, start=1))),
        "dagster/partition_row_count": details["rows"],
        "frames": details["frames"],
        "filtered now": filtered_now,
        "share of points left": round(float(np.mean(after)), 4) if after else 0.0,
        "points by body part": previews.table(points),
        "problems": previews.table([{"problem": problem} for problem in manifest.problems]),
        **_pictures(lab, manifest),
        "dagster/uri": dg.MetadataValue.path(str(first.path.parent)),
    }


def _shares(row: dict[str, Any], name: str) -> dict[str, float | None]:
    """Return the shares of all frames of one body part: with a point before, changed by each step, and with a point after."""
    changed = {
        f"{number}. {step['step']}: {_DOES[step['step']]}": step["tracks"].get(name, {}).get(_DOES[step["step"]])
        for number, step in enumerate(row["steps"], start=1)
    }
    return {"before": row["points"][name]["before"], **changed, "after": row["points"][name]["after"]}


def _pictures(lab: Lab, manifest: Manifest) -> dict[str, Any]:
    """Return pictures of the first recording: where each body part changed most, and where it went; empty if the poses are gone."""
    details = manifest.details
    row = details["recordings"][0]
    first = filtered_pose_files(lab, manifest)[0]
    raw = lab.layout.pose_file(first.model, first.version, first.session, first.recording)
    if not raw.exists():
        return {}
    spans = [
        _span(PoseTableFile.open(raw), PoseTableFile.open(first.path), name, span)
        for name, span in list(row["spans"].items())[:MOST_TRACKS]
    ]
    info, _ = need_session_info(lab.layout, details["session"])
    recording = info.recording(first.recording)
    before, after = (read_thinned_tracks(path, previews.TRAJECTORY_POINTS)[1] for path in (raw, first.path))
    return {
        "before and after": previews.filter_spans(spans, left_out=list(row["spans"])[MOST_TRACKS:]),
        "trajectories": previews.filter_trajectories(before, after, recording.width, recording.height),
    }


def _span(raw: PoseTableFile, filtered: PoseTableFile, name: str, where: dict[str, Any]) -> Span:
    """Return the track called *name* before and after, in the frames that its manifest names."""
    first, last = where["frames"]
    times, before = raw.stretch(_named(raw, name), first, last)
    _, after = filtered.stretch(_named(filtered, name), first, last)
    filled = np.zeros(len(times), dtype=bool)
    for start, stop in where["filled"]:
        filled[start - first : stop - first] = True
    return Span(name, times, before, after, filled)


def _named(table: PoseTableFile, name: str) -> tuple[str, str]:
    return next(of for of in table.names() if track_name(*of) == name)
