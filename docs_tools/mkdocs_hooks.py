"""What mkdocs does to a page before it makes HTML of it, so that pages are written once: as GitHub shows them."""

from __future__ import annotations

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    r"""Return the page with ``|`` for each ``\|`` in code in a table: GitHub needs the backslash there, and mkdocs would show it."""
    return re.sub(r"^\|.*$", _bars, markdown, flags=re.MULTILINE)


def _bars(row: re.Match[str]) -> str:
    return re.sub(r"`[^`]*`", lambda code: code[0].replace("\\|", "|"), row[0])
