"""What each check says of one product, from its manifest: the same words in a run, in the UI's own check, and for many keys at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from dlc_assets.lab.lab import Lab
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.recordings.info import SessionInfo, StoredFile
from dlc_assets.recordings.start_zone import assumed_zone
from dlc_assets.review.pose_checks import QUESTIONS, check_one, moments_words
from dlc_assets.video.findings import About


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


def labels_all_used(manifest: Manifest, _root: Path) -> Outcome:
    """Say which labeled frames were not used, and why, and which labels should be mended."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "every labeled frame that was found is used")


def recordings_readable(manifest: Manifest, _root: Path) -> Outcome:
    """Say which recordings of the session could not be read or used."""
    failed = [f"{name}: {why}" for name, why in manifest.details["failed"].items()]
    return _listed(failed, dg.AssetCheckSeverity.ERROR, "every recording decodes")


def recordings_whole(manifest: Manifest, _root: Path) -> Outcome:
    """Say which videos do not decode to the end that their headers state, and from which frame on; or have damaged frames."""
    return _listed(_about(manifest, "decoding"), dg.AssetCheckSeverity.WARN, "every video decodes to its end")


def recordings_without_gaps(manifest: Manifest, _root: Path) -> Outcome:
    """Say where frames were dropped, parts are missing, the frame rate varies, or times were derived or repaired."""
    return _listed(_about(manifest, "times"), dg.AssetCheckSeverity.WARN, "every frame has its own time, without gaps")


def recordings_of_one_size(manifest: Manifest, _root: Path) -> Outcome:
    """Say where pictures change their size (such a recording is not used), or are of another size than the header states."""
    info = SessionInfo.model_validate(manifest.details)
    refused = [f"{name}: {info.failed[name]}" for name, kind in info.failed_about.items() if kind == "size"]
    severity = dg.AssetCheckSeverity.ERROR if refused else dg.AssetCheckSeverity.WARN
    return _listed([*refused, *_about(manifest, "size")], severity, "the pictures of each recording are of one size")


def cameras_agree(manifest: Manifest, _root: Path) -> Outcome:
    """Say which cameras that ran at the same time are not equally long, and which recordings of one camera overlap."""
    sentences = SessionInfo.model_validate(manifest.details).cameras
    return _listed(sentences, dg.AssetCheckSeverity.WARN, "recordings of one time are equally long")


def recordings_unchanged(manifest: Manifest, root: Path) -> Outcome:
    """Say which videos and files of time stamps are no longer as they were when the session was probed: grown, written anew, gone."""
    info = SessionInfo.model_validate(manifest.details)
    touched, changed = [], []
    for recording in info.recordings:
        files: list[StoredFile] = [*recording.files, *recording.times_files]
        for file in files:
            path = file.resolve(root)
            try:
                status = path.stat()
            except OSError as error:
                changed.append(f"{path} cannot be looked at ({error.strerror}); it was there on {manifest.made}.")
                continue
            if status.st_size != file.size:
                changed.append(
                    f"{path} had {file.size} bytes when it was probed and has {status.st_size} now: what was made from it is out "
                    "of date. Materialize session_recordings for this session again."
                )
            elif status.st_mtime_ns != file.mtime_ns:
                touched.append(
                    f"{path} was written again since it was probed, {file.size} bytes as before. Materialize session_recordings "
                    "for this session again: poses stay up to date if its content is the same."
                )
    severity = dg.AssetCheckSeverity.ERROR if changed else dg.AssetCheckSeverity.WARN
    return _listed([*changed, *touched], severity, "every file is as it was when it was probed")


def recordings_described(manifest: Manifest, root: Path) -> Outcome:
    """Say what else a person should look at: a start that is not known or in an assumed time zone, what session.yaml names and is
    not there, odd pixels.
    """
    info = SessionInfo.model_validate(manifest.details)
    told = {
        *info.cameras,
        *(
            f"{r.recording}: {problem}"
            for r in info.recordings
            for problem in r.problems_about("decoding", "times", "size")
        ),
    }
    known = set(info.failed.values())
    sentences = [
        problem for problem in manifest.problems if problem not in told and not any(why in problem for why in known)
    ]
    if info.start is None:
        sentences.append("The session's start is not known; NWB needs it. Write it into session.yaml as start.")
    if zone := assumed_zone(Lab(LabLayout(root)), info):
        sentences.append(zone)
    if not info.extend_nwb_problem:
        return _listed(sentences, dg.AssetCheckSeverity.WARN, "start time known, nothing odd")
    return _listed([info.extend_nwb_problem, *sentences], dg.AssetCheckSeverity.ERROR, "")


def _about(manifest: Manifest, kind: About) -> list[str]:
    """Return what is known of the recordings about *kind*; releases before did not tell: `recordings_described` has it all."""
    recordings = SessionInfo.model_validate(manifest.details).recordings
    return [f"{r.recording}: {problem}" for r in recordings for problem in r.problems_about(kind)]


