"""Which pose tables frames are chosen from: one of each session by the model, and those of others to disagree with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dlc_assets.inference.pose_tables import pose_files
from dlc_assets.lab.errors import NotFoundError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import split_session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.selection import PoseFile
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, read_session_info
from dlc_assets.training.models import find_version
from dlc_assets.training.split import draw

MOST_SESSIONS = 200  # of more, so many are drawn: what hundreds of sessions have in common shows in these
_MOST_OTHERS = 2  # tables that one is compared with
_LISTED = 5


@dataclass(frozen=True, eq=False)
class RecordingPoses:
    """One recording with its poses.

    Attributes
    ----------
    poses
        The pose table of the model.
    others
        Pose tables of the same recording by other versions or models, the newest first.
    """

    session: SessionInfo
    recording: RecordingInfo
    poses: PoseFile
    others: tuple[PoseFile, ...]

    @property
    def subject(self) -> str:
        """The animal, or the session where no animal is named."""
        return self.session.subject or self.session.session

    def __str__(self) -> str:
        return f"{self.session.session}, {self.recording.recording}"


@dataclass(frozen=True)
class Sources:
    """Where frames are chosen from.

    Attributes
    ----------
    content_hash
        Of the poses: other poses may give other frames.
    notes
        Sentences about what a person might not expect.
    problems
        Sentences about sessions that are left out.
    """

    recordings: tuple[RecordingPoses, ...]
    content_hash: str
    notes: tuple[str, ...]
    problems: tuple[str, ...]


def sessions_with_poses(lab: Lab, model: str) -> list[str]:
    """Return the sessions of which *model* has a pose table, of whichever version, sorted."""
    found = lab.layout.poses_of_model(model).glob("version=*/session=*/manifest.json")
    return sorted({path.parent.name.removeprefix("session=") for path in found})


def check_sessions(lab: Lab, model: str, sessions: Sequence[str]) -> list[str]:
    """Return *sessions*, or all that *model* has poses of where none is named.

    Raises
    ------
    NotFoundError
        *model* has no poses of one of them, or none at all.
    """
    known = sessions_with_poses(lab, model)
    if not known:
        raise NotFoundError(
            f"no session has poses by {model} yet, and from these the frames are chosen: run `dlc-assets analyze --model {model}`."
        )
    for session in sessions:
        if session not in known:
            listed = ", ".join(known[:_LISTED]) + (", ..." if len(known) > _LISTED else "")
            raise NotFoundError(
                f'there are no poses of a session "{session}" by {model}.{did_you_mean(session, known)} There are of: {listed}.'
            )
    return sorted(set(sessions)) if sessions else known


def find_sources(lab: Lab, model: str, sessions: Sequence[str], *, seed: int) -> Sources:
    """Return the recordings of *sessions* (none named: all) that frames for *model* are chosen from.

    Of each session it is the table of the model's current version, else its newest one. Of more than `MOST_SESSIONS`, so many are drawn
    by *seed*, equally many of each animal as far as there are.

    Raises
    ------
    NotFoundError
        As `check_sessions`; or the model was never trained; or none of the sessions can be used.
    """
    current = find_version(lab.layout, model)
    known = check_sessions(lab, model, sessions)
    chosen = _drawn(known, seed)
    notes = []
    if len(chosen) < len(known):
        notes.append(f"{len(chosen)} of {len(known)} sessions were drawn to choose from (seed {seed}).")
    recordings: list[RecordingPoses] = []
    problems: list[str] = []
    hashes: dict[str, list[str]] = {}
    older: list[str] = []
    for session in chosen:
        recorded = read_session_info(lab.layout, session)
        if recorded is None:
            problems.append(f"{session} is left out: its recordings are not probed; run `dlc-assets scan`.")
            continue
        tables = _tables(lab, model, current.version, session)
        if tables is None:
            problems.append(f"{session} is left out: the manifest of its pose table cannot be read; analyze it again.")
            continue
        mine, others = tables
        hashes[session] = [manifest.data_version for manifest in (mine, *others)]
        older += [session] if mine.details["version"] != current.version else []
        recordings += _of_session(lab, recorded[0], mine, others, problems)
    if older:
        notes.append(f"The poses of {_some(older)} are by an older version: the current one has none of them.")
    if not recordings:
        raise NotFoundError(f"no session can be used to choose frames for {model}: {' '.join(problems)}")
    return Sources(tuple(recordings), content_hash(hashes), tuple(notes), tuple(problems))


def _drawn(sessions: Sequence[str], seed: int) -> list[str]:
    """Return at most `MOST_SESSIONS` of *sessions*, sorted: in turn one of each animal."""
    if len(sessions) <= MOST_SESSIONS:
        return list(sessions)
    of_subject: dict[str, list[str]] = defaultdict(list)
    for session in sorted(sessions, key=lambda session: draw(seed, session)):
        of_subject[split_session_key(session)[0] or session].append(session)
    turns = [
        (turn, draw(seed, subject), session)
        for subject, members in of_subject.items()
        for turn, session in enumerate(members)
    ]
    return sorted(session for _, _, session in sorted(turns)[:MOST_SESSIONS])


def _tables(lab: Lab, model: str, current: str, session: str) -> tuple[Manifest, list[Manifest]] | None:
    """Return the model's table of *session*, and the newest ones of others; None where it has none that can be read."""
    found = [
        manifest
        for folder in lab.layout.poses.glob(f"model=*/version=*/session={session}")
        if (manifest := read_manifest(folder)) is not None
    ]
    found.sort(key=lambda manifest: (manifest.made, manifest.details["model"], manifest.details["version"]))
    own = [manifest for manifest in found if manifest.details["model"] == model]
    if not own:
        return None
    mine = next((manifest for manifest in own if manifest.details["version"] == current), own[-1])
    others = [manifest for manifest in reversed(found) if manifest is not mine]
    return mine, others[:_MOST_OTHERS]


def _of_session(
    lab: Lab, session: SessionInfo, mine: Manifest, others: Iterable[Manifest], problems: list[str]
) -> list[RecordingPoses]:
    found = []
    there = {recording.recording: recording for recording in session.recordings}
    elsewhere = [file for manifest in others for file in pose_files(lab, manifest)]
    for file in pose_files(lab, mine):
        if file.recording not in there:
            problems.append(f"{file} is left out: the session has no such recording any more.")
            continue
        same = tuple(other for other in elsewhere if other.recording == file.recording and other.path.is_file())
        found.append(RecordingPoses(session, there[file.recording], file, same))
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
