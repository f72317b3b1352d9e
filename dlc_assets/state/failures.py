"""What went wrong last, by product: kept until it goes right, so that nothing is ever silently missing.

Some failures last: the same video, label or setting will fail again, and a person must change something first. Others may be the
machine's (memory, a disk, a driver, a killed process): the sensors try these again, a set number of times, each time after a longer
pause.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dlc_assets.lab.errors import BusyError, DlcAssetsError, EnvironmentProblem
from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.settings import Retries


@dataclass(frozen=True)
class RecordedFailure:
    """Why a product could not be made, and from which inputs (`inputs` is empty where not even those could be read).

    Attributes
    ----------
    lasting
        The same inputs will fail again: a person must do something first.
    attempts
        How often in a row it failed with these inputs.
    died
        Its process died while it worked on the product; the first new attempt does not wait.
    """

    asset: str
    key: str
    message: str
    inputs: dict[str, str]
    run_id: str
    when: str
    lasting: bool = True
    attempts: int = 1
    died: bool = False

    def retry_at(self, retries: Retries) -> float | None:
        """Return the unix time from which the product is tried again by itself, None where a person must do something first."""
        if self.lasting or self.attempts > retries.times:
            return None
        pauses = 2 ** (self.attempts - 1) - (1 if self.died else 0)
        return datetime.fromisoformat(self.when).timestamp() + retries.pause_seconds * pauses

    def sentence(self, retries: Retries) -> str:
        """Return the message, and what becomes of it where it is not the product's own fault."""
        if self.lasting:
            return self.message
        if self.attempts > retries.times:
            return f"{self.message} (tried {self.attempts} times; not again by itself: run it by hand once the cause is mended)"
        return f"{self.message} (attempt {self.attempts} of {retries.times + 1}; it is tried again by itself)"


def is_lasting(error: Exception) -> bool:
    """Say whether the same inputs will give *error* again: mistakes in files and settings do, troubles of the machine need not."""
    return isinstance(error, DlcAssetsError) and not isinstance(error, EnvironmentProblem | BusyError)


def record_failure(
    layout: LabLayout,
    asset: str,
    key: str,
    message: str,
    *,
    inputs: dict[str, str],
    run_id: str,
    lasting: bool = True,
    died: bool = False,
) -> RecordedFailure:
    """Keep *message* as what stops the product (*asset*, *key*); failures in a row from the same inputs are counted."""
    before = last_failure(layout, asset, key)
    attempts = before.attempts + 1 if before is not None and before.inputs == inputs else 1
    when = datetime.now(UTC).isoformat(timespec="seconds")
    failure = RecordedFailure(asset, key, message, inputs, run_id, when, lasting, attempts, died)
    write_json(layout.failure(asset, key), asdict(failure))
    return failure


def clear_failure(layout: LabLayout, asset: str, key: str) -> None:
    """Forget what went wrong with (*asset*, *key*): it went right."""
    layout.failure(asset, key).unlink(missing_ok=True)


def last_failure(layout: LabLayout, asset: str, key: str) -> RecordedFailure | None:
    """Return what went wrong last with (*asset*, *key*), None when nothing did."""
    return read_failure(layout.failure(asset, key))


def read_failure(file: Path) -> RecordedFailure | None:
    """Return the failure that *file* keeps, None when it is not there or not one."""
    try:
        return RecordedFailure(**read_json(file))
    except (FileNotFoundError, ValueError, TypeError):
        return None
