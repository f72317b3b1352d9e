"""lab.yaml: what a lab declares about itself, its subjects, devices, recordings and released models."""

from __future__ import annotations

import fnmatch
import re
from datetime import date, datetime
from functools import cached_property
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import parse
from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from dlc_assets.lab.errors import did_you_mean
from dlc_assets.lab.keys import MODEL_KEY
from dlc_assets.lab.yaml_settings import StrictSettings

TEMPLATE_FIELDS = ("subject", "session", "camera", "recording", "trial", "part")
# What DeepLabCut itself writes beside videos is never a recording.
OWN_OUTPUTS = ("*_labeled.*", "*DLC_*", "*DeepCut_*")


def _number_as_text(value: Any) -> Any:
    """Take names such as 17, which YAML reads as numbers, as the text they are."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(
            f"expected a time zone name such as Europe/Zurich.{did_you_mean(name, available_timezones())}"
        ) from None
    return name


Name = Annotated[str, BeforeValidator(_number_as_text), Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_one_as_list)]
Tags = dict[Name, str | int | float | bool]


class RecordingTemplate(StrictSettings):
    """Where recordings lie below a root folder, and what the parts of their paths mean."""

    root: Name = "recordings"
    template: Name
    camera: Name | None = Field(None, description="the camera's name where the template has no {camera}")
    ignore: Names = ()

    @field_validator("template")
    @classmethod
    def _fields_are_known(cls, template: str) -> str:
        fields = re.findall(r"\{([^}]*)\}", template)
        for field in fields:
            if field not in TEMPLATE_FIELDS:
                raise ValueError(
                    f"unknown field {{{field}}}.{did_you_mean(field, TEMPLATE_FIELDS)} Known fields: "
                    + ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
                )
        if "session" not in fields:
            raise ValueError("the field {session} is missing: it says which files belong together")
        if template.startswith("/") or "\\" in template:
            raise ValueError('expected a path relative to root, with "/" between folders')
        return template

    @model_validator(mode="after")
    def _camera_is_known(self) -> RecordingTemplate:
        if ("{camera}" in self.template) == (self.camera is not None):
            raise ValueError("expected either {camera} in the template or a fixed `camera:`, not both or none")
        return self

    @cached_property
    def _parser(self) -> parse.Parser:
        def segment(text: str) -> str:
            return text

        segment.pattern = r"[^/]+?"  # type: ignore[attr-defined]  # how parse takes a custom type
        typed = re.sub(r"\{([^}]*)\}", r"{\1:segment}", self.template)
        return parse.compile(typed, {"segment": segment}, case_sensitive=True)

    def match(self, relative: str) -> dict[str, str] | None:
        """Return the fields of a path relative to the root (``/`` between folders), or None if it does not match."""
        found = self._parser.parse(relative)
        if found is None:
            return None
        return {"camera": self.camera, **found.named} if self.camera else dict(found.named)

    def ignores(self, relative: str) -> bool:
        """Say whether *relative* is ignored: by `ignore`, or because DeepLabCut wrote it."""
        name = relative.rsplit("/", 1)[-1]
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in (*self.ignore, *OWN_OUTPUTS)):
            return True
        return any(fnmatch.fnmatchcase(relative, pattern) for pattern in self.ignore)


class Device(StrictSettings):
    """A camera."""

    description: str = ""
    manufacturer: str = ""
    model: str = ""


class Subject(StrictSettings):
    """One animal, in DANDI's terms."""

    species: str | None = None
    sex: Literal["M", "F", "U", "O"] = "U"
    date_of_birth: date | None = None
    strain: str | None = None
    genotype: str | None = None
    description: str | None = None
    tags: Tags = Field(default_factory=dict)


class BodyPart(StrictSettings):
    """What a body part's name means."""

    description: str = ""


class ReleaseRule(StrictSettings):
    """Which model analyses which recordings; the first rule that matches a recording counts."""

    model: Name
    devices: Names | None = None
    first: Annotated[date | None, Field(alias="from")] = None
    until: date | None = None

    @field_validator("model")
    @classmethod
    def _model_or_version(cls, value: str) -> str:
        name, _, version = value.partition("@")
        if not MODEL_KEY.fullmatch(name) or (version and not re.fullmatch(r"[0-9a-f]{4,12}", version)):
            raise ValueError("expected a model's name, or name@version with the version's hexadecimal digits")
        return value

    @model_validator(mode="after")
    def _days_in_order(self) -> ReleaseRule:
        if self.first is not None and self.until is not None and self.until < self.first:
            raise ValueError(f"until ({self.until}) is before from ({self.first}): the rule would match nothing")
        return self

    @property
    def model_name(self) -> str:
        return self.model.partition("@")[0]

    @property
    def version(self) -> str | None:
        return self.model.partition("@")[2] or None

    def matches(self, device: str, day: date | None) -> bool:
        """Say whether a recording by *device* on *day* (None: not known) falls under this rule."""
        if self.devices is not None and device not in self.devices:
            return False
        if day is None:
            return self.first is None and self.until is None
        return (self.first is None or day >= self.first) and (self.until is None or day <= self.until)


class Analyze(StrictSettings):
    """Which recordings the sensors analyse by themselves."""

    auto: bool = True
    since: date | None = Field(None, description="sessions before this day are analysed on command only")
    settle_seconds: float = Field(30.0, ge=0, description="a file is a recording once it has not grown for so long")


class Inference(StrictSettings):
    """How networks are run."""

    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"


class Nwb(StrictSettings):
    """What NWB files hold."""

    videos: Literal["link", "copy", "leave_out"] = "link"
    experiment_description: str = ""
    keywords: Names = ()


class LabSettings(StrictSettings):
    """The whole of lab.yaml."""

    name: Name
    institution: str = ""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    experimenters: Names = ()
    recordings: tuple[RecordingTemplate, ...] = ()
    devices: dict[Name, Device] = Field(default_factory=dict)
    subjects: dict[Name, Subject] = Field(default_factory=dict)
    body_parts: dict[Name, BodyPart] = Field(default_factory=dict)
    projects: dict[Name, Name] = Field(default_factory=dict, description="name: path of a DeepLabCut project elsewhere")
    release: tuple[ReleaseRule, ...] = ()
    analyze: Analyze = Analyze()
    inference: Inference = Inference()
    nwb: Nwb = Nwb()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def complete(self, time: datetime) -> datetime:
        """Return *time* with the lab's time zone where it states none."""
        return time if time.tzinfo is not None else time.replace(tzinfo=self.zone)
