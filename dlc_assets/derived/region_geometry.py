"""Where points lie relative to a region of the camera's picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.lab.regions import CircleRegion, Point, corners_of

if TYPE_CHECKING:
    from shapely import Polygon

_BLOCK = 1 << 15  # points that are worked on at once: as many as the processor keeps at hand


def contains(region: tuple[Point, ...] | CircleRegion, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Say of each point (px, any shape) whether it lies in *region* or on its border: bool; False where x or y is NaN."""
    return signed_distance(region, x, y) <= 0


def signed_distance(region: tuple[Point, ...] | CircleRegion, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance (px, float64) of each point to the border of *region*: negative inside, NaN where x or y is."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if isinstance(region, CircleRegion):
        center_x, center_y = region.circle.center
        return np.hypot(x - center_x, y - center_y) - region.circle.radius
    found = np.empty(x.shape)
    corners = corners_of(region)
    for block in (slice(start, start + _BLOCK) for start in range(0, x.size, _BLOCK)):
        found.reshape(-1)[block] = _to_polygon(corners, x.reshape(-1)[block], y.reshape(-1)[block])
    return found


def _to_polygon(corners: list[Point], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the signed distances of points, side by side: shapely gives the same, but makes an object of each point."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        along_x, along_y = x1 - x0, y1 - y0
        length = along_x**2 + along_y**2
        if length == 0:
            continue
        from_x, from_y = x - x0, y - y0
        at = np.clip((from_x * along_x + from_y * along_y) / length, 0.0, 1.0)
        np.minimum(nearest, (from_x - at * along_x) ** 2 + (from_y - at * along_y) ** 2, out=nearest)
        if along_y != 0:  # how often the line to the right of a point meets a side: an odd number inside
            inside ^= ((y0 > y) != (y1 > y)) & (from_x < along_x / along_y * from_y)
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def _polygon(region: tuple[Point, ...]) -> Polygon:
    import shapely

    return shapely.Polygon(corners_of(region))


def share_within(region: tuple[Point, ...] | CircleRegion, width: int, height: int) -> float:
    """Return the share of *region*'s area that lies in a picture of *width* by *height* px."""
    import shapely

    area = (
        shapely.Point(region.circle.center).buffer(region.circle.radius)
        if isinstance(region, CircleRegion)
        else _polygon(region)
    )
    return float(area.intersection(shapely.box(0, 0, width, height)).area / area.area)
