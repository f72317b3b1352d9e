"""Every kind of product that is made from pose tables, each after those that it is made from."""

from __future__ import annotations

from dlc_assets.derived import filtered_poses, kinematics
from dlc_assets.derived.product import DerivedKind
from dlc_assets.review import labeled_video
from dlc_assets.review.report import product as quality_report

KINDS: tuple[DerivedKind, ...] = (filtered_poses.KIND, kinematics.KIND, quality_report.KIND, labeled_video.KIND)
