"""lab.yaml: what a lab declares about itself, its subjects, devices, recordings and released models."""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from datetime import date, datetime, time
from email.errors import HeaderParseError
from email.headerregistry import Address
from functools import cached_property
from itertools import combinations
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from dlc_assets.lab.body_part_names import BodyPartNames
from dlc_assets.lab.check_settings import Checks
from dlc_assets.lab.errors import SettingsError, did_you_mean
from dlc_assets.lab.executor_settings import ExecutorSettings
from dlc_assets.lab.filter_settings import DEFAULT_FILTERS, Filters
from dlc_assets.lab.gpu_settings import GpuSetting
from dlc_assets.lab.keys import MODEL_KEY
from dlc_assets.lab.kinematics_settings import KinematicsSettings
from dlc_assets.lab.labeled_video_settings import LabeledVideoSettings
from dlc_assets.lab.regions import Region, told_apart
from dlc_assets.lab.subject_terms import age_term, sex_term, species_term, weight_term
from dlc_assets.lab.time_settings import StartFormat, Timestamps, start_in, start_pattern
from dlc_assets.lab.yaml_settings import UNSHOWN, StrictSettings

TEMPLATE_FIELDS = ("subject", "session", "camera", "recording", "trial", "part", "start")
# What DeepLabCut itself writes beside videos is never a recording. Its scorers' names begin with DLC_ (DeepCut_ before 2.1), and so
# do the ends of `_full`, `_id_labeled`, `_bp_labeled` and `_DLC_3D` videos; those of its model zoo do not, but are labeled or adapted.
OWN_OUTPUTS = ("*_labeled.*", "*_labeled_before_adapt.*", "*_labeled_after_adapt.*", "*DLC_*", "*DeepCut_*")
# The environment variable in which dandi looks for the key of each archive that it knows by name.
KEY_VARIABLES = {"dandi": "DANDI_API_KEY", "dandi-sandbox": "DANDI_SANDBOX_API_KEY"}


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


def composed(text: str) -> str:
    """Return *text* in Unicode's composed form: macOS writes the same name decomposed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


Name = Annotated[str, BeforeValidator(_number_as_text), Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_one_as_list)]
Tags = dict[Name, str | int | float | bool]
# What tells that a file is whole: unchanged for a while, a file beside it, or its name (written under another one first).
FinishedSignal = Literal["quiet", "done_file", "renamed"]


class RecordingTemplate(StrictSettings):
    """Where recordings lie below a root folder, and what the parts of their paths mean."""

    root: Name = "recordings"
    template: Name
    camera: Name | None = Field(None, description="the camera's name where the template has no {camera}")
    ignore: Names = ()
    finished: Annotated[tuple[FinishedSignal, ...], BeforeValidator(_one_as_list), Field(min_length=1)] = ("quiet",)
    follow_links: bool = Field(False, description="whether symbolic links may lead out of the root")
    start_format: StartFormat | None = Field(
        None, description="how {start}, or a time anywhere in the path, is written"
    )
    timestamps: Timestamps | None = Field(None, description="beside each video; session.yaml overrides it")

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

    @model_validator(mode="after")
    def _start_has_a_format(self) -> RecordingTemplate:
        if "{start}" in self.template and self.start_format is None:
            raise ValueError("{start} needs start_format, which says how it is written, such as %Y-%m-%dT%H-%M-%S")
        return self

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Return the template as an expression: a field is as short as can be within a ``/``, and the same wherever it stands."""
        pieces = re.split(r"\{([^}]*)\}", composed(self.template))
        known: set[str] = set()
        expression = re.escape(pieces[0])
        for field, literal in zip(pieces[1::2], pieces[2::2], strict=True):
            means = start_pattern(self.start_format or "") if field == "start" else "[^/]+?"
            expression += f"(?P={field})" if field in known else f"(?P<{field}>{means})"
            expression += re.escape(literal)
            known.add(field)
        return re.compile(expression)

    @cached_property
    def _ignored_names(self) -> re.Pattern[str]:
        return _any_of((*self.ignore, *OWN_OUTPUTS))

    @cached_property
    def _ignored_paths(self) -> re.Pattern[str]:
        return _any_of(self.ignore)

    def start_of(self, relative: str) -> datetime | None:
        """Return when a video began as its path relative to the root says: in {start}, else the last time that is in the path."""
        if self.start_format is None:
            return None
        text = (self.match(relative) or {}).get("start") if "{start}" in self.template else relative
        return None if text is None else start_in(text, self.start_format)

    def match(self, relative: str) -> dict[str, str] | None:
        """Return the fields of a path relative to the root (``/`` between folders), or None if it does not match.

        Names are compared, and given, in Unicode's composed form.
        """
        found = self._pattern.fullmatch(composed(relative))
        if found is None:
            return None
        return {"camera": composed(self.camera), **found.groupdict()} if self.camera else found.groupdict()

    def ignores(self, relative: str) -> bool:
        """Say whether *relative* is ignored: by `ignore`, or because DeepLabCut wrote it."""
        path = composed(relative)
        name = path.rsplit("/", 1)[-1]
        return bool(self._ignored_names.match(name) or (self.ignore and self._ignored_paths.match(path)))


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(composed(pattern)) for pattern in patterns))


