"""Which recording a file is: the templates of lab.yaml applied to its path, and what speaks against taking it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dlc_assets.lab.keys import recording_name, session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.settings import RecordingTemplate

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def shown(path: str | Path) -> str:
    """Return *path* on one line that can be printed: control characters and bytes that are no text are spelled out."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode-escape").decode(), str(path))


@dataclass(frozen=True)
class Placed:
    """Whose video a file is, as its path says. Names are in Unicode's composed form."""

    place: int  # of the template in lab.yaml
    session_key: str
    subject: str | None
    session: str
    camera: str
    recording: str
    part: str


@dataclass(frozen=True)
class Root:
    """One entry of `recordings`: where it begins, and the same place without symbolic links."""

    number: int
    template: RecordingTemplate
    path: str
    real: str

    def relative(self, folder: str) -> str | None:
        """Return *folder* relative to the root (``""``, or ending in ``/``), or None where the root does not reach."""
        if folder == self.path:
            return ""
        if not folder.startswith(self.path.rstrip("/") + "/"):
            return None
        relative = folder[len(self.path.rstrip("/")) + 1 :] + "/"
        return None if relative.startswith(".") or "/." in relative else relative

    def allows(self, real: str) -> bool:
        """Say whether what a link leads to, *real*, is the root's: it lies below it, or `follow_links` says so."""
        return self.template.follow_links or is_below(real, self.real)


@dataclass(frozen=True)
class Covering:
    """A root that reaches a folder, and the folder's path below it."""

    root: Root
    relative: str


def is_below(path: str, folder: str) -> bool:
    """Say whether *path* is *folder* or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def roots_of(lab: Lab) -> list[Root]:
    """Return the roots of *lab* in the order of lab.yaml."""
    return [
        Root(number, template, str(path), os.path.realpath(path))
        for number, (template, path) in enumerate(zip(lab.settings.recordings, lab.recording_roots(), strict=True))
    ]


def covering(roots: list[Root], folder: str) -> list[Covering]:
    """Return the roots that reach *folder*."""
    relatives = ((root, root.relative(folder)) for root in roots)
    return [Covering(root, relative) for root, relative in relatives if relative is not None]


def ignoring(covers: list[Covering], name: str) -> Iterator[Root]:
    """Yield the roots whose templates ignore the file *name*."""
    return (cover.root for cover in covers if cover.root.template.ignores(cover.relative + name))


def place_file(covers: list[Covering], name: str) -> Placed | None:
    """Return whose video the file *name* is, by the first template that it fits and that does not ignore it.

    Raises
    ------
    DlcAssetsError
        It fits, but its names cannot be those of a session or a recording.
    """
    for cover in covers:
        relative = cover.relative + name
        template = cover.root.template
        fields = template.match(relative)
        if fields is None or template.ignores(relative):
            continue
        pieces = [fields[field] for field in ("camera", "recording", "trial") if field in fields]
        subject = fields.get("subject")
        return Placed(
            cover.root.number,
            session_key(subject, fields["session"]),
            subject,
            fields["session"],
            fields["camera"],
            recording_name(*pieces),
            fields.get("part", ""),
        )
    return None


def why_not_text(name: str) -> str:
    """Return why *name* cannot be used: it is not valid text; ``""`` where it is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8 text; rename it"
    return ""
