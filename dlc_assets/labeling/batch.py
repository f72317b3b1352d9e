"""A batch of frames to label for one model: chosen, written into the store, and named by the hash of what it was chosen from.

The same poses, pictures and request give the same batch. The lab's project is read, and never written here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError, InputError
from dlc_assets.lab.files import atomic_folder, content_hash, sha256_file, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.labeling.appearance import images_below, small_picture, small_picture_of_file, typical
from dlc_assets.labeling.candidates import SPREAD, Candidate, candidates_of
from dlc_assets.labeling.choosing import Chosen, Seen, choose
from dlc_assets.labeling.contact_sheet import Panel, panel, write_sheet
from dlc_assets.labeling.dlc_folder import (
    LABELED_DATA,
    MACHINE_CSV,
    Pose,
    machine_file_name,
    machine_labels,
    picture_name,
    track_names,
    write_labels,
)
from dlc_assets.labeling.frame_scores import LOW_CONFIDENCE, score_frames
from dlc_assets.labeling.naming import folder_name, shared_stems
from dlc_assets.labeling.sources import RecordingPoses, Sources, find_sources
from dlc_assets.labeling.videos import VideoFile, can_be_read, check_video, files_of, folder_of_labels, pictures_of
from dlc_assets.poses.differences import positions_in
from dlc_assets.poses.table_file import read_pose_metadata
from dlc_assets.recordings.info import read_times
from dlc_assets.training.frozen import frozen_frames, project_of
from dlc_assets.training.labels import image_hash
from dlc_assets.training.models import find_version, read_current
from dlc_assets.training.project import DlcProject, read_project

COUNT, SEED = 20, 1
DECODED_PER_FRAME = 10  # so many candidates are decoded for each frame that is wanted
CONTACT_SHEET, WHY = "contact-sheet.png", "why.csv"
WHY_COLUMNS = {
    "session": "the session's key",
    "recording": "its recording",
    "frame": "counted over all files of the recording",
    "time": "s on the session's clock",
    "score": "how much its poses ask for a label, 0 to 1",
    "unlike": "how unlike it is to the picture of the project that is most like it; empty where the project has none",
    "reasons": "why it was chosen",
    "folder": "below labeled-data",
    "image": "the picture's name, with the frame's number in its video file",
    "video": "the video file",
}
_HOW = "1"  # of the choice: with another number, the same inputs may give other frames
_FEW = 3  # fewer pictures do not show how unlike a recording's frames are
_PARTS_NAMED = 4


@dataclass(frozen=True)
class Request:
    """What a person asks for: how many frames, of which sessions (none named: all), and the seed of what is drawn."""

    count: int = COUNT
    sessions: tuple[str, ...] = ()
    seed: int = SEED

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"count: expected at least 1 frame to label, got {self.count}.")


def current_batch(lab: Lab, model: str) -> Manifest | None:
    """Return the manifest of the batch that was chosen last for *model*, None when there is none."""
    name = read_current(lab.layout.current_batch_file(model))
    return None if name is None else read_manifest(lab.layout.to_label(model) / name)


def batch_folder(lab: Lab, manifest: Manifest) -> Path:
    """Return where a batch lies."""
    return lab.layout.to_label(manifest.key) / manifest.details["batch"]


def batch_inputs(lab: Lab, model: str, request: Request) -> dict[str, str]:
    """Return the hashes that the frames to label next would be chosen from now."""
    return _Choice.of(lab, model, request).inputs(current_batch(lab, model))


def make_batch(
    lab: Lab, model: str, request: Request, *, run_id: str, log: Callable[[str], None]
) -> tuple[Manifest, bool]:
    """Choose frames of *model*'s sessions to be labeled next, and write them into the store as DeepLabCut's labeled-data.

    Pictures that wait in the project with the last batch's machine labels do not count as new there, so that asking again gives the
    same batch until some of them are labeled.

    Returns
    -------
    tuple
        The manifest, and whether the frames were chosen now (False: the batch was there).

    Raises
    ------
    NotFoundError
        The model was never trained, or has no poses of one of the sessions.
    InputError
        No frame is worth labeling, or no video can be read.
    """
    with hold(lab.layout.lock("frames_to_label", model), f"frames to label for {model}", log=log):
        choice = _Choice.of(lab, model, request)
        current = current_batch(lab, model)
        inputs = choice.inputs(current)
        if current is not None and current.inputs == inputs:
            log(f"{model}: the frames chosen last are still those to label next")
            return current, False
        manifest = Manifest(asset="frames_to_label", key=model, inputs=inputs, data_version="", run_id=run_id)
        folder = lab.layout.to_label_batch(model, manifest.input_hash)
        existing = read_manifest(folder)
        if existing is None:
            with atomic_folder(folder) as partial:
                _write(choice, manifest, folder.name, partial, log)
        else:
            manifest = existing
            log(f"{model}: these frames were chosen before; they are used as they are")
        write_text(lab.layout.current_batch_file(model), folder.name + "\n")
        return manifest, existing is None


@dataclass(frozen=True)
class _Choice:
    """What frames are chosen from."""

    lab: Lab
    model: str
    version: str
    project: DlcProject
    sources: Sources
    request: Request

    @classmethod
    def of(cls, lab: Lab, model: str, request: Request) -> _Choice:
        version = find_version(lab.layout, model)
        project = read_project(lab.project_config(model))
        sources = find_sources(lab, model, request.sessions, seed=request.seed)
        return cls(lab, model, version.version, project, sources, request)

    @property
    def labeled_data(self) -> Path:
        return self.project.root / LABELED_DATA

    def inputs(self, current: Manifest | None) -> dict[str, str]:
        """Return the hashes of what is chosen from; as they were for the *current* batch, if only its own pictures came since."""
        pictures = {image_hash(path) for path in images_below(self.labeled_data)}
        now = self._inputs(pictures)
        if current is None or current.inputs == now:
            return now
        own = {row["sha256"] for row in current.details["frames"]}
        without = self._inputs(pictures - own)
        return without if current.inputs == without else now

    def _inputs(self, pictures: Iterable[str]) -> dict[str, str]:
        project, request = self.project, self.request
        labels = sorted(self.labeled_data.glob("*/CollectedData_*")) if self.labeled_data.is_dir() else []
        return {
            "model": self.version,
            "poses": self.sources.content_hash,
            "videos": content_hash(
                [
                    [video.file.path, can_be_read(self.lab, video)]
                    for of in self.sources.recordings
                    for video in files_of(of)
                ]
            ),
            "pictures": content_hash(sorted(pictures)),
            "labels": content_hash([[path.parent.name, path.name, image_hash(path)] for path in labels]),
            "project": content_hash([project.bodyparts, project.individuals, project.unique_bodyparts]),
            "request": content_hash([request.count, sorted(request.sessions), request.seed]),
            "how": _HOW,
        }


@dataclass(frozen=True, eq=False)
class _Picked:
    """A candidate, and the video file that it lies in."""

    candidate: Candidate
    video: VideoFile

    @property
    def frame(self) -> int:
        """The frame's number in its file."""
        return self.candidate.frame - self.video.first


