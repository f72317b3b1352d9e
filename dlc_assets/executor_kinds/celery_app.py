"""The Celery application that runs and workers of a lab have in common: broker, queues, and the one message there is.

Dagster's own dagster-celery is not used: its executor waits for ever for a worker that died, cancelling a run there does not end its
steps, and all steps of a worker share a process and with it a GPU's memory. A message here names an attempt at a step
(`sent_steps`), and means nothing when it comes a second time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dlc_assets.lab.errors import EnvironmentProblem

if TYPE_CHECKING:
    from celery import Celery

BROKER_VARIABLE = "DLC_ASSETS_BROKER_URL"
TASK = "dlc_assets.step"
QUEUES = ("gpu", "cpu")
_WEEK_MS = 7 * 24 * 3600 * 1000
_SECONDS = 10


def queue_name(lab_id: str, kind: str) -> str:
    """Return the name of a lab's queue ``gpu`` or ``cpu``: labs that share a broker do not get each other's steps."""
    return f"dlc_assets.{lab_id}.{kind}"


def celery_app(lab_id: str) -> Celery:
    """Return the application of a lab.

    Raises
    ------
    EnvironmentProblem
        Celery is not installed, or the environment names no broker.
    """
    try:
        from celery import Celery
        from kombu import Exchange, Queue
    except ImportError as error:
        raise EnvironmentProblem(
            "executor: celery needs the package celery: pip install 'dlc_assets[celery]'"
        ) from error
    url = os.environ.get(BROKER_VARIABLE)
    if not url:
        raise EnvironmentProblem(
            f"executor: celery needs the address of a RabbitMQ in {BROKER_VARIABLE}, such as amqp://user:password@host:5672/labs, on "
            "every machine. See docs/how-to/celery.md."
        )
    app = Celery("dlc_assets", broker=url, set_as_current=False)
    names = [queue_name(lab_id, kind) for kind in QUEUES]
    app.conf.update(
        # A message is there until its step is done, and a worker takes none that it cannot begin at once.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_queues=[
            Queue(
                name,
                Exchange(name, type="direct", durable=True),
                routing_key=name,
                durable=True,
                queue_arguments={"x-consumer-timeout": _WEEK_MS},  # trainings last longer than RabbitMQ's half hour
            )
            for name in names
        ],
        task_create_missing_queues=False,
        broker_connection_timeout=_SECONDS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
    )
    return app


def broker_words(app: Celery) -> str:
    """Return where the broker is, without the password."""
    return str(app.connection_for_write().as_uri())


def require_broker(app: Celery) -> None:
    """Refuse a broker that does not answer.

    Raises
    ------
    EnvironmentProblem
        It does not, or does not let us in.
    """
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0.5, timeout=_SECONDS)
    except broker_errors(app) as error:
        raise EnvironmentProblem(
            f"the broker at {broker_words(app)} ({BROKER_VARIABLE}) cannot be used: {error or type(error).__name__}. Is RabbitMQ "
            "running there, and are user, password and virtual host right?"
        ) from error


def broker_errors(app: Celery) -> tuple[type[Exception], ...]:
    """Return what is raised where the broker does not answer, or has not what it is asked for."""
    from kombu.exceptions import OperationalError

    connection = app.connection_for_write()
    return (OSError, OperationalError, *connection.connection_errors, *connection.channel_errors)
