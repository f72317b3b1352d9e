"""How a lab has its poses filtered: steps by name, in order, each with its parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from dlc_assets.lab.errors import did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.yaml_settings import StrictSettings

# Changes whenever the same steps would give other poses, so that what was filtered before is behind.
ALGORITHM = 1

PCUTOFF = "pcutoff"
# The parameters of each step with their defaults; None: it must be stated.
PARAMETERS: dict[str, dict[str, Any]] = {
    "confidence": {"below": PCUTOFF},
    "jumps": {"max_speed": None},
    "interpolate": {"max_gap": 0.1},
    "median": {"window": 0.1},
    "savgol": {"window": 0.2, "order": 2},
    "arena": {"margin": 0.0},
}
_SPEED = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(px|cm)/s")


def _speed(text: Any) -> str:
    found = _SPEED.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None or float(found[1]) <= 0:
        raise ValueError('expected a speed above 0 with its unit, such as "2000 px/s" or "150 cm/s"')
    return f"{float(found[1]):g} {found[2]}/s"


def _some_names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_Finite = Field(allow_inf_nan=False)
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class FilterStep(StrictSettings):
    """One step. What does not belong to it is None; what does is there, by its default where it is not stated."""

    step: Literal["confidence", "jumps", "interpolate", "median", "savgol", "arena"]
    below: Literal["pcutoff"] | Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="of confidence: likelihood below which a point is removed"
    )
    max_speed: Annotated[str, BeforeValidator(_speed)] | None = Field(
        None, description="of jumps: px/s, or cm/s where the setup has a scale"
    )
    max_gap: Seconds | None = Field(None, description="of interpolate: s between the points around what is missing")
    window: Seconds | None = Field(None, description="of median and savgol: s")
    order: Annotated[int, Field(ge=0, le=5)] | None = Field(None, description="of savgol: of its polynomial")
    margin: Annotated[float, Field(ge=0), _Finite] | None = Field(None, description="of arena: px around it")
    bodyparts: Annotated[tuple[str, ...], BeforeValidator(_some_names), Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        stated = {"step": value} if isinstance(value, str) else value
        if not isinstance(stated, dict):
            return stated
        name = stated.get("step")
        if name is None:
            raise ValueError(f"the key step is missing: it names what is done, one of {', '.join(PARAMETERS)}")
        if name not in PARAMETERS:
            raise ValueError(
                f'there is no step "{name}".{did_you_mean(str(name), PARAMETERS)} Steps: {", ".join(PARAMETERS)}'
            )
        own = PARAMETERS[name]
        foreign = [
            key
            for key in stated
            if key not in {"step", "bodyparts", *own} and any(key in of for of in PARAMETERS.values())
        ]
        if foreign:
            raise ValueError(
                f"the step {name} has no parameter {', '.join(foreign)}; it has {', '.join([*own, 'bodyparts'])}"
            )
        without = [key for key, default in own.items() if default is None and stated.get(key) is None]
        if without:
            raise ValueError(f"the step {name} needs {', '.join(without)}, such as max_speed: 2000 px/s")
        return {**own, **{key: given for key, given in stated.items() if given is not None}}

    @property
    def parameters(self) -> dict[str, Any]:
        """The step's name and all that it works with, as JSON has it."""
        named: dict[str, Any] = {"step": self.step, **{key: getattr(self, key) for key in PARAMETERS[self.step]}}
        return named if self.bodyparts is None else {**named, "bodyparts": list(self.bodyparts)}

    @property
    def words(self) -> str:
        """The step in a few words."""
        said = {
            "confidence": f"confidence below {self.below}",
            "jumps": f"jumps faster than {self.max_speed}",
            "interpolate": f"interpolation up to {self.max_gap} s",
            "median": f"median over {self.window} s",
            "savgol": f"Savitzky-Golay over {self.window} s, order {self.order}",
            "arena": f"outside the arena and {self.margin:g} px around it" if self.margin is not None else "",
        }[self.step]
        return said if self.bodyparts is None else f"{said} ({', '.join(self.bodyparts)})"

    def applies_to(self, bodypart: str) -> bool:
        """Say whether the step is for *bodypart*."""
        return self.bodyparts is None or bodypart in self.bodyparts

    def px_per_s(self, px_per_cm: float | None) -> float | None:
        """Return `max_speed` in px/s; None where it is in cm/s and there is no scale."""
        assert self.max_speed is not None
        number, unit = self.max_speed.split(" ")
        if unit == "px/s":
            return float(number)
        return None if px_per_cm is None else float(number) * px_per_cm

    @property
    def uses_scale(self) -> bool:
        """Whether the step depends on the setup's scale."""
        return self.max_speed is not None and self.max_speed.endswith("cm/s")


Steps = tuple[FilterStep, ...]
DEFAULT_FILTERS: Steps = (FilterStep(step="confidence"), FilterStep(step="interpolate"), FilterStep(step="median"))


def _as_written(value: Any) -> Any:
    if value == "none":
        return None
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("expected a list of steps, such as [{step: confidence}, {step: median, window: 0.1}], or none")
    return value


Filters = Annotated[Steps | None, BeforeValidator(_as_written)]


def steps_from(stated: Sequence[Any]) -> Steps:
    """Return the steps whose `FilterStep.parameters` were kept."""
    return tuple(FilterStep.model_validate(step) for step in stated)


def filters_hash(steps: Steps | None) -> str:
    """Return the hash of *steps*: what two tables that were filtered alike have in common; ``none`` for None."""
    if steps is None:
        return "none"
    return content_hash({"algorithm": ALGORITHM, "steps": [step.parameters for step in steps]})
