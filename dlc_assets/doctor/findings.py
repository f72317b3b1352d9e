"""What one look found: fine, odd or wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from dlc_assets.lab.errors import DlcAssetsError

Level = Literal["ok", "warn", "error"]
ORDER: tuple[Level, ...] = ("error", "warn", "ok")


@dataclass(frozen=True)
class Finding:
    """One row of what `dlc-assets doctor` says.

    Parameters
    ----------
    about
        What was looked at.
    found
        In words; never a secret.
    todo
        What to do, empty where nothing is.
    """

    about: str
    level: Level
    found: str
    todo: str = ""


def examined(about: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what *look* finds; where it fails itself, that is a finding, and the other looks go on."""
    try:
        return list(look())
    except DlcAssetsError as error:
        return [Finding(about, "error", str(error))]
    except Exception as error:  # noqa: BLE001  # a look that fails in whatever way must not hide what the others see
        said = " ".join(str(error).split())[:300]
        return [Finding(about, "error", f"it cannot be looked at: {type(error).__name__}: {said}")]
