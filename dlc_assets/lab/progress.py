"""Saying how far long work is, how fast it goes and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """What long work calls now and then: *done* of *total* (None when unknown), and a note."""

    def __call__(self, done: float, total: float | None, note: str = "") -> None: ...


def duration_words(seconds: float) -> str:
    """Return ``7 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class LoggedProgress:
    """A `Progress` that writes a line to a log every *every* seconds, with rate and time left.

    *before* is what was done already when the work began: it does not count for the rate.
    """

    def __init__(
        self,
        log: Callable[[str], None],
        what: str,
        unit: str,
        *,
        every: float = 10.0,
        before: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._what, self._unit, self._every, self._clock = log, what, unit, every, clock
        self._before = before
        self._start = self._last = clock()

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        now = self._clock()
        finished = total is not None and done >= total
        if now - self._last < self._every and not finished:
            return
        self._last = now
        self._log(self.line(done, total, now - self._start, note))

    def line(self, done: float, total: float | None, seconds: float, note: str = "") -> str:
        """Return the line for *done* of *total* after *seconds*."""
        rate = (done - self._before) / seconds if seconds > 0 else 0.0
        of = f"{done:g}" if total is None else f"{done:g} of {total:g}"
        parts = [f"{self._what}: {of} {self._unit}", f"{rate:.3g} {self._unit}/s"]
        if total is not None and rate > 0 and done < total:
            parts.append(f"{duration_words((total - done) / rate)} left")
        return ", ".join([*parts, note] if note else parts)
