"""What comes from the environment and must never be seen: found in any text, also in the forms that servers and libraries give it."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from urllib.parse import unquote

from dlc_assets.lab.errors import SettingsError

HIDDEN = "***"
_ANY_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_TELLING = 6  # signs; shorter parts of a URL are words such as "v1", of which no one can make anything


def from_environment(variable: str, key: str) -> str:
    """Return the value of an environment variable that lab.yaml names under *key*.

    Raises
    ------
    SettingsError
        It is not set.
    """
    value = os.environ.get(variable, "").strip()
    if not value:
        raise SettingsError(
            f"{key}: the environment variable {variable} is not set. Set it where `dlc-assets dev` and other commands are started, and "
            "start them again; the value itself does not belong in lab.yaml."
        )
    return value


def without_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return *text* with each of *secrets* replaced by ``***``, also where it stands as base64, and without any URL."""
    hidden = _ANY_URL.sub(HIDDEN, text)
    forms = {form for secret in secrets for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):
        hidden = hidden.replace(form, HIDDEN)
    return hidden


def parts_of_url(url: str) -> list[str]:
    """Return a URL (or what should have been one), and what of it must not be seen on its own: its longer parts, user and password."""
    rest = url.partition("://")[2] or url
    place, slash, path = rest.partition("/")
    login = place.rpartition("@")[0].split(":")
    longer = [part for part in (rest, slash + path, *re.split(r"[/?&=;,@:#]", rest)) if len(part) >= _TELLING]
    return [part for part in (url, *login, *longer) if part]


def _forms(secret: str) -> list[str]:
    if not secret:
        return []
    encoded = base64.b64encode(secret.encode()).decode()
    return [secret, encoded, encoded.rstrip("="), unquote(secret)]
