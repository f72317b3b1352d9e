"""`dlc-assets dev`, started for real for one lab, and what its GraphQL says: what a person at the browser would see and press."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from dlc_assets.demo.run import MODEL
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import is_held
from dlc_assets_tests.conftest import environment_without_lab

T = TypeVar("T")

# The daemon looks at the lab so often: thirty seconds are right for a lab and long for a test.
_TICK_SECONDS = "5"
_REPOSITORY = {"repositoryLocationName": "dlc_assets", "repositoryName": "__repository__"}


def wait_until(what: str, look: Callable[[], T | None], seconds: float, *, every: float = 0.5) -> T:
    """Return the first true value of *look*, or fail when *what* has not come true in *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


def is_alive(pid: int) -> bool:
    """Say whether the process *pid* runs (a zombie that nobody has waited for does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below *pid*."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def end_group(process: subprocess.Popen[Any], *, patience: float = 20) -> None:
    """Ask the process group of *process* to end, and kill what is left of it."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):  # all of the group may have ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def start_command(lab: Path, *words: str, log: Path, environment: Mapping[str, str] = {}) -> subprocess.Popen[Any]:
    """Start a `dlc-assets` command for *lab* in a process group of its own, writing to *log*."""
    with log.open("w") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "dlc_assets.cli", *words, "--lab", str(lab)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**environment_without_lab(), **environment},
            start_new_session=True,
        )


def command(lab: Path, *words: str, environment: Mapping[str, str] = {}, timeout: float = 180) -> dict[str, Any]:
    """Run a `dlc-assets` command with --json for *lab*; return its object, with its exit status as `exit` and its log as `log`."""
    done = subprocess.run(
        [sys.executable, "-m", "dlc_assets.cli", *words, "--lab", str(lab), "--json"],
        capture_output=True,
        text=True,
        env={**environment_without_lab(), **environment},
        check=False,
        timeout=timeout,
    )
    assert done.stdout.strip(), f"{words} said nothing; its log:\n{done.stderr[-4000:]}"
    return {**json.loads(done.stdout), "exit": done.returncode, "log": done.stderr}


@contextmanager
def analysing(lab: Path, session: str, log: Path) -> Iterator[subprocess.Popen[Any]]:
    """`dlc-assets analyze --recompute` of *session* with the demo's model, from the moment when its step is at it."""
    lock = LabLayout(lab).lock("pose_table", pose_key(MODEL, session))
    process = start_command(lab, "analyze", session, "--recompute", log=log)

    def at_it() -> bool:
        assert process.poll() is None, f"the command ended:\n{log.read_text()}"
        return is_held(lock)

    try:
        wait_until("the command's step is analysing", at_it, 240, every=0.05)
        yield process
    finally:
        end_group(process)


