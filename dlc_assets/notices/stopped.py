"""Progress that has stopped: a run that says nothing any more, a queue that nothing leaves, work that nobody starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlc_assets.lab.progress import duration_words
from dlc_assets.notices.words import counted, one_line


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that is queued or under way.

    `since` is when it was asked for and `last_word` when it last logged anything, both as unix time; `waits_for_pool` says that it waits
    for a slot that another run holds.
    """

    run_id: str
    job: str
    under_way: bool
    since: float
    last_word: float
    waits_for_pool: bool = False


@dataclass(frozen=True)
class EndedRun:
    """A run that failed: `why` in words, `at` as unix time."""

    run_id: str
    job: str
    why: str
    at: float


@dataclass(frozen=True)
class Waiting:
    """Products that the platform should make and can make now: how many at least, and since when this is so (unix time)."""

    count: int
    since: float
    example: str = ""


@dataclass(frozen=True)
class Stopped:
    """One thing that has stopped: a name that stays while it stands, a sentence, and since when (unix time)."""

    name: str
    sentence: str
    since: float


def stopped_progress(
    runs: Sequence[UnfinishedRun], waiting: Waiting | None, last_run: float | None, *, now: float, after: float
) -> list[Stopped]:
    """Return what has made no progress for *after* seconds.

    Parameters
    ----------
    runs
        All runs that are not finished.
    waiting
        What could be made, None where that is nothing or not known.
    last_run
        When the newest run ended, unix time; None where there was none.
    """
    found = []
    under_way = [run for run in runs if run.under_way]
    silent = [run for run in under_way if now - run.last_word >= after]
    all_silent = len(silent) == len(under_way)
    for run in silent:
        if run.waits_for_pool and not all_silent:
            continue  # another run has the slot and is at work
        sentence = (
            f"Run {run.run_id[:8]} ({run.job}) is under way and has logged nothing for {duration_words(now - run.last_word)}. Look at "
            "it under Runs in the Dagster UI; if it hangs, terminate it there: what it finished is kept, and the rest is asked for again."
        )
        found.append(Stopped(f"run {run.run_id}", sentence, run.last_word))
    queued = [run for run in runs if not run.under_way]
    oldest = min((run.since for run in queued), default=now)
    if queued and not under_way and now - oldest >= after:
        sentence = (
            f"{counted(len(queued), 'run')} queued for up to {duration_words(now - oldest)}, and none is under way. Stop `dlc-assets "
            "dev` and start it again; if they are still queued then, look under Deployment > Concurrency in the Dagster UI for slots "
            "that are taken."
        )
        found.append(Stopped("queue", sentence, oldest))
    if waiting is not None and not runs:
        since = max(waiting.since, last_run or 0.0)
        if now - since >= after:
            example = f" (among them {one_line(waiting.example)})" if waiting.example else ""
            sentence = (
                f"At least {counted(waiting.count, 'product')} could be made{example}, and no run was started for "
                f"{duration_words(now - since)}. Look under Automation in the Dagster UI whether a sensor is off or fails, and run "
                "`dlc-assets status` for what is behind."
            )
            found.append(Stopped("waiting", sentence, since))
    return found
