"""What goes into a session's NWB file, as plain data: describing or hashing it needs no NWB library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.subject_terms import age_term, sex_term, species_term, unknown_to_dandi, weight_term
from dlc_assets.nwb.frame_times import FrameTimes

# Part of every content hash: raise it when the writer lays a file out differently, and files are rewritten.
LAYOUT_VERSION = 2

Sex = Literal["M", "F", "U", "O"]
_EXPERIMENTER = re.compile(r"[\w\s\-.']+,\s+[\w\s\-.']+")


class TrackLike(Protocol):
    """The positions of one body part of one individual over a recording, read block by block.

    `individual` is ``""`` where the model knows one animal only. `blocks` yields, in the order of frames, arrays (3, n) float32 of x, y
    (px, NaN where nothing was detected) and likelihood; it can be called again.
    """

    @property
    def individual(self) -> str: ...
    @property
    def bodypart(self) -> str: ...
    @property
    def frame_count(self) -> int: ...
    def blocks(self) -> Iterator[npt.NDArray[np.float32]]: ...


@dataclass(frozen=True, kw_only=True)
class SubjectDescription:
    """One animal. What is not known stays None (sex: ``U``); `missing_metadata` then names it.

    `age` is an ISO 8601 duration (``P90D``); without it, it follows from `date_of_birth` and the session's
    start. `weight` has a unit: ``24.5 g``.
    """

    subject_id: str
    species: str | None = "Mus musculus"
    sex: Sex = "U"
    date_of_birth: date | None = None
    age: str | None = None
    description: str | None = None
    strain: str | None = None
    genotype: str | None = None
    weight: str | None = None

    def __post_init__(self) -> None:
        where = f'subject "{self.subject_id}"'
        _check_label(self.subject_id, "subject")
        _check_term(self.sex, sex_term, f"{where}: sex")
        _check_term(self.age, age_term, f"{where}: age")
        _check_term(self.weight, weight_term, f"{where}: weight")
        _check_term(self.species, species_term, f"{where}: species")

    def age_at(self, start: datetime) -> str | None:
        """Return the age at *start* as ISO 8601 duration: the stated age, else days since birth, else None.

        Raises
        ------
        InputError
            The session starts before the subject was born.
        """
        if self.age is not None or self.date_of_birth is None:
            return self.age
        days = (start.date() - self.date_of_birth).days
        if days < 0:
            raise InputError(
                f'subject "{self.subject_id}" was born on {self.date_of_birth}, after its session started '
                f"({start.isoformat()}). Correct date_of_birth or the session's start."
            )
        return f"P{days}D"


@dataclass(frozen=True, kw_only=True)
class SessionDescription:
    """One experimental session.

    `identifier` is unique, readable and stable (movement shows it as the individual's name); `start` has a
    time zone; `experimenters` are written ``Last, First``.
    """

    identifier: str
    session_id: str
    start: datetime
    description: str
    experimenters: tuple[str, ...] = ()
    institution: str | None = None
    lab: str | None = None
    keywords: tuple[str, ...] = ()
    experiment_description: str | None = None
    subject: SubjectDescription | None = None

    def __post_init__(self) -> None:
        where = f'session "{self.identifier}"'
        _check_label(self.session_id, "session")
        if not self.identifier.strip() or not self.description.strip():
            raise InputError(f"{where}: identifier and description are empty or blank; NWB needs both.")
        if self.start.utcoffset() is None:
            raise InputError(
                f"{where}: start {self.start.isoformat()} has no time zone; expected one such as "
                f'"{self.start.isoformat()}+02:00".'
            )
        for name in self.experimenters:
            _check_form(name, _EXPERIMENTER, f"{where}: experimenter", '"Last, First"')


@dataclass(frozen=True, kw_only=True)
class DeviceDescription:
    """One camera. `model` needs a `manufacturer`: NWB keeps them together."""

    name: str
    description: str | None = None
    manufacturer: str | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LabeledFrame:
    """A frame of a recording in which a person placed the body parts, and which the model learned from.

    `frame` counts from the recording's first; `xy` is (body parts, 2) float64, px in the full frame, NaN where a part was not placed.
    """

    frame: int
    annotator: str
    bodyparts: tuple[str, ...]
    xy: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LabeledVideo:
    """A video with poses drawn in: its file, the recording's frames that it shows (first, and first left out), and its size in px."""

    file: Path
    first_frame: int
    end_frame: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingPoses:
    """The poses of one recording by one model, with what is needed to say where they come from.

    Several models' poses of one recording are several of these, of the same `recording`, files and times.

    Parameters
    ----------
    video_files, part_frame_counts
        The recording's files in order and the frames counted in each.
    width, height
        Of the full upright frame, px.
    times
        An array (frames,) float64, or `FrameTimes`: s on the session's clock (0 is the session's start), strictly increasing.
    rate
        Frames per second, or None when irregular. `times` decide: a rate that does not give them back within 1 ns is not used.
    tracks
        One per individual and body part.
    identified
        The individual that is stated to be the file's subject. None where the file is of a group whose animals were not told apart, or
        where the model knows one animal only.
    model
        Tells the models of one recording apart.
    skeleton
        Edges as pairs of body part names.
    crop
        (x1, x2, y1, y2) in px if the network saw only that part; positions are in the full frame regardless.
    filters
        What was done to the poses after they were estimated, in words; empty where they are as the network gave them. The filtered
        poses of a recording stand beside the others, with their likelihoods.
    labeled_frames
        Frames of this recording that the model learned from.
    labeled_video
        A video of the poses drawn onto the recording, None where there is none.
    data_version
        The hash of the table that tracks and times come from, where it is known: they are then not read to tell one file from another.
    provenance
        Anything JSON can hold (model, version, video hashes, settings); `read_provenance` gives it back. What stands under ``runs`` says
        who made it, and decides nothing.
    """

    recording: str
    device: DeviceDescription
    video_files: tuple[Path, ...]
    part_frame_counts: tuple[int, ...]
    width: int
    height: int
    times: npt.NDArray[np.float64] | FrameTimes
    rate: Fraction | None
    tracks: Sequence[TrackLike]
    scorer: str
    model: str = ""
    identified: str | None = None
    source_software: str = "DeepLabCut"
    software_version: str | None = None
    skeleton: tuple[tuple[str, str], ...] = ()
    confidence_definition: str | None = None
    crop: tuple[int, int, int, int] | None = None
    filters: str = ""
    labeled_frames: Sequence[LabeledFrame] = ()
    labeled_video: LabeledVideo | None = None
    data_version: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The recording and, where it is told apart by it, the model, as messages name them."""
        of_model = f', model "{self.model}"' if self.model else ""
        return f'recording "{self.recording}"{of_model}' + (", filtered" if self.filters else "")

    @property
    def individuals(self) -> list[str]:
        """The names of the individuals, in the order of their tracks."""
        return list(dict.fromkeys(track.individual for track in self.tracks))

    def of(self, individual: str) -> list[TrackLike]:
        """Return the tracks of *individual*."""
        return [track for track in self.tracks if track.individual == individual]


# What a file's name says of its content, by the modules of pynwb that its objects come from, as DANDI's tools derive it.
MODALITIES = ("behavior", "ecephys", "icephys", "image", "ogen", "ophys", "retinotopy")


def nwb_relative_path(
    subject_id: str | None, session_id: str, *, with_video: bool, others: Iterable[str] = ()
) -> PurePosixPath:
    """Return where a session's file lies in a dandiset, e.g. ``sub-m01/sub-m01_ses-1_behavior+image.nwb``.

    Without a subject, ``ses-1_behavior+image.nwb`` (no archive takes that; the lab can still use it).

    Parameters
    ----------
    others
        What else is in the file, of `MODALITIES`: ``ecephys`` of a session that was recorded with electrodes, too.

    Raises
    ------
    InputError
        A label has characters that DANDI's file names cannot carry.
    """
    _check_label(session_id, "session")
    held = {"behavior", *(["image"] if with_video else []), *others}
    name = f"ses-{session_id}_{'+'.join(sorted(held))}.nwb"
    if subject_id is None:
        return PurePosixPath(name)
    _check_label(subject_id, "subject")
    return PurePosixPath(f"sub-{subject_id}") / f"sub-{subject_id}_{name}"


def missing_metadata(session: SessionDescription) -> list[str]:
    """Name what archives will ask for and the session does not have, required things first."""
    subject = session.subject
    asked: list[tuple[str, object]] = [("subject: DANDI requires one", subject)]
    if subject is not None:
        sex = None if subject.sex == "U" else subject.sex
        instead = unknown_to_dandi(subject.species) if subject.species is not None else None
        asked += [
            ("subject.species: Latin name, such as Mus musculus (DANDI requires it)", subject.species),
            (f"subject.species as {instead} (DANDI does not know {subject.species})", instead is None),
            (
                "subject.date_of_birth or subject.age (DANDI requires one)",
                subject.date_of_birth or subject.age,
            ),
            ("subject.sex: M, F or O; it is written as U (unknown) now", sex),
            ("subject.description", subject.description),
        ]
    asked += [
        ('experimenters, as "Last, First"', session.experimenters),
        ("institution", session.institution),
        ("lab", session.lab),
        ("keywords", session.keywords),
        ("experiment_description", session.experiment_description),
    ]
    return [name for name, value in asked if not value]


def nwb_content_hash(session: SessionDescription, recordings: Sequence[RecordingPoses]) -> str:
    """Return the hash (hex) of everything that decides a file's content.

    Two files of one hash hold the same data; their bytes differ, since NWB puts new object ids and dates into
    each. Videos count by file name and frames: put their content hashes into `provenance`, and a file is
    behind when one changes. Folders do not count, so that a lab can move; neither does the run that made the poses.
    """
    return content_hash(
        {
            "layout": LAYOUT_VERSION,
            "session": _field_values(session),
            "recordings": [_hashable_recording(recording) for recording in recordings],
        }
    )


def _hashable_recording(recording: RecordingPoses) -> dict[str, Any]:
    values = _field_values(recording)
    values["provenance"] = {name: value for name, value in recording.provenance.items() if name != "runs"}
    values["video_files"] = [path.name for path in recording.video_files]
    values["labeled_frames"] = [
        [labeled.frame, labeled.annotator, labeled.bodyparts, _digest([labeled.xy], "<f8")]
        for labeled in recording.labeled_frames
    ]
    values["labeled_video"] = recording.labeled_video.file.name if recording.labeled_video is not None else None
    values["times"], values["tracks"] = None, [[track.individual, track.bodypart] for track in recording.tracks]
    if not recording.data_version:
        values["times"] = _digest(FrameTimes.of(recording.times).blocks(), "<f8")
        values["tracks"] = [
            [track.individual, track.bodypart, *_digests_of_rows(track.blocks())] for track in recording.tracks
        ]
    return values


def _digest(blocks: Iterable[npt.NDArray[Any]], dtype: str) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(np.ascontiguousarray(block, dtype=dtype).data)
    return digest.hexdigest()


def _digests_of_rows(blocks: Iterable[npt.NDArray[np.float32]]) -> list[str]:
    """Return the digests of x, y and likelihood, whatever blocks they come in."""
    digests = [hashlib.sha256() for _ in range(3)]
    for block in blocks:
        for digest, row in zip(digests, block, strict=True):
            digest.update(np.ascontiguousarray(row, dtype="<f4").data)
    return [digest.hexdigest() for digest in digests]


def _field_values(described: Any) -> dict[str, Any]:
    """Return a description's fields by name, nested ones likewise (`asdict` would copy every array)."""
    values = {f.name: getattr(described, f.name) for f in fields(described)}
    nested = SubjectDescription | DeviceDescription
    return {name: _field_values(v) if isinstance(v, nested) else v for name, v in values.items()}


def _check_label(label: str, what: str) -> None:
    allowed = label_for_archive(label, what)
    if allowed != label:
        raise InputError(f'{what} label "{label}" is not one that DANDI\'s file names can carry; "{allowed}" would do.')


def _check_term(text: str | None, check: Callable[[Any], str], where: str) -> None:
    try:
        if text is not None:
            check(text)
    except ValueError as error:
        raise InputError(f'{where} is "{text}"; {error}.') from None


def _check_form(text: str | None, form: re.Pattern[str], where: str, expected: str) -> None:
    if text is not None and not form.fullmatch(text):
        raise InputError(f'{where} is "{text}"; expected {expected}.')
