"""What went wrong last, by product: kept until it goes right, so that nothing is ever silently missing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout


@dataclass(frozen=True)
class RecordedFailure:
    """Why a product could not be made, and from which inputs (`inputs` is empty where not even those could be read)."""

    asset: str
    key: str
    message: str
    inputs: dict[str, str]
    run_id: str
    when: str


def record_failure(
    layout: LabLayout, asset: str, key: str, message: str, *, inputs: dict[str, str], run_id: str
) -> None:
    """Keep *message* as what stops the product (*asset*, *key*)."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(layout.failure(asset, key), asdict(RecordedFailure(asset, key, message, inputs, run_id, when)))


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
