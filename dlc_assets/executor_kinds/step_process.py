"""The process of one step that was sent here: ``python -m dlc_assets.executor_kinds.step_process RUN STEP ATTEMPT START``.

It is started, watched and interrupted by `work_on`, in a worker or in a job of Slurm's. It dies with it, without a word, so that the
step is done elsewhere. It holds the step's lock: two attempts are never at work at once.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import dagster as dg
import sqlalchemy.exc

from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.locks import hold
from dlc_assets.lab.processes import end_with_input

NOT_MINE = 75  # exit status of a process whose attempt another had begun
_GRACE_SECONDS = 25.0  # to end in order, once interrupted
_WAIT_SECONDS = 120.0  # for an earlier attempt that is ending
_LOOK_SECONDS = 2.0  # between two looks whether the run goes on


def work_on(sent: SentStep, instance: dg.DagsterInstance, log: Callable[[str], None], *, start: int = 0) -> int | None:
    """Execute the step in a process of its own; interrupt it when its run is cancelled or over.

    Returns
    -------
    int or None
        The exit status of the process; None where there was nothing to do: the run is over, or another has begun the attempt.
    """
    what = f"step {sent.step} of run {sent.run_id}"
    if sent.arguments() is None or _is_over(instance, sent.run_id, log):
        log(f"{what}: its run is over; nothing is done")
        return None
    words = [sent.run_id, sent.step, str(sent.attempt), str(start)]
    log(f"{what}: begins (attempt {sent.attempt})")
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, *words],
        stdin=subprocess.PIPE,  # it ends with this process, however that ends
        start_new_session=True,  # Ctrl-C in a worker's terminal is for the worker
    )
    try:
        _watch(process, sent, instance, log)
    except BaseException:
        process.kill()  # nothing is said of the step, which another attempt goes on with
        process.wait()
        raise
    finally:
        assert process.stdin is not None
        process.stdin.close()
    if process.returncode == NOT_MINE:
        log(f"{what}: attempt {sent.attempt} was begun before; nothing is done twice")
        return None
    sent.note_end(process.returncode)
    log(f"{what}: its process has ended (status {process.returncode})")
    return process.returncode


def _watch(
    process: subprocess.Popen[bytes], sent: SentStep, instance: dg.DagsterInstance, log: Callable[[str], None]
) -> None:
    while True:
        try:
            process.wait(_LOOK_SECONDS)
            return
        except subprocess.TimeoutExpired:
            if _is_over(instance, sent.run_id, log):
                log(f"step {sent.step} of run {sent.run_id}: its run is over; it is interrupted")
                _interrupt(process)
                return


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _is_over(instance: dg.DagsterInstance, run_id: str, log: Callable[[str], None]) -> bool:
    """Say whether nobody wants the steps of a run any more; while the database does not answer they go on."""
    from dagster_postgres.utils import DagsterPostgresException

    try:
        run = instance.get_run_by_id(run_id)
    except (DagsterPostgresException, sqlalchemy.exc.SQLAlchemyError) as error:
        log(f"the instance's database does not answer ({type(error).__name__}); the step goes on")
        return False
    return run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING


def main() -> None:
    """Begin the attempt that the command line names and execute its step, or end with `NOT_MINE`."""
    end_with_input(grace_seconds=0.0)
    run_id, step, attempt, start = sys.argv[1:]
    lab = open_lab_folder()
    sent = SentStep(lab.layout, run_id, step, int(attempt))
    if sent.arguments() is None:  # the run was over before this process was up
        sys.exit(NOT_MINE)
    try:
        with hold(sent.lock, f"step {step} of run {run_id}", timeout=_WAIT_SECONDS):
            arguments = sent.arguments()
            if arguments is None or not sent.begin(int(start)):
                sys.exit(NOT_MINE)
            from dagster._cli.api import execute_step_command

            from dlc_assets.resources.instance import prepare_instance

            prepare_instance(lab)
            execute_step_command.main(args=[arguments], standalone_mode=False)
    except BusyError as error:
        print(error, file=sys.stderr)  # noqa: T201 - what a worker's log or a job's output shows
        sys.exit(NOT_MINE)


if __name__ == "__main__":
    main()
