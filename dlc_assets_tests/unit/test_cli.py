"""The command line: one JSON object for programs, messages for people, and exit statuses that scripts can trust."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from dlc_assets import commands
from dlc_assets.cli import app
from dlc_assets.cli.output import Output
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.launching import RunOutcome
from dlc_assets.notices.rounds import RunFacts, make_round
from dlc_assets.notices.stopped import UnfinishedRun
from dlc_assets_tests.conftest import environment_without_lab, use_lab
from dlc_assets_tests.graph import small_lab
from dlc_assets_tests.unit.mail_and_webhook import mail_server, webhook_server

LAB = """\
name: Smith lab
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
release: [{model: walker}]
"""


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lab with one model specification whose project is missing, and one session."""
    root = tmp_path / "lab"
    (root / "recordings/m01/day1").mkdir(parents=True)
    (root / "recordings/m01/day1/top.mp4").write_bytes(b"no video")
    (root / "models").mkdir()
    (root / "models/walker.yaml").write_text("project: walking\n")
    (root / "lab.yaml").write_text(LAB)
    use_lab(root, monkeypatch)
    return root


def dlc_assets(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def one_object(result: Result) -> dict[str, Any]:
    """Return the one JSON object on standard output; anything else there is an error."""
    return strict_json(result.stdout)


def strict_json(text: str) -> dict[str, Any]:
    def no_json(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    parsed = json.loads(text, parse_constant=no_json)
    assert isinstance(parsed, dict)
    return parsed


def in_a_shell(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a script would: what its child processes print is seen, too."""
    return subprocess.run(
        [sys.executable, "-m", "dlc_assets.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment_without_lab(),
        timeout=300,
    )


# --- init -----------------------------------------------------------------------------------------


def test_init_writes_a_lab_that_status_can_read(tmp_path: Path) -> None:
    result = dlc_assets("init", tmp_path / "lab", "--name", "Smith lab")
    assert result.exit_code == 0
    assert "dlc-assets scan --lab" in result.stdout
    status = one_object(dlc_assets("status", "--lab", tmp_path / "lab", "--json"))
    assert status["ok"] is True
    assert status["products"] == []
    assert status["problems"] == []


def test_init_over_a_lab_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    dlc_assets("init", tmp_path / "lab", "--name", "First")
    before = files_of(tmp_path)
    result = dlc_assets("init", tmp_path / "lab", "--name", "Second")
    assert result.exit_code == 2
    assert "is a lab already" in result.stderr
    assert files_of(tmp_path) == before


def test_init_says_in_json_what_it_wrote(tmp_path: Path) -> None:
    written = one_object(dlc_assets("init", tmp_path / "lab", "--json"))
    assert written["ok"] is True
    assert str(tmp_path / "lab" / "lab.yaml") in written["written"]


# --- wrong usage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("status",), ("scan",), ("sql", "select 1"), ("analyze",), ("export",), ("train", "walker"), ("dev",)],
)
def test_a_folder_that_is_not_a_lab_is_said_with_what_to_do(tmp_path: Path, command: Sequence[str]) -> None:
    result = dlc_assets(*command, "--lab", tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is not a lab folder: it has no lab.yaml" in result.stderr
    assert "dlc-assets init" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", [("status",), ("scan",), ("sql", "select 1"), ("analyze",), ("export",), ("train", "walker")]
)
def test_an_error_is_one_json_object_too(tmp_path: Path, command: Sequence[str]) -> None:
    result = dlc_assets(*command, "--lab", tmp_path / "nowhere", "--json")
    assert result.exit_code == 2
    error = one_object(result)
    assert error["ok"] is False
    assert "nowhere is not a lab folder: it does not exist" in error["error"]


def test_a_mistake_in_lab_yaml_is_wrong_settings(lab: Path) -> None:
    (lab / "lab.yaml").write_text(LAB + "experimentors: [Doe]\n")
    result = dlc_assets("status")
    assert result.exit_code == 2
    assert str(lab / "lab.yaml") in result.stderr
    assert 'unknown key "experimentors". Did you mean "experimenters"?' in result.stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("train", "wolker"), 'no model specification "wolker"'),
        (("analyze", "--model", "wolker"), 'the model "wolker" has no trained version'),
        (("analyze", "sub-m01_ses-day2"), 'no session "sub-m01_ses-day2". Did you mean "sub-m01_ses-day1"?'),
        (("export", "sub-m1_ses-day1"), 'no session "sub-m1_ses-day1". Did you mean "sub-m01_ses-day1"?'),
        (("train", "walker"), 'no DeepLabCut project "walking"'),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_the_nearest(lab: Path, command: Sequence[str], said: str) -> None:
    result = dlc_assets(*command)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_a_misspelled_model_of_the_lab_is_answered_with_the_nearest(lab: Path) -> None:
    assert 'Did you mean "walker"?' in dlc_assets("train", "wolker").stderr


@pytest.mark.parametrize(
    "command", [("train",), ("sql",), ("status", "--everything"), ("train", "walker", "--epochs", "0")]
)
def test_wrong_arguments_are_status_2(lab: Path, command: Sequence[str]) -> None:
    assert dlc_assets(*command).exit_code == 2


@pytest.fixture
def trained(lab: Path) -> Path:
    """The lab with a trained version that keeps the epochs 50 (the best) and 100, of 100."""
    version = small_lab.as_if_trained(open_lab_folder(lab))
    card = version.manifest
    card.details |= {"epoch": 50, "training": {"epochs": 100}}
    last = version.folder / "snapshots" / "snapshot-100.pt"
    last.parent.mkdir()
    last.write_text("weights of epoch 100")
    card.details["snapshots"] = [{"epoch": 100, "file": "snapshots/snapshot-100.pt", "sha256": sha256_file(last)}]
    card.write(version.folder)
    return lab


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The jobs that commands ask for, and the settings of their assets; nothing is run."""
    asked: list[tuple[str, Any]] = []

    def execute(lab: Lab, instance: Any, job: str, *, ops: Any = None, **_: Any) -> RunOutcome:
        asked.append((job, ops))
        return RunOutcome("run", job, "SUCCESS", ())

    monkeypatch.setattr(commands, "execute_here", execute)
    return asked


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--batch-size", "0"), "batch size: expected 1 or more, got 0"),
        (("--precision", "bf16"), 'precision: expected float32 or proven, got "bf16"'),
        (("--device", "tpu"), 'device: expected cpu or gpu, got "tpu"'),
        (("--snapshot", "newest"), 'snapshot: expected best, last or the number of an epoch, got "newest"'),
        (("--snapshot", "-1"), 'snapshot: expected best, last or the number of an epoch, got "-1"'),
        (("--snapshot", "60"), "walker@0123456789ab keeps no snapshot of epoch 60. Epochs there are: 50 (best), 100."),
        (("--dynamic-cropping", "--batch-size", "8"), "expected a batch size of 1 or auto, not 8"),
    ],
)
@pytest.mark.parametrize("model", [(), ("--model", "walker")])
def test_settings_of_an_analysis_that_cannot_be_meant_end_it_before_any_run(
    trained: Path, runs: list[tuple[str, Any]], options: Sequence[str], model: Sequence[str], said: str
) -> None:
    result = dlc_assets("analyze", *model, *options, "--json")
    assert result.exit_code == 2
    assert said in one_object(result)["error"]
    assert runs == []


def test_the_lab_s_batch_size_and_a_run_s_dynamic_cropping_must_fit(trained: Path, runs: list[tuple[str, Any]]) -> None:
    (trained / "lab.yaml").write_text(LAB + "inference: {batch_size: 4}\n")
    result = dlc_assets("analyze", "--dynamic-cropping")
    assert result.exit_code == 2
    assert "expected a batch size of 1 or auto, not 4" in result.stderr
    assert runs == []


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ((), None),
        (("--recompute",), {"recompute": True}),
        (("--snapshot", "last"), {"snapshot": "last"}),
        (("--snapshot", "0100"), {"snapshot": "100"}),
        (("--no-dynamic-cropping",), {"dynamic_cropping": False}),
        (
            ("--batch-size", "1", "--precision", "proven", "--device", "cpu", "--dynamic-cropping"),
            {"batch_size": 1, "precision": "proven", "device": "cpu", "dynamic_cropping": True},
        ),
    ],
)
def test_settings_of_an_analysis_are_those_of_its_run(
    trained: Path, runs: list[tuple[str, Any]], options: Sequence[str], config: dict[str, Any] | None
) -> None:
    (trained / "lab.yaml").write_text(LAB + "analyze: {settle_seconds: 0}\n")
    small_lab.film(trained / "recordings/m01/day1/top.mp4")
    small_lab.record(open_lab_folder(trained), "sub-m01_ses-day1")
    result = dlc_assets("analyze", *options)
    assert result.exit_code == 0, result.stderr
    assert runs == [("analyze", None if config is None else {"pose_table": config})]


