"""Keeping what DeepLabCut prints off standard output, where a command writes one JSON object and nothing else."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

_log = logging.getLogger(__name__)


class _LogLines(io.TextIOBase):
    """A text stream whose lines become log records."""

    def __init__(self) -> None:
        self._rest = ""
        self._busy = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if (
            self._busy
        ):  # a log handler that itself prints to sys.stdout: its text ends here, or it would come round for ever
            return len(text)
        self._busy = True
        try:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in filter(str.strip, lines):
                _log.debug("%s", line.rstrip())
        finally:
            self._busy = False
        return len(text)

    def close(self) -> None:
        if not self.closed:
            self.write("\n")
        super().close()


@contextlib.contextmanager
def chatter_logged() -> Iterator[None]:
    """Turn everything printed inside, by imports too, into log records of level DEBUG."""
    with contextlib.closing(_LogLines()) as lines, contextlib.redirect_stdout(lines):
        yield