class LabServer:
    """The Dagster UI and daemon of one lab on a free port of 127.0.0.1."""

    def __init__(self, lab: Path, log: Path, environment: Mapping[str, str] = {}) -> None:
        self.lab = lab
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {"DLC_ASSETS_TICK_SECONDS": _TICK_SECONDS, **environment}
        self.process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> LabServer:
        self.process = start_command(
            self.lab, "dev", "--port", str(self.port), log=self.log, environment=self._environment
        )
        try:
            wait_until(f"the UI answers ({self.log})", self._loaded, 90)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the UI, the daemon and the runs that it started."""
        if self.process is not None:
            end_group(self.process)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def server_info(self) -> dict[str, str]:
        """Return what the UI's server says of itself."""
        with urllib.request.urlopen(f"{self.url}/server_info", timeout=10) as answer:
            return dict(json.load(answer))

    def _loaded(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"`dlc-assets dev` ended:\n{self.log.read_text()[-4000:]}"
        try:
            entries = self.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return [e["loadStatus"] for e in entries["workspaceOrError"]["locationEntries"]] == ["LOADED"]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """Return the data of a GraphQL query; its errors fail the test."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])

    def sensors(self) -> dict[str, str]:
        """Return the status of each sensor by name."""
        answer = self.ask(
            "query ($at: RepositorySelector!) { sensorsOrError(repositorySelector: $at) "
            "{ ... on Sensors { results { name sensorState { status } } } } }",
            at=_REPOSITORY,
        )
        return {s["name"]: s["sensorState"]["status"] for s in answer["sensorsOrError"]["results"]}

    def runs(self, **tags: str) -> list[dict[str, Any]]:
        """Return the runs, newest first, that carry *tags* (``__`` for ``/``): id, job, status, tags as a dict."""
        wanted = [{"key": key.replace("__", "/"), "value": value} for key, value in tags.items()]
        answer = self.ask(
            "query ($filter: RunsFilter) { runsOrError(filter: $filter) "
            "{ ... on Runs { results { runId jobName status tags { key value } } } } }",
            filter={"tags": wanted} if wanted else {},
        )
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in answer["runsOrError"]["results"]
        ]

    def run(self, run_id: str) -> dict[str, Any]:
        """Return one run: status, and the messages of its failed steps."""
        answer = self.ask(
            "query ($id: ID!) { runOrError(runId: $id) { ... on Run { runId jobName status "
            "eventConnection { events { __typename ... on ExecutionStepFailureEvent { stepKey error { message } "
            "failureMetadata { description } } ... on RunFailureEvent { message } } } } } }",
            id=run_id,
        )["runOrError"]
        failures = [
            e for e in answer.pop("eventConnection")["events"] if e["__typename"] == "ExecutionStepFailureEvent"
        ]
        return {
            **answer,
            "failures": {
                e["stepKey"]: (e.get("failureMetadata") or {}).get("description") or e["error"]["message"]
                for e in failures
            },
        }

    def terminate(self, run_id: str) -> None:
        """Press "Terminate" on a run."""
        answer = self.ask(
            "mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) "
            "{ __typename ... on TerminateRunFailure { message } } }",
            id=run_id,
        )["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def launch(self, job: str, key: str, config: Mapping[str, Any]) -> str:
        """Press "Launch run" in the launchpad of *job* for the partition *key*; return the run id."""
        answer = self.ask(
            "mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }",
            params={
                "selector": {**_REPOSITORY, "jobName": job},
                "runConfigData": config,
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}]},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def materialized(self, asset: str) -> dict[str, dict[str, Any]]:
        """Return the newest materialization of each partition of *asset*: run id, metadata labels, tags."""
        answer = self.ask(
            "query ($key: AssetKeyInput!) { assetOrError(assetKey: $key) { ... on Asset { assetMaterializations(limit: 500) "
            "{ partition runId tags { key value } metadataEntries { label } } } } }",
            key={"path": [asset]},
        )
        newest: dict[str, dict[str, Any]] = {}
        for event in answer["assetOrError"].get("assetMaterializations", []):
            newest.setdefault(
                event["partition"],
                {
                    "run": event["runId"],
                    "tags": {tag["key"]: tag["value"] for tag in event["tags"]},
                    "metadata": [entry["label"] for entry in event["metadataEntries"]],
                },
            )
        return newest

    def checks(self, asset: str, name: str) -> dict[str, str]:
        """Return the newest status of the check *name* of *asset* by partition."""
        answer = self.ask(
            "query ($key: AssetKeyInput!, $name: String!) { assetCheckExecutions(assetKey: $key, checkName: $name, limit: 200) "
            "{ status partition } }",
            key={"path": [asset]},
            name=name,
        )
        newest: dict[str, str] = {}
        for execution in answer["assetCheckExecutions"]:
            newest.setdefault(execution["partition"], execution["status"])
        return newest

    def launch_backfill(self, partitions: Mapping[str, list[str]]) -> str:
        """Materialize *partitions* by asset, as the dialog "Materialize" of several selected assets does; return its id."""
        answer = self.ask(
            "mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) "
            "{ __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }",
            params={
                "partitionsByAssets": [
                    {
                        "assetKey": {"path": [asset]},
                        "partitions": {"ranges": [{"start": key, "end": key} for key in keys]},
                    }
                    for asset, keys in partitions.items()
                ]
            },
        )["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def backfill(self, backfill_id: str) -> dict[str, Any]:
        """Return a backfill's status and its runs."""
        return dict(
            self.ask(
                "query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status "
                "error { message } runs(limit: 50) { runId jobName status } } } }",
                id=backfill_id,
            )["partitionBackfillOrError"]
        )
