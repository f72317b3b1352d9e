"""What the commands ask for: runs over the partitions that are behind, one stage after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import dagster as dg

from dlc_assets.assets.export import SESSIONS_PER_RUN as EXPORTS_PER_RUN
from dlc_assets.assets.inference import SESSIONS_PER_RUN as ANALYSES_PER_RUN
from dlc_assets.assets.labeled_video import SESSIONS_PER_RUN as LABELED_PER_RUN
from dlc_assets.assets.labels import observe_labels
from dlc_assets.assets.publishing import SESSIONS_PER_RUN as PUBLISHED_PER_RUN
from dlc_assets.assets.recordings import SESSIONS_PER_RUN as RECORDINGS_PER_RUN
from dlc_assets.derived.product import derived_manifest
from dlc_assets.inference.crops import setup_problems
from dlc_assets.inference.frozen_poses import cohort_files
from dlc_assets.inference.pose_tables import inputs_like, pose_inputs, pose_manifest, wanted_version
from dlc_assets.inference.releases import released_by, releases_of, rule_problems
from dlc_assets.lab.cohorts import Cohort, find_cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.labeling.batch import current_batch
from dlc_assets.labeling.sources import check_sessions
from dlc_assets.launching import RunOutcome, execute_here
from dlc_assets.nwb.export import nwb_files, nwb_manifest
from dlc_assets.nwb.session_poses import released_poses
from dlc_assets.partitions import MODEL, SESSION, add_keys, contiguous_ranges
from dlc_assets.publishing.archive import check_access
from dlc_assets.publishing.publish import is_published, published_manifest
from dlc_assets.publishing.selection import dandi_settings
from dlc_assets.recordings.discovery import Discovery, discover
from dlc_assets.recordings.info import need_session_info, read_session_info
from dlc_assets.recordings.settling import unchanged_for
from dlc_assets.review.labeled_video import ASSET as LABELED_VIDEO
from dlc_assets.review.labeled_video import labeled_video_files, settings_of
from dlc_assets.state.behind import BEHIND, recorded_sessions, recordings_product
from dlc_assets.state.stored import stored_keys
from dlc_assets.training.models import ModelVersion, current_version, find_version, trained_models
from dlc_assets.training.rescoring import behind_labels, rescore

Log = Callable[[str], None]
_LISTED = 5


@dataclass
class Analysis:
    """What `analyze` did: its runs, one row a pose table, what went wrong, and what was left out because nobody asked for it."""

    outcomes: list[RunOutcome]
    pose_tables: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def register_models(lab: Lab, instance: dg.DagsterInstance, log: Log) -> None:
    """Make every readable specification and every trained model a partition of the instance."""
    specifications, _ = lab.specifications()
    new = add_keys(instance, MODEL, [*specifications, *trained_models(lab.layout)])
    if new:
        log(f"new models: {', '.join(new)}")


def scan_recordings(
    lab: Lab,
    instance: dg.DagsterInstance,
    discovery: Discovery,
    sessions: Sequence[str] | None,
    *,
    log: Log,
) -> list[RunOutcome]:
    """Register the sessions that were found and probe those (of *sessions*, or of all) that are new or have changed."""
    settled = unchanged_for(discovery, lab.settings.analyze.settle_seconds)
    for key in sorted(set(discovery.sessions) - set(settled)):
        log(f"{key}: a file of it changed a moment ago; it is left until it has settled")
    add_keys(instance, SESSION, settled)
    chosen = set(settled if sessions is None else sessions)
    behind = [
        key
        for key in settled
        if key in chosen
        and recordings_product(lab, key, discovery.sessions[key], read_session_info(lab.layout, key)).state in BEHIND
    ]
    ranges = contiguous_ranges(behind, instance.get_dynamic_partitions(SESSION), RECORDINGS_PER_RUN)
    return [execute_here(lab, instance, "record", tags=keys.tags, log=log) for keys in ranges]


def train_model(
    lab: Lab, instance: dg.DagsterInstance, model: str, settings: Mapping[str, Any], *, log: Log
) -> RunOutcome:
    """Run the whole `train` job of *model*, its specification and labels checked first."""
    lab.specification(model)
    register_models(lab, instance, log)
    instance.report_runless_asset_event(observe_labels(lab, model))
    recompute = {"recompute": True} if settings.get("recompute") else {}
    ops = {"trained_model": dict(settings), "model_evaluation": recompute}
    return execute_here(lab, instance, "train", tags={"dagster/partition": model}, ops=ops, log=log)


def evaluate_versions(lab: Lab, versions: Sequence[ModelVersion], *, log: Log) -> list[str]:
    """Evaluate those of *versions* that are not, or behind their labels; return a sentence for each that failed.

    Current versions are evaluated by runs of the job `evaluate`, so that the UI shows it; older ones are no partitions.
    """
    from dlc_assets.resources.instance import open_instance

    behind, problems = behind_labels(lab, versions)
    current = [v for v in behind if v == current_version(lab.layout, v.model) and v.model in lab.model_names()]
    if current:
        with open_instance(lab, log) as instance:
            add_keys(instance, MODEL, [version.model for version in current])
            for version in current:
                outcome = execute_here(lab, instance, "evaluate", tags={"dagster/partition": version.model}, log=log)
                problems += [f"{version} could not be evaluated: {message}" for message in outcome.failures]
    return problems + rescore(lab, [version for version in behind if version not in current], run_id="", log=log)


def choose_frames(
    lab: Lab,
    instance: dg.DagsterInstance,
    model: str,
    sessions: Sequence[str],
    *,
    count: int,
    seed: int,
    log: Log,
) -> tuple[RunOutcome, Manifest | None]:
    """Choose the frames of *sessions* (none named: all) to label next for *model*; return the batch as well, None where that failed.

    Raises
    ------
    SettingsError, NotFoundError
        Before any run: the model has no specification or no project, was never trained, or has no poses of a session.
    """
    if "@" in model:
        raise SettingsError(f"{model}: frames are chosen for a model's current version; name the model alone.")
    lab.project_config(model)
    find_version(lab.layout, model)
    check_sessions(lab, model, sessions)
    register_models(lab, instance, log)
    config = {"count": count, "sessions": list(sessions), "seed": seed}
    tags = {"dagster/partition": model}
    outcome = execute_here(lab, instance, "choose_frames", tags=tags, ops={"frames_to_label": config}, log=log)
    return outcome, current_batch(lab, model) if outcome.success else None


def analyze_sessions(
    lab: Lab,
    instance: dg.DagsterInstance,
    sessions: Sequence[str] | None,
    model: str | None,
    *,
    settings: Mapping[str, Any] = MappingProxyType({}),
    recompute: bool,
    log: Log,
) -> Analysis:
    """Probe what is behind, then estimate poses: by *model*, or by what the release rules say.

    Without *sessions* (all of them) only what is not up to date is run, unless *recompute*. *settings* are those of these runs
    alone, as in `PoseTableConfig`.

    Raises
    ------
    SettingsError, NotFoundError
        Before any run: settings that there are not, or that do not go together; a model, snapshot or session that does not
        exist.
    """
    stated = _run_settings(lab, settings)
    if model is not None:
        version = find_version(lab.layout, model)
        _need_runnable(version)
        if "@" in model:
            raise SettingsError(
                f"--model {model}: a session is analysed by a model's current version. To use another one, pin it in a release "
                "rule of lab.yaml, or set `version` in the launchpad of pose_table."
            )
    _check_snapshot(lab, model, stated.get("snapshot"))
    discovery = discover(lab)
    wanted = _known_sessions(lab, discovery, sessions)
    register_models(lab, instance, log)
    outcomes = scan_recordings(lab, instance, discovery, wanted, log=log)
    done = Analysis(outcomes, problems=[*(rule_problems(lab) if model is None else []), *setup_problems(lab)])
    tasks = _tasks(lab, wanted, model, done)
    known = instance.get_dynamic_partitions(SESSION)
    config = {**stated, **({"recompute": True} if recompute else {})}
    ops = {"pose_table": config} if config else None
    for name, keys in tasks.items():
        run = keys if sessions or recompute else [key for key in keys if not _analysed(lab, name, key, stated)]
        for part in contiguous_ranges(run, known, ANALYSES_PER_RUN):
            outcomes.append(execute_here(lab, instance, "analyze", tags=part.for_model(name).tags, ops=ops, log=log))
    done.pose_tables = _pose_tables(lab, tasks)
    return done


def analyze_with_version(
    lab: Lab, instance: dg.DagsterInstance, version: ModelVersion, sessions: Sequence[str], *, log: Log
) -> list[RunOutcome]:
    """Estimate the poses of *sessions* with *version*, whatever is released or current; what is released stays as it is.

    Raises
    ------
    SettingsError
        Before any run: *version* does not run here.
    """
    _need_runnable(version)
    register_models(lab, instance, log)
    add_keys(instance, SESSION, sessions)
    ops = {"pose_table": {"version": version.version}}
    ranges = contiguous_ranges(sessions, instance.get_dynamic_partitions(SESSION), ANALYSES_PER_RUN)
    return [
        execute_here(lab, instance, "analyze", tags=part.for_model(version.model).tags, ops=ops, log=log)
        for part in ranges
    ]


def _run_settings(lab: Lab, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return *settings* of an analysis as its run takes them, once they are known to fit each other and lab.yaml."""
    stated = dict(settings)
    lab.settings.inference.overridden(
        **{name: stated[name] for name in ("precision", "batch_size", "dynamic_cropping") if name in stated}
    )
    device, snapshot = stated.get("device", "cpu"), stated.get("snapshot", "best")
    if device not in {"cpu", "gpu"}:
        raise SettingsError(f'device: expected cpu or gpu, got "{device}".')
    if snapshot not in {"best", "last"}:
        if not snapshot.isdecimal() or int(snapshot) < 1:
            raise SettingsError(f'snapshot: expected best, last or the number of an epoch, got "{snapshot}".')
        stated["snapshot"] = str(int(snapshot))
    return stated