class Device(StrictSettings):
    """A camera."""

    description: str = ""
    manufacturer: str = ""
    model: str = ""


Species = Annotated[str, BeforeValidator(species_term)]
Sex = Annotated[Literal["M", "F", "U", "O"], BeforeValidator(sex_term)]


class SubjectDefaults(StrictSettings):
    """What every subject of the lab has that does not state it itself, in DANDI's terms."""

    species: Species | None = None
    sex: Sex = "U"
    strain: str | None = None
    genotype: str | None = None
    description: str | None = None


class Subject(StrictSettings):
    """One animal, in DANDI's terms."""

    species: Species | None = None
    sex: Sex = "U"
    date_of_birth: date | None = None
    age: Annotated[str, BeforeValidator(age_term)] | None = Field(None, description="ISO 8601, in every session")
    weight: Annotated[str, BeforeValidator(weight_term)] | None = None
    strain: str | None = None
    genotype: str | None = None
    description: str | None = None
    tags: Tags = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_says_how_old(self) -> Subject:
        if self.date_of_birth is not None and self.age is not None:
            raise ValueError(
                f"expected date_of_birth or age, not both: the age in each session is computed from date_of_birth. Leave out "
                f"age ({self.age})"
            )
        return self

    def completed(self, defaults: SubjectDefaults) -> Subject:
        """Return this subject with what *defaults* state and it does not."""
        stated = {name: getattr(defaults, name) for name in defaults.model_fields_set - self.model_fields_set}
        return self.model_copy(update=stated)


class BodyPart(StrictSettings):
    """What a body part's name means, and which other names mean the same."""

    description: str = ""
    synonyms: Names = Field((), description="names that models give to the same body part")


def _check_period(first: date | None, until: date | None, else_what: str) -> None:
    if first is not None and until is not None and until < first:
        raise ValueError(f"until ({until}) is before from ({first}): {else_what}")


def _in_period(first: date | None, until: date | None, day: date | None) -> bool:
    """Say whether *day* (None: not known) lies in a period, its first and last day among it."""
    if day is None:
        return first is None and until is None
    return (first is None or day >= first) and (until is None or day <= until)


def _from_before_to(span: tuple[int, int]) -> tuple[int, int]:
    if span[0] >= span[1]:
        raise ValueError("expected [from, to] in px with from before to")
    return span


_Pixel = Annotated[int, Field(ge=0)]
Span = Annotated[tuple[_Pixel, _Pixel], AfterValidator(_from_before_to)]


