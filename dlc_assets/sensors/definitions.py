"""The sensors: recordings, models, labels, training, analysis, export, catalog, and the janitor."""

import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from dlc_assets import jobs
from dlc_assets.assets.export import SESSIONS_PER_RUN as EXPORTS_PER_RUN
from dlc_assets.assets.inference import SESSIONS_PER_RUN as ANALYSES_PER_RUN
from dlc_assets.assets.labels import observe_labels
from dlc_assets.assets.recordings import SESSIONS_PER_RUN as RECORDINGS_PER_RUN
from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import MODEL, SESSION, KeyRange, add_keys, contiguous_ranges
from dlc_assets.recordings.discovery import Discovery, discover
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.info import read_session_info
from dlc_assets.recordings.session_recordings import day_of
from dlc_assets.resources.janitor import end_dead_runs
from dlc_assets.resources.lab import LabResource
from dlc_assets.sensors.auto_train import SeenLabels, changed_models
from dlc_assets.sensors.batches import Requested, in_flight, request
from dlc_assets.state.behind import (
    Product,
    evaluations_behind,
    lab_state,
    models_of,
    recordings_product,
    session_products,
)
from dlc_assets.training.models import trained_models

# How often the sensors look, in s: more often is felt on a slow network share.
TICK_VARIABLE = "DLC_ASSETS_TICK_SECONDS"
_SOON = int(os.environ.get(TICK_VARIABLE, "30"))
_NOW_AND_THEN = 2 * _SOON
_ON = dg.DefaultSensorStatus.RUNNING


