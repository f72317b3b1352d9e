"""Where points lie relative to a region of the camera's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.lab.regions import CircleRegion, Point, corners_of

if TYPE_CHECKING:
    from shapely import Polygon


def contains(region: tuple[Point, ...] | CircleRegion, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Say of each point (px, any shape) whether it lies in *region* or on its border: bool; False where x or y is NaN."""
    return signed_distance(region, x, y) <= 0


def signed_distance(region: tuple[Point, ...] | CircleRegion, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance (px, float64) of each point to the border of *region*: negative inside, NaN where x or y is."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if isinstance(region, CircleRegion):
        center_x, center_y = region.circle.center
        return np.hypot(x - center_x, y - center_y) - region.circle.radius
    import shapely

    area = _polygon(region)
    known = np.isfinite(x) & np.isfinite(y)
    distance = np.full(x.shape, np.nan)
    points = shapely.points(x[known], y[known])
    shapely.prepare(area)
    to_border = shapely.distance(area.exterior, points)
    distance[known] = np.where(shapely.covers(area, points), -to_border, to_border)
    return distance


def _polygon(region: tuple[Point, ...]) -> Polygon:
    import shapely

    return shapely.Polygon(corners_of(region))
