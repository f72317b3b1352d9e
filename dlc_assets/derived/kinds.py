"""Every kind of product that is made from pose tables, each after those that it is made from."""

from __future__ import annotations

from dlc_assets.derived import filtered_poses
from dlc_assets.derived.product import DerivedKind

KINDS: tuple[DerivedKind, ...] = (filtered_poses.KIND,)
