"""The words that people get: a subject and a plain text that says what happened, why, and what to do next."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dlc_assets.lab.files import content_hash, size_words
from dlc_assets.notices.causes import Causes
from dlc_assets.notices.made import Made
from dlc_assets.notices.stopped import Stopped, Waiting
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.words import counted, one_line, plain_text

Kind = Literal["failures", "stopped", "digest", "test"]
_ALMOST_FULL = 0.05
_DONE = {
    "session_recordings": ("session with its recordings probed", "sessions with their recordings probed"),
    "pose_table": ("pose table estimated", "pose tables estimated"),
    "nwb_file": ("NWB file written", "NWB files written"),
    "trained_model": ("model version trained", "model versions trained"),
}


@dataclass(frozen=True)
class Message:
    """One message: `id` is its own, also where it is sent again; the subject is one line, the body plain text; `made` is unix time."""

    id: str
    kind: Kind
    subject: str
    body: str
    made: float


@dataclass(frozen=True)
class Day:
    """What a digest tells: a period (unix times), what was done in it, what fails, waits and has stopped now."""

    begin: float
    end: float
    made: Made
    failing: Causes
    recovered: int = 0
    recovered_names: Sequence[str] = ()
    stopped: Sequence[Stopped] = ()
    waiting: Waiting | None = None
    under_way: int = 0
    queued: int = 0
    problems: Sequence[str] = ()


def failures_message(voice: Voice, causes: Causes, now: float) -> Message:
    """Tell of failures that nobody was told of."""
    return _message(
        voice,
        "failures",
        counted(causes.count, "new failure"),
        [*causes.paragraphs(), _NEXT.format(voice.layout.root)],
        now,
    )


_NEXT = (
    "What to do: each reason above says what to mend. Once its inputs have changed, it is tried again by itself; everything else goes "
    "on meanwhile. All that failed, with the whole reason: dlc-assets status --lab {}"
)


def stopped_message(voice: Voice, stopped: Sequence[Stopped], now: float) -> Message:
    """Tell that work makes no progress."""
    texts = [f"{one_line(each.sentence, 1000)} (since {voice.when(each.since)})" for each in stopped]
    return _message(voice, "stopped", "no progress", texts, now)


def digest_message(voice: Voice, day: Day) -> Message:
    """Tell what a day has brought."""
    done = ", ".join(counted(number, *_DONE[asset]) for asset, number in day.made.counts.items() if number)
    at_least = "" if day.made.complete else " (at least: the store is large, and not all of it could be looked at)"
    parts = [f"From {voice.when(day.begin)} to {voice.when(day.end)}.", f"Done: {done or 'nothing new'}{at_least}."]
    if day.failing.count:
        parts += [f"Failing now: {day.failing.count:,}", *day.failing.paragraphs(), _NEXT.format(voice.layout.root)]
    else:
        parts.append("Failing now: nothing.")
    if day.recovered:
        names = ", ".join(one_line(name) for name in day.recovered_names)
        more = ", ..." if day.recovered > len(day.recovered_names) else ""
        parts.append(f"Recovered (failed before, and is done now): {day.recovered:,}: {names}{more}.")
    parts.append(_waiting_words(day))
    if day.stopped:
        parts += ["No progress:", *(one_line(each.sentence, 1000) for each in day.stopped)]
    if day.problems:
        parts += ["Needs a person:", *(f"- {one_line(problem, 1000)}" for problem in day.problems)]
    parts.append(_disk_words(voice))
    subject = f"daily digest: {sum(day.made.counts.values()):,} done, {day.failing.count:,} failing"
    return _message(voice, "digest", subject, parts, day.end)


def unreadable_message(voice: Voice, stopped: Stopped, now: float) -> Message:
    """Tell that lab.yaml cannot be read, which stops everything."""
    return _message(voice, "stopped", "lab.yaml cannot be read", [plain_text(stopped.sentence)], now)


def trial_message(voice: Voice, now: float) -> Message:
    """Return what `dlc-assets notify --test` sends."""
    about = ", ".join(voice.notify.about) or "nothing (about: is empty)"
    text = f"This is a test from the lab {voice.layout.root}. Messages arrive here. This lab tells of: {about}."
    return _message(voice, "test", "test message", [text], now)


def _waiting_words(day: Day) -> str:
    runs = f"{counted(day.under_way, 'run')} under way, {day.queued:,} queued"
    if day.waiting is None:
        return f"Waiting: {runs}."
    return f"Waiting: at least {counted(day.waiting.count, 'product')} can be made; {runs}."


def _disk_words(voice: Voice) -> str:
    try:
        usage = shutil.disk_usage(voice.layout.store)
    except OSError as error:
        return f"Disk of the store: it does not say how much is free ({error.strerror})."
    warning = " It is almost full: free some space." if usage.free < _ALMOST_FULL * usage.total else ""
    return f"Disk of the store: {size_words(usage.free)} of {size_words(usage.total)} free.{warning}"


def _message(voice: Voice, kind: Kind, subject: str, parts: Sequence[str], now: float) -> Message:
    line = one_line(f"[{voice.name}] {subject}")
    body = plain_text("\n\n".join(parts)) + "\n"
    return Message(content_hash([kind, line, body, now])[:24], kind, line, body, now)
