"""What a lab takes for odd in poses: the checks of every pose table, with their thresholds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dlc_assets.lab.yaml_settings import StrictSettings


def _no_is_off(value: Any) -> Any:
    """Take YAML's ``off``, which it reads as false, as the word that it is here."""
    return "off" if value is False else value


Severity = Annotated[Literal["warn", "error", "off"], BeforeValidator(_no_is_off)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_PerMinute = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Pair = tuple[str, str]


class _Check(StrictSettings):
    """One check: what it is worth, and its thresholds. A word alone is its severity."""

    severity: Severity = "warn"

    @model_validator(mode="before")
    @classmethod
    def _word_is_severity(cls, value: Any) -> Any:
        return {"severity": value} if isinstance(value, str | bool) else value


class FramesMatch(_Check):
    """The table has every frame of the video, at its time."""

    severity: Severity = "error"


class BodyPartsFound(_Check):
    """Each body part is above the p-cutoff in enough of the frames."""

    max_share_below: _Share = Field(0.5, description="of the frames, of any body part")


class LongAbsences(_Check):
    """Nothing is lost for long."""

    animal: _Positive = Field(0.5, description="s without any body part of an animal above the p-cutoff")
    body_part: _Positive = Field(10.0, description="s without a body part, while others are seen")


class Jumps(_Check):
    """No body part moves faster than an animal can."""

    max_speed: _Positive = Field(25.0, description="body lengths per second")
    max_cm_per_s: _Positive | None = Field(None, description="in its place, where the setup has a scale")
    max_per_minute: _PerMinute = 1.0


class Swaps(_Check):
    """Left and right, or two animals, do not change places from one frame to the next."""

    pairs: Literal["auto"] | tuple[Pair, ...] = Field(
        "auto", description="body parts that can be taken for each other; auto: names that differ in left and right"
    )
    max_per_minute: _PerMinute = 0.5


class LimbLengths(_Check):
    """Body parts that the skeleton joins stay about as far apart as they are."""

    pairs: Literal["skeleton"] | tuple[Pair, ...] = Field(
        "skeleton",
        description="body parts whose distance is looked at; skeleton: those that the model's skeleton joins",
    )
    max_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = Field(2.5, description="of the median length")
    max_share: _Share = Field(0.02, description="of the frames, of any limb")


class Outside(_Check):
    """Points lie in the picture, in what the network saw of it, and in the setup's arena."""

    margin: Annotated[float, Field(ge=0)] = Field(10.0, description="px around the arena and the crop")
    max_share: _Share = Field(0.01, description="of the frames, of any body part")


class Stuck(_Check):
    """No body part stays on its pixel while the animal moves away from it."""

    longest: _Positive = Field(0.5, description="s in one place, within 1 px, while the others move by a body length")


class Drift(_Check):
    """The network is as sure as it was on the labeled frames that it was evaluated on."""

    max_drop: _Share = Field(0.25, description="of the share of points above the p-cutoff, of any body part")


class CameraMoved(_Check):
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
