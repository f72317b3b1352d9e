"""The demo: a lab is rendered, the whole chain runs on it, and its poses are compared with the known truth."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.demo.files import write_demo_project, write_demo_recordings
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.progress import LoggedProgress, duration_words

if TYPE_CHECKING:
    import pandas as pd

MODEL = "walker"
_SURE = 0.6  # the project's p-cutoff, above which DeepLabCut's users trust a point

_LAB = """\
# The demo's lab, rendered by dlc_assets: two subjects, three sessions, one camera. The truth of each frame lies in truth/.
name: Demo lab
institution: University of Somewhere
timezone: Europe/Zurich
experimenters: ["Example, Erika"]
recordings:
  - {root: recordings, template: "{subject}/{session}/{camera}.mp4"}
devices:
  top: {description: camera above the arena, manufacturer: Rendered, model: demo}
subjects:
  m01:
    {species: Mus musculus, sex: F, date_of_birth: 2026-02-01, strain: C57BL/6J, genotype: wt, description: rendered,
     tags: {group: control}}
  m02:
    {species: Mus musculus, sex: M, date_of_birth: 2026-02-03, strain: C57BL/6J, genotype: ko, description: rendered,
     tags: {group: treated}}
body_parts:
  snout: {description: tip of the nose}
release:
  - {devices: [top], model: walker}
analyze: {auto: true, settle_seconds: 1}
nwb: {videos: link, experiment_description: A rendered animal in an open field}
"""

_SPECIFICATION = """\
# A small network from random weights, so that the demo needs no GPU and no download. For real work: net_type: resnet_50, weights: imagenet.
project: {project}
description: the demo's figure, seen from above
label_set: {{videos: all}}
split: {{by: video, train: 0.5, validation: 0.25, benchmark: 0.25, seed: 1}}
net_type: resnet_50
weights: random
training: {{epochs: {epochs}, batch_size: 8, save_epochs: {epochs}, seed: 42}}
pytorch_config:
  model.backbone.model_name: {backbone}
  data.train.crop_sampling.width: 256      # the frames' own size: a larger crop would only add black
  data.train.crop_sampling.height: 192
