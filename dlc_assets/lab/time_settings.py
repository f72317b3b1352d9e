"""How a lab says when frames and recordings were: files of time stamps beside its videos, and starts in the videos' names."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from dlc_assets.lab.yaml_settings import StrictSettings

# What each directive of a start_format matches; digits only, so that a time can be found inside a longer name.
_DIRECTIVES = {
    **dict.fromkeys("mdHIMSy", "[0-9]{2}"),
    "Y": "[0-9]{4}",
    "j": "[0-9]{3}",
    "f": "[0-9]{1,6}",
    "p": "[AaPp][Mm]",
    "z": "(?:Z|[+-][0-9]{2}:?[0-9]{2})",
    "%": "%",
}


def start_pattern(start_format: str) -> str:
    """Return the regular expression, without groups, of what *start_format* (as ``datetime.strptime`` takes it) describes."""
    pieces = re.split(r"%(.)", start_format)
    return "".join(_DIRECTIVES[piece] if number % 2 else re.escape(piece) for number, piece in enumerate(pieces))


def _known_directives(start_format: str) -> str:
    directives = re.findall(r"%(.?)", start_format)
    for directive in directives:
        if directive not in _DIRECTIVES:
            raise ValueError(
                f"%{directive} is not known here. Known: {', '.join(f'%{name}' for name in sorted(_DIRECTIVES))}"
            )
    stated = set(directives)
    day = stated & {"Y", "y"} and ({"m", "d"} <= stated or "j" in stated)
    hour = "H" in stated or {"I", "p"} <= stated
    if not day or not hour:
        raise ValueError("expected a whole day and an hour, such as %Y-%m-%dT%H-%M-%S")
    return start_format


StartFormat = Annotated[str, AfterValidator(_known_directives)]


def start_in(name: str, start_format: str) -> datetime | None:
    """Return the last time in *name* that is written in *start_format*; None where there is none, or none that can be (2026-02-31)."""
    pattern = rf"(?<![0-9])(?:{start_pattern(start_format)})(?![0-9])"
    for text in reversed(re.findall(pattern, name)):
        try:
            return datetime.strptime(text, start_format)  # the lab's time zone completes it
        except ValueError:
            continue
    return None


class Timestamps(StrictSettings):
    """A file with the time of each frame of a recording, or with ``{stem}`` in its name one for each of its video files."""

    file: str = Field(min_length=1, description="{stem} in it: the video's name without ending")
    column: int | str | None = Field(None, description="name, or number from 0; may be left out if there is one")
    unit: Literal["s", "ms", "us", "ns"]
    clock: Literal["session", "unix", "device"] = Field(
        "session",
        description="what zero is: the session's start; 1970 in UTC; or the first frame, at the recording's offset",
    )
    frame_column: int | str | None = Field(None, description="the column with each frame's number in the video")
    first_frame_id: int = Field(0, description="number of the video's first frame in that column")
    on_mismatch: Literal["error", "by_frame_id", "truncate_tail"] = "error"

    @field_validator("column", "frame_column", mode="before")
    @classmethod
    def _name_or_number(cls, value: Any) -> Any:
        if isinstance(value, bool) or (isinstance(value, int) and value < 0) or value == "":
            raise ValueError("expected a column's name, or its number from 0")
        return value

    @field_validator("file")
    @classmethod
    def _kind_is_known(cls, file: str) -> str:
        unknown = sorted(set(re.findall(r"\{[^}]*\}", file)) - {"{stem}"})
        if unknown:
            raise ValueError(f"unknown field {unknown[0]}. Known: {{stem}}, the video's name without ending")
        if not file.lower().endswith((".csv", ".npy")):
            raise ValueError("expected a file that ends in .csv or .npy")
        return file

    @model_validator(mode="after")
    def _frames_have_numbers(self) -> Timestamps:
        if self.on_mismatch == "by_frame_id" and self.frame_column is None:
            raise ValueError("on_mismatch: by_frame_id needs frame_column, the column with each frame's number")
        return self
