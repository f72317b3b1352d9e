"""What of a session would be published, where in the dandiset, and what speaks against it: told without asking the archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.settings import Dandi
from dlc_assets.nwb.consent import may_leave
from dlc_assets.nwb.export import nwb_files, nwb_inputs, nwb_manifest
from dlc_assets.publishing.nwb_facts import read_nwb_facts
from dlc_assets.publishing.reencoding import is_playable
from dlc_assets.recordings.info import SessionInfo, need_session_info

# What DANDI knows as a video beside an NWB file.
_VIDEO_SUFFIXES = (".mp4", ".avi", ".wmv", ".mov", ".flv", ".mkv")


@dataclass(frozen=True)
class PublicFile:
    """A file to publish: its *path* in the dandiset, and the file of the store (or the link there) that it is or is encoded from."""

    path: PurePosixPath
    source: Path
    kind: Literal["nwb", "video"]
    encode: bool = False

    @property
    def bytes(self) -> int:
        """Its size, of a link what it leads to; 0 where there is nothing."""
        return self.source.stat().st_size if self.source.is_file() else 0


@dataclass
class Selection:
    """What of a session is to be published.

    Attributes
    ----------
    root
        The folder that stands for the dandiset: paths of its files are those below it.
    problems
        Why nothing of it may be published now, in sentences.
    notes
        What a person should know though it keeps nothing back.
    """

    session: str
    cohort: str | None
    root: Path
    nwb: Manifest | None
    files: list[PublicFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def reencoded(self) -> bool:
        return any(file.encode for file in self.files)


def dandi_settings(lab: Lab) -> Dandi:
    """Return where lab.yaml says that NWB files are published.

    Raises
    ------
    SettingsError
        It does not say.
    """
    if lab.settings.dandi is None:
        raise SettingsError(
            f"{lab.layout.settings_file}: there is no `dandi`, which says where to publish, such as dandi: {{instance: dandi-sandbox, "
            'dandiset: "000123"}. Create the dandiset on the archive\'s site first.'
        )
    return lab.settings.dandi


def select(lab: Lab, session_key: str, cohort: Cohort | None = None) -> Selection:
    """Return what of a session is to be published as lab.yaml says, with its released poses or with those of *cohort*.

    Raises
    ------
    SettingsError
        lab.yaml names no dandiset.
    """
    settings = dandi_settings(lab)
    name = None if cohort is None else cohort.name
    root = lab.layout.nwb if cohort is None else lab.layout.cohort_nwb(cohort.name)
    manifest = nwb_manifest(lab, session_key, cohort)
    chosen = Selection(session_key, name, root, manifest)
    export = (
        f"dlc-assets export {session_key}"
        if cohort is None
        else f"dlc-assets export --cohort {cohort.name} {session_key}"
    )
    if manifest is None:
        chosen.problems.append(f"{session_key} has no NWB file{_of(cohort)}: run `{export}` first.")
        return chosen
    try:
        session, _ = need_session_info(lab.layout, session_key)
        if cohort is None and manifest.inputs != nwb_inputs(lab, session_key):
            chosen.problems.append(
                f"{session_key}: its NWB file is not made from what is there now. Run `{export}` and look at it again first."
            )
        for path in nwb_files(lab, manifest):
            _add_nwb(chosen, path, session, settings)
    except (DlcAssetsError, OSError) as error:
        chosen.problems.append(_about(session_key, str(error)))
    blocking = [line for line in manifest.details["findings"] if not line.startswith("suggestion")]
    chosen.problems += [f"{session_key}: {line}" for line in blocking]
    chosen.notes += [_about(session_key, note) for note in manifest.problems]
    return chosen


def _of(cohort: Cohort | None) -> str:
    return "" if cohort is None else f' in the cohort "{cohort.name}"'


def _about(session: str, sentence: str) -> str:
    return sentence if session in sentence else f"{session}: {sentence}"


def _add_nwb(chosen: Selection, path: Path, session: SessionInfo, settings: Dandi) -> None:
    facts = read_nwb_facts(path)
    place = PurePosixPath(path.relative_to(chosen.root).as_posix())
    if (problem := facts.path_problem(place)) is not None:
        chosen.problems.append(problem)
    if facts.videos and not settings.videos:
        chosen.notes.append(
            f"{place} refers to {len(facts.videos)} {'video' if len(facts.videos) == 1 else 'videos'} that will not be in the dandiset "
            "(`videos` under dandi in lab.yaml); DANDI takes it, and readers find no pictures."
        )
    elif facts.videos:
        refused = may_leave(session, facts.species)
        if refused is not None:
            chosen.problems.append(refused)
        else:
            for video in facts.videos:
                _add_video(chosen, path, place, video, settings)
    chosen.files.append(PublicFile(place, path, "nwb"))


def _add_video(chosen: Selection, nwb: Path, place: PurePosixPath, video: PurePosixPath, settings: Dandi) -> None:
    """Add a video that the NWB file at *nwb* refers to as *video*, a path relative to it."""
    source, target = nwb.parent / video, place.parent / video
    if video.is_absolute() or ".." in video.parts:
        chosen.problems.append(
            f"{place} refers to the video {video}, which lies outside of the dandiset. Set nwb.videos in lab.yaml to "
            "link or copy, and export the session again."
        )
        return
    if not source.is_file():
        chosen.problems.append(
            f"{place}: its video {source} is not there (a link whose video is gone?). Bring it back, and export again."
        )
        return
    encode = settings.reencode == "h264" and not is_playable(source)
    if encode:
        target = target.with_suffix(".mp4")
    elif video.suffix.lower() not in _VIDEO_SUFFIXES:
        chosen.problems.append(
            f"{place}: DANDI does not know {video.name} as a video. Set `reencode: h264` under dandi in lab.yaml to publish it as mp4, or "
            "`videos: false`."
        )
        return
    elif video.suffix.lower() != ".mp4" or not is_playable(source):
        chosen.notes.append(
            f"{target} does not play in browsers; `reencode: h264` under dandi in lab.yaml would encode it anew."
        )
    chosen.files.append(PublicFile(target, source, "video", encode))


def need_nwb(chosen: Selection) -> Manifest:
    """Return the manifest of the NWB file that is to be published, or say that there is none."""
    if chosen.nwb is None:
        raise NotFoundError(" ".join(chosen.problems))
    return chosen.nwb