def _need_runnable(version: ModelVersion) -> None:
    if not version.runnable:
        raise SettingsError(f"{version} cannot analyse: {version.why_not_runnable}")


def _check_snapshot(lab: Lab, model: str | None, snapshot: str | None) -> None:
    """Raise a NotFoundError where none of the versions that may analyse keeps *snapshot*."""
    if snapshot is None:
        return
    rules = [rule.model for rule in lab.settings.release if model is None or rule.model_name == model]
    refused = None
    for reference in [*([model] if model else []), *rules]:
        try:
            version = find_version(lab.layout, reference)
            if not version.runnable:
                continue  # it analyses nothing, with whatever snapshot
            version.snapshot_file(snapshot)
        except NotFoundError as error:
            refused = refused or error
        else:
            return
    if refused is not None:
        raise refused


def _analysed(lab: Lab, model: str, session: str, settings: Mapping[str, Any]) -> bool:
    """Say whether the pose table of (*model*, *session*) is made from what is there now, and with *settings* if there are any."""
    recorded = read_session_info(lab.layout, session)
    if recorded is None:
        return False
    manifest = pose_manifest(lab, model, recorded[0])
    if manifest is None or (settings and manifest.overrides != settings):
        return False
    try:
        return manifest.inputs == inputs_like(manifest, pose_inputs(lab, model, recorded[0]))
    except SettingsError:  # a crop that does not fit this session: its run says so, and the others go on
        return False


