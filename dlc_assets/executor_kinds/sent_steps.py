"""What the store knows of a step that another process, mostly of another machine, works on: each attempt at it begins once.

Queues deliver a message again when a connection breaks, and Slurm starts a job again when its node dies. So an attempt is a file of
the shared store, and who begins it makes another beside it, which only one process can. The lock of the step, which the operating
system frees with its holder, tells whether somebody still works on it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import is_held


@dataclass(frozen=True)
class SentStep:
    """One attempt at a step of a run.

    Parameters
    ----------
    attempt
        Counted from 1, over all that was sent for this step of this run.
    """

    layout: LabLayout
    run_id: str
    step: str
    attempt: int

    @property
    def place(self) -> Path:
        return self.layout.sent_step(self.run_id, self.step, self.attempt)

    @property
    def lock(self) -> Path:
        """The lock that is held while anybody works on the step, in whichever attempt."""
        return self.layout.sent_step_lock(self.run_id, self.step)

    def write(self, arguments: str) -> None:
        """Store what the step's process needs, Dagster's own serialized arguments: nothing of it is secret."""
        write_json(self.place, {"arguments": arguments})

    def arguments(self) -> str | None:
        """Return what `write` stored; None once the run is over."""
        try:
            return str(read_json(self.place)["arguments"])
        except FileNotFoundError:
            return None

    def begin(self, start: int = 0) -> bool:
        """Begin the attempt, or its *start*-th start again by Slurm; say whether nobody has before."""
        try:
            with self._mark(start).open("x", encoding="utf-8") as mark:
                mark.write(f"process {os.getpid()} on {socket.gethostname()}")
        except FileExistsError:
            return False
        return True

    def has_begun(self) -> bool:
        return bool(self._marks())

    def is_worked_on(self) -> bool:
        return is_held(self.lock)

    def who(self) -> str:
        """Return who began the attempt last, in words."""
        marks = self._marks()
        return marks[-1].read_text(encoding="utf-8") if marks else "nobody"

    def note_end(self, status: int) -> None:
        """Write down with which status the step's process ended; nothing once the run is over."""
        if self.place.exists():
            write_json(self._end, {"status": status, "host": socket.gethostname()})

    def end(self) -> dict[str, Any] | None:
        """Return status and host of the step's process that ended, None where nobody was left to see it end."""
        try:
            return dict(read_json(self._end))
        except FileNotFoundError:
            return None

    @property
    def _end(self) -> Path:
        return self.place.with_suffix(".ended.json")

    def _mark(self, start: int) -> Path:
        return self.place.with_suffix(f".begun-{start}")

    def _marks(self) -> list[Path]:
        return sorted(self.place.parent.glob(f"{escape(self.place.stem)}.begun-*"))