def test_a_session_that_is_analysed_is_left_unless_asked_for_otherwise(
    trained: Path, runs: list[tuple[str, Any]]
) -> None:
    (trained / "lab.yaml").write_text(LAB + "analyze: {settle_seconds: 0}\n")
    small_lab.film(trained / "recordings/m01/day1/top.mp4")
    lab = open_lab_folder(trained)
    small_lab.record(lab, "sub-m01_ses-day1")
    small_lab.as_if_analysed(lab, "sub-m01_ses-day1")
    assert dlc_assets("analyze").exit_code == 0
    assert runs == []
    assert dlc_assets("analyze", "--snapshot", "last").exit_code == 0
    assert runs == [("analyze", {"pose_table": {"snapshot": "last"}})]


def test_a_crop_that_does_not_fit_a_session_stops_its_run_only(trained: Path, runs: list[tuple[str, Any]]) -> None:
    small_lab.film(trained / "recordings/m01/day1/top.mp4")
    lab = open_lab_folder(trained)
    small_lab.record(lab, "sub-m01_ses-day1")
    small_lab.as_if_analysed(lab, "sub-m01_ses-day1")
    (trained / "lab.yaml").write_text(LAB + "setups: {top: [{crop: {x: [0, 640]}}]}\n")
    assert dlc_assets("analyze").exit_code == 0
    assert runs == [("analyze", None)], "the run is where the error is said and kept"


