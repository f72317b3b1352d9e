"""A worker: takes steps of one queue of a lab and executes each in a process of its own."""

from __future__ import annotations

import logging
import socket

import dagster as dg

from dlc_assets.executor_kinds.celery_app import TASK, broker_words, celery_app, queue_name, require_broker
from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.executor_kinds.step_process import work_on
from dlc_assets.lab.lab import Lab
from dlc_assets.resources.lab_id import lab_id
from dlc_assets.resources.postgres import require_postgres

_log = logging.getLogger("dlc_assets.worker")


def work(lab: Lab, instance: dg.DagsterInstance, queue: str, at_once: int) -> int:
    """Take steps of *queue* (``gpu`` or ``cpu``), *at_once* at a time, until a signal says to stop; return the exit status.

    SIGTERM and Ctrl-C let the steps that are being worked on end first; a second one interrupts them.

    Raises
    ------
    EnvironmentProblem
        The instance is not on PostgreSQL, Celery is not installed, or the broker does not answer.
    """
    require_postgres(lab, instance, "a worker")
    name = lab_id(instance, lab.layout)
    app = celery_app(name)
    require_broker(app)

    @app.task(name=TASK)
    def step(run_id: str, step_key: str, attempt: int) -> None:
        work_on(SentStep(lab.layout, run_id, step_key, attempt), instance, _log.info)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    _log.info("takes %s steps of %s from %s, %d at once", queue, lab.root, broker_words(app), at_once)
    # Threads, which only wait: each step is a process, whose memory is given back when it ends.
    where = [f"--queues={queue_name(name, queue)}", f"--hostname={queue}@{socket.gethostname()}"]
    quiet = ["--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", "--pool=threads", f"--concurrency={at_once}", *where, *quiet])
    return 0
