"""What a lab takes for odd in poses: the checks of every pose table, with their thresholds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from dlc_assets.lab.yaml_settings import StrictSettings


def _false_is_off(value: Any) -> Any:
    """Take ``off``, which YAML reads as false, for the word that it is."""
    return "off" if value is False else value


Severity = Annotated[Literal["warn", "error", "off"], BeforeValidator(_false_is_off)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PerMinute = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pair = tuple[str, str]


class FramesMatch(StrictSettings):
    """The table has every frame of the video, at its time."""

    severity: Severity = "error"


class BodyPartsFound(StrictSettings):
    """Each body part is above the p-cutoff in enough of the frames."""

    severity: Severity = "warn"
    max_share_below: _Share = Field(0.5, description="of the frames, of any body part")


class LongAbsences(StrictSettings):
    """Nothing is lost for long."""

    severity: Severity = "warn"
    animal: _Positive = Field(0.5, description="s without any body part of an animal above the p-cutoff")
    body_part: _Positive = Field(10.0, description="s without a body part, while others are seen")


class Jumps(StrictSettings):
    """No body part moves faster than an animal can."""

    severity: Severity = "warn"
    max_speed: _Positive = Field(25.0, description="body lengths per second")
    max_per_minute: _PerMinute = 1.0


class Swaps(StrictSettings):
    """Left and right, or two animals, do not change places from one frame to the next."""

    severity: Severity = "warn"
    pairs: Literal["auto"] | tuple[Pair, ...] = Field(
        "auto", description="body parts that can be taken for each other; auto: names that differ in left and right"
    )
    max_per_minute: _PerMinute = 0.5


class LimbLengths(StrictSettings):
    """Body parts that the skeleton joins stay about as far apart as they are."""

    severity: Severity = "warn"
    max_factor: Annotated[float, Field(gt=1)] = Field(2.5, description="of the median length")
    max_share: _Share = Field(0.02, description="of the frames, of any limb")


class Outside(StrictSettings):
    """Points lie in the picture, in what the network saw of it, and in the setup's arena."""

    severity: Severity = "warn"
    margin: Annotated[float, Field(ge=0)] = Field(10.0, description="px around the arena and the crop")
    max_share: _Share = Field(0.01, description="of the frames, of any body part")


class Stuck(StrictSettings):
    """No body part stays on its pixel while the animal moves away from it."""

    severity: Severity = "warn"
    longest: _Positive = Field(0.5, description="s in one place, within 1 px, while the others move by a body length")


class Drift(StrictSettings):
    """The network is as sure as it was on the labeled frames that it was evaluated on."""

    severity: Severity = "warn"
    max_drop: _Share = Field(0.25, description="of the share of points above the p-cutoff, of any body part")


class CameraMoved(StrictSettings):
    """The camera stands where it stood in the setup's reference picture."""

    severity: Severity = "error"
    max_shift: _Positive = Field(5.0, description="px")
    max_rotation: _Positive = Field(1.0, description="degrees")


class Checks(StrictSettings):
    """The checks of pose tables."""

    frames_match: FramesMatch = FramesMatch()
    body_parts_found: BodyPartsFound = BodyPartsFound()
    long_absences: LongAbsences = LongAbsences()
    jumps: Jumps = Jumps()
    swaps: Swaps = Swaps()
    limb_lengths: LimbLengths = LimbLengths()
    outside: Outside = Outside()
    stuck: Stuck = Stuck()
    drift: Drift = Drift()
    camera_moved: CameraMoved = CameraMoved()