class CropSettings(StrictSettings):
    """The part of the full upright frame that a network sees, px; from the first column or row to the first one left out.

    A direction that is not stated is seen whole; ``none`` in the place of both is the whole frame.
    """

    x: Span | None = None
    y: Span | None = None

    @model_validator(mode="before")
    @classmethod
    def _none_is_the_whole_frame(cls, value: Any) -> Any:
        if value == "none":
            return {}
        if not isinstance(value, dict | CropSettings):
            raise ValueError("expected {x: [from, to], y: [from, to]} in px, or none for the whole frame")
        return value


class Scale(StrictSettings):
    """How large things are in the picture."""

    px_per_cm: float = Field(gt=0, allow_inf_nan=False)


Regions = Annotated[dict[Name, Region], AfterValidator(told_apart)]


class Setup(StrictSettings):
    """What belongs to a camera over a period; without days, always."""

    first: Annotated[date | None, Field(alias="from")] = None
    until: date | None = None
    crop: CropSettings | None = None
    scale: Scale | None = None
    regions: Regions = Field(default_factory=dict)
    arena: Region | None = Field(None, description="where the animal can be")
    reference: Name | None = Field(
        None, description="a picture (relative to the lab folder) or a session that shows where the camera stood"
    )

    @model_validator(mode="after")
    def _days_in_order(self) -> Setup:
        _check_period(self.first, self.until, "the setup would hold on no day")
        return self

    def covers(self, day: date | None) -> bool:
        """Say whether the setup holds on *day*; on a day that is not known only if it holds always."""
        return _in_period(self.first, self.until, day)

    def overlaps(self, other: Setup) -> bool:
        """Say whether both hold on the same day."""
        return (self.first or date.min) <= (other.until or date.max) and (other.first or date.min) <= (
            self.until or date.max
        )

    @property
    def days(self) -> str:
        """Its period in words."""
        words = [f"{word} {day}" for word, day in (("from", self.first), ("until", self.until)) if day is not None]
        return " ".join(words) or "always"


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
        _check_period(self.first, self.until, "the rule would match nothing")
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
        return _in_period(self.first, self.until, day)


class ParameterSet(StrictSettings):
    """Training parameters that several model specifications share; what a specification states itself wins."""

    description: str = ""
    net_type: Name | None = None
    detector: Name | None = None
    weights: Name | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    pytorch_config: dict[str, Any] = Field(default_factory=dict)


class ReleaseRequirements(StrictSettings):
    """What a model version must show before it is released without ``--force``."""

    max_error: float | None = Field(
        None,
        gt=0,
        description="px: mean error on benchmark frames (validation where there are none), above the p-cutoff",
    )
    min_labels: int | None = Field(None, ge=1, description="labeled frames that it was trained on")


class AutoTrain(StrictSettings):
    """When models whose specification says `auto_train: true` are trained again."""

    quiet_seconds: float = Field(3600.0, ge=0, description="labels must not have changed for so long")


class Retries(StrictSettings):
    """How often what failed through no fault of its own is tried again by itself."""

    times: int = Field(3, ge=0, description="attempts after the first")
    pause_seconds: float = Field(600.0, ge=0, description="before the first of them; doubled each time")


class Analyze(StrictSettings):
    """Which recordings the sensors analyse by themselves."""

    auto: bool = True
    since: date | None = Field(None, description="sessions before this day are analysed on command only")
    settle_seconds: float = Field(30.0, ge=0, description="a file is a recording once it has not grown for so long")
    queued_runs: int = Field(20, ge=1, description="the sensors ask for no more while so many runs wait in the queue")
    retries: Retries = Retries()


class DynamicCropping(StrictSettings):
    """DeepLabCut's dynamic cropping: the network looks only around where the animal was in the frame before."""

    threshold: float = Field(0.5, ge=0, le=1, description="likelihood above which a body part counts as seen")
    margin: int = Field(10, ge=0, description="px around the body parts that were seen")


def none_is_off(value: Any) -> Any:
    """Take ``none``, which says in words that a thing is not wanted, as None."""
    return None if value == "none" else value


