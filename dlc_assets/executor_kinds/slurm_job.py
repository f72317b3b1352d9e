"""What a job of Slurm's executes: ``python -m dlc_assets.executor_kinds.slurm_job RUN STEP ATTEMPT``.

When Slurm starts the job again, because its node died or it had to make room, it goes on with the same attempt.
"""

from __future__ import annotations

import os
import signal
import sys

import dagster as dg

from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.executor_kinds.step_process import work_on
from dlc_assets.lab.lab import open_lab_folder


def main() -> None:
    """Execute the step; the exit status is its process's, 0 where there was nothing to do."""
    # At a time limit, or when the job is cancelled, Slurm sends SIGTERM and half a minute later SIGKILL.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    run_id, step, attempt = sys.argv[1:]
    lab = open_lab_folder()
    start = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    with dg.DagsterInstance.get() as instance:
        sent = SentStep(lab.layout, run_id, step, int(attempt))
        status = work_on(sent, instance, lambda line: print(line, flush=True), start=start)  # noqa: T201 - the job's output
    sys.exit(abs(status) if status else 0)


if __name__ == "__main__":
    main()
