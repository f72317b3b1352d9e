"""Telling people: what Dagster knows of runs, handed to the package that writes and sends (notices/)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dlc_assets.lab.errors import BusyError, SettingsError
from dlc_assets.lab.lab import Lab, lab_folder
from dlc_assets.lab.layout import LabLayout
from dlc_assets.notices.rounds import RunFacts, make_round, make_round_without_settings, runs_until, waiting_is_due
from dlc_assets.notices.stopped import EndedRun, UnfinishedRun
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.resources.lab import LabResource
from dlc_assets.sensors.batches import UNFINISHED
from dlc_assets.state.agenda import Agenda

_EVERY_SECONDS = 60
# A look at more is of no use: a message lists 20.
_MOST_RUNS = 200
_WAITING_SECONDS = 10.0
_MADE = ("session_recordings", "pose_table", "nwb_file")
_MOST_COUNTED = 1_000
_UNDER_WAY = {dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}
_WILL_RETRY = "dagster/will_retry"


@dg.sensor(
    minimum_interval_seconds=_EVERY_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    asset_selection=None,
    description="Tells people, as `notify` in lab.yaml says, of failures, of progress that has stopped, and once a day of everything.",
)
def notices(context: dg.SensorEvaluationContext, lab: LabResource) -> Any:
    """New failures are gathered and told once; what could not be sent is tried again at a later tick."""
    began, now = time.monotonic(), time.time()
    log = context.log.warning
    try:
        try:
            opened = lab.open()
        except SettingsError as error:
            unreadable = Lab(LabLayout(lab_folder(lab.path or None)))
            if not unreadable.layout.settings_file.is_file():
                raise
            return dg.SkipReason(make_round_without_settings(unreadable, str(error), now=now, began=began, log=log))
        facts = run_facts(context.instance, since=runs_until(opened, now))
        waiting = could_be_made(opened, _WAITING_SECONDS) if waiting_is_due(opened, facts, now) else None
        return dg.SkipReason(make_round(opened, facts, waiting, now=now, began=began, log=log))
    except BusyError as error:
        return dg.SkipReason(str(error))


def run_facts(instance: dg.DagsterInstance, *, since: float) -> RunFacts:
    """Return what is to be known of the instance's runs; of those that failed, the ones after *since* (unix time)."""
    unfinished = instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED), limit=_MOST_RUNS)
    pending = _waiting_for_pools(instance) if unfinished else set()
    after = datetime.fromtimestamp(since, UTC)
    failed = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after), limit=_MOST_RUNS
    )
    newest = instance.get_run_records(limit=1, order_by="update_timestamp")
    return RunFacts(
        unfinished=[_unfinished(instance, record, pending) for record in unfinished],
        last_ended=max((record.update_timestamp.timestamp() for record in newest), default=None),
        failed=[_ended(instance, record) for record in failed if record.dagster_run.tags.get(_WILL_RETRY) != "true"],
    )


def _unfinished(instance: dg.DagsterInstance, record: dg.RunRecord, pending: set[str]) -> UnfinishedRun:
    run = record.dagster_run
    created = record.create_timestamp.timestamp()
    under_way = run.status in _UNDER_WAY
    last_word = created
    if under_way:
        newest = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        last_word = max([created, record.start_time or 0.0, *(event.timestamp for event in newest)])
    return UnfinishedRun(run.run_id, run.job_name, under_way, created, last_word, run.run_id in pending)


def _ended(instance: dg.DagsterInstance, record: dg.RunRecord) -> EndedRun:
    run = record.dagster_run
    why = ""
    for event in instance.get_records_for_run(
        run.run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    ).records:
        said = event.event_log_entry.dagster_event
        if said is None:
            continue
        if said.is_step_failure and said.step_failure_data.user_failure_data is not None:
            why = said.step_failure_data.user_failure_data.description or why
        why = why or said.message or ""
    why = f"{why or 'Dagster keeps no reason.'}\nMore under Runs in the Dagster UI."
    return EndedRun(run.run_id, run.job_name, why, record.end_time or record.update_timestamp.timestamp())


def _waiting_for_pools(instance: dg.DagsterInstance) -> set[str]:
    """Return the runs that wait for a slot of a pool."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return set()
    pools = (storage.get_concurrency_info(pool) for pool in storage.get_concurrency_keys())
    return {run_id for pool in pools for run_id in pool.pending_run_ids}


def could_be_made(lab: Lab, seconds: float) -> tuple[int, str]:
    """Count the products that the sensors should make and that can be made now, up to a thousand of each asset.

    Takes about *seconds* at most. Returns how many, and the name of one.
    """
    with RecordingIndex.opened(lab) as index:
        agenda = Agenda(lab, index)
        agenda.refresh(seconds=seconds)
        now = time.time()
        products = [product for asset in _MADE for product in agenda.todo(asset, now=now, most=_MOST_COUNTED)]
    return len(products), f"{products[0].asset} {products[0].key}" if products else ""