def _warn(context: dg.SensorEvaluationContext, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        context.log.warning(sentence)


def _skip(reasons: list[str], nothing: str) -> dg.SkipReason:
    return dg.SkipReason(" ".join(reasons) or nothing)


@dg.sensor(
    jobs=[jobs.record],
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Finds new and changed videos; once they have stopped growing they become sessions and are probed.",
)
def recordings(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """New recordings become sessions; `analyze.since` keeps an archive from being queued whole."""
    opened = lab.open()
    discovery = discover(opened)
    for problem in discovery.all_problems:
        context.log.warning(problem)
    with RecordingIndex.opened(opened) as index:
        _warn(context, index.look().warnings)
        settled = [key for key in index.settled() if key in discovery.sessions]
    new = add_keys(context.instance, SESSION, settled)
    behind = {product.key: product for product in _recordings_behind(opened, discovery, settled)}
    requested = Requested.from_cursor(context.cursor)
    chosen = requested.choose(behind.values(), in_flight(context.instance, ["record"]))
    _warn(context, requested.given_up)
    known = context.instance.get_dynamic_partitions(SESSION)
    ranges = contiguous_ranges([product.key for product in chosen], known, RECORDINGS_PER_RUN)
    requests = request("record", ranges, behind, requested)
    skip = None if requests else _skip([f"{len(new)} new sessions." if new else ""], "no new or changed recording")
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=requested.to_cursor())


def _recordings_behind(lab: Lab, discovery: Discovery, settled: Sequence[str]) -> Iterator[Product]:
    for key in settled:
        known = read_session_info(lab.layout, key)
        if known is not None or due(lab, discovery, key):
            product = recordings_product(lab, key, discovery.sessions[key], known)
            if product.state in {"missing", "behind"}:
                yield product


def due(lab: Lab, discovery: Discovery, key: str) -> bool:
    """Say whether a session is analysed without being asked for: `analyze.auto`, and not before `analyze.since`."""
    analyze = lab.settings.analyze
    found = discovery.sessions.get(key)
    if not analyze.auto or found is None:
        return False
    return analyze.since is None or day_of(found, lab) >= analyze.since


@dg.sensor(
    jobs=[jobs.analyze],
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Asks for the poses of probed sessions by the models that lab.yaml's release rules name.",
)
def analysis(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Sessions whose released poses are missing or behind are analysed, a run for many sessions of one model."""
    opened = lab.open()
    problems = rule_problems(opened)
    for problem in problems:
        context.log.warning(problem)
    discovery = discover(opened)
    known = context.instance.get_dynamic_partitions(SESSION)
    behind = _behind(opened, discovery, known, "pose_table")
    requested = Requested.from_cursor(context.cursor)
    chosen = requested.choose(behind.values(), in_flight(context.instance, ["analyze"]))
    _warn(context, requested.given_up)
    add_keys(context.instance, MODEL, trained_models(opened.layout))
    ranges = [
        keys.for_model(model)
        for model, sessions in models_of(chosen).items()
        for keys in contiguous_ranges(sessions, known, ANALYSES_PER_RUN)
    ]
    requests = request("analyze", ranges, behind, requested)
    skip = None if requests else _skip(problems, "no session waits for its poses")
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=requested.to_cursor())


@dg.sensor(
    jobs=[jobs.export_nwb],
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Asks for the NWB files of sessions whose released poses are all there.",
)
def export(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Sessions whose NWB file is missing or behind, and whose poses are up to date, are exported."""
    opened = lab.open()
    discovery = discover(opened)
    known = context.instance.get_dynamic_partitions(SESSION)
    behind = _behind(opened, discovery, known, "nwb_file")
    requested = Requested.from_cursor(context.cursor)
    chosen = requested.choose(behind.values(), in_flight(context.instance, ["export_nwb"]))
    _warn(context, requested.given_up)
    ranges = contiguous_ranges([product.key for product in chosen], known, EXPORTS_PER_RUN)
    requests = request("export_nwb", ranges, behind, requested)
    skip = None if requests else _skip([], "no session waits for its NWB file")
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=requested.to_cursor())


def _behind(lab: Lab, discovery: Discovery, known: Sequence[str], asset: str) -> dict[str, Product]:
    """Return the wanted products of *asset* that are missing or behind and can be made now (their own inputs are there).

    Sessions that the instance does not know (*known*) yet wait until the sensor of recordings has made them partitions.
    """
    return {
        product.key: product
        for key in known
        if key in discovery.sessions and due(lab, discovery, key)
        for product in session_products(lab, key, discovery.sessions[key])
        if product.asset == asset and product.wanted and product.inputs and product.state in {"missing", "behind"}
    }


@dg.sensor(
    asset_selection=None,
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Makes a model of each new specification, and observes the labels that each model uses. Starts no training.",
)
def models_and_labels(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Specifications become model partitions; changed labels mark the training datasets of the models that use them."""
    opened = lab.open()
    specifications, broken = opened.specifications()
    new = add_keys(context.instance, MODEL, specifications)
    seen: dict[str, str] = json.loads(context.cursor or "{}")
    observations, problems = [], list(broken.values())
    for model in specifications:
        try:
            observation = observe_labels(opened, model)
        except DlcAssetsError as error:
            problems.append(f"{model}: {error}")
            continue
        version = str((observation.tags or {})["dagster/data_version"])
        if seen.get(model) != version:
            seen[model] = version
            observations.append(observation)
    for problem in problems:
        context.log.warning(problem)
    said = [f"New models: {', '.join(new)}." if new else "", *problems]
    return dg.SensorResult(
        asset_events=observations,
        skip_reason=_skip([text for text in said if text], f"{len(observations)} label sets changed"),
        cursor=json.dumps(seen),
    )


@dg.sensor(
    jobs=[jobs.train],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description=(
        "Trains the models again whose specification says `auto_train: true`, once their labels have changed and have been quiet for "
        "`auto_train.quiet_seconds` of lab.yaml. Leaves all others alone."
    ),
)
def auto_train(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """A model that asks for it is trained again from changed labels, one run at a time, and from the same labels only once."""
    opened = lab.open()
    kept: dict[str, str] = json.loads(context.cursor or "{}")
    seen, requested = SeenLabels.from_json(kept.get("seen")), Requested.from_cursor(kept.get("requested"))
    changed, waiting = changed_models(opened, context.instance, seen, time.time())
    chosen = requested.choose(changed, in_flight(context.instance, ["train"]))
    _warn(context, requested.given_up)
    add_keys(context.instance, MODEL, [product.key for product in chosen])
    ranges = [KeyRange((product.key,)) for product in chosen]
    requests = request("train", ranges, {product.key: product for product in chosen}, requested)
    skip = None if requests else _skip(waiting, "no model that says auto_train has changed labels")
    cursor = json.dumps({"seen": seen.to_json(), "requested": requested.to_cursor()})
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=cursor)


@dg.sensor(
    jobs=[jobs.evaluate],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description="Scores models anew whose benchmark labels were corrected or added. Trains nothing.",
)
def evaluation(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Every evaluated model is scored on the labels as they are now; where no frame is new, its network is not run for that."""
    opened = lab.open()
    behind = {product.key: product for product in evaluations_behind(opened)}
    requested = Requested.from_cursor(context.cursor)
    chosen = requested.choose(behind.values(), in_flight(context.instance, ["train", "evaluate"]))
    _warn(context, requested.given_up)
    add_keys(context.instance, MODEL, [product.key for product in chosen])
    requests = request("evaluate", [KeyRange((product.key,)) for product in chosen], behind, requested)
    skip = None if requests else _skip([], "every evaluation answers to the labels as they are now")
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=requested.to_cursor())


@dg.sensor(
    jobs=[jobs.write_catalog],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description="Writes the catalog and runs the lab-wide checks when something was made or a file of the lab has changed.",
)
def catalog(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """The catalog follows the store, once nothing is being made and two looks see the same."""
    opened = lab.open()
    state = lab_state(opened)
    now = content_hash([[(p.asset, p.key, p.state, p.why, p.made) for p in state.products], state.problems])[:24]
    written, _, seen = (context.cursor or "").partition(" ")
    if now == written:
        return dg.SkipReason("nothing has changed since the catalog was written")
    if in_flight(context.instance, [job.name for job in jobs.ALL]):
        return dg.SkipReason("waiting for the runs in progress")
    if now != seen:  # one stage follows another: a catalog between two of them would be out of date at once
        return dg.SensorResult(skip_reason="waiting for the lab to come to rest", cursor=f"{written} {now}")
    # No run key: a lab that is again as it was before (a disk that came back) needs its catalog written again.
    return dg.SensorResult(run_requests=[dg.RunRequest(job_name="write_catalog")], cursor=now)


@dg.sensor(
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    asset_selection=None,
    description="Ends runs whose process died and frees what they held.",
)
def janitor(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Dead runs are ended, so that the next ones can go on."""
    ended = end_dead_runs(context.instance, lab.open().layout, context.log.info)
    when = datetime.now().isoformat(timespec="seconds")
    return dg.SkipReason(f"{when}: ended {len(ended)} runs whose process was dead" if ended else "no dead run")


ALL = (recordings, analysis, export, models_and_labels, auto_train, evaluation, catalog, janitor)
