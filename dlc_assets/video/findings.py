"""What a person should know of a video before trusting it, told apart by what it is about, so that each check finds its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

About = Literal["decoding", "times", "size", "other"]


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is about frames that do not decode, about their times, about the pictures' size, or else."""

    about: About
    says: str
