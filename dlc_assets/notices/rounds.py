"""One round: what is new is gathered, what is due is written, what waits is sent. The sensor `notices` makes one every minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.notices.causes import Causes
from dlc_assets.notices.channels import channels_of
from dlc_assets.notices.failure_files import Look, asset_and_key, look_at_failures, standing_failures
from dlc_assets.notices.looked import Looked
from dlc_assets.notices.made import made_since
from dlc_assets.notices.messages import (
    Day,
    Message,
    digest_message,
    failures_message,
    stopped_message,
    unreadable_message,
)
from dlc_assets.notices.sending import DAY, send_waiting
from dlc_assets.notices.stopped import EndedRun, Stopped, UnfinishedRun, Waiting, stopped_progress
from dlc_assets.notices.told import Told
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.words import counted
from dlc_assets.state.failures import RecordedFailure
from dlc_assets.state.stored import stored_manifest

ROUND_SECONDS = 40.0
# Failures come in crowds (a full disk, a broken camera): the first message waits for the crowd, and the next for the hour.
GATHER_SECONDS, BETWEEN_SECONDS = 300.0, 3600.0
_LOOK_SECONDS, _COUNT_SECONDS, _READ_SECONDS = 8.0, 6.0, 4.0
_READ_AT_MOST = 2_000
_LAG_SECONDS = 300.0
Log = Callable[[str], None]


@dataclass(frozen=True)
class RunFacts:
    """What Dagster knows of runs: those not finished, when the newest ended (unix time), and those that failed since `runs_until`."""

    unfinished: Sequence[UnfinishedRun] = ()
    last_ended: float | None = None
    failed: Sequence[EndedRun] = ()


def runs_until(lab: Lab, now: float) -> float:
    """Return from when on failed runs are of interest (unix time): since the last round, at the first one from now on."""
    looked = Looked.read(lab.layout)
    return now if looked is None or looked.runs_until is None else looked.runs_until


def waiting_is_due(lab: Lab, facts: RunFacts, now: float) -> bool:
    """Say whether it is time to work out what could be made: only while no run is under way, and a few times in `stopped_after`."""
    looked = Looked.read(lab.layout)
    pause = min(lab.settings.notify.stopped_after / 4, 900.0)
    return not facts.unfinished and (looked is None or now - looked.waiting_at >= pause)


def make_round(
    lab: Lab,
    facts: RunFacts,
    waiting: tuple[int, str] | None,
    *,
    now: float,
    began: float,
    log: Log,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """Gather, write and send; return what was done in words.

    Parameters
    ----------
    waiting
        How many products could be made, and the name of one; None where that was not worked out now.
    now
        Unix time.
    began
        When the round began, on *clock*: it lasts 40 s at most.

    Raises
    ------
    BusyError
        Another process makes a round.
    """
    voice = Voice.of(lab)
    with hold(lab.layout.lock("notices", "round"), "telling people", timeout=0.0):
        looked = _look(lab, facts, waiting, now)
        channels = channels_of(voice)
        if not channels:
            looked.runs_until = now  # whoever is named later is told of what fails from then on
            looked.write(lab.layout)
            return _words(looked, "nobody is to be told (lab.yaml names no mail and no webhook under notify)")
        told = Told.read(lab.layout)
        before = Told(**{**vars(told), "gathered": deepcopy(told.gathered), "unsent": list(told.unsent)})
        told.voice = voice.kept()
        told.digest = now if told.digest is None else told.digest
        for message in _due(lab, voice, told, looked, facts, now, clock):
            told.put(message, channels)
        if told != before:
            told.write(lab.layout)
        looked.write(lab.layout)  # after what it led to: a round that is killed looks at the same runs again
        left = ROUND_SECONDS - (clock() - began)
        sent = send_waiting(
            told, channels, now=now, seconds=left, save=lambda: told.write(lab.layout), log=log, clock=clock
        )
        return _words(looked, f"{counted(sent, 'message')} sent, {len(told.unsent)} to be sent")


def make_round_without_settings(lab: Lab, why: str, *, now: float, began: float, log: Log) -> str:
    """Tell that lab.yaml cannot be read, for the reason *why*, by the channels that it last named; return what was done in words."""
    layout = lab.layout
    with hold(layout.lock("notices", "round"), "telling people", timeout=0.0):
        looked = Looked.read(layout) or Looked()
        since = looked.unreadable_since if looked.unreadable_since is not None else now
        stopped = Stopped("lab.yaml", f"lab.yaml cannot be read, so nothing is made by itself. {why}", since)
        looked.at, looked.stopped, looked.unreadable_since = now, (stopped,), since
        looked.write(layout)
        told = Told.read(layout)
        voice = Voice.from_kept(layout, told.voice)
        channels = channels_of(voice) if voice is not None else {}
        if voice is None or not channels:
            return _words(looked, "nobody is to be told")
        # A person who is editing the file needs no message.
        if now - since >= GATHER_SECONDS and "stopped" in voice.notify.about and _remember(told, [stopped], now):
            told.put(unreadable_message(voice, stopped, now), channels)
            told.write(layout)
        left = ROUND_SECONDS - (time.monotonic() - began)
        sent = send_waiting(told, channels, now=now, seconds=left, save=lambda: told.write(layout), log=log)
        return _words(looked, f"{counted(sent, 'message')} sent, {len(told.unsent)} to be sent")


def _look(lab: Lab, facts: RunFacts, waiting: tuple[int, str] | None, now: float) -> Looked:
    """Return what has stopped and what waits now."""
    before = Looked.read(lab.layout) or Looked()
    known, waiting_at = before.waiting, before.waiting_at
    if waiting is not None:
        count, example = waiting
        known = Waiting(count, known.since if known is not None else now, example) if count else None
        waiting_at = now
    if facts.unfinished:
        known = None  # work has begun; what waits when it is over, waits from then on
    stopped = stopped_progress(
        facts.unfinished, known, facts.last_ended, now=now, after=lab.settings.notify.stopped_after
    )
    return Looked(now, tuple(stopped), known, waiting_at, runs_until=before.runs_until)


def _due(
    lab: Lab, voice: Voice, told: Told, looked: Looked, facts: RunFacts, now: float, clock: Callable[[], float]
) -> list[Message]:
    """Return the messages that are due, and note in *told* that they were written."""
    about, messages = voice.notify.about, []
    look = look_at_failures(lab.layout, told.seen, seconds=_LOOK_SECONDS, clock=clock)
    _take(lab, told, look, looked, facts, now, telling="failures" in about)
    if told.gathered_since is not None and now >= max(
        told.gathered_since + GATHER_SECONDS, told.failures_told + BETWEEN_SECONDS
    ):
        messages.append(failures_message(voice, told.gathered, now))
        told.gathered, told.gathered_since, told.failures_told = Causes(), None, now
    fresh = _remember(told, looked.stopped, now)
    if fresh and "stopped" in about:
        messages.append(stopped_message(voice, fresh, now))
    assert told.digest is not None, "the first round sets it"
    if told.digest < digest_moment(voice, now):
        if "digest" in about:
            messages.append(digest_message(voice, _day(lab, told, looked, facts, now, clock)))
        told.digest, told.recovered, told.recovered_names = now, 0, []
    return messages


def digest_moment(voice: Voice, now: float) -> float:
    """Return when the newest digest up to *now* is due: the last `digest_at` on the lab's clock, unix time."""
    local = datetime.fromtimestamp(now, voice.zone)
    due = datetime.combine(local.date(), voice.notify.digest_at, tzinfo=voice.zone)
    if due.timestamp() > now:
        due = datetime.combine(local.date() - timedelta(days=1), voice.notify.digest_at, tzinfo=voice.zone)
    return due.timestamp()


