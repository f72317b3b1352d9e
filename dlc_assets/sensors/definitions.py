"""The sensors: recordings, models, labels, training, analysis, labeled videos, export, catalog, and the janitor."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from dlc_assets import jobs
from dlc_assets.assets.derived import SESSIONS_PER_RUN as REVIEWS_PER_RUN
from dlc_assets.assets.export import SESSIONS_PER_RUN as EXPORTS_PER_RUN
from dlc_assets.assets.inference import SESSIONS_PER_RUN as ANALYSES_PER_RUN
from dlc_assets.assets.labeled_video import SESSIONS_PER_RUN as LABELED_PER_RUN
from dlc_assets.assets.labels import observe_labels
from dlc_assets.assets.recordings import SESSIONS_PER_RUN as RECORDINGS_PER_RUN
from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import split_pose_key, split_session
from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import MODEL, SESSION, KeyRange, add_keys, contiguous_ranges
from dlc_assets.recordings.index import Look, RecordingIndex
from dlc_assets.resources.janitor import end_dead_runs
from dlc_assets.resources.lab import LabResource
from dlc_assets.sensors.auto_train import SeenLabels, changed_models
from dlc_assets.sensors.batches import Requested, in_flight, leave_cancelled, newest_first, room_in_queue
from dlc_assets.sensors.notices import notices
from dlc_assets.sensors.sweeping import LookedThrough
from dlc_assets.state.agenda import Agenda
from dlc_assets.state.attempts import record_deaths
from dlc_assets.state.behind import Product, evaluations_behind
from dlc_assets.state.lab_state import model_stages
from dlc_assets.training.models import trained_models

# How often the sensors look, in s: more often is felt on a slow network share.
TICK_VARIABLE = "DLC_ASSETS_TICK_SECONDS"
_SOON = int(os.environ.get(TICK_VARIABLE, "30"))
_NOW_AND_THEN = 2 * _SOON
# Of the 60 s that Dagster gives a tick, s: for looking through folders, and for working out what is behind.
_LOOK_SECONDS = 15.0
_REFRESH_SECONDS = 10.0
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
    description="Finds new and changed videos; once they are finished they become sessions and are probed.",
)
def recordings(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """New recordings become sessions; `analyze.since` keeps an archive from being queued whole.

    A large lab is looked through in parts: a tick that ran out of its time is gone on with by the next one.
    """
    opened = lab.open()
    with RecordingIndex.opened(opened) as index:
        look = index.look(seconds=_LOOK_SECONDS)
        _warn(context, [*look.warnings, *index.problems()])
        known = context.instance.get_dynamic_partitions(SESSION)
        new = add_keys(context.instance, SESSION, index.settled(), known)
        said = [f"{len(new)} new sessions." if new else "", "" if look.round_done else _words_of_a_part(look)]
        known = [*known, *new]
        asset = ("session_recordings",)
        return _ask(context, opened, index, jobs.record.name, asset, RECORDINGS_PER_RUN, said, known)


def _words_of_a_part(look: Look) -> str:
    return f"Looked through {look.folders} folders ({look.files} videos) in {look.seconds:.0f} s; the rest follows."


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
    _warn(context, problems)
    add_keys(context.instance, MODEL, trained_models(opened.layout))
    with RecordingIndex.opened(opened) as index:
        return _ask(context, opened, index, jobs.analyze.name, ("pose_table",), ANALYSES_PER_RUN, problems)


@dg.sensor(
    jobs=[jobs.review],
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Asks for what is made of released poses by itself: filtered poses, kinematics and quality reports.",
)
def review(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Sessions whose poses are up to date, and of which something that is made from them is missing or behind, are reviewed."""
    opened = lab.open()
    with RecordingIndex.opened(opened) as index:
        return _ask(context, opened, index, jobs.review.name, jobs.REVIEWED, REVIEWS_PER_RUN, [])


