"""What an older and a newer model version make of the same sessions: which sessions' poses change most, and where to look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.poses.differences import MOVED_PX, Change, TableChange, compare_tables, merged
from dlc_assets.poses.table_file import read_pose_metadata
from dlc_assets.training.models import ModelVersion, find_version

if TYPE_CHECKING:
    import pandas as pd

ALL = "(all)"
FIGURES = ("changed", "median", "p95", "moved", "gained", "lost", "likely", "positions")


@dataclass
class SessionChange:
    """How the poses of one session differ; `recordings` are those that both versions analysed, `notes` what was left out."""

    session: str
    recordings: dict[str, TableChange] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def total(self) -> Change:
        """Return the change over all recordings and body parts."""
        return merged(change.total() for change in self.recordings.values())

    def bodypart(self, name: str) -> Change:
        """Return the change of one body part over all recordings."""
        return merged(change.bodyparts[name] for change in self.recordings.values() if name in change.bodyparts)


@dataclass
class PoseComparison:
    """The poses of *old* and *new*.

    Attributes
    ----------
    moved_px
        Distance in px beyond which a position counts as moved.
    sessions
        Sessions that both analysed, that whose poses change most first.
    only_old, only_new
        Sessions that one of them analysed alone.
    notes
        What was not compared, and what a reader must know, in sentences.
    """

    old: ModelVersion
    new: ModelVersion
    moved_px: float
    sessions: list[SessionChange]
    only_old: list[str]
    only_new: list[str]
    notes: list[str]

    @property
    def bodyparts(self) -> list[str]:
        """Body parts that were compared."""
        return list(
            dict.fromkeys(p for s in self.sessions for change in s.recordings.values() for p in change.bodyparts)
        )

    def table(self) -> pd.DataFrame:
        """Return the figures, sessions in the order of `sessions`.

        Returns
        -------
        pandas.DataFrame
            ``session``, ``recording``, ``bodypart`` and the figures of `Change.row`: a row for the whole session (``(all)``,
            ``(all)``) and for each of its body parts; where a session has several recordings, the same for each of them.
        """
        import pandas as pd

        rows = []
        for session in self.sessions:
            rows += _rows(session.session, ALL, session.total(), {p: session.bodypart(p) for p in self.bodyparts})
            for name, change in session.recordings.items() if len(session.recordings) > 1 else ():
                rows += _rows(session.session, name, change.total(), change.bodyparts)
        return pd.DataFrame(rows, columns=["session", "recording", "bodypart", *FIGURES])


def _rows(session: str, recording: str, total: Change, parts: dict[str, Change]) -> list[dict[str, Any]]:
    of = {"session": session, "recording": recording}
    return [
        {**of, "bodypart": name, **change.row()} for name, change in {ALL: total, **parts}.items() if change.positions
    ]


def versions_to_compare(lab: Lab, old: str, new: str) -> tuple[ModelVersion, ModelVersion]:
    """Return the versions that *old* and *new* (``model`` for its current one, or ``model@version``) mean.

    Raises
    ------
    NotFoundError
        There is no such model or version.
    SettingsError
        Both are the same version.
    """
    one, other = find_version(lab.layout, old), find_version(lab.layout, new)
    if one == other:
        raise SettingsError(
            f"{old} and {new} are the same version, {one}: expected two. `dlc-assets status` lists the versions; a model without "
            "@VERSION means its current one."
        )
    return one, other


def analysed_sessions(lab: Lab, version: ModelVersion) -> list[str]:
    """Return the sessions that have poses by *version*, sorted."""
    found = lab.layout.poses_of_version(version.model, version.version).glob("session=*/manifest.json")
    return sorted(path.parent.name.removeprefix("session=") for path in found)


def compare_poses(
    lab: Lab,
    old: ModelVersion,
    new: ModelVersion,
    sessions: Sequence[str] | None = None,
    *,
    moved_px: float = MOVED_PX,
    log: Callable[[str], None] = lambda _: None,
) -> PoseComparison:
    """Compare the poses that *old* and *new* made of the same sessions; nothing is estimated here.

    Parameters
    ----------
    sessions
        Session keys; None takes all that both analysed.

    Raises
    ------
    NotFoundError
        No session was analysed by both, or a session of *sessions* by neither.
    SettingsError
        *moved_px* is not positive.
    InputError
        The versions have no body part in common.
    """
    if not moved_px > 0:
        raise SettingsError(
            f"expected a distance of more than 0 px beyond which a position has moved, got {moved_px:g}."
        )
    _check_body_parts(old, new)
    by_old, by_new = analysed_sessions(lab, old), analysed_sessions(lab, new)
    wanted = _wanted(sessions, by_old, by_new, old, new)
    both = [key for key in wanted if key in by_old and key in by_new]
    only_old = [key for key in wanted if key not in by_new]
    only_new = [key for key in wanted if key not in by_old]
    if not both:
        raise NotFoundError(
            f"no session has poses by both {old} and {new}: {len(only_old)} by {old} alone ({_listed(only_old)}), {len(only_new)} "
            f"by {new} alone ({_listed(only_new)}). --analyze estimates those that {new} lacks; what is released stays as it is."
        )
    tables = {key: (_manifest(lab, old, key), _manifest(lab, new, key)) for key in both}
    total = sum(_frames(pair[0]) for pair in tables.values())
    progress = LoggedProgress(log, f"comparing {old} with {new}", "frames", every=5.0)
    compared, done = [], 0

    def report(frames: int) -> None:
        progress(frames, total)

    for key, pair in tables.items():
        compared.append(_compare_session(lab, key, pair, moved_px, _after(report, done)))
        done += _frames(pair[0])
    changes = [change for change in compared if change.recordings]
    changes.sort(key=_rank)
    notes = [*_part_notes(old, new), *(f"{change.session}: {note}" for change in compared for note in change.notes)]
    if not changes:
        raise InputError(f"none of the {len(both)} sessions could be compared: {'; '.join(notes)}.")
    return PoseComparison(old, new, moved_px, changes, only_old, only_new, notes)


def _rank(change: SessionChange) -> tuple[list[float], str]:
    total = change.total()
    figures = total.changed, total.distances.quantile(0.95), total.distances.quantile(0.5)
    return [-value if np.isfinite(value) else 0.0 for value in figures], change.session


def _check_body_parts(old: ModelVersion, new: ModelVersion) -> None:
    """Raise an InputError where the versions have no body part in common."""
    parts = [list(version.card.get("bodyparts", ())) for version in (old, new)]
    if parts[0] and parts[1] and not set(parts[0]) & set(parts[1]):
        raise InputError(
            f"{old} and {new} have no body part in common, so their poses cannot be compared: {', '.join(parts[0])} and "
            f"{', '.join(parts[1])}."
        )


def _part_notes(old: ModelVersion, new: ModelVersion) -> list[str]:
    """Return a sentence for each version that has body parts which the other lacks."""
    notes = []
    for version, other in ((old, new), (new, old)):
        alone = [part for part in version.card.get("bodyparts", ()) if part not in other.card.get("bodyparts", ())]
        if alone:
            notes.append(f"only {version} has {', '.join(alone)}; body parts in common are compared")
    return notes


def _wanted(
    sessions: Sequence[str] | None, by_old: list[str], by_new: list[str], old: ModelVersion, new: ModelVersion
) -> list[str]:
    known = sorted({*by_old, *by_new})
    if sessions is None:
        return known
    for key in sessions:
        if key not in known:
            raise NotFoundError(
                f'"{key}" has no poses by {old} or {new}.{did_you_mean(key, known)} Sessions that have: {_listed(known)}.'
            )
    return list(dict.fromkeys(sessions))


def _listed(keys: Sequence[str]) -> str:
    return ", ".join([*keys[:10], *(["..."] if len(keys) > 10 else [])]) or "none"


def _manifest(lab: Lab, version: ModelVersion, session: str) -> Manifest | None:
    return read_manifest(lab.layout.pose_folder(version.model, version.version, session))


def _frames(manifest: Manifest | None) -> int:
    return 0 if manifest is None else int(manifest.details["frames"])


def _compare_session(
    lab: Lab,
    session: str,
    manifests: tuple[Manifest | None, Manifest | None],
    moved_px: float,
    on_frames: Callable[[int], None],
) -> SessionChange:
    found = SessionChange(session)
    if manifests[0] is None or manifests[1] is None:
        found.notes.append("its poses were removed a moment ago")
        return found
    files = [
        {row["recording"]: _file(lab, manifest, row["recording"]) for row in manifest.details["recordings"]}
        for manifest in manifests
        if manifest is not None
    ]
    for name in files[0].keys() ^ files[1].keys():
        found.notes.append(f"recording {name} was analysed by one version alone")
    done = 0
    for name in (name for name in files[0] if name in files[1]):
        old, new = files[0][name], files[1][name]
        try:
            change = compare_tables(old, new, moved_px=moved_px, on_frames=_after(on_frames, done))
        except (InputError, NotFoundError) as error:
            found.notes.append(f"recording {name} is left out: {error}")
            continue
        done += change.frames
        found.recordings[name] = change
        found.notes += _table_notes(name, change, old, new)
    return found


def _after(on_frames: Callable[[int], None], before: int) -> Callable[[int], None]:
    """Return what takes the frames done of one part of the work, when *before* were done in others."""
    return lambda frames: on_frames(before + frames)


def _file(lab: Lab, manifest: Manifest, recording: str) -> Path:
    details = manifest.details
    return lab.layout.pose_file(details["model"], details["version"], details["session"], recording)


def _table_notes(recording: str, change: TableChange, old: Path, new: Path) -> list[str]:
    notes = []
    if change.only_old_frames or change.only_new_frames:
        notes.append(
            f"recording {recording}: the tables are of different length; the {change.frames} frames in both are compared "
            f"({change.only_old_frames} are in the old one alone, {change.only_new_frames} in the new one)"
        )
    pcutoffs = [read_pose_metadata(path).pcutoff for path in (old, new)]
    if pcutoffs[0] != pcutoffs[1]:
        notes.append(
            f"recording {recording}: the p-cutoffs differ ({pcutoffs[0]} and {pcutoffs[1]}), and so what counts as likely"
        )
    videos = [[file.get("sha256") for file in read_pose_metadata(path).video_files] for path in (old, new)]
    if videos[0] and videos[1] and videos[0] != videos[1]:
        notes.append(f"recording {recording}: the tables were made from different videos")
    total = change.total()
    if not total.likely:
        notes.append(f"recording {recording}: no body part is likely in both tables, so there are no distances")
    return notes