def _take(lab: Lab, told: Told, look: Look, looked: Looked, facts: RunFacts, now: float, *, telling: bool) -> None:
    """Note what a look at the failure files found, and the runs that failed without leaving one."""
    told.seen = look.seen
    new = list(look.new)
    if look.complete:  # else a run's own failures may still be unread
        explained = {seen.run_id for seen in look.seen.values()} | set(told.runs)
        new += [_as_failure(run) for run in facts.failed if run.run_id not in explained]
        told.runs = {run: at for run, at in told.runs.items() if now - at < DAY}
        told.runs |= {run.run_id: run.at for run in facts.failed}
        # Databases and clocks of two machines may lag: what ended a moment ago is looked at again.
        looked.runs_until = now if looked.runs_until is None else now - _LAG_SECONDS
    told.count_recovered(
        f"{asset} {key}"
        for asset, key in map(asset_and_key, look.gone)
        if stored_manifest(lab, asset, key) is not None  # else it was forgotten
    )
    if telling:
        for failure in new:
            told.gathered.add(failure)
        if new and told.gathered_since is None:
            told.gathered_since = now


def _as_failure(run: EndedRun) -> RecordedFailure:
    when = datetime.fromtimestamp(run.at, UTC).isoformat(timespec="seconds")
    return RecordedFailure("run", f"{run.run_id[:8]} ({run.job})", run.why, {}, run.run_id, when)


def _remember(told: Told, stopped: Sequence[Stopped], now: float) -> list[Stopped]:
    """Return what of *stopped* people were not told of, or more than a day before it came back; note all of it as told."""
    standing = {each.name for each in stopped}
    told.stopped = {name: at for name, at in told.stopped.items() if name in standing or now - at < DAY}
    fresh = [each for each in stopped if each.name not in told.stopped]
    told.stopped |= {each.name: now for each in fresh}
    return fresh


def _day(lab: Lab, told: Told, looked: Looked, facts: RunFacts, now: float, clock: Callable[[], float]) -> Day:
    assert told.digest is not None, "the first round sets it"
    _, broken = lab.specifications()
    under_way = sum(run.under_way for run in facts.unfinished)
    return Day(
        begin=told.digest,
        end=now,
        made=made_since(lab.layout, told.digest, seconds=_COUNT_SECONDS, clock=clock),
        failing=standing_failures(lab.layout, most=_READ_AT_MOST, seconds=_READ_SECONDS, clock=clock),
        recovered=told.recovered,
        recovered_names=told.recovered_names,
        stopped=looked.stopped,
        waiting=looked.waiting,
        under_way=under_way,
        queued=len(facts.unfinished) - under_way,
        problems=[*broken.values(), *rule_problems(lab)],
    )


def _words(looked: Looked, done: str) -> str:
    return f"{len(looked.stopped)} without progress; {done}" if looked.stopped else done