@dg.sensor(
    jobs=[jobs.label_videos],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description="Asks for labeled videos of released poses, where lab.yaml says that they are made by themselves.",
)
def labeled_videos(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Where `labeled_video.auto` is on, sessions whose labeled videos are missing or behind get them."""
    opened = lab.open()
    with RecordingIndex.opened(opened) as index:
        return _ask(context, opened, index, jobs.label_videos.name, ("labeled_video",), LABELED_PER_RUN, [])


@dg.sensor(
    jobs=[jobs.export_nwb],
    minimum_interval_seconds=_SOON,
    default_status=_ON,
    description="Asks for the NWB files of sessions whose released poses are all there.",
)
def export(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Sessions whose NWB file is missing or behind, and whose poses are up to date, are exported."""
    opened = lab.open()
    with RecordingIndex.opened(opened) as index:
        return _ask(context, opened, index, jobs.export_nwb.name, ("nwb_file",), EXPORTS_PER_RUN, [])


def _ask(
    context: dg.SensorEvaluationContext,
    lab: Lab,
    index: RecordingIndex,
    job: str,
    assets: Sequence[str],
    per_run: int,
    said: Sequence[str],
    known: Sequence[str] | None = None,
) -> dg.SensorResult:
    """Ask for the products of *assets* that are to be made now: runs of *job*, *per_run* sessions each, no more than the queue takes.

    *known* are the sessions that the instance knows, where they were read already.
    """
    now = time.time()
    requested = Requested.from_cursor(index.connection, job, context.cursor)
    # Before the states are worked out: what a run made that ended since is then among them.
    busy = in_flight(context.instance, [job])
    agenda = Agenda(lab, index)
    asked = requested.keys()
    refreshed = agenda.refresh(seconds=_REFRESH_SECONDS, first=[split_session(key) for key in asked])
    left = leave_cancelled(
        context.instance, lab, job, lambda key: agenda.find(split_session(key), assets, key), requested.looked
    )
    if left:
        agenda.refresh(seconds=_REFRESH_SECONDS, first=[split_session(key) for key in left])
    requested.forget_all_but(agenda.wanted(assets, asked))
    room = room_in_queue(context.instance, lab)
    most = room * per_run + len(busy) + len(asked)
    products = agenda.todo(*assets, now=now, most=most) if room else []
    if not products:
        known = []
    elif known is None:
        known = context.instance.get_dynamic_partitions(SESSION)
    keys = set(known)
    by_key = {
        product.key: product
        for product in requested.open(products, busy, now)
        # Sessions that the instance does not know wait until the sensor of recordings has made them partitions.
        if split_session(product.key) in keys
    }
    _warn(context, requested.vanished)
    ranges = newest_first(_ranges(by_key, known, per_run), room)
    requests = requested.ask(job, ranges, by_key, now)
    words = [
        *said,
        "" if refreshed.done else f"{refreshed.sessions} sessions were looked at; the rest follows.",
        "" if room else f"{lab.settings.analyze.queued_runs} runs wait in the queue already (analyze.queued_runs).",
    ]
    skip = (
        None if requests else _skip([word for word in words if word], f"nothing of {', '.join(assets)} is to be made")
    )
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=requested.to_cursor(now))


def _ranges(keys: Iterable[str], known: Sequence[str], per_run: int) -> list[KeyRange]:
    """Cut *keys* into ranges of one run each, in the order of *known*: of sessions, or of each model's sessions."""
    sessions_of: dict[str, list[str]] = {}
    for key in keys:
        sessions_of.setdefault(split_pose_key(key)[0] if "|" in key else "", []).append(split_session(key))
    position = {key: number for number, key in enumerate(known)}
    cut = [
        keys_of_model.for_model(model) if model else keys_of_model
        for model, sessions in sessions_of.items()
        for keys_of_model in contiguous_ranges(sessions, known, per_run)
    ]
    return sorted(cut, key=lambda keys: position[split_session(keys.keys[0])])


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
    opened, now = lab.open(), time.time()
    kept: dict[str, str] = json.loads(context.cursor or "{}")
    seen = SeenLabels.from_json(kept.get("seen"))
    changed, waiting = changed_models(opened, context.instance, seen, now)
    result = _ask_for_models(context, opened, kept.get("requested"), jobs.train.name, [jobs.train.name], changed, now)
    cursor = json.dumps({"seen": seen.to_json(), "requested": result.cursor})
    skip = None if result.run_requests else _skip(waiting, "no model that says auto_train has changed labels")
    return dg.SensorResult(run_requests=result.run_requests, skip_reason=skip, cursor=cursor)


