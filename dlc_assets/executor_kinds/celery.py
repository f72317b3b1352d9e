"""Each step to a queue, from which a worker of some machine takes it (`dlc-assets worker`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from dlc_assets.executor_kinds.celery_app import (
    TASK,
    broker_errors,
    broker_words,
    celery_app,
    queue_name,
    require_broker,
)
from dlc_assets.executor_kinds.sending import SendingExecutor, Since, Trouble, Way, death
from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import Lab
from dlc_assets.resources.lab_id import lab_id
from dlc_assets.resources.postgres import require_postgres

if TYPE_CHECKING:
    from celery import Celery

_RETRIES = {
    "max_retries": 30,
    "interval_start": 0,
    "interval_step": 1,
    "interval_max": 5,
}  # two minutes without a broker
_LOST_SECONDS = 60.0  # neither in the queue nor begun for so long: the broker has lost it
_WAIT_SECONDS = 20.0  # after which a queue without workers is worth a word


def executor(lab: Lab, init_context: dg.InitExecutorContext) -> dg.Executor:
    """Return the executor of a run that begins.

    Raises
    ------
    EnvironmentProblem
        Celery is not installed, the instance is not on PostgreSQL, or the broker does not answer.
    """
    require_postgres(lab, init_context.instance, "executor: celery")
    name = lab_id(init_context.instance, lab.layout)
    app = celery_app(name)
    require_broker(app)
    return SendingExecutor(lab, Queues(app, name), init_context)


class Queues(Way):
    """The queues of a lab."""

    name = "Celery"

    def __init__(self, app: Celery, lab_id: str) -> None:
        self._app = app
        self._lab_id = lab_id
        self._queue_of: dict[SentStep, str] = {}
        self._missing, self._waiting = Since(), Since()

    def send(self, sent: SentStep, *, gpu: bool) -> None:
        self._queue_of[sent] = queue_name(self._lab_id, "gpu" if gpu else "cpu")
        self._publish(sent)

    def _publish(self, sent: SentStep) -> None:
        queue = self._queue_of[sent]
        try:
            self._app.send_task(
                TASK,
                args=[sent.run_id, sent.step, sent.attempt],
                queue=queue,
                task_id=f"{sent.run_id}.{sent.step}.{sent.attempt}",
                retry=True,
                retry_policy=_RETRIES,
            )
        except broker_errors(self._app) as error:
            raise EnvironmentProblem(
                f"the step cannot be sent: the broker at {broker_words(self._app)} does not answer ({error})"
            ) from error

    def trouble(self, sent: SentStep) -> Trouble | None:
        dead = death(sent)
        if dead is not None or sent.has_begun():
            return dead
        waiting = self._look(sent)
        gone = waiting is not None and waiting.message_count == 0
        if self._missing.seconds(sent, is_so=gone) > _LOST_SECONDS:
            self._missing.seconds(sent, is_so=False)
            self._publish(sent)  # the same attempt: should it turn up twice, it begins once
        return None

    def news(self, sent: SentStep) -> str | None:
        waiting = None if sent.has_begun() else self._look(sent)
        nobody = waiting is not None and waiting.consumer_count == 0
        if self._waiting.seconds(sent, is_so=nobody) < _WAIT_SECONDS:
            return None
        queue = self._queue_of[sent]
        kind = queue.rpartition(".")[2]
        return f"No worker takes from the queue {queue}: start one with `dlc-assets worker {kind}` on a machine that shares the lab"

    def cancel(self, sent: SentStep) -> None:
        """Do nothing: the worker sees by itself that the run is over, and a message that still waits means nothing then."""

    def _look(self, sent: SentStep) -> Any:
        """Return what waits in the queue of an attempt and who takes from it; None where the broker does not say."""
        try:
            with self._app.connection_for_write() as connection:
                return connection.default_channel.queue_declare(self._queue_of[sent], passive=True)
        except broker_errors(self._app):
            return None