def _known_sessions(lab: Lab, discovery: Discovery, sessions: Sequence[str] | None) -> list[str]:
    known = list(discovery.sessions)
    for key in sessions or ():
        if key not in known:
            listed = ", ".join(known[:10]) or "none"
            raise NotFoundError(
                f'there is no session "{key}".{did_you_mean(key, known)} Sessions found: {listed}'
                f"{', ...' if len(known) > 10 else ''}."
            )
    return list(sessions) if sessions else known


def _tasks(lab: Lab, sessions: Sequence[str], model: str | None, done: Analysis) -> dict[str, list[str]]:
    """Return the sessions that each model is to analyse; *done* takes what stands in the way of the others."""
    tasks: dict[str, list[str]] = {}
    waiting: dict[ModelVersion, list[str]] = {}
    for key in sessions:
        recorded = read_session_info(lab.layout, key)
        if recorded is None:
            done.problems.append(f"{key}: its recordings are not probed, so it is not analysed")
            continue
        if model is not None:
            tasks.setdefault(model, []).append(key)
            continue
        releases = releases_of(lab, recorded[0])
        for name, version in releases.versions.items():
            if version.runnable:
                tasks.setdefault(name, []).append(key)
            elif pose_manifest(lab, name, recorded[0], releases) is None:
                waiting.setdefault(version, []).append(key)
        done.problems += [f"{key}: {why}" for why in releases.waiting.values()]
        if releases.uncovered:
            done.notes.append(
                f"{key}: no release rule of lab.yaml covers {', '.join(releases.uncovered)}; add one, or name a model with --model"
            )
    for version, keys in waiting.items():
        listed = ", ".join(keys[:_LISTED]) + (", ..." if len(keys) > _LISTED else "")
        released = "1 session is" if len(keys) == 1 else f"{len(keys)} sessions are"
        done.problems.append(
            f"{released} released to {version}, which does not run here: {version.why_not_runnable} ({listed})"
        )
    return tasks