def _pose_check(name: str, question: str) -> Callable[[Manifest, Path], Outcome]:
    def check(manifest: Manifest, root: Path) -> Outcome:
        found = check_one(root, manifest, name)
        if found is None:
            return Outcome(True, dg.AssetCheckSeverity.WARN, f"lab.yaml says checks.{name}.severity: off", {})
        metadata: dict[str, Any] = {"numbers": dg.MetadataValue.json(found.details)} if found.details else {}
        if found.value is not None:
            metadata["value"] = found.value
        if found.limit is not None:
            metadata["limit"] = found.limit
        if found.moments:
            rows = [dg.TableRecord(row) for row in moments_words(found.moments)]
            metadata["worst moments"] = dg.MetadataValue.table(rows)
        severity = dg.AssetCheckSeverity.ERROR if found.severity == "error" else dg.AssetCheckSeverity.WARN
        return Outcome(found.passed, severity, found.sentence, metadata)

    check.__doc__ = question
    return check


def filters_applied(manifest: Manifest, _root: Path) -> Outcome:
    """Warn of steps that could not be applied, of points that no window fitted, and of body parts of which nothing is left."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "every step could be applied")


def measures_known(manifest: Manifest, _root: Path) -> Outcome:
    """Warn of body parts without a point, of a camera that moved, so that cm and regions are withheld, and of what was left out."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "everything could be measured")


def nwb_valid(manifest: Manifest, _root: Path) -> Outcome:
    """Say what pynwb's validator and nwbinspector found in the file."""
    errors = [line for line in manifest.details["findings"] if not line.startswith("suggestion")]
    return _listed(errors, dg.AssetCheckSeverity.ERROR, "valid for pynwb, nwbinspector and the DANDI rules")


def nwb_complete(manifest: Manifest, _root: Path) -> Outcome:
    """Say what the file lacks that archives ask for, and recordings that are not in it."""
    return _listed(manifest.problems, dg.AssetCheckSeverity.WARN, "all metadata that archives ask for is there")


def published_current(manifest: Manifest, root: Path) -> Outcome:
    """Say whether the session's NWB file is still the one that was published."""
    layout, cohort = LabLayout(root), manifest.details["cohort"]
    if cohort is None:
        nwb = read_manifest(layout.nwb_manifest(manifest.key))
    else:
        nwb = read_manifest(layout.cohort_nwb_manifest(cohort, manifest.key))
    if nwb is None:
        sentences = [f"The NWB file that was published on {manifest.made} is no longer in the store."]
    elif nwb.data_version != manifest.inputs["nwb"]:
        sentences = [
            f"The NWB file was written anew on {nwb.made}, from other data than what was published on {manifest.made}: look at it, "
            f"and run `dlc-assets publish {manifest.key}` if it should take the place of that."
        ]
    else:
        sentences = []
    return _listed(sentences, dg.AssetCheckSeverity.WARN, "the dandiset has the session's NWB file as it is now")


def published_complete(manifest: Manifest, _root: Path) -> Outcome:
    """Say what is not in the dandiset, or should not be there, though the NWB file is."""
    return _listed(
        manifest.problems, dg.AssetCheckSeverity.WARN, "the dandiset has everything that the NWB file refers to"
    )


# A check sees a product's manifest, and the lab's folder for the files that it names.
CHECKS: dict[str, dict[str, Callable[[Manifest, Path], Outcome]]] = {
    "training_dataset": {"labels_all_used": labels_all_used},
    "session_recordings": {
        "recordings_readable": recordings_readable,
        "recordings_whole": recordings_whole,
        "recordings_without_gaps": recordings_without_gaps,
        "recordings_of_one_size": recordings_of_one_size,
        "recordings_unchanged": recordings_unchanged,
        "recordings_described": recordings_described,
        "cameras_agree": cameras_agree,
    },
    "pose_table": {name: _pose_check(name, question) for name, question in QUESTIONS.items()},
    "filtered_pose_table": {"filters_applied": filters_applied},
    "kinematics": {"measures_known": measures_known},
    "nwb_file": {"nwb_valid": nwb_valid, "nwb_complete": nwb_complete},
    "dandi_asset": {"published_current": published_current, "published_complete": published_complete},
}


def evaluations(manifest: Manifest, root: Path) -> list[dg.AssetCheckEvaluation]:
    """Return the evaluation of every check of the product's asset, for its partition; *root* is the lab's folder."""
    return [evaluation(manifest, name, root) for name in CHECKS[manifest.asset]]


def evaluation(manifest: Manifest, name: str, root: Path) -> dg.AssetCheckEvaluation:
    """Return the evaluation of the check *name* for the product's partition."""
    outcome = CHECKS[manifest.asset][name](manifest, root)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(manifest.asset),
        check_name=name,
        passed=outcome.passed,
        severity=outcome.severity,
        description=outcome.description,
        metadata=outcome.metadata,
        partition=manifest.key,
    )
