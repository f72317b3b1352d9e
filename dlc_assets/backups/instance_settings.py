"""A Dagster instance's dagster.yaml, as a backup needs it: where the history is, and the file without passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from dlc_assets.lab.errors import EnvironmentProblem

HIDDEN = "***"
_SECRET_KEY = re.compile(r"password|passwd|secret|token|api_?key|credential", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(?P<before>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:)(?P<password>[^\s/@]+)(?=@)")
_EXAMPLE = "password"  # what dagster.yaml's own comments have in the place of one
_OLDER_KEYS = ("run_storage", "event_log_storage", "schedule_storage")


def stored_in(path: Path) -> Literal["files", "elsewhere"]:
    """Return where the instance of the dagster.yaml at *path* keeps the history: in SQLite files beside it, or in a database server.

    Raises
    ------
    EnvironmentProblem
        It is not valid YAML.
    """
    content = _parsed(path, path.read_text(encoding="utf-8"))
    return "elsewhere" if any(key in content for key in ("storage", *_OLDER_KEYS)) else "files"


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise EnvironmentProblem(f"{path}: not valid YAML: {' '.join(str(error).split())}. Correct it.") from None
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{path}: expected keys and values (a YAML mapping).")
    return content


def without_passwords(path: Path) -> tuple[str, list[str]]:
    """Return the text of the dagster.yaml at *path* with ``***`` for each password in it, and the keys that had one.

    A password belongs into the environment (``{env: NAME}``); one that stands in the file all the same must not leave the machine
    with a backup.

    Raises
    ------
    EnvironmentProblem
        It is not valid YAML, so that nobody can say what in it is a password.
    """
    text = path.read_text(encoding="utf-8")
    content = _parsed(path, text)
    found = dict(_secrets(content, ()))
    for secret in sorted(set(found.values()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    if any(secret != HIDDEN for _, secret in _secrets(_parsed(path, text), ())):
        # It is written with escapes, or over several lines: the comments go, the password does as well.
        text = yaml.safe_dump(_hidden(content, ()), sort_keys=False)
    keys = list(found)

    def hide(match: re.Match[str]) -> str:
        if match["password"] in {HIDDEN, _EXAMPLE}:
            return match[0]
        keys.append("a comment")
        return f"{match['before']}{HIDDEN}"

    return _URL_PASSWORD.sub(hide, text), list(dict.fromkeys(keys))


def _secrets(value: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each password in *value*, with the key that it stands under."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _secrets(inner, (*keys, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets(inner, keys)
    elif isinstance(value, str | int) and not isinstance(value, bool):
        text = str(value)
        named = len(keys) > 0 and (_SECRET_KEY.search(keys[-1]) is not None)
        if named and text:
            yield ".".join(keys), text
        elif (match := _URL_PASSWORD.search(text)) is not None:
            yield ".".join(keys), match["password"]


def _hidden(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _hidden(inner, (*keys, str(key))) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(inner, keys) for inner in value]
    for _, secret in _secrets(value, keys):
        return str(value).replace(secret, HIDDEN)
    return value
