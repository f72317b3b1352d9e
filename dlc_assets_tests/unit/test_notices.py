"""People are told once of what is new, again of what fails anew, daily of everything; a channel that works again catches up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest
from dlc_assets.notices import channels
from dlc_assets.notices.causes import cause_of, grouped
from dlc_assets.notices.failure_files import Look, look_at_failures
from dlc_assets.notices.looked import stopped_sentences, unsent_sentences
from dlc_assets.notices.rounds import (
    BETWEEN_SECONDS,
    GATHER_SECONDS,
    RunFacts,
    digest_moment,
    make_round,
    make_round_without_settings,
)
from dlc_assets.notices.sending import DAY
from dlc_assets.notices.stopped import EndedRun, UnfinishedRun, Waiting, stopped_progress
from dlc_assets.notices.told import Told
from dlc_assets.notices.voice import Voice
from dlc_assets.state.failures import RecordedFailure, clear_failure, record_failure
from dlc_assets_tests.unit.mail_and_webhook import WebhookServer, free_port, mail_server, webhook_server

LAB = """\
name: Test lab
timezone: Europe/Zurich
notify:
  webhook: {url_env: DLC_ASSETS_WEBHOOK_URL}
"""
NOON = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Zurich")).timestamp()
HOUR = 3600.0


@dataclass
class ToldLab:
    """A lab whose people are told by a webhook, and the time that its sensor sees."""

    lab: Lab
    server: WebhookServer
    now: float = NOON
    said: list[str] = field(default_factory=list)

    def round(
        self, facts: RunFacts | None = None, waiting: tuple[int, str] | None = None, *, later: float = 0.0
    ) -> str:
        self.now += later
        return make_round(
            open_lab_folder(self.lab.root),
            facts or RunFacts(),
            waiting,
            now=self.now,
            began=time.monotonic(),
            log=self.said.append,
        )

    def fail(
        self, key: str, message: str = "does not open as a video", *, asset: str = "session_recordings", **inputs: str
    ) -> None:
        record_failure(self.lab.layout, asset, key, message, inputs=inputs or {"video": "v1"}, run_id="r1")

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [content for _, content in self.server.posts]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["kind"] == kind]

    @property
    def unsent(self) -> list[str]:
        return unsent_sentences(Voice.of(self.lab), now=self.now)


def write_lab(root: Path, text: str = LAB) -> Lab:
    root.mkdir(exist_ok=True)
    (root / "lab.yaml").write_text(text)
    (root / "store").mkdir(exist_ok=True)
    return open_lab_folder(root)


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToldLab]:
    with webhook_server() as server:
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", server.url)
        yield ToldLab(write_lab(tmp_path / "lab"), server)


# --- failures -------------------------------------------------------------------------------------


def test_failures_that_come_together_are_told_together_and_once(told: ToldLab) -> None:
    told.round()
    told.fail("ses-1")
    told.round(later=60)
    told.fail("ses-2")
    assert told.messages == []
    told.round(later=GATHER_SECONDS)
    for _ in range(3):
        told.round(later=BETWEEN_SECONDS)
    (message,) = told.messages
    assert message["subject"] == "[Test lab] 2 new failures"
    assert "does not open as a video" in message["text"]
    assert "- ses-1\n" in message["text"]
    assert f"dlc-assets status --lab {told.lab.root}" in message["text"]


def test_a_second_crowd_of_failures_waits_for_the_hour(told: ToldLab) -> None:
    told.fail("ses-1")
    told.round()
    told.round(later=GATHER_SECONDS)
    told.fail("ses-2")
    told.round(later=60)
    told.round(later=GATHER_SECONDS)
    assert len(told.messages) == 1
    told.round(later=BETWEEN_SECONDS)
    assert [message["subject"] for message in told.messages] == ["[Test lab] 1 new failure"] * 2


def test_what_fails_on_new_inputs_is_told_again_and_on_the_same_ones_not(told: ToldLab) -> None:
    told.fail("ses-1", video="v1")
    told.round()
    told.round(later=GATHER_SECONDS)
    told.fail("ses-1", "does not open as a video, tried again", video="v1")
    told.round(later=BETWEEN_SECONDS)
    told.round(later=BETWEEN_SECONDS)
    assert len(told.messages) == 1
    told.fail("ses-1", "picture too small", video="v2")
    told.round(later=60)
    told.round(later=GATHER_SECONDS)
    assert "picture too small" in told.messages[-1]["text"]
    assert len(told.messages) == 2


def test_many_failures_are_grouped_by_cause_and_twenty_are_named() -> None:
    failures = [
        RecordedFailure(
            "pose_table", f"walker|sub-m{n:03}_ses-{n}", f"sub-m{n:03}_ses-{n}: no GPU memory ({n} MB free)", {}, "", ""
        )
        for n in range(500)
    ]
    failures.append(RecordedFailure("nwb_file", "sub-m001_ses-1", "/labs/x/1.mp4 is not there", {}, "", ""))
    causes = grouped(failures)
    paragraphs = causes.paragraphs()
    assert [paragraph.partition("\n")[0] for paragraph in paragraphs] == [
        "1. the poses were not estimated (500)",
        "2. the NWB file was not written (1)",
    ]
    text = "\n".join(paragraphs)
    assert text.count("   - ") <= 22
    assert text.count(" by walker") + text.count("   - sub-m001_ses-1") <= 20
    assert "and 490 more" in text
    assert len(json.dumps(causes.to_json())) < 3_000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (("ses-1", "/a/ses-1/top.mp4 ends at frame 17"), ("ses-2", "/b/ses-2/top.mp4 ends at frame 9"), True),
        (("sub-a_ses-1", "a: its start is not known"), ("sub-b_ses-2", "b: its start is not known"), True),
        (("ses-1", "ses-1 cannot be read"), ("ses-2", "ses-2 is empty"), False),
    ],
)
def test_a_cause_is_the_same_whatever_the_names(one: tuple[str, str], other: tuple[str, str], same: bool) -> None:
    causes = [cause_of(RecordedFailure("x", key, message, {}, "", "")) for key, message in (one, other)]
    assert (causes[0] == causes[1]) is same


def test_a_run_that_left_no_failure_is_told_and_one_that_did_is_not_told_twice(told: ToldLab) -> None:
    told.round()
    told.fail("ses-1")
    explained, other = (
        EndedRun("r1", "record", "1 of 2 failed", NOON),
        EndedRun("r2" * 8, "analyze", "it was killed", NOON),
    )
    for _ in range(2):
        told.round(RunFacts(failed=[explained, other]), later=60)
    told.round(later=GATHER_SECONDS)
    told.round(later=BETWEEN_SECONDS)
    (message,) = told.messages
    assert message["subject"] == "[Test lab] 2 new failures"
    assert "it was killed" in message["text"]
    assert "1 of 2 failed" not in message["text"]


def test_a_look_reads_only_what_has_changed_and_goes_on_where_its_time_ran_out(told: ToldLab) -> None:
    layout = told.lab.layout
    for number in range(5):
        told.fail(f"ses-{number}")
    ticks = iter(range(100))
    looks: list[Look] = []
    seen: dict[str, Any] = {}
    while not looks or not looks[-1].complete:
        looks.append(look_at_failures(layout, seen, seconds=3, clock=lambda: next(ticks)))
        seen = looks[-1].seen
    assert [len(look.new) for look in looks] == [2, 2, 1]
    for file in layout.failures.glob("*/*.json"):
        status = file.stat()
        file.write_bytes(b" " * status.st_size)  # what is not read again is not missed
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = look_at_failures(layout, seen, seconds=3)
    assert (again.new, again.gone, again.complete) == ([], [], True)
    assert again.seen == seen


def test_a_look_at_many_failures_is_quick(told: ToldLab) -> None:
    folder = told.lab.layout.failures / "pose_table"
    folder.mkdir(parents=True)
    content = json.dumps(vars(RecordedFailure("pose_table", "m|s", "broken", {"a": "b"}, "", "")))
    for number in range(3_000):
        (folder / f"m__{number}.json").write_text(content)
    first = look_at_failures(told.lab.layout, {}, seconds=60)
    begun = time.perf_counter()
    again = look_at_failures(told.lab.layout, first.seen, seconds=60)
    assert time.perf_counter() - begun < 1.0
    assert (len(first.new), len(again.new)) == (3_000, 0)


# --- stopped progress -----------------------------------------------------------------------------


def run(name: str, *, silent: float = 0.0, **more: Any) -> UnfinishedRun:
    return UnfinishedRun(
        **{
            "run_id": name,
            "job": "analyze",
            "under_way": True,
            "since": NOON - 10 * HOUR,
            "last_word": NOON - silent,
            **more,
        }
    )


def names(runs: Sequence[UnfinishedRun], waiting: Waiting | None = None, last: float | None = None) -> list[str]:
    return [each.name for each in stopped_progress(runs, waiting, last, now=NOON, after=HOUR)]


def test_a_run_that_says_nothing_has_stopped_and_one_that_logs_has_not() -> None:
    assert names([run("a", silent=60), run("b", silent=2 * HOUR)]) == ["run b"]


def test_a_run_that_waits_for_the_gpu_has_not_stopped_while_another_uses_it() -> None:
    waiting = run("b", silent=2 * HOUR, waits_for_pool=True)
    assert names([run("a", silent=60), waiting]) == []
    assert names([run("a", silent=2 * HOUR), waiting]) == ["run a", "run b"]
    assert names([waiting]) == ["run b"]


def test_a_queue_has_stopped_when_nothing_is_under_way() -> None:
    queued = [run("a", under_way=False), run("b", under_way=False, since=NOON - 60)]
    assert names(queued) == ["queue"]
    assert names([*queued, run("c")]) == []
    assert names(queued[1:]) == []


def test_work_that_nobody_starts_has_stopped() -> None:
    waiting = Waiting(3, NOON - 2 * HOUR, "pose_table walker|ses-1")
    assert names([], waiting) == ["waiting"]
    assert names([], waiting, last=NOON - 60) == []
    assert names([run("a")], waiting) == []


def test_stopped_progress_is_told_once_and_again_only_when_it_comes_back_on_another_day(told: ToldLab) -> None:
    def silent_for(seconds: float, *, later: float) -> None:
        told.round(RunFacts([run("a", last_word=told.now + later - seconds)]), later=later)

    silent_for(2 * HOUR, later=0)
    silent_for(2 * HOUR, later=60)
    (message,) = told.messages
    assert message["subject"] == "[Test lab] no progress"
    assert "terminate it there" in message["text"]
    assert "2026-07-01 10:00" in message["text"]
    silent_for(0, later=60)
    silent_for(2 * HOUR, later=60)
    assert len(told.of("stopped")) == 1
    silent_for(0, later=DAY)
    silent_for(2 * HOUR, later=60)
    assert len(told.of("stopped")) == 2


def test_status_says_what_has_stopped_and_that_the_sensors_do_not_look(told: ToldLab) -> None:
    voice = Voice.of(told.lab)
    assert stopped_sentences(voice, now=NOON, behind=True) == []
    told.round(RunFacts([run("abcdefghijk", silent=2 * HOUR)]))
    (sentence,) = stopped_sentences(voice, now=NOON + 60, behind=True)
    assert "abcdefgh (analyze)" in sentence
    old, silence = stopped_sentences(voice, now=NOON + 5 * HOUR, behind=True)
    assert old.endswith("(as seen 5 h 0 min ago)")
    assert "The sensors last looked on 2026-07-01 12:00" in silence
    assert len(stopped_sentences(voice, now=NOON + 5 * HOUR, behind=False)) == 1


def test_waiting_counts_from_when_it_was_first_seen_and_anew_after_work(told: ToldLab) -> None:
    for _ in range(2):
        told.round(waiting=(4, "nwb_file ses-1"), later=HOUR / 2)
    assert told.messages == []
    told.round(RunFacts([run("a", last_word=told.now + 60)]), later=60)
    told.round(waiting=(4, "nwb_file ses-1"), later=60)
    told.round(waiting=(4, "nwb_file ses-1"), later=HOUR - 60)
    assert told.messages == []
    told.round(later=61)
    assert "At least 4 products could be made (among them nwb_file ses-1)" in told.messages[0]["text"]


def test_a_lab_yaml_that_cannot_be_read_is_told_by_the_channels_that_it_last_named(told: ToldLab) -> None:
    told.round()
    (told.lab.root / "lab.yaml").write_text("name: [")
    for at in (0.0, 60.0, GATHER_SECONDS, GATHER_SECONDS + 60):
        make_round_without_settings(
            told.lab, "line 1: not valid YAML", now=NOON + at, began=time.monotonic(), log=told.said.append
        )
    (message,) = told.messages
    assert message["subject"] == "[Test lab] lab.yaml cannot be read"
    assert "line 1: not valid YAML" in message["text"]


# --- the digest -----------------------------------------------------------------------------------


def made(lab: Lab, folder: Path, at: float) -> None:
    folder.mkdir(parents=True)
    Manifest(asset="a", key="k", inputs={}, data_version="d").write(folder)
    for path in (folder / "manifest.json", folder):
        os.utime(path, (at, at))


def test_the_digest_comes_once_a_day_at_its_time_and_says_what_happened(told: ToldLab) -> None:
    layout = told.lab.layout
    told.round()  # on 1 July, 12:00
    made(told.lab, layout.session_recordings("ses-1"), NOON + HOUR)
    made(told.lab, layout.session_recordings("ses-old"), NOON - HOUR)
    made(told.lab, layout.pose_folder("walker", "v1", "ses-1"), NOON + HOUR)
    made(told.lab, layout.pose_folder("walker", "v0", "ses-1"), NOON - HOUR)
    os.utime(layout.pose_folder("walker", "v0", "ses-1"), (NOON + HOUR, NOON + HOUR))  # something else was moved there
    told.fail("ses-2")
    told.fail("ses-1", asset="session_recordings")
    told.round(later=HOUR)
    clear_failure(layout, "session_recordings", "ses-1")
    told.round(later=18.9 * HOUR)
    assert told.of("digest") == []
    told.round(RunFacts([run("a", last_word=NOON + 20 * HOUR), run("b", under_way=False)]), later=0.2 * HOUR)
    told.round(later=60)
    (digest,) = told.of("digest")
    assert digest["subject"] == "[Test lab] daily digest: 2 done, 1 failing"
    for sentence in (
        "From 2026-07-01 12:00 to 2026-07-02 08:06.",
        "Done: 1 session with its recordings probed, 1 pose table estimated.",
        "Failing now: 1",
        "Recovered (failed before, and is done now): 1: session_recordings ses-1.",
        "1 run under way, 1 queued",
        "Disk of the store: ",
    ):
        assert sentence in digest["text"]


def test_a_machine_that_was_off_sends_one_digest_when_it_is_on_again(told: ToldLab) -> None:
    told.round()
    told.round(later=5 * DAY)
    told.round(later=60)
    told.round(later=HOUR)
    (digest,) = told.of("digest")
    assert "From 2026-07-01 12:00 to 2026-07-06 12:00." in digest["text"]


@pytest.mark.parametrize(
    ("now", "due"),
    [
        ("2026-07-02T08:00:00+02:00", "2026-07-02T08:00:00+02:00"),
        ("2026-07-02T07:59:59+02:00", "2026-07-01T08:00:00+02:00"),
        ("2026-10-25T12:00:00+01:00", "2026-10-25T08:00:00+01:00"),  # the clocks went back in the night
        ("2026-10-25T07:30:00+01:00", "2026-10-24T08:00:00+02:00"),
        ("2026-07-02T23:30:00+00:00", "2026-07-02T06:00:00+00:00"),  # the next day already in Zurich
    ],
)
def test_the_digest_is_due_by_the_labs_clock(now: str, due: str, tmp_path: Path) -> None:
    voice = Voice.of(write_lab(tmp_path))
    at = digest_moment(voice, datetime.fromisoformat(now).timestamp())
    assert at == datetime.fromisoformat(due).timestamp()


# --- sending --------------------------------------------------------------------------------------


def test_a_message_that_was_refused_is_sent_later_once_and_status_says_so_meanwhile(told: ToldLab) -> None:
    told.server.status = 500
    told.fail("ses-1")
    told.round()
    told.round(later=GATHER_SECONDS)
    (sentence,) = told.unsent
    assert sentence.startswith(
        "1 message could not be sent by webhook: the webhook (its URL is in DLC_ASSETS_WEBHOOK_URL) answered 500"
    )
    told.round(later=30)
    assert len(told.messages) == 1  # too soon
    told.server.status = 200
    told.round(later=31)
    told.round(later=HOUR)
    assert len(told.messages) == 2
    assert told.messages[0] == told.messages[1]
    assert told.unsent == []


def test_a_server_that_was_down_gets_the_message_when_it_is_back(
    told: ToldLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", f"http://127.0.0.1:{free_port()}/hook/T0SECRET")
    told.fail("ses-1")
    told.round()
    for _ in range(6):
        told.round(later=GATHER_SECONDS)
    assert "Connection refused" in told.unsent[0]
    monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", told.server.url)
    told.round(later=HOUR)
    assert len(told.messages) == 1


def test_a_message_is_given_up_after_a_day_and_status_says_so_for_a_week(told: ToldLab) -> None:
    told.server.status = 500
    told.fail("ses-1")
    told.round()
    told.round(later=GATHER_SECONDS)
    for _ in range(25):
        told.round(later=HOUR)
    assert any("1 message could not be sent for a day and will not be" in sentence for sentence in told.unsent)
    subjects = {each.message.subject for each in Told.read(told.lab.layout).unsent}
    assert all("digest" in subject for subject in subjects)
    told.now += 8 * DAY
    assert not any("will not be" in sentence for sentence in told.unsent)


def test_no_secret_is_in_any_file_of_the_store_or_in_the_log(told: ToldLab) -> None:
    told.server.status, told.server.says = 500, told.server.url
    told.fail("ses-1")
    told.round()
    told.round(later=GATHER_SECONDS)
    assert told.messages
    written = [path.read_text() for path in told.lab.layout.store.rglob("*") if path.is_file()]
    assert written
    assert told.said
    for text in (*written, *told.said, *told.unsent):
        assert not [secret for secret in ("T0SECRET", "B0SECRET", "very-secret-token") if secret in text], text


def test_a_channel_that_fails_does_not_keep_the_other_from_delivering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DLC_ASSETS_SMTP_USER", raising=False)
    monkeypatch.delenv("DLC_ASSETS_SMTP_PASSWORD", raising=False)
    with mail_server() as post, webhook_server(status=500) as hook:
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", hook.url)
        mail = f"  mail: {{to: a@b.org, from: lab@b.org, host: 127.0.0.1, port: {post.port}, tls: none}}\n"
        told = ToldLab(write_lab(tmp_path / "lab", LAB + mail), hook)
        told.fail("ses-1 ü")
        told.round()
        told.round(later=GATHER_SECONDS)
        hook.status = 200
        for _ in range(3):
            told.round(later=HOUR)
    assert len(post.letters) == 1
    assert "ses-1 ü" in post.letters[0].get_content()
    assert len(hook.posts) == 2


def test_a_round_that_has_little_time_left_sends_later(told: ToldLab) -> None:
    told.fail("ses-1")
    told.round()
    told.now += GATHER_SECONDS
    late = time.monotonic() - 40.0 + channels.TIMEOUT / 2
    done = make_round(told.lab, RunFacts(), None, now=told.now, began=late, log=told.said.append)
    assert done == "0 messages sent, 1 to be sent"
    assert told.round(later=60) == "1 message sent, 0 to be sent"


def test_a_lab_that_tells_of_nothing_is_only_looked_at(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", "name: quiet\n")
    done = make_round(
        lab, RunFacts([run("a", silent=2 * HOUR)]), None, now=NOON, began=time.monotonic(), log=lambda _: None
    )
    assert done == "1 without progress; nobody is to be told (lab.yaml names no mail and no webhook under notify)"
    assert stopped_sentences(Voice.of(lab), now=NOON, behind=False)
    assert not lab.layout.told_file.exists()


def test_what_is_not_asked_for_is_not_told(told: ToldLab) -> None:
    (told.lab.root / "lab.yaml").write_text(LAB + "  about: digest\n")
    told.fail("ses-1")
    for _ in range(3):
        told.round(RunFacts([run("a", silent=2 * HOUR)]), later=GATHER_SECONDS)
    assert told.messages == []
    told.round(later=DAY)
    assert [message["kind"] for message in told.messages] == ["digest"]


def test_a_damaged_memory_is_begun_anew(told: ToldLab) -> None:
    told.round()
    told.lab.layout.told_file.write_text('{"seen": 3')
    told.lab.layout.looked_file.write_text("[]")
    told.fail("ses-1")
    told.round()
    told.round(later=GATHER_SECONDS)
    assert len(told.messages) == 1


def test_two_rounds_at_once_send_nothing_twice(told: ToldLab) -> None:
    with hold(told.lab.layout.lock("notices", "round"), "telling people"), pytest.raises(BusyError):
        told.round()
