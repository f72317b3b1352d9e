"""How labeled videos look, and which part of a recording they show: a block of lab.yaml, each setting of which a run may state itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from dlc_assets.lab.yaml_settings import StrictSettings, parse_settings

SMALLEST_WIDTH = 16  # px; less has no room for a macroblock of H.264


def _even(width: int) -> int:
    if width % 2:
        raise ValueError(
            f"expected an even number of px, such as {width + 1}: H.264 that browsers play has even sides only"
        )
    return width


class LabeledVideoSettings(StrictSettings):
    """Labeled videos: which are made by themselves, of which poses, what is drawn, which part, how fast and how large."""

    auto: bool = Field(
        False, description="whether they are made by themselves of released pose tables; else on command only"
    )
    poses: Literal["raw", "filtered"] = "raw"
    pcutoff: float | None = Field(None, ge=0, le=1, description="None: the model's, and none of filtered poses")
    below_pcutoff: Literal["omitted", "hollow"] = "omitted"
    skeleton: bool = True
    trail: float = Field(0.0, ge=0, le=60, description="s before each frame whose path is drawn")
    point_size: float | None = Field(
        None, gt=0, le=200, description="px: the radius in the labeled video; None: by its size"
    )
    color_by: Literal["bodypart", "individual"] = "bodypart"
    caption: bool = Field(True, description="the frame's number and time, in a corner")
    crop: bool = Field(False, description="whether only the part that the network saw is shown")
    start: float | None = Field(
        None, allow_inf_nan=False, description="the first frame shown, in span_unit; None: the recording's first"
    )
    end: float | None = Field(
        None, allow_inf_nan=False, description="the first frame left out, in span_unit; None: all are shown"
    )
    span_unit: Literal["seconds", "frames"] = Field("seconds", description="seconds are those of the session's clock")
    speed: float = Field(1.0, gt=0, le=1000, allow_inf_nan=False, description="of playback")
    width: Annotated[int, Field(ge=SMALLEST_WIDTH, le=8192), AfterValidator(_even)] | None = Field(
        None, description="px of the labeled video; None: the recording's"
    )

    @field_validator("end")
    @classmethod
    def _after_start(cls, end: float | None, info: ValidationInfo) -> float | None:
        start = info.data.get("start")
        if start is not None and end is not None and start >= end:
            raise ValueError(f"expected an end after the start, which is {start:g}; no frame would be shown")
        return end

    @field_validator("span_unit")
    @classmethod
    def _frames_have_numbers(cls, unit: str, info: ValidationInfo) -> str:
        for name in ("start", "end"):
            value = info.data.get(name)
            if unit == "frames" and value is not None and (value != int(value) or value < 0):
                raise ValueError(f"expected {name} to be the number of a frame, from 0, but it is {value:g}")
        return unit

    def overridden(self, stated: Mapping[str, Any]) -> LabeledVideoSettings:
        """Return these settings with what one run states itself.

        A run that states an end of the span states all of it: lab.yaml's other end may be meant in another unit.

        Raises
        ------
        SettingsError
            A setting that there is not, a value that cannot be, or values that do not go together.
        """
        span = {"start": None, "end": None, "span_unit": "seconds"} if {"start", "end"} & stated.keys() else {}
        return parse_settings(
            {**self.model_dump(), **span, **stated}, LabeledVideoSettings, where="the settings of this labeled video"
        )
