"""Each step as a job of Slurm's, on a cluster whose nodes share the lab's folder and reach its database.

The package dagster-slurm is not used: it packs an environment and scripts for Dagster Pipes and sends them over ssh, where here the
nodes have the lab and the same Python already. `sbatch`, `scontrol` and `scancel` are all that is needed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys

import dagster as dg

from dlc_assets.executor_kinds.sending import SendingExecutor, Trouble, Way, death
from dlc_assets.executor_kinds.sent_steps import SentStep
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.slurm_settings import SlurmSettings
from dlc_assets.resources.postgres import require_postgres

_SECONDS = 60.0  # for one command of Slurm's
_UNKNOWN = "Invalid job id"
# Of a job that is over. What is not named here may go another way the next time.
_LASTING = {
    "TIMEOUT": "it reached its time limit ({limit}). What it had finished is kept; raise executor.slurm.{kind}.time in lab.yaml",
    "DEADLINE": "it would not have ended before its deadline. See executor.slurm.{kind}.options in lab.yaml",
    "OUT_OF_MEMORY": "it took more memory than it had asked for. Raise executor.slurm.{kind}.memory in lab.yaml",
    "CANCELLED": "it was cancelled in Slurm (scancel, or an administrator). Run it again when it may run",
}
_PASSING = {"FAILED", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "COMPLETED", "REVOKED"}
# Why a job waits, where waiting alone does not help.
_STUCK = {
    "PartitionTimeLimit", "PartitionNodeLimit", "PartitionDown", "PartitionInactive", "BadConstraints", "ReqNodeNotAvail", "JobHeldUser",
    "JobHeldAdmin", "AssocGrpGRES", "QOSMaxGRESPerUser", "QOSMaxWallDurationPerJobLimit", "InvalidAccount", "InvalidQOS",
}  # fmt: skip


def executor(lab: Lab, init_context: dg.InitExecutorContext) -> dg.Executor:
    """Return the executor of a run that begins.

    Raises
    ------
    EnvironmentProblem
        The instance is not on PostgreSQL, or this machine cannot submit jobs.
    """
    require_postgres(lab, init_context.instance, "executor: slurm")
    for program in ("sbatch", "scontrol", "scancel"):
        if shutil.which(program) is None:
            raise EnvironmentProblem(
                f"executor: slurm needs `{program}`, which this machine does not have. Start `dlc-assets` where jobs are submitted (a "
                "login node), or say `executor: local`. See docs/how-to/slurm.md."
            )
    return SendingExecutor(lab, Jobs(lab, lab.settings.executor.slurm), init_context)


class Jobs(Way):
    """The jobs of one run."""

    name = "Slurm"

    def __init__(self, lab: Lab, settings: SlurmSettings) -> None:
        self._lab = lab
        self._settings = settings
        self._jobs: dict[SentStep, tuple[str, str]] = {}  # job id, and gpu or cpu
        self._waits: dict[SentStep, str] = {}

    def send(self, sent: SentStep, *, gpu: bool) -> None:
        kind = "gpu" if gpu else "cpu"
        asked = self._settings.gpu if gpu else self._settings.cpu
        output = self._lab.layout.slurm_output(sent.run_id, sent.step, sent.attempt)
        output.parent.mkdir(parents=True, exist_ok=True)
        python = self._settings.python or sys.executable
        words = [python, "-m", "dlc_assets.executor_kinds.slurm_job", sent.run_id, sent.step, str(sent.attempt)]
        options = [
            f"--job-name=dlc_assets:{sent.step}",
            f"--output={_escaped(str(output))}",
            "--open-mode=append",
            "--requeue",
            f"--chdir={self._lab.root}",
        ]
        said = _slurm(
            ["sbatch", "--parsable", *options, *asked.sbatch_options()], script=f"#!/bin/sh\nexec {shlex.join(words)}\n"
        )
        if said.returncode != 0:
            raise EnvironmentProblem(
                f"Slurm refuses the job of this step: {_last_line(said.stderr)}. See executor.slurm.{kind} in "
                f"{self._lab.layout.settings_file}"
            )
        self._jobs[sent] = said.stdout.strip().split(";")[0], kind

    def trouble(self, sent: SentStep) -> Trouble | None:
        job, kind = self._jobs[sent]
        said = _slurm(["scontrol", "show", "job", "--oneliner", job])
        if said.returncode != 0:
            if _UNKNOWN not in said.stderr:
                return None  # slurmctld is away; its jobs are not
            return death(sent) or Trouble(f"Slurm knows its job {job} no more, and nobody has begun it")
        facts = dict(re.findall(r"(\w+)=(\S*)", said.stdout))
        state = facts.get("JobState", "")
        self._waits[sent] = facts.get("Reason", "") if state == "PENDING" else ""
        if state not in _LASTING and state not in _PASSING:
            return None
        if sent.is_worked_on():
            return None  # it is ending
        output = self._lab.layout.slurm_output(sent.run_id, sent.step, sent.attempt)
        where = f"job {job} on {facts.get('NodeList') or 'no node'}"
        if state in _LASTING:
            why = _LASTING[state].format(limit=facts.get("TimeLimit", ""), kind=kind)
            return Trouble(f"{where}: {why}", lasting=True)
        died = death(sent)
        how = died.reason if died is not None else f"Slurm says {state} (exit status {facts.get('ExitCode', '')})"
        return Trouble(f"{where}: {how}. The job's output: {output}")

    def news(self, sent: SentStep) -> str | None:
        job, _ = self._jobs[sent]
        reason = self._waits.get(sent, "")
        return f"The job {job} waits: Slurm says {reason}" if reason.split(",")[0] in _STUCK else None

    def cancel(self, sent: SentStep) -> None:
        if sent in self._jobs:
            _slurm(["scancel", self._jobs[sent][0]])


def _slurm(words: list[str], *, script: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, input=script or "", capture_output=True, text=True, check=False, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"{words[0]} does not answer within {_SECONDS:.0f} s")
    except OSError as error:
        raise EnvironmentProblem(f"{words[0]} cannot be started: {error}") from error


def _escaped(path: str) -> str:
    """Return a path as sbatch takes it in ``--output``, where ``%`` begins a pattern."""
    return path.replace("%", "%%")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines() or ["no reason given"]
    return lines[-1].removeprefix("sbatch: error: ").rstrip(".")
