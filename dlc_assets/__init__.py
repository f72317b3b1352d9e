"""Pose estimation with DeepLabCut as Dagster assets: from labeled frames and videos to NWB, with lineage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlc_assets.api import OpenLab, open_lab, session_to_nwb

__all__ = ["OpenLab", "__version__", "open_lab", "session_to_nwb"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the notebook's face only when it is asked for: Dagster's processes never need it."""
    if name in {"OpenLab", "open_lab", "session_to_nwb"}:
        from dlc_assets import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