@dg.sensor(
    jobs=[jobs.evaluate],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description="Scores models anew whose benchmark labels were corrected or added. Trains nothing.",
)
def evaluation(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Every evaluated model is scored on the labels as they are now; where no frame is new, its network is not run for that."""
    opened, now = lab.open(), time.time()
    behind = list(evaluations_behind(opened))
    both = [jobs.train.name, jobs.evaluate.name]
    result = _ask_for_models(context, opened, context.cursor, jobs.evaluate.name, both, behind, now)
    skip = None if result.run_requests else _skip([], "every evaluation answers to the labels as they are now")
    return dg.SensorResult(run_requests=result.run_requests, skip_reason=skip, cursor=result.cursor)


def _ask_for_models(
    context: dg.SensorEvaluationContext,
    lab: Lab,
    cursor: str | None,
    job: str,
    busy_with: Sequence[str],
    products: Sequence[Product],
    now: float,
) -> dg.SensorResult:
    """Ask for a run of *job* for each of *products*, products of models, but those that a run of *busy_with* is making."""
    with RecordingIndex.opened(lab) as index:
        requested = Requested.from_cursor(index.connection, job, cursor)
        requested.forget_all_but([product.key for product in products])
        busy = in_flight(context.instance, busy_with)
        by_key = {product.key: product for product in requested.open(products, busy, now)}
        _warn(context, requested.vanished)
        add_keys(context.instance, MODEL, by_key)
        requests = requested.ask(job, [KeyRange((key,)) for key in by_key], by_key, now)
        return dg.SensorResult(run_requests=requests, cursor=requested.to_cursor(now))


@dg.sensor(
    jobs=[jobs.write_catalog],
    minimum_interval_seconds=_NOW_AND_THEN,
    default_status=_ON,
    description="Writes the catalog and runs the lab-wide checks when something was made or a file of the lab has changed.",
)
def catalog(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """The catalog follows the store, once nothing is being made and two looks see the same."""
    opened = lab.open()
    models, _, broken = model_stages(opened)
    with RecordingIndex.opened(opened) as index:
        agenda = Agenda(opened, index)
        if not agenda.refresh(seconds=_REFRESH_SECONDS).done:
            return dg.SkipReason("the states of the lab's sessions are still being worked out")
        seen_now = [agenda.fingerprint(), [(p.asset, p.key, p.state, p.why, p.made) for p in models], broken]
        now = content_hash([*seen_now, index.problems()])[:24]
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
    description="Ends runs whose process died, frees what they held, and removes what was being written at a crash.",
)
def janitor(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """Dead runs are ended, so that the next ones can go on; what was being written at a crash is removed."""
    opened = lab.open()
    ended = end_dead_runs(context.instance, opened.layout, context.log.info)
    record_deaths(opened.layout, context.log.warning)
    looked = LookedThrough.from_cursor(context.cursor)
    if looked.is_due(context.instance, time.time()):
        looked.look(opened.layout, context.log.info)
    when = datetime.now().isoformat(timespec="seconds")
    said = f"{when}: ended {len(ended)} runs whose process was dead" if ended else "no dead run"
    return dg.SensorResult(skip_reason=said, cursor=looked.to_cursor())


ALL = (
    recordings,
    analysis,
    review,
    labeled_videos,
    export,
    models_and_labels,
    auto_train,
    evaluation,
    catalog,
    janitor,
    notices,
)