class Inference(StrictSettings):
    """How networks are run."""

    precision: Literal["float32", "proven"] = "float32"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    dynamic_cropping: Annotated[DynamicCropping | None, BeforeValidator(none_is_off)] = None

    @model_validator(mode="after")
    def _one_frame_after_the_other(self) -> Inference:
        if self.dynamic_cropping is not None and self.batch_size not in {"auto", 1}:
            raise ValueError(_ONE_BY_ONE.format(self.batch_size))
        return self

    def overridden(
        self,
        *,
        precision: str | None = None,
        batch_size: int | None = None,
        dynamic_cropping: bool | None = None,
    ) -> Inference:
        """Return these settings with what one run states itself (None: nothing).

        Raises
        ------
        SettingsError
            A value that there is not, or dynamic cropping together with a batch size other than 1.
        """
        if precision not in {None, "float32", "proven"}:
            raise SettingsError(f'precision: expected float32 or proven, got "{precision}".')
        if batch_size is not None and batch_size < 1:
            raise SettingsError(f"batch size: expected 1 or more, got {batch_size}.")
        dynamic = self.dynamic_cropping
        if dynamic_cropping is not None:
            dynamic = (dynamic or DynamicCropping()) if dynamic_cropping else None
        size = batch_size or self.batch_size
        if dynamic is not None and size not in {"auto", 1}:
            raise SettingsError(
                f"{_ONE_BY_ONE.format(size)}. State a batch size of 1, or turn dynamic cropping off for this run."
            )
        changes = {"batch_size": size, "dynamic_cropping": dynamic, **({"precision": precision} if precision else {})}
        return self.model_copy(update=changes)


_ONE_BY_ONE = "dynamic cropping takes one frame after the other: expected a batch size of 1 or auto, not {}"


class Review(StrictSettings):
    """What is made of pose tables by itself."""

    auto: bool = Field(True, description="filtered poses, kinematics and quality reports of released pose tables")


class Nwb(StrictSettings):
    """What NWB files hold."""

    videos: Literal["link", "copy", "relative", "leave_out"] = "link"
    filtered: bool = Field(True, description="filtered poses beside the others, where the lab filters poses")
    labeled_videos: bool = Field(
        False, description="the labeled videos that are made of the poses, beside the recordings'"
    )
    training_frames: bool = Field(
        False, description="the frames that people labeled for the model, of the session's own videos"
    )
    experiment_description: str = ""
    keywords: Names = ()


def _mail_address(text: str) -> str:
    try:
        address = Address(addr_spec=text)
    except (ValueError, IndexError, HeaderParseError):  # what the parser makes of the different kinds of nonsense
        address = Address()
    if not address.domain or not re.fullmatch(r"[^@\s]+@[^@\s]+", text):
        raise ValueError("expected one e-mail address such as name@example.org, without a name around it")
    return text


def _time_of_day(value: Any) -> Any:
    if isinstance(value, str) and (found := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value)):
        return time(int(found[1]), int(found[2]))
    if isinstance(value, time):
        return value
    raise ValueError('expected a time of day such as "08:00"')


def _variable_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        return text
    # What stands there may be the secret itself.
    raise PydanticCustomError(
        UNSHOWN,
        "expected the name of an environment variable, in letters, digits and _; the secret itself does not belong in lab.yaml",
    )


VariableName = Annotated[str, AfterValidator(_variable_name)]
MailAddress = Annotated[str, Field(min_length=1), AfterValidator(_mail_address)]


class Mail(StrictSettings):
    """Where mail goes, and through which server. User and password are in environment variables, never in the file."""

    to: Annotated[tuple[MailAddress, ...], BeforeValidator(_one_as_list), Field(min_length=1)]
    sender: Annotated[MailAddress, Field(alias="from")]
    host: Name
    tls: Literal["starttls", "ssl", "none"] = "starttls"
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="587 for starttls, 465 for ssl, 25 for none"
    )
    user_env: VariableName = "DLC_ASSETS_SMTP_USER"
    password_env: VariableName = "DLC_ASSETS_SMTP_PASSWORD"

    @property
    def server_port(self) -> int:
        return self.port if self.port is not None else {"starttls": 587, "ssl": 465, "none": 25}[self.tls]


