"""An executor that sends steps elsewhere: one that dies there is sent once more, and then fails with the reason."""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor, StepHandler
from dagster._core.executor.step_delegating.step_handler.base import StepHandlerContext
from dagster._serdes import serialize_value

from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.executors import COMPUTE_TAG
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab

MOST_ATTEMPTS = 2
_LOOK_SECONDS = 5
_POLL_SECONDS = 0.5
_KEPT_SECONDS = 30 * 24 * 3600.0
_ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_UP_FOR_RETRY}


@dataclass(frozen=True)
class Trouble:
    """Why an attempt will not end by itself.

    Parameters
    ----------
    lasting
        Whether another attempt would end in the same way.
    """

    reason: str
    lasting: bool = False


class Way(ABC):
    """How attempts get to where they are worked on."""

    name: str

    @abstractmethod
    def send(self, sent: SentStep, *, gpu: bool) -> None:
        """Send an attempt.

        Raises
        ------
        DlcAssetsError
            It cannot be sent; the message says why.
        """

    @abstractmethod
    def trouble(self, sent: SentStep) -> Trouble | None:
        """Return why an attempt will not end by itself; None while it waits, or is worked on."""

    @abstractmethod
    def news(self, sent: SentStep) -> str | None:
        """Return what a person should know of an attempt that waits; None where there is nothing new to say."""

    @abstractmethod
    def cancel(self, sent: SentStep) -> None:
        """Stop an attempt. Those that work on one see by themselves that its run is over."""


def death(sent: SentStep) -> Trouble | None:
    """Return how the process of an attempt died; None where it has not begun or lives."""
    if not (sent.has_begun() or sent.end()) or sent.is_worked_on():
        return None
    end = sent.end()
    if end is None:
        return Trouble(f"{sent.who()} is no more: its worker was killed, or its machine went down")
    status = end["status"]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    hint = " (memory ran out?)" if status == -9 else ""
    return Trouble(
        f"its process on {end['host']} {how}{hint} before the step was done; its last lines are in the log there"
    )


@dataclass
class _Sent:
    attempt: SentStep
    earlier_ends: int
    first: int
    refused: str | None = None
    said: set[str] = field(default_factory=set)


class SendingHandler(StepHandler):
    """Sends the steps of one run, and says which of them are dead."""

    def __init__(self, lab: Lab, way: Way) -> None:
        super().__init__()
        self._lab = lab
        self._way = way
        self._steps: dict[str, _Sent] = {}
        self._counts: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._way.name

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        (key,) = step_handler_context.execute_step_args.step_keys_to_execute or ()
        self._send(step_handler_context, key, self._ends(step_handler_context, key), None)
        return iter(())

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        (key,) = step_handler_context.execute_step_args.step_keys_to_execute or ()
        step = self._steps[key]
        trouble = Trouble(step.refused, lasting=True) if step.refused else self._way.trouble(step.attempt)
        # What a process says of its step is stored before its lock is free, so that this look comes after that one.
        if trouble is None or self._ends(step_handler_context, key) > step.earlier_ends:
            news = None if trouble else self._way.news(step.attempt)
            if news and news not in step.said:
                step.said.add(news)
                self._say(step_handler_context.get_step_context(key), news)
            return CheckStepHealthResult.healthy()
        if trouble.lasting or step.attempt.attempt - step.first + 1 >= MOST_ATTEMPTS:
            again = "" if trouble.lasting else f" It was sent {MOST_ATTEMPTS} times. What it had finished is kept."
            return CheckStepHealthResult.unhealthy(f"{trouble.reason}.{again}")
        self._say(step_handler_context.get_step_context(key), f"{trouble.reason}. It is sent once more")
        self._send(step_handler_context, key, step.earlier_ends, step.first)
        return CheckStepHealthResult.healthy()

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        for key in step_handler_context.execute_step_args.step_keys_to_execute or ():
            if key in self._steps:
                self._way.cancel(self._steps[key].attempt)
        return iter(())

    def close(self, run_id: str) -> None:
        """Forget the run: what still comes to a worker of it is not done."""
        shutil.rmtree(self._lab.layout.sent_steps(run_id), ignore_errors=True)

    def tidy(self, instance: dg.DagsterInstance) -> None:
        """Remove what runs that were killed have left behind, and what jobs said a month ago."""
        layout = self._lab.layout
        for folder in layout.sent_steps("").glob("*"):
            run = instance.get_run_by_id(folder.name)
            if run is None or run.is_finished:
                self.close(folder.name)
        for output in layout.slurm_outputs.glob("*.log"):
            if time.time() - output.stat().st_mtime > _KEPT_SECONDS:
                output.unlink(missing_ok=True)

    def _send(self, context: StepHandlerContext, key: str, earlier_ends: int, first: int | None) -> None:
        arguments = context.execute_step_args
        number = self._counts[key] = self._counts.get(key, 0) + 1
        sent = SentStep(self._lab.layout, arguments.run_id, key, number)
        # Each machine opens the instance by its own settings: no address or password travels.
        own = type(arguments)(
            job_origin=arguments.job_origin,
            run_id=arguments.run_id,
            step_keys_to_execute=arguments.step_keys_to_execute,
            retry_mode=arguments.retry_mode,
            known_state=arguments.known_state,
        )
        sent.write(serialize_value(own))
        step = self._steps[key] = _Sent(sent, earlier_ends, first or number)
        try:
            self._way.send(sent, gpu=context.step_tags[key].get(COMPUTE_TAG) == "gpu")
        except DlcAssetsError as error:
            step.refused = str(error).rstrip(".")

    @staticmethod
    def _ends(context: StepHandlerContext, key: str) -> int:
        """Return how often the step has ended in this run."""
        records = context.instance.get_records_for_run(context.execute_step_args.run_id, of_type=_ENDS).records
        events = (record.event_log_entry.dagster_event for record in records)
        return sum(event is not None and event.step_key == key for event in events)

    @staticmethod
    def _say(step: IStepContext, text: str) -> None:
        DagsterEvent.engine_event(step, text, EngineEventData())


class SendingExecutor(StepDelegatingExecutor):
    """Dagster's executor for steps that are worked on elsewhere, which leaves nothing behind in the store."""

    def __init__(self, lab: Lab, way: Way, init_context: dg.InitExecutorContext) -> None:
        most = init_context.executor_config.get("max_concurrent")
        self._handler = SendingHandler(lab, way)
        super().__init__(
            self._handler,
            retries=RetryMode.ENABLED,
            sleep_seconds=_POLL_SECONDS,
            check_step_health_interval_seconds=_LOOK_SECONDS,
            max_concurrent=most if isinstance(most, int) else None,
        )

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        self._handler.tidy(plan_context.instance)
        try:
            yield from super().execute(plan_context, execution_plan)
        finally:
            self._handler.close(plan_context.run_id)


class Since:
    """For how long something has been so."""

    def __init__(self) -> None:
        self._begun: dict[SentStep, float] = {}

    def seconds(self, sent: SentStep, *, is_so: bool) -> float:
        """Return the seconds since it was first seen to be so, 0 when it is not."""
        if not is_so:
            self._begun.pop(sent, None)
            return 0.0
        return time.monotonic() - self._begun.setdefault(sent, time.monotonic())