def _pose_tables(lab: Lab, tasks: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    rows = []
    for model, sessions in tasks.items():
        for key in sessions:
            recorded = read_session_info(lab.layout, key)
            manifest = pose_manifest(lab, model, recorded[0]) if recorded else None
            if manifest is not None:
                version = manifest.details["version"]
                rows.append(
                    {
                        "session": key,
                        "model": model,
                        "version": version,
                        "frames": manifest.details["frames"],
                        "folder": str(lab.layout.pose_folder(model, version, key)),
                    }
                )
    return rows


def label_videos(
    lab: Lab,
    instance: dg.DagsterInstance,
    sessions: Sequence[str],
    model: str | None,
    *,
    settings: Mapping[str, Any],
    recompute: bool,
    log: Log,
) -> tuple[list[RunOutcome], list[dict[str, Any]]]:
    """Draw the poses of *sessions* by *model* (None: the released ones) onto their videos.

    Parameters
    ----------
    settings
        Of these runs alone, as in `LabeledVideoConfig`.

    Returns
    -------
    tuple
        The runs, and one row a video that they made or found up to date.

    Raises
    ------
    SettingsError, NotFoundError
        Before any run: settings that do not go together; a model or session that does not exist, or has no poses.
    """
    settings_of(lab, settings)
    tasks: dict[str, list[str]] = {}
    for key in _known_sessions(lab, discover(lab), sessions):
        for name in [model] if model is not None else _models_with_poses(lab, key):
            find_version(lab.layout, name)
            tasks.setdefault(name, []).append(key)
    register_models(lab, instance, log)
    add_keys(instance, SESSION, sessions)
    known = instance.get_dynamic_partitions(SESSION)
    ops = {LABELED_VIDEO: {**settings, **({"recompute": True} if recompute else {})}}
    outcomes, rows = [], []
    for name, keys in tasks.items():
        for part in contiguous_ranges(keys, known, LABELED_PER_RUN):
            outcome = execute_here(lab, instance, "label_videos", tags=part.for_model(name).tags, ops=ops, log=log)
            outcomes.append(outcome)
            if outcome.success:
                rows += [row for key in part.keys for row in _video_rows(lab, name, key, settings.get("version"))]
    return outcomes, rows


def _models_with_poses(lab: Lab, key: str) -> list[str]:
    """Return the models released to a session that have poses of it; without any, the one model that has."""
    session, _ = need_session_info(lab.layout, key)
    released = [name for name in releases_of(lab, session).versions if pose_manifest(lab, name, session) is not None]
    if released:
        return released
    others = [name for name in trained_models(lab.layout) if pose_manifest(lab, name, session) is not None]
    if len(others) == 1:
        return others
    found = (
        f"Models that have: {', '.join(others)}. Name one with --model."
        if others
        else "Run `dlc-assets analyze` first."
    )
    raise NotFoundError(f"{key} has no poses by a model that is released to it. {found}")


def _video_rows(lab: Lab, model: str, key: str, version: str | None) -> list[dict[str, Any]]:
    session, _ = need_session_info(lab.layout, key)
    meant = find_version(lab.layout, f"{model}@{version}") if version else wanted_version(lab, model, session)
    manifest = derived_manifest(lab, LABELED_VIDEO, model, meant.version, key)
    if manifest is None:
        return []
    videos = zip(manifest.details["recordings"], labeled_video_files(lab, manifest), strict=True)
    return [
        {
            "session": key,
            "model": str(meant),
            "recording": row["recording"],
            "frames": row["frames"],
            "size": f"{row['width']}x{row['height']}",
            "file": str(file),
        }
        for row, file in videos
    ]


def export_sessions(
    lab: Lab,
    instance: dg.DagsterInstance,
    sessions: Sequence[str] | None,
    *,
    recompute: bool,
    log: Log,
    models: Sequence[str] = (),
) -> tuple[list[RunOutcome], list[dict[str, Any]]]:
    """Write the NWB files of *sessions*, or of every session that has released poses; with the poses by *models*, if any are named.

    Raises
    ------
    NotFoundError
        Before any run: there is no such session or model.
    """
    for model in models:
        find_version(lab.layout, model)
    discovery = discover(lab)
    wanted = _known_sessions(lab, discovery, sessions)
    if sessions is None:
        wanted = [key for key in wanted if (known := read_session_info(lab.layout, key)) and _has_poses(lab, known[0])]
        if not wanted:
            log("no session has poses of a released model yet: run `dlc-assets analyze` first")
    add_keys(instance, SESSION, wanted)
    ranges = contiguous_ranges(wanted, instance.get_dynamic_partitions(SESSION), EXPORTS_PER_RUN)
    stated = {**({"recompute": True} if recompute else {}), **({"models": list(models)} if models else {})}
    config = {"nwb_file": stated} if stated else None
    outcomes = [execute_here(lab, instance, "export_nwb", tags=keys.tags, ops=config, log=log) for keys in ranges]
    rows = []
    for key in wanted:
        manifest = nwb_manifest(lab, key)
        if manifest is not None:
            rows += _file_rows(lab, key, manifest)
    return outcomes, rows


def export_cohort(
    lab: Lab, instance: dg.DagsterInstance, name: str, sessions: Sequence[str], *, recompute: bool, log: Log
) -> tuple[list[RunOutcome], list[dict[str, Any]]]:
    """Write the NWB files of the frozen cohort *name*, of *sessions* or of all of them.

    Raises
    ------
    NotFoundError
        Before any run: there is no such cohort, it has no such session, or poses that it was frozen with are not there any more.
    """
    cohort = find_cohort(lab.layout, name)
    cohort_files(lab, cohort, sessions, (), ())
    config = {"cohort": name, "sessions": list(sessions), "recompute": recompute}
    outcome = execute_here(lab, instance, "export_cohort", tags={}, ops={"write_cohort_nwb": config}, log=log)
    rows = []
    for key in sessions or cohort.sessions:
        manifest = nwb_manifest(lab, key, cohort)
        if manifest is not None:
            rows += _file_rows(lab, key, manifest)
    return [outcome], rows


def _file_rows(lab: Lab, session: str, manifest: Manifest) -> list[dict[str, Any]]:
    findings = "; ".join(manifest.details["findings"]) or "valid"
    return [{"session": session, "file": str(file), "findings": findings} for file in nwb_files(lab, manifest)]


def publish_sessions(
    lab: Lab,
    instance: dg.DagsterInstance,
    sessions: Sequence[str],
    cohort: Cohort | None,
    *,
    replace: bool,
    recompute: bool,
    log: Log,
) -> tuple[list[RunOutcome], list[dict[str, Any]]]:
    """Upload the NWB files of *sessions* (see `sessions_to_publish`), or those of *cohort*, to the dandiset of lab.yaml.

    Raises
    ------
    SettingsError, RefusedError, NotFoundError, EnvironmentProblem
        Before any run: no dandiset is named, or the archive cannot be used.
    """
    settings = dandi_settings(lab)
    name = None if cohort is None else cohort.name
    wanted = list(sessions) if recompute else [key for key in sessions if not is_published(lab, key, name)]
    if wanted:
        check_access(settings)
    elif sessions:
        log(f"{len(sessions)} {'session is' if len(sessions) == 1 else 'sessions are'} published as they are")
    add_keys(instance, SESSION, wanted)
    config = {"publish": True, "cohort": name, "replace": replace, "recompute": recompute}
    ops = {"dandi_asset": {key: value for key, value in config.items() if value}}
    ranges = contiguous_ranges(wanted, instance.get_dynamic_partitions(SESSION), PUBLISHED_PER_RUN)
    outcomes = [execute_here(lab, instance, "publish", tags=keys.tags, ops=ops, log=log) for keys in ranges]
    rows = []
    for key in sessions:
        record = published_manifest(lab, key)
        if record is not None and is_published(lab, key, name):
            rows += [
                {
                    "session": key,
                    "path": asset["path"],
                    "bytes": asset["bytes"],
                    "asset": asset["asset_id"],
                    "dandiset": record.details["url"],
                }
                for asset in record.details["assets"]
            ]
    return outcomes, rows


def sessions_to_publish(lab: Lab, sessions: Sequence[str], cohort: Cohort | None, log: Log) -> list[str]:
    """Return *sessions* if there are any; else all of *cohort*, or all that have an NWB file and were not published for a cohort.

    Raises
    ------
    NotFoundError
        A session is not known, or not in the cohort.
    """
    known = recorded_sessions(lab) if cohort is None else list(cohort.sessions)
    for key in sessions:
        if key not in known:
            where = "was recorded" if cohort is None else f'is in the cohort "{cohort.name}"'
            raise NotFoundError(f'no session "{key}" {where}.{did_you_mean(key, known)}')
    if sessions or cohort is not None:
        return list(sessions) or known
    found = [key for key in stored_keys(lab)["nwb_file"] if nwb_manifest(lab, key) is not None]
    if not found:
        log("no session has an NWB file yet: run `dlc-assets export` first")
    pinned = {key for key in found if (record := published_manifest(lab, key)) and record.details["cohort"] is not None}
    for key in sorted(pinned):
        log(f"{key}: it is published with the poses of a cohort, and left as it is; name it to publish others")
    return [key for key in found if key not in pinned]


def report_release(lab: Lab, instance: dg.DagsterInstance, version: ModelVersion, record: Mapping[str, Any]) -> None:
    """Show a release on the page of its model in the UI."""
    error = (record["evaluation"] or {}).get("rmse_pcutoff")
    metadata: dict[str, Any] = {
        "released": ", ".join(released_by(lab, version)),
        "version": version.version,
        "reason": record["reason"] or "none stated",
        "by": record["by"],
        **({"error above p-cutoff (px)": error} if error is not None else {}),
        **({"forced although": "\n".join(record["forced"])} if record["forced"] else {}),
    }
    instance.report_runless_asset_event(
        dg.AssetObservation("trained_model", partition=version.model, metadata=metadata)
    )


def _has_poses(lab: Lab, session: Any) -> bool:
    try:
        return bool(released_poses(lab, session))
    except DlcAssetsError:
        return False
