"""What each check says of one product, from its manifest: the same words in a run, in the UI's own check, and for many keys at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dlc_assets.lab.manifest import Manifest

# Body parts below the p-cutoff in more than this share of the frames: occlusion explains some, a bad model more.
_UNSURE_SHARE = 0.5


@dataclass(frozen=True)
class Outcome:
    """Whether a check passed, how bad it is if not, and what it saw."""

    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    metadata: Mapping[str, Any]


def _listed(sentences: list[str], severity: dg.AssetCheckSeverity, good: str) -> Outcome:
    if not sentences:
        return Outcome(True, severity, good, {})
    return Outcome(False, severity, " ".join(sentences[:3]), {"all": dg.MetadataValue.json(sentences)})


def labels_all_used(manifest: Manifest) -> Outcome:
    """Say which labeled frames were not used, and why, and which labels should be mended."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "every labeled frame that was found is used")


def recordings_readable(manifest: Manifest) -> Outcome:
    """Say which recordings of the session could not be read."""
    failed = [f"{name}: {why}" for name, why in manifest.details["failed"].items()]
    return _listed(failed, dg.AssetCheckSeverity.ERROR, "every recording decodes")


def recordings_complete(manifest: Manifest) -> Outcome:
    """Say what is odd about the session's videos and metadata: lost frames, gaps, unknown start."""
    known = set(manifest.details["failed"].values())
    sentences = [problem for problem in manifest.problems if not any(why in problem for why in known)]
    if manifest.details["start"] is None:
        sentences.append("The session's start is not known; NWB needs it. Write it into session.yaml as start.")
    return _listed(sentences, dg.AssetCheckSeverity.WARN, "no gaps, no lost frames, start time known")


def body_parts_found(manifest: Manifest) -> Outcome:
    """Warn of body parts that the model is unsure of in most frames."""
    sentences = [
        f"{recording['recording']}: {bodypart} is below the p-cutoff in {share:.0%} of the frames."
        for recording in manifest.details["recordings"]
        for bodypart, share in recording["share_below_pcutoff"].items()
        if share > _UNSURE_SHARE
    ]
    return _listed(sentences, dg.AssetCheckSeverity.WARN, "every body part is found in most frames")


def nwb_valid(manifest: Manifest) -> Outcome:
    """Say what pynwb's validator and nwbinspector found in the file."""
    errors = [line for line in manifest.details["findings"] if not line.startswith("suggestion")]
    return _listed(errors, dg.AssetCheckSeverity.ERROR, "valid for pynwb, nwbinspector and the DANDI rules")


def nwb_complete(manifest: Manifest) -> Outcome:
    """Say what the file lacks that archives ask for, and recordings that are not in it."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "all metadata that archives ask for is there")


CHECKS: dict[str, dict[str, Callable[[Manifest], Outcome]]] = {
    "training_dataset": {"labels_all_used": labels_all_used},
    "session_recordings": {"recordings_readable": recordings_readable, "recordings_complete": recordings_complete},
    "pose_table": {"body_parts_found": body_parts_found},
    "nwb_file": {"nwb_valid": nwb_valid, "nwb_complete": nwb_complete},
}


def evaluations(manifest: Manifest) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluation of every check of the product's asset, for its partition."""
    return [evaluation(manifest, name) for name in CHECKS[manifest.asset]]


def evaluation(manifest: Manifest, name: str) -> dg.AssetCheckEvaluation:
    """Return the evaluation of the check *name* for the product's partition."""
    outcome = CHECKS[manifest.asset][name](manifest)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(manifest.asset),
        check_name=name,
        passed=outcome.passed,
        severity=outcome.severity,
        description=outcome.description,
        metadata=outcome.metadata,
        partition=manifest.key,
    )