# --- from all frames to a few ---------------------------------------------------------------------


def _write(choice: _Choice, manifest: Manifest, name: str, place: Path, log: Callable[[str], None]) -> None:
    """Choose frames and fill the folder *place* with them; its manifest comes last."""
    problems = list(choice.sources.problems)
    candidates = _candidates(choice, problems, log)
    videos, notes = _usable_videos(choice, candidates, problems)
    candidates = [picked for picked in candidates if picked.video in videos]
    pictures = _small_pictures(choice, candidates, problems, log)
    candidates = [picked for picked in candidates if picked in pictures]
    if not candidates:
        raise InputError(
            f"no frame can be offered for {choice.model}, though {len(choice.sources.recordings)} recordings have poses: "
            + (" ".join([*problems, *notes]) or "none of them has a frame to choose.")
        )
    chosen = choose(_as_seen(candidates, pictures), _known(choice, log), choice.request.count)
    if not chosen.places:
        raise InputError(f"no frame is worth labeling for {choice.model}: {' '.join([*chosen.notes, *notes])}")
    rows, folders = _write_folders(choice, candidates, chosen, videos, place, log)
    write_text(place / WHY, _as_csv(rows))
    manifest.details = {
        "model": choice.model,
        "version": choice.version,
        "project": str(choice.project.config_path),
        "batch": name,
        "count": choice.request.count,
        "seed": choice.request.seed,
        "candidates": len(candidates),
        "frames": rows,
        "folders": folders,
        "notes": [*choice.sources.notes, *notes, *chosen.notes, *_strangers(choice)],
    }
    manifest.data_version = content_hash(
        [[row["session"], row["recording"], row["frame"], row["sha256"]] for row in rows]
    )
    manifest.problems = problems
    for sentence in (*manifest.details["notes"], *problems):
        log(sentence)
    manifest.write(place)


