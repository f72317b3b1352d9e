"""Regions of a camera's picture, as people write them: rectangles, polygons and circles, in px of the full upright frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

from dlc_assets.lab.kinematics_settings import column_word
from dlc_assets.lab.yaml_settings import StrictSettings

Point = tuple[float, float]


class Circle(StrictSettings):
    """A circle, px."""

    center: Point
    radius: float = Field(gt=0)


class CircleRegion(StrictSettings):
    """A region that is a circle."""

    circle: Circle


def _as_written(value: Any) -> Any:
    if isinstance(value, CircleRegion) or (isinstance(value, dict) and set(value) == {"circle"}):
        return value
    if not isinstance(value, list | tuple) or len(value) < 2 or not all(_is_point(point) for point in value):
        raise ValueError(
            "expected [[x0, y0], [x1, y1]] (two corners of a rectangle), three or more such points (a polygon), or "
            "{circle: {center: [x, y], radius: r}}, in px of the full upright frame"
        )
    return value


def _is_point(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
    )


def _with_an_area(region: tuple[Point, ...] | CircleRegion) -> tuple[Point, ...] | CircleRegion:
    if isinstance(region, CircleRegion):
        return region
    corners = corners_of(region)
    if _crosses_itself(corners):
        raise ValueError("the sides of the polygon cross each other: list its corners in order around it")
    if abs(_area(corners)) < 1.0:
        raise ValueError("the region has no area: its points are one, or lie on a line")
    return region


Region = Annotated[
    tuple[Point, ...] | CircleRegion,
    BeforeValidator(_as_written),
    AfterValidator(_with_an_area),
]


RegionsOfSetup = TypeVar("RegionsOfSetup", bound=Mapping[str, Any])


def told_apart(regions: RegionsOfSetup) -> RegionsOfSetup:
    """Return *regions*, whose names become columns, or say which two of them would become one."""
    words: dict[str, str] = {}
    for name in regions:
        other = words.setdefault(column_word(name).casefold(), name)
        if other != name:
            raise ValueError(
                f'the regions "{other}" and "{name}" cannot be told apart in the names of columns, where every sign that is no letter '
                "or digit is _, and case does not count: rename one"
            )
    return regions


def corners_of(region: Sequence[Point]) -> list[Point]:
    """Return the corners of a region that is no circle, px, in order around it: two points are opposite corners of a rectangle."""
    if len(region) == 2:
        (x0, y0), (x1, y1) = region
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    return list(region)


def region_words(region: tuple[Point, ...] | CircleRegion) -> str:
    """Return *region* in one form for each region there is, for hashes and for people."""
    if isinstance(region, CircleRegion):
        (x, y), radius = region.circle.center, region.circle.radius
        return f"circle around ({x:g}, {y:g}), radius {radius:g} px"
    return "polygon " + ", ".join(f"({x:g}, {y:g})" for x, y in corners_of(region)) + " px"


def _area(corners: Sequence[Point]) -> float:
    after = [*corners[1:], corners[0]]
    return 0.5 * sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(corners, after, strict=True))


def _crosses_itself(corners: Sequence[Point]) -> bool:
    count = len(corners)
    sides = [(corners[i], corners[(i + 1) % count]) for i in range(count)]
    return any(
        _cross(*sides[i], *sides[j])
        for i, j in combinations(range(count), 2)
        if j != i + 1 and not (i == 0 and j == count - 1)
    )


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