"""


@dataclass
class DemoReport:
    """What the demo made: tables for people, facts for programs."""

    ok: bool = True
    tables: list[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoSize:
    """How much is rendered and how long is trained: small enough for two cores, large enough to learn something."""

    seconds_per_session: float = 6.0
    labeled_frames: int = 120
    epochs: int = 24
    backbone: str = "resnet10t"


def write_demo_lab(folder: Path, size: DemoSize, log: Callable[[str], None]) -> Lab:
    """Render the demo's lab into *folder*; a demo lab that is there already is used as it is.

    Raises
    ------
    SettingsError
        *folder* holds something else.
    """
    marker = folder / "lab.yaml"
    if marker.is_file():
        if not (folder / "truth").is_dir():
            raise SettingsError(f"{folder} is a lab, but not a demo's: name another folder.")
        log(f"the demo's lab is in {folder} already; it is used as it is")
        return open_lab_folder(folder)
    if folder.exists() and any(folder.iterdir()):
        raise SettingsError(
            f"{folder} is not empty: name a new folder for the demo, or remove what an earlier one left."
        )
    write_demo_recordings(
        folder,
        seconds_per_session=size.seconds_per_session,
        on_progress=LoggedProgress(log, "rendering recordings", "frames"),
    )
    project = write_demo_project(folder, labeled_frames=size.labeled_frames)
    write_text(
        folder / "models" / f"{MODEL}.yaml",
        _SPECIFICATION.format(project=project.name, epochs=size.epochs, backbone=size.backbone),
    )
    write_text(marker, _LAB)
    return open_lab_folder(folder)


def run_demo(folder: Path, *, log: Callable[[str], None], size: DemoSize | None = None) -> DemoReport:
    """Render the lab and make everything: dataset, model, evaluation, recordings, poses and what is made of them, NWB files, catalog."""
    from dlc_assets.commands import analyze_sessions, export_sessions, train_model
    from dlc_assets.launching import execute_here
    from dlc_assets.resources.instance import open_instance
    from dlc_assets.reviewing import review_sessions

    begun = time.monotonic()
    lab = write_demo_lab(folder, size or DemoSize(), log)
    report = DemoReport()
    with open_instance(lab, log) as instance:
        outcomes = [train_model(lab, instance, MODEL, {}, log=log)]
        if outcomes[-1].success:
            analysis = analyze_sessions(lab, instance, None, None, recompute=False, log=log)
            outcomes += analysis.outcomes
            reviews, reports = review_sessions(lab, instance, None, recompute=False, log=log)
            outcomes += reviews
            report.tables.append(("What the poses are worth", *_verdicts(reports)))
            exports, _ = export_sessions(lab, instance, None, recompute=False, log=log)
            outcomes += exports
            for problem in analysis.problems:
                log(problem)
        outcomes.append(execute_here(lab, instance, "write_catalog", tags={}, log=log))
    report.ok = all(outcome.success for outcome in outcomes)
    for outcome in outcomes:
        for message in outcome.failures:
            log(f"{outcome.job}: {message}")
    _describe(lab, report, time.monotonic() - begun)
    return report


def _verdicts(reports: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    return ("session", "verdict"), [(row["session"], row["verdict"]) for row in reports]


def _describe(lab: Lab, report: DemoReport, seconds: float) -> None:
    from dlc_assets.state.lab_state import lab_state

    state = lab_state(lab)
    report.tables.append(
        (
            "What was made",
            ("asset", "key", "state", "where"),
            [(p.asset, p.key, p.state, _where(lab, p.asset, p.key)) for p in state.products],
        )
    )
    report.facts = {"lab": str(lab.root), "seconds": round(seconds, 1), "products": state.counts()}
    errors = errors_against_truth(lab)
    if errors is not None:
        report.tables.append(
            (
                "How accurate: distance to the known truth, in px of 256x192 frames that the network never saw",
                ("session", "points", "median", "95 %", f"share above likelihood {_SURE}", "median of those"),
                [tuple(row) for row in errors.itertuples(index=False)],
            )
        )
        report.facts["accuracy"] = errors.to_dict("records")
    report.next_steps = [
        f"Done in {duration_words(seconds)}.",
        f"Look further:  dlc-assets dev --lab {lab.root}      (the Dagster UI on http://127.0.0.1:3000)",
        f"               dlc-assets status --lab {lab.root}",
        f'               dlc-assets sql --lab {lab.root} "select session, bodypart, avg(likelihood) from poses group by all"',
    ]


def _where(lab: Lab, asset: str, key: str) -> str:
    from dlc_assets.state.stored import place_of, stored_manifest

    manifest = stored_manifest(lab, asset, key)
    return "" if manifest is None else str(place_of(lab, manifest).relative_to(lab.root))


def errors_against_truth(lab: Lab) -> pd.DataFrame | None:
    """Return one row a session and one over all: distances (px) of the estimated poses to the truth of visible body parts."""
    import numpy as np
    import pandas as pd

    from dlc_assets.api import OpenLab
    from dlc_assets.lab.errors import NotFoundError

    try:
        poses = OpenLab(lab).poses(model=MODEL).to_pandas()
    except NotFoundError:
        return None
    truths = []
    for path in sorted((lab.root / "truth").glob("*.parquet")):
        subject, session, recording = path.stem.split("_")
        truth = pd.read_parquet(path)
        truths.append(truth.assign(session=f"sub-{subject}_ses-{session}", recording=recording))
    joined = poses.merge(
        pd.concat(truths),
        on=["session", "recording", "frame", "bodypart"],
        suffixes=("", "_true"),
        validate="one_to_one",
    )
    joined = joined[joined["visible"]]
    joined["distance"] = np.hypot(joined["x"] - joined["x_true"], joined["y"] - joined["y_true"])
    rows = []
    for name, points in [*joined.groupby("session", observed=True), ("all", joined)]:
        sure = points[points["likelihood"] >= _SURE]
        rows.append(
            {
                "session": name,
                "points": len(points),
                "median": round(float(points["distance"].median()), 2),
                "p95": round(float(points["distance"].quantile(0.95)), 2),
                "share_sure": round(len(sure) / len(points), 3),
                "median_sure": round(float(sure["distance"].median()), 2) if len(sure) else None,
            }
        )
    return pd.DataFrame(rows)
