"""What `dlc-assets publish --dry-run` shows: every path, its size, and what speaks against it; the archive is only read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.publishing.archive import Archive, connected, local_asset
from dlc_assets.publishing.publish import is_published, preview_problems, published_manifest
from dlc_assets.publishing.selection import PublicFile, Selection, dandi_settings, select


@dataclass
class Preview:
    """What would be published: a row a file, what keeps sessions back, and what a person should know."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def preview(lab: Lab, sessions: Sequence[str], cohort: Cohort | None, *, replace: bool) -> Preview:
    """Return what publishing *sessions* would do.

    Raises
    ------
    SettingsError
        lab.yaml names no dandiset.
    """
    settings, shown = dandi_settings(lab), Preview()
    name = None if cohort is None else cohort.name
    with ExitStack() as stack:
        archive = None
        try:
            archive = stack.enter_context(connected(settings))
        except DlcAssetsError as error:  # what can be said without the archive is said all the same
            shown.problems.append(str(error))
        for session in sessions:
            chosen = select(lab, session, cohort)
            done = not chosen.problems and is_published(lab, session, name)
            shown.problems += chosen.problems
            shown.notes += chosen.notes
            if not done and not chosen.problems:
                shown.problems += preview_problems(chosen)
            for file in chosen.files:
                state = "published" if done else _state(lab, chosen, file, archive)
                if state == _FOREIGN and not replace:
                    shown.problems.append(
                        f"{file.path}: the dandiset has another file there; --replace takes its place."
                    )
                shown.rows.append({"session": session, "path": str(file.path), "bytes": file.bytes, "state": state})
    return shown


_FOREIGN = "not from this lab"


def _state(lab: Lab, chosen: Selection, file: PublicFile, archive: Archive | None) -> str:
    """Say in a word or two what the dandiset has where *file* is to go."""
    if archive is None:
        return "not known"
    existing = archive.asset_at(str(file.path))
    if existing is None:
        return "new, encoded" if file.encode else "new"
    if not file.encode and existing.digest == local_asset(file.source, chosen.root).get_digest().value:
        return "there already"
    former = published_manifest(lab, chosen.session)
    ours = {asset["path"] for asset in former.details["assets"]} if former is not None else set()
    return "replaced" if str(file.path) in ours else _FOREIGN
