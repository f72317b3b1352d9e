"""Text that may go into a mail: names of recordings are what people and cameras made of them, and may hold anything."""

from __future__ import annotations

import unicodedata

_BREAKS = {"Cc", "Zl", "Zp"}  # control characters, separators of lines and paragraphs


def one_line(text: str, longest: int = 200) -> str:
    """Return *text* as one line of printable characters that UTF-8 can carry, cut where it is longer than *longest*."""
    line = " ".join("".join(_plain(sign, keep="") for sign in _encodable(text)).split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def plain_text(text: str) -> str:
    """Return *text* with its line breaks and tabs, and without any other control character."""
    return "".join(_plain(sign, keep="\n\t") for sign in _encodable(text))


def _plain(sign: str, *, keep: str) -> str:
    return " " if unicodedata.category(sign) in _BREAKS and sign not in keep else sign


def _encodable(text: str) -> str:
    """Replace what a file name that is not UTF-8 leaves in a string (a lone surrogate)."""
    return text.encode("utf-8", "replace").decode("utf-8")


def counted(number: int, one: str, several: str | None = None) -> str:
    """Return ``1 run`` or ``3 runs``."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"
