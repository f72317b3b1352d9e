"""The command of a machine that works for a lab whose steps are sent to queues: worker."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import LabOption, opened_lab, speaking


class QueueName(StrEnum):
    """The queues of a lab."""

    gpu = "gpu"
    cpu = "cpu"


@app.command()
def worker(
    queue: Annotated[
        QueueName, typer.Argument(help="Whose steps: gpu (training, evaluation, poses) or cpu (all others).")
    ],
    lab: LabOption = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Steps at once; default: one a GPU of this machine, or one a core for the queue cpu."),
    ] = None,
) -> None:
    """Execute steps that runs with `executor: celery` send to this machine."""
    with speaking(False) as output, opened_lab(lab, output) as (opened, instance):
        import os

        from dlc_assets.executor_kinds.celery_worker import work
        from dlc_assets.lab.compute import pool_limit

        most = pool_limit(opened.settings.gpus) if queue is QueueName.gpu else os.cpu_count() or 1
        raise typer.Exit(work(opened, instance, queue.value, at_once or most))
