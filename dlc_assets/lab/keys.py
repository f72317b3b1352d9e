"""Partition keys of sessions and models: the one place that makes and checks them."""

from __future__ import annotations

import re
import unicodedata

from dlc_assets.lab.errors import SettingsError

SESSION_KEY = re.compile(r"(?:sub-([^_]+)_)?ses-([^_]+)")
MODEL_KEY = re.compile(r"[a-z0-9][a-z0-9-]*")
# File systems allow 255 bytes in a name. The longest of a session, <model>__<key>.json while it is written, adds 60 and the model's.
LONGEST_SESSION_KEY = 150
LONGEST_RECORDING_NAME = 120


def check_model_key(name: str) -> str:
    """Return *name* if it can be a model's name, else say what is allowed."""
    if not MODEL_KEY.fullmatch(name):
        raise SettingsError(
            f'"{name}" cannot be a model\'s name: expected lower-case letters, digits and "-", starting with a letter '
            f"or digit (its file models/{name}.yaml gives the name). Rename the file."
        )
    return name


def label_for_archive(source_name: str, what: str) -> str:
    """Return *source_name* as DANDI's file names can carry it: every other character becomes ``-``.

    Letters and digits of any script, ``-`` and ``+`` stay. A path separator is refused: it means that a path, not a
    name, came in.
    """
    text = unicodedata.normalize("NFC", str(source_name)).strip()
    if "/" in text or "\\" in text:
        suggestion = re.sub(r"[/\\]+", "-", text)
        raise SettingsError(
            f'the {what} name "{source_name}" has a slash: expected a name, not a path. Rename it, for example to '
            f'"{suggestion}".'
        )
    label = re.sub(r"-{2,}", "-", "".join(c if c.isalnum() or c in "-+" else "-" for c in text)).strip("-")
    if not label:
        raise SettingsError(f'the {what} name "{source_name}" has no letter or digit: give it a name that has.')
    return label


def session_key(subject: str | None, session: str) -> str:
    """Return ``sub-<subject>_ses-<session>``, or ``ses-<session>`` without a subject.

    Raises
    ------
    SettingsError
        A name that has a slash, or no letter or digit; or names too long for the names of files.
    """
    ses = f"ses-{label_for_archive(session, 'session')}"
    key = ses if subject is None else f"sub-{label_for_archive(subject, 'subject')}_{ses}"
    return _not_too_long(key, LONGEST_SESSION_KEY, "names of subject and session make the session key")


def recording_name(*names: str) -> str:
    """Return the name of a recording from its camera's and, where a camera has several, the trial's or recording's own.

    Raises
    ------
    SettingsError
        As `session_key`.
    """
    name = "_".join(label_for_archive(name, "recording") for name in names)
    return _not_too_long(name, LONGEST_RECORDING_NAME, "names of camera and recording make the recording's name")


def _not_too_long(name: str, most: int, what: str) -> str:
    size = len(name.encode())
    if size > most:
        raise SettingsError(
            f'the {what} "{name[:30]}...{name[-10:]}", of {size} bytes; names of files have room for {most}. Shorten the names.'
        )
    return name


def split_session_key(key: str) -> tuple[str | None, str]:
    """Return (subject label or None, session label) of a session key."""
    match = SESSION_KEY.fullmatch(key)
    if not match:
        raise SettingsError(
            f'"{key}" is no session key: expected "sub-<subject>_ses-<session>" or "ses-<session>". '
            "`dlc-assets status` lists the sessions."
        )
    return match[1], match[2]


def pose_key(model: str, session: str) -> str:
    """Return the key of a pose-estimation task, as Dagster writes a (model, session) multi-partition key."""
    return f"{model}|{session}"


def split_pose_key(key: str) -> tuple[str, str]:
    """Return (model, session) of a pose-estimation task's key."""
    model, _, session = key.partition("|")
    return model, session


def split_session(key: str) -> str:
    """Return the session of a partition key: of a pose-estimation task's, or of a session's own."""
    return key.rpartition("|")[2]


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key under which ``part2`` comes before ``part10``."""
    return tuple(
        (0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.split(r"(\d+)", text) if piece
    )