# --- status ---------------------------------------------------------------------------------------


def test_status_says_what_is_missing_and_what_is_wrong(lab: Path) -> None:
    result = dlc_assets("status", "--json")
    assert result.exit_code == 0
    status = one_object(result)
    products = {(product["asset"], product["key"]): product for product in status["products"]}
    assert products["session_recordings", "sub-m01_ses-day1"]["state"] == "missing"
    dataset = products["training_dataset", "walker"]
    assert dataset["state"] == "failed"
    assert 'no DeepLabCut project "walking"' in dataset["why"]
    assert status["counts"]["session_recordings"] == {"missing": 1}


def test_status_for_people_is_a_table_and_names_problems_on_standard_error(lab: Path) -> None:
    (lab / "lab.yaml").write_text(LAB.replace("walker", "wolker"))
    result = dlc_assets("status")
    assert result.exit_code == 0
    assert "session_recordings" in result.stdout
    assert "Problem: lab.yaml: release rule 1 names the model" in result.stderr


def test_status_changes_nothing(lab: Path) -> None:
    before = files_of(lab)
    dlc_assets("status", "--all")
    assert files_of(lab) == before


# --- sql ------------------------------------------------------------------------------------------


def test_sql_answers_as_a_table_and_as_json(lab: Path) -> None:
    assert "walker" in dlc_assets("sql", "select * from training_tasks").stdout
    answer = one_object(dlc_assets("sql", "select 1 as a, 'x' as b", "--json"))
    assert answer == {"ok": True, "columns": ["a", "b"], "rows": [[1, "x"]]}


def test_a_number_that_json_has_no_word_for_is_null(lab: Path) -> None:
    answer = one_object(dlc_assets("sql", "select 'nan'::float as a, '-inf'::float as b, 1.5::float as c", "--json"))
    assert answer["rows"] == [[None, None, 1.5]]


@pytest.mark.parametrize(
    "statement",
    [
        "drop table sessions",
        "create table a as select 1",
        "copy (select 1) to '{out}'",
        "attach '{out}'",
        "select 1; select 2",
    ],
)
def test_sql_only_reads(lab: Path, tmp_path: Path, statement: str) -> None:
    out = tmp_path / "out.parquet"
    result = dlc_assets("sql", statement.format(out=out), "--json")
    assert result.exit_code in {1, 2}
    assert one_object(result)["ok"] is False
    assert not out.exists()


def test_an_unknown_table_is_said_with_those_that_exist(lab: Path) -> None:
    result = dlc_assets("sql", "select * from session")
    assert result.exit_code == 2
    assert "sessions" in result.stderr


