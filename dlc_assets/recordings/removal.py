"""Taking a session whose videos are gone out of the store, with all that was made of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from dlc_assets.lab.cohorts import cohorts, freezing
from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import is_held
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.lab.trash import TrashEntry, move_to_trash
from dlc_assets.nwb.export import nwb_files
from dlc_assets.recordings.discovery import find_sessions
from dlc_assets.recordings.info import read_session_info


def remove_session(
    lab: Lab, session: str, *, check: Callable[[], None] = lambda: None, log: Callable[[str], None]
) -> TrashEntry:
    """Move everything that the store has of *session*, whose videos are gone, to the trash.

    Parameters
    ----------
    check
        Raises where something else speaks against it; see `trash.move_to_trash`.

    Raises
    ------
    BusyError
        Its videos are there, or cannot be looked for now; a frozen cohort has it; or something is being made of it.
    """

    def check_all() -> None:
        check()
        refuse_while_session_used(lab, session)

    with freezing(lab.layout):  # no cohort takes it in meanwhile
        return move_to_trash(lab.layout, "session", session, files_of_session(lab, session), check=check_all, log=log)


def refuse_while_session_used(lab: Lab, session: str) -> None:
    """Raise a BusyError that says why *session* cannot be removed; see `remove_session`."""
    found = find_sessions(lab, [session]).get(session)
    if found is not None:
        raise BusyError(
            f"the session {session} is kept: its video {found.files[0].path} is there, and the next scan would bring it back. "
            "Move its videos away, or have lab.yaml ignore them, first."
        )
    absent = _absent_root(lab, session)
    if absent is not None:
        raise BusyError(
            f"the session {session} is kept: its videos may lie in the recording root {absent}, which is not there now (an "
            "unmounted disk?). Bring it back, or take it out of lab.yaml, and try again."
        )
    reasons = [
        f'the frozen cohort "{cohort.name}" has it' for cohort in cohorts(lab.layout) if session in cohort.sessions
    ]
    own = [lab.layout.lock(asset, session) for asset in ("session_recordings", "nwb_file", "dandi_asset")]
    if any(is_held(lock) for lock in [*own, *lab.layout.locks_on_poses(session=session)]):
        reasons.append("something is being made of it now")
    if reasons:
        raise BusyError(f"the session {session} is kept, as it is in use: {'; '.join(reasons)}.")


def _absent_root(lab: Lab, session: str) -> Path | None:
    """Return a recording root that is not there and under which videos of *session* may lie."""
    absent = [root for root in lab.recording_roots() if not os.path.isdir(root)]  # noqa: PTH112  (as in discovery)
    known = read_session_info(lab.layout, session)
    if known is None:
        return next(iter(absent), None)
    files = [file.resolve(lab.root) for recording in known[0].recordings for file in recording.files]
    return next((root for root in absent if any(file.is_relative_to(root) for file in files)), None)


def files_of_session(lab: Lab, session: str) -> list[Path]:
    """Return what the store has of *session*, each after what is made from it."""
    layout = lab.layout
    manifest = read_manifest(layout.nwb_manifest(session))
    nwb: list[Path] = [layout.nwb_manifest(session)]
    if manifest is not None:
        for file in nwb_files(lab, manifest):
            nwb += [file, file.with_suffix("")]  # beside the file, a folder of its videos
    return [
        *layout.published_of_session(session),  # what is in an archive stays there
        *sorted((layout.work / "publishing").glob(f"*/*/{session}")),
        *nwb,
        *layout.derived_of(session=session),
        *sorted(layout.poses.glob(f"model=*/version=*/session={session}")),
        *sorted((layout.work / "poses").glob(f"*/*/{session}")),
        *layout.failures_of(session),
        layout.session_recordings(session),
    ]