class Webhook(StrictSettings):
    """A URL that takes messages. Whoever knows it can write there, so it is in an environment variable, never in the file."""

    url_env: VariableName = "DLC_ASSETS_WEBHOOK_URL"
    format: Literal["json", "slack", "discord", "teams"] = "json"


class Notify(StrictSettings):
    """Who is told of what."""

    mail: Mail | None = None
    webhook: Webhook | None = None
    about: Annotated[tuple[Literal["failures", "stopped", "digest"], ...], BeforeValidator(_one_as_list)] = (
        "failures",
        "stopped",
        "digest",
    )
    digest_at: Annotated[time, BeforeValidator(_time_of_day)] = Field(time(8), description="in the lab's time zone")
    stopped_after: float = Field(3600.0, ge=60, description="s without progress while work is under way or waits")

    @model_validator(mode="before")
    @classmethod
    def _on_is_no_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and (True in value or "on" in value):
            raise ValueError("the key is `about`, not `on` (which YAML reads as true)")
        return value


def _dandiset_number(text: str) -> str:
    if not re.fullmatch(r"[0-9]{6}", text):
        raise ValueError('expected the six digits of a dandiset, such as "000123"')
    return text


def _archive_instance(text: str) -> str:
    if text in KEY_VARIABLES:
        return text
    address = urlsplit(text)
    if not re.match(r"https?://", text) or not address.hostname:
        raise ValueError(
            f"expected {', '.join(KEY_VARIABLES)}, or the https address of an archive.{did_you_mean(text, KEY_VARIABLES)}"
        )
    if address.username or address.password:
        raise PydanticCustomError(UNSHOWN, "a user or password does not belong in the address, and not in lab.yaml")
    if address.scheme == "http" and address.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("expected https://: the key would go over the network for all to read")
    return text.rstrip("/")


class Dandi(StrictSettings):
    """Where NWB files are published: a dandiset, and what leaves the lab. The key is in an environment variable, never in the file."""

    dandiset: Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_dandiset_number)]
    instance: Annotated[str, AfterValidator(_archive_instance)] = "dandi"
    key_env: VariableName | None = Field(None, description="of dandi and dandi-sandbox, what dandi itself reads")
    videos: bool = Field(False, description="whether the videos go with their NWB files")
    reencode: Annotated[Literal["h264"] | None, BeforeValidator(none_is_off)] = None
    jobs: int = Field(4, ge=1, le=32, description="files of a session that are uploaded at once")
    name: str = Field("", description="of the dandiset; empty: the lab's")
    description: str = ""
    license: str = "spdx:CC-BY-4.0"

    @model_validator(mode="after")
    def _key_is_known(self) -> Dandi:
        if self.key_env is None and self.instance not in KEY_VARIABLES:
            raise ValueError(
                "key_env is missing: an archive that is named by its address needs the name of the environment variable that "
                "holds its key, such as key_env: ARCHIVE_API_KEY"
            )
        return self

    @property
    def key_variable(self) -> str:
        """The name of the environment variable that holds the key."""
        return self.key_env or KEY_VARIABLES[self.instance]


