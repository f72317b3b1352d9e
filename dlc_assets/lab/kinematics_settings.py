"""What a lab wants measured of its poses: from which poses, and what depends on the names of body parts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from dlc_assets.lab.files import content_hash
from dlc_assets.lab.yaml_settings import StrictSettings

# Changes whenever the same poses and settings would give other numbers, so that what was made before is behind.
ALGORITHM = 1


def column_word(name: str) -> str:
    """Return *name* as columns have it: what is neither letter nor digit is ``_``, so that queries need no quotes."""
    return re.sub(r"\W+", "_", name)


def _some_names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ValueError(f"{twice[0]} stands twice")
    return names


def _two_names(value: Any) -> Any:
    if value is None or value == "none":
        return None
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(isinstance(name, str) and name for name in value)
    ):
        raise ValueError("expected two body parts, such as [tailbase, snout]")
    if value[0] == value[1]:
        raise ValueError("expected two different body parts")
    return value


def _pairs_apart(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    seen: set[frozenset[str]] = set()
    for one, other in pairs:
        if frozenset((one, other)) in seen:
            raise ValueError(f"the distance between {one} and {other} stands twice")
        seen.add(frozenset((one, other)))
    return pairs


_Name = Annotated[str, Field(min_length=1)]
BodyParts = Annotated[tuple[_Name, ...], BeforeValidator(_some_names), Field(min_length=1), AfterValidator(_told_apart)]
Pair = Annotated[tuple[_Name, _Name], BeforeValidator(_two_names)]


class KinematicsSettings(StrictSettings):
    """What is measured of poses. Names are those of the model's body parts."""

    source: Annotated[Literal["filtered", "raw"], Field(alias="from")] = "filtered"
    centroid: BodyParts | None = Field(None, description="body parts whose mean position is the centroid; default: all")
    bodyparts: BodyParts | None = Field(None, description="body parts with columns of their own; default: all")
    body_axis: Annotated[tuple[_Name, _Name] | None, BeforeValidator(_two_names)] = Field(
        None, description="from the first to the second body part"
    )
    distances: Annotated[tuple[Pair, ...], AfterValidator(_pairs_apart)] = Field((), description="pairs of body parts")

    @property
    def named(self) -> list[tuple[str, str]]:
        """Every body part that is named, with the key that names it."""
        return [
            *(("centroid", name) for name in self.centroid or ()),
            *(("bodyparts", name) for name in self.bodyparts or ()),
            *(("body_axis", name) for name in self.body_axis or ()),
            *(("distances", name) for pair in self.distances for name in pair),
        ]

    @property
    def hash(self) -> str:
        """What two tables have in common that were measured alike; where the poses come from is not in it."""
        return content_hash({"algorithm": ALGORITHM, **self.model_dump(mode="json", exclude={"source"})})