# --- commands that run ----------------------------------------------------------------------------


@pytest.mark.slow
def test_scan_fails_with_a_video_that_does_not_open_and_says_which(lab: Path) -> None:
    (lab / "lab.yaml").write_text(LAB + "analyze: {settle_seconds: 0}\n")
    result = in_a_shell("scan", "--lab", lab, "--json")
    assert result.returncode == 1
    scanned = strict_json(result.stdout)
    assert scanned["ok"] is False
    assert [run["status"] for run in scanned["runs"]] == ["FAILURE"]
    (session,) = scanned["sessions"]
    assert session["state"] == "failed"
    assert "top.mp4" in session["why"]
    assert (lab / "store/dagster/dagster.yaml").is_file()


@pytest.mark.slow
def test_scan_leaves_a_video_that_is_still_written_and_names_one_that_fits_nothing(lab: Path) -> None:
    (lab / "recordings/stray.mp4").write_bytes(b"x")
    result = in_a_shell("scan", "--lab", lab, "--json")
    assert result.returncode == 0
    scanned = strict_json(result.stdout)
    assert scanned["runs"] == []
    assert [Path(path).name for path in scanned["unmatched"]] == ["stray.mp4"]
    assert "it is left until it has settled" in result.stderr


def test_two_labs_never_share_an_instance(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    assert dlc_assets("export", "--json").exit_code == 0
    other = tmp_path / "other"
    shutil.copytree(lab, other)
    result = dlc_assets("export", "--lab", other)
    assert result.exit_code == 2
    assert f"belongs to the lab {lab}" in result.stderr


def test_brackets_in_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    output.say("the lab [m01]")
    output.table("mice [wt]", ["a[b]"], [["c[/d]"]])
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("the lab [m01]", "mice [wt]", "a[b]", "c[/d]"))


# --- notify ---------------------------------------------------------------------------------------


def test_notify_test_sends_by_each_way_and_says_which_one_failed(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DLC_ASSETS_SMTP_USER", "DLC_ASSETS_SMTP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with mail_server() as post, webhook_server() as hook:
        mail = f"{{to: ann@example.org, from: lab@example.org, host: 127.0.0.1, port: {post.port}, tls: none}}"
        (lab / "lab.yaml").write_text(f"{LAB}notify:\n  mail: {mail}\n  webhook: {{}}\n")
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", hook.url)
        listed = dlc_assets("notify", "--json")
        assert (listed.exit_code, post.raw, hook.posts) == (0, [], [])
        assert [way["channel"] for way in one_object(listed)["channels"]] == ["mail", "webhook"]
        assert dlc_assets("notify", "--test").exit_code == 0
        assert (len(post.raw), len(hook.posts)) == (1, 1)
        hook.status = 500
        failed = dlc_assets("notify", "--test", "--json")
    assert failed.exit_code == 1
    answer = one_object(failed)
    assert answer["ok"] is False
    assert [(trial["channel"], trial["sent"]) for trial in answer["channels"]] == [("mail", True), ("webhook", False)]
    assert "answered 500" in answer["channels"][1]["why"]
    assert "SECRET" not in listed.output + failed.output


def test_notify_without_anybody_to_tell_is_wrong_settings(lab: Path) -> None:
    result = dlc_assets("notify", "--test", "--json")
    assert result.exit_code == 2
    assert "names nobody to be told" in one_object(result)["error"]


def test_status_says_what_has_stopped_and_which_messages_were_not_sent(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lab / "lab.yaml").write_text(f"{LAB}notify: {{webhook: {{}}}}\n")
    monkeypatch.delenv("DLC_ASSETS_WEBHOOK_URL", raising=False)
    opened = open_lab_folder(lab)
    silent = UnfinishedRun("1a2b3c4d5e", "analyze", True, since=1.0, last_word=1.0)
    make_round(opened, RunFacts([silent]), None, now=time.time(), began=time.monotonic(), log=lambda _: None)
    result = dlc_assets("status", "--json")
    assert result.exit_code == 0
    answer = one_object(result)
    assert "Run 1a2b3c4d (analyze) is under way and has logged nothing" in answer["stopped"][0]
    assert "1 message could not be sent by webhook" in answer["unsent"][0]
    assert "DLC_ASSETS_WEBHOOK_URL is not set" in dlc_assets("status").stderr