class LabSettings(StrictSettings):
    """The whole of lab.yaml."""

    name: Name
    institution: str = ""
    timezone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    experimenters: Names = ()
    recordings: tuple[RecordingTemplate, ...] = ()
    expect: Names = Field((), description="cameras that each session waits for")
    expect_timeout: float = Field(3600.0, ge=0, description="seconds after which a session waits for them no longer")
    devices: dict[Name, Device] = Field(default_factory=dict)
    setups: dict[Name, tuple[Setup, ...]] = Field(default_factory=dict)
    subject_defaults: SubjectDefaults = SubjectDefaults()
    subjects: dict[Name, Subject] = Field(default_factory=dict)
    body_parts: dict[Name, BodyPart] = Field(default_factory=dict)
    projects: dict[Name, Name] = Field(default_factory=dict, description="name: path of a DeepLabCut project elsewhere")
    release: tuple[ReleaseRule, ...] = ()
    on_release: Literal["new_sessions", "all"] = Field(
        "new_sessions", description="which sessions a new release analyses: those to come, or past ones again as well"
    )
    release_requirements: ReleaseRequirements = ReleaseRequirements()
    executor: ExecutorSettings = ExecutorSettings()
    parameters: dict[Name, ParameterSet] = Field(default_factory=dict)
    auto_train: AutoTrain = AutoTrain()
    analyze: Analyze = Analyze()
    gpus: GpuSetting = Field(
        "auto",
        description="auto: those that there are, else the CPU; required: no work without one; none; or a list of indices or UUIDs",
    )
    inference: Inference = Inference()
    checks: Checks = Checks()
    review: Review = Review()
    filters: Filters = DEFAULT_FILTERS
    kinematics: KinematicsSettings = KinematicsSettings()
    labeled_video: LabeledVideoSettings = LabeledVideoSettings()
    nwb: Nwb = Nwb()
    dandi: Dandi | None = None
    notify: Notify = Notify()

    @field_validator("body_parts")
    @classmethod
    def _a_name_is_of_one_part(cls, parts: dict[str, BodyPart]) -> dict[str, BodyPart]:
        of: dict[str, str] = {}
        for part, said in parts.items():
            for synonym in said.synonyms:
                if synonym in parts:
                    raise ValueError(
                        f'{part}.synonyms: "{synonym}" is a body part of its own here; expected a name that is described nowhere '
                        "else. Take it out of the synonyms, or leave its own entry out"
                    )
                other = of.setdefault(synonym, part)
                if other != part:
                    raise ValueError(
                        f'"{synonym}" is a synonym of both {other} and {part}; expected each name with one body part. Take it out '
                        "of one of them"
                    )
        return parts

    @field_validator("setups")
    @classmethod
    def _periods_of_a_camera_are_apart(cls, setups: dict[str, tuple[Setup, ...]]) -> dict[str, tuple[Setup, ...]]:
        for device, periods in setups.items():
            for (i, one), (j, other) in combinations(enumerate(periods, start=1), 2):
                if one.overlaps(other):
                    raise ValueError(
                        f"the periods {i} ({one.days}) and {j} ({other.days}) of {device} overlap; a camera has one setup "
                        "on a day. Give the first an `until` before the `from` of the second"
                    )
        return setups

    @model_validator(mode="after")
    def _expected_cameras_are_known(self) -> LabSettings:
        known = {*self.devices, *(entry.camera for entry in self.recordings if entry.camera is not None)}
        for camera in self.expect if self.devices else ():
            if camera not in known:
                raise ValueError(
                    f'expect: there is no camera "{camera}" among devices.{did_you_mean(camera, known)} Sessions would wait '
                    f"for it in vain. Devices: {', '.join(self.devices)}"
                )
        return self

    @cached_property
    def body_part_names(self) -> BodyPartNames:
        """The names of body parts that are united."""
        return BodyPartNames({name: part for part, said in self.body_parts.items() for name in said.synonyms})

    def subject(self, name: str | None) -> Subject:
        """Return what is known of the subject *name*: what it states, and the rest by `subject_defaults`.

        One that lab.yaml does not list, and that of a session which names none (None), has the defaults alone.
        """
        return self.subjects.get(name or "", Subject()).completed(self.subject_defaults)

    @property
    def states_timezone(self) -> bool:
        """Whether lab.yaml says in which zone it is; else UTC is an assumption."""
        return "timezone" in self.model_fields_set

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def complete(self, moment: datetime) -> datetime:
        """Return *moment* with the lab's time zone where it states none."""
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=self.zone)
