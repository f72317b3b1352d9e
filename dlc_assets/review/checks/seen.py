"""What one check saw in one recording, before it is compared with a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc_assets.review.findings import Moment


@dataclass(frozen=True)
class Seen:
    """The worst value (None: there is nothing to look at), what it is of, the moments, and numbers by body part."""

    value: float | None = None
    of: str = ""
    moments: Sequence[Moment] = ()
    details: dict[str, Any] = field(default_factory=dict)
    failed: bool | None = None  # where the value alone does not say
    doubtful: bool = False  # it could not be found out: no more than a warning, whatever the check is worth
    sentence: str = ""  # in the place of the check's own