def _candidates(choice: _Choice, problems: list[str], log: Callable[[str], None]) -> list[_Picked]:
    """Return frames to decode, at most `DECODED_PER_FRAME` for each that is wanted: the first of each recording, then the second, ..."""
    most = DECODED_PER_FRAME * choice.request.count
    recordings = choice.sources.recordings
    each = min(most, max(12, -(-2 * most // len(recordings))))
    wanted = -(-choice.request.count // len(recordings))
    progress = LoggedProgress(log, f"{choice.model}: reading poses", "recordings")
    found: list[tuple[int, float, int, Candidate, RecordingPoses]] = []
    for number, source in enumerate(recordings):
        try:
            scores = score_frames(
                source.poses.path,
                [other.path for other in source.others],
                diagonal=float(np.hypot(source.recording.width, source.recording.height)),
            )
            times = read_times(choice.lab.layout, source.session.session, source.recording.recording)
            if (
                len(times) < scores.frame_count
                or sum(f.frame_count for f in source.recording.files) < scores.frame_count
            ):
                raise InputError("its video has fewer frames than its poses; analyze it again")
            best = candidates_of(
                scores, times[: scores.frame_count], each, wanted=wanted, seed=choice.request.seed, name=str(source)
            )
            found += [(rank, -one.score, number, one, source) for rank, one in enumerate(best)]
        except (DlcAssetsError, OSError) as error:
            problems.append(f"{source} is left out: {error}")
        progress(number + 1, len(recordings))
    found.sort(key=lambda entry: entry[:3])
    files = {id(source): files_of(source) for source in recordings}
    return [_Picked(one, _file_with(files[id(source)], one.frame)) for *_, one, source in found[:most]]


def _file_with(files: Sequence[VideoFile], frame: int) -> VideoFile:
    return next(video for video in reversed(files) if video.first <= frame)


def _usable_videos(
    choice: _Choice, candidates: Sequence[_Picked], problems: list[str]
) -> tuple[dict[VideoFile, str | None], list[str]]:
    """Return the videos that frames may come from, each with the folder of the project that has labels of it, if any; and notes."""
    frozen = frozen_frames(choice.lab, project_of(choice.lab, choice.model))
    scoring = frozenset() if frozen is None else frozen.videos
    usable: dict[VideoFile, str | None] = {}
    notes = []
    for video in dict.fromkeys(picked.video for picked in candidates):
        try:
            check_video(choice.lab, video)
            folder = folder_of_labels(choice.lab, video, choice.labeled_data)
        except (DlcAssetsError, OSError) as error:
            problems.append(str(error))
            continue
        if folder in scoring:
            notes.append(
                f"{video} is left out: the benchmark frames in {folder} are of it, and models must not learn from that video."
            )
            continue
        usable[video] = folder
    return usable, notes


def _by_video(candidates: Iterable[_Picked]) -> dict[VideoFile, list[_Picked]]:
    found: dict[VideoFile, list[_Picked]] = {}
    for picked in candidates:
        found.setdefault(picked.video, []).append(picked)
    return found


def _small_pictures(
    choice: _Choice, candidates: Sequence[_Picked], problems: list[str], log: Callable[[str], None]
) -> dict[_Picked, np.ndarray]:
    """Decode the candidates and return what is compared of each; of a video that cannot be read, none."""
    progress = LoggedProgress(log, f"{choice.model}: looking at frames", "frames")
    found: dict[_Picked, np.ndarray] = {}
    for video, members in _by_video(candidates).items():
        of_frame = {picked.frame: picked for picked in members}
        try:
            for frame, picture in pictures_of(choice.lab, video, list(of_frame)):
                found[of_frame[frame]] = small_picture(picture)
                progress(len(found), len(candidates))
        except (DlcAssetsError, OSError) as error:
            problems.append(f"{video}: not all of its frames could be looked at: {error}")
    return found


def _known(choice: _Choice, log: Callable[[str], None]) -> np.ndarray:
    """Return the small pictures (n, pixels) of all that the project has, labeled or waiting for it."""
    paths = images_below(choice.labeled_data)
    progress = LoggedProgress(log, f"{choice.model}: looking at the project's pictures", "pictures")
    found = []
    for number, path in enumerate(paths, start=1):
        picture = small_picture_of_file(path)
        if picture is not None:
            found.append(picture)
        progress(number, len(paths))
    return np.array(found, dtype=np.float32)


def _as_seen(candidates: Sequence[_Picked], pictures: Mapping[_Picked, np.ndarray]) -> list[Seen]:
    of_recording: dict[str, list[_Picked]] = {}
    for picked in candidates:
        of_recording.setdefault(str(picked.video.source), []).append(picked)
    scales = {}
    for name, members in of_recording.items():
        spread = [picked for picked in members if picked.candidate.spread]
        shown = spread if len(spread) >= _FEW else members
        scales[name] = typical([pictures[picked] for picked in shown]) if len(shown) >= _FEW else np.nan
    known = [scale for scale in scales.values() if np.isfinite(scale)]
    # Of recordings with a frame or two, nobody knows how much their frames differ: they are taken to be like the others.
    usual = float(np.median(known)) if known else typical(list(pictures.values()))
    usual = usual if np.isfinite(usual) else 0.0
    return [
        Seen(
            score=picked.candidate.score,
            picture=pictures[picked],
            scale=scales[str(source)] if np.isfinite(scales[str(source)]) else usual,
            session=source.session.session,
            subject=source.subject,
            order=(source.session.session, source.recording.recording, picked.candidate.frame),
            found=picked.candidate.seen,
        )
        for picked in candidates
        for source in [picked.video.source]
    ]


# --- writing --------------------------------------------------------------------------------------


def _write_folders(
    choice: _Choice,
    candidates: Sequence[_Picked],
    chosen: Chosen,
    videos: Mapping[VideoFile, str | None],
    place: Path,
    log: Callable[[str], None],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Write a folder for each video and the contact sheet; return a row for each frame, the best first, and one for each folder."""
    unlike = {candidates[at]: near for at, near in zip(chosen.places, chosen.nearest, strict=True)}
    rank = {picked: number for number, picked in enumerate(unlike)}
    shared = shared_stems(video for source in choice.sources.recordings for video in files_of(source))
    taken = {path.name for path in choice.labeled_data.iterdir()} if choice.labeled_data.is_dir() else set()
    rows: list[tuple[int, dict[str, Any], Panel]] = []
    folders = []
    progress = LoggedProgress(log, f"{choice.model}: writing frames", "frames")
    for video, members in sorted(_by_video(unlike).items(), key=lambda entry: str(entry[0])):
        existing = videos[video]
        folder = existing or folder_name(video, shared, taken)
        taken.add(folder)
        members.sort(key=lambda picked: picked.frame)
        poses, pcutoff, scorer = _poses(video, members)
        target = place / LABELED_DATA / folder
        target.mkdir(parents=True)
        names = [picture_name(picked.frame, video.file.frame_count) for picked in members]
        of_frame = {picked.frame: at for at, picked in enumerate(members)}
        times = read_times(choice.lab.layout, video.source.session.session, video.source.recording.recording)
        for frame, picture in pictures_of(choice.lab, video, list(of_frame)):
            at = of_frame[frame]
            picked, image = members[at], target / names[at]
            _save(image, picture)
            reasons = _reasons(picked.candidate, poses[at], pcutoff)
            row = {
                "session": video.source.session.session,
                "recording": video.source.recording.recording,
                "frame": picked.candidate.frame,
                "time": round(float(times[picked.candidate.frame]), 4),
                "score": round(picked.candidate.score, 4),
                "unlike": round(unlike[picked], 5) if np.isfinite(unlike[picked]) else None,
                "reasons": "; ".join(reasons),
                "folder": folder,
                "image": names[at],
                "video": video.file.path,
                "sha256": sha256_file(image),
            }
            rows.append((rank[picked], row, panel(picture, poses[at], pcutoff, _caption(row, reasons))))
            progress(len(rows), len(unlike))
        labels = machine_labels(choice.project, folder, names, poses, scorer=scorer, pcutoff=pcutoff)
        write_labels(labels, target / machine_file_name(choice.project.iteration), target / MACHINE_CSV)
        folders.append(
            {"folder": folder, "frames": len(members), "video": video.file.path, "beside_labels": existing is not None}
        )
    rows.sort(key=lambda entry: entry[0])
    title = f"{len(rows)} frames to label next for {choice.model}@{choice.version}"
    write_sheet(place / CONTACT_SHEET, [shown for *_, shown in rows], title=title)
    return [row for _, row, _ in rows], folders


def _save(path: Path, picture: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path)


def _poses(video: VideoFile, members: Sequence[_Picked]) -> tuple[list[Pose], float, str]:
    """Return the poses of some frames, the p-cutoff of their table, and DeepLabCut's name for the network."""
    table = video.source.poses.path
    metadata = read_pose_metadata(table)
    found = positions_in(table, [picked.candidate.frame for picked in members])
    poses: list[Pose] = [{track: values[at] for track, values in found.items()} for at in range(len(members))]
    pcutoff = 0.6 if metadata.pcutoff is None else metadata.pcutoff
    return poses, pcutoff, metadata.scorer or f"{metadata.model}_{metadata.version}"


def _strangers(choice: _Choice) -> list[str]:
    """Return a sentence for what the poses have and the project does not, or the other way round."""
    wanted = {part for _, part in track_names(choice.project)}
    known = set(find_version(choice.lab.layout, choice.model).card.get("bodyparts", ()))
    said = []
    if known and (lacking := sorted(wanted - known)):
        said.append(f"The network does not know {', '.join(lacking)}: place them in every frame.")
    if more := sorted(known - wanted):
        said.append(f"The project does not label {', '.join(more)}: left out of the machine labels.")
    return said


def _reasons(candidate: Candidate, pose: Pose, pcutoff: float) -> list[str]:
    """Return why a frame was chosen, the strongest reason first, with the body parts that it is about."""
    if not candidate.seen:
        return ["no body part found"]
    said = []
    for reason in candidate.reasons:
        if reason == SPREAD:
            said.append("another look of the recording")
        elif reason == LOW_CONFIDENCE:
            below = sorted((float(np.nan_to_num(v[2])), track) for track, v in pose.items() if not v[2] >= pcutoff)
            named = [f"{_name(track)} {likelihood:.2f}" for likelihood, track in below[:_PARTS_NAMED]]
            more = f" and {len(below) - _PARTS_NAMED} more" if len(below) > _PARTS_NAMED else ""
            said.append(f"{reason} ({', '.join(named)}{more})" if named else reason)
        else:
            said.append(f"{reason} ({_name(candidate.culprits[reason])})")
    return said


def _name(track: tuple[str, str]) -> str:
    return f"{track[0]} {track[1]}" if track[0] else track[1]


def _caption(row: Mapping[str, Any], reasons: Sequence[str]) -> str:
    lines = [f"{row['session']} {row['recording']}, frame {row['frame']}, score {row['score']:.2f}"]
    return "\n".join([*lines, *(reason if len(reason) <= 58 else reason[:55] + "..." for reason in reasons[:2])])


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(WHY_COLUMNS), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def frames_by_session(manifest: Manifest) -> dict[str, int]:
    """Return how many frames of a batch are of each session."""
    return dict(sorted(Counter(row["session"] for row in manifest.details["frames"]).items()))
