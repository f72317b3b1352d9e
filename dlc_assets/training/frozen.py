"""The benchmark frames of a project: set aside once for all its models, in the records, with a copy of each image in the store."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from dlc_assets.lab.files import atomic_path, read_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.records import append_record, read_records
from dlc_assets.training.division import Earlier, Frozen, Renamed
from dlc_assets.training.labels import FrameKey, LabeledImage, image_hash, natural_key
from dlc_assets.training.split import BENCHMARK, GAP, LEARNED_FROM

FRAMES = "frames.json"  # of a training dataset: each labeled frame with its set and labels
PROJECT = "project"  # of a training dataset: the DeepLabCut project that is trained in
HELD_OUT = "held-out"  # of a training dataset: its benchmark images
ASSIGNMENT = "sets"  # the input of training datasets that those of earlier releases lack
VIDEO, BLOCK, FRAME = "video", "block", "frame"
_LISTED = 3


@dataclass(frozen=True)
class LabProject:
    """A DeepLabCut project as the lab's records know it.

    Attributes
    ----------
    name
        As model specifications state it.
    root
        Its folder relative to the lab's, or absolute where it lies elsewhere (POSIX separators).
    folder
        The same as a path.
    """

    name: str
    root: str
    folder: Path

    def is_of(self, record: Mapping[str, Any]) -> bool:
        """Say whether *record* is of this project: two names of one folder are one project, and so is a folder that was moved."""
        return record.get("project") == self.name or record.get("root") == self.root

    def image(self, frame: FrameKey) -> Path:
        """Return where the project has a labeled image."""
        return self.folder / "labeled-data" / frame[0] / frame[1]

    def has_folder(self, folder: str) -> bool:
        """Say whether labeled-data has *folder*."""
        return (self.folder / "labeled-data" / folder).is_dir()


def project_of(lab: Lab, model: str) -> LabProject:
    """Return the project that *model*'s specification names."""
    folder = lab.project_config(model).parent.absolute()
    inside = folder.is_relative_to(lab.root)
    root = folder.relative_to(lab.root) if inside else folder
    return LabProject(lab.specification(model).project, root.as_posix(), folder)


@dataclass(frozen=True)
class FrozenFrame:
    """One benchmark frame.

    Attributes
    ----------
    sha256
        Of the image's bytes (hex).
    by
        "video": its whole video is for scoring; "block": so is what lies in the block around it; "frame": this frame alone.
    """

    sha256: str
    by: str


@dataclass
class FrozenFrames:
    """The benchmark frames that a project has, as they were set aside.

    Attributes
    ----------
    frames
        Folder and image to what is known of them.
    gaps
        Frames beside benchmark blocks, left out of training as well.
    name
        Under which the copies of the images lie in the store.
    since
        When the first were set aside (ISO 8601).
    recorded
        False for those of a dataset of an earlier release, which nothing has recorded yet.
    """

    name: str
    frames: dict[FrameKey, FrozenFrame] = field(default_factory=dict)
    gaps: set[FrameKey] = field(default_factory=set)
    since: str = ""
    recorded: bool = True

    @property
    def videos(self) -> frozenset[str]:
        """Folders that are for scoring as a whole."""
        return frozenset(folder for (folder, _), frame in self.frames.items() if frame.by == VIDEO)

    @property
    def blocks(self) -> frozenset[str]:
        """Folders of which a block is for scoring."""
        return frozenset(folder for (folder, _), frame in self.frames.items() if frame.by == BLOCK)

    def seen_in(self, project: LabProject, images: Sequence[LabeledImage], learned: Collection[FrameKey]) -> Frozen:
        """Return what these say of *images*, by name, and by content where a person renamed an image or a folder.

        A copy of a benchmark image that is still there under its own name is left out, and so is another image under that name.
        *learned* are the frames in train or validation of any dataset (`frames_in`).
        """
        contents = {key: frame.sha256 for key, frame in self.frames.items()}
        renamed = renamed_since(project, contents, images)
        known = set(contents.values())
        left_out = set()
        for image in images:
            recorded_as = renamed.recorded_as(image.key)
            copied = recorded_as not in contents and image_hash(image.path) in known
            if copied or (recorded_as in contents and image_hash(image.path) != contents[recorded_as]):
                left_out.add(image.key)
        there = sum(project.image(key).is_file() for key in self.frames)
        found_again = sum(renamed.recorded_as(image.key) in contents and image.key not in contents for image in images)
        return Frozen(
            videos=self.videos,
            frames=dict.fromkeys(self.gaps, GAP) | dict.fromkeys(self.frames, BENCHMARK),
            cut=self.blocks,
            left_out=frozenset(left_out),
            learned=frozenset(learned),
            total=there + found_again,
            renamed=renamed,
        )

    def problems(self, project: LabProject, known: Frozen, keys: Iterable[FrameKey]) -> list[str]:
        """Return a sentence for what a person did to the images of benchmark frames (*keys*: the frames of the label set)."""
        new_names = [key for key in keys if key not in self.frames and known.renamed.recorded_as(key) in self.frames]
        found_again = {known.renamed.recorded_as(key) for key in new_names}
        gone = [key for key in self.frames if not project.image(key).is_file() and key not in found_again]
        changed = [key for key in self.frames if self.changed(project, key)]
        said = []
        if new_names:
            said.append(f"{_these(new_names)} under new names; they stay benchmark frames.")
        if gone:
            said.append(
                f"{_these(gone)} no longer in {project.folder / 'labeled-data'}: they score only where their labels are left."
            )
        if changed:
            said.append(
                f"{_these(changed)} other images than when they were set aside: they neither score nor train. Put the images back "
                f"(copies: {self.name} under store/benchmarks)."
            )
        return said

    def changed(self, project: LabProject, frame: FrameKey) -> bool:
        """Say whether the project's image of a benchmark frame is another than the one that was set aside."""
        path = project.image(frame)
        return frame in self.frames and path.is_file() and image_hash(path) != self.frames[frame].sha256


def renamed_since(project: LabProject, contents: Mapping[FrameKey, str], images: Sequence[LabeledImage]) -> Renamed:
    """Return which of *images* are recorded under another name (*contents*: recorded frame to sha256).

    They have the content of a recorded frame whose name is no longer there, or is another image's by now. A folder counts as renamed
    where none of its recorded frames is there any more and the new one has an image of it; so do its other images then.
    """
    new = [image for image in images if image.key not in contents]
    lost: dict[str, FrameKey] = {}
    there = set()
    for key, sha256 in contents.items() if new else ():
        path = project.image(key)
        if path.is_file() and sha256 in ("", image_hash(path)):
            there.add(key[0])
        elif sha256:
            lost.setdefault(sha256, key)
    folders: dict[str, str] = {}
    frames: dict[FrameKey, FrameKey] = {}
    recorded = {folder for folder, _ in contents}
    for image in new if lost else ():
        old = lost.get(image_hash(image.path))
        if old is None:
            continue
        frames[image.key] = old
        if image.folder not in recorded and old[0] not in there:
            folders.setdefault(image.folder, old[0])
    return Renamed(folders, frames)


def frozen_frames(lab: Lab, project: LabProject) -> FrozenFrames | None:
    """Return the benchmark frames of *project*, None where it has none.

    Without records these are the ones of its newest dataset that an earlier release made.
    """
    rows = [row for row in read_records(lab.layout, "benchmark_frames") if project.is_of(row)]
    if not rows:
        return _of_earlier_release(lab, project)
    found = FrozenFrames(name=str(rows[0]["project"]), since=str(rows[0].get("at", "")))
    for row in rows:
        for frame in row.get("frames", ()):
            found.frames[frame["folder"], frame["image"]] = FrozenFrame(frame["sha256"], frame["by"])
        found.gaps |= {(folder, image) for folder, image in row.get("gaps", ())}
    return found


def frames_in(sets: Collection[str], lab: Lab, project: LabProject, images: Iterable[LabeledImage]) -> set[FrameKey]:
    """Return the frames that any dataset of *project* has in one of *sets*, and those of *images* that are the same images."""
    known: dict[FrameKey, str] = {}
    for row in read_records(lab.layout, "splits"):
        if project.is_of(row):
            known |= {key: sha256 for key, (name, sha256) in recorded_sets(row).items() if name in sets}
    contents = set(known.values()) - {""}
    found = set(known) | {image.key for image in images if contents and image_hash(image.path) in contents}
    for folder, _ in earlier_datasets(lab.layout, project):
        found |= {key for key, name in sets_of_dataset(folder).items() if name in sets}
    return found


def recorded_sets(row: Mapping[str, Any]) -> dict[FrameKey, tuple[str, str]]:
    """Return each frame of a record of a split with its set and the sha256 of its image (empty where that is not known)."""
    return {
        (folder, image): (name, sha256)
        for name, folders in row["frames"].items()
        for folder, images in folders.items()
        for image, sha256 in images.items()
    }


def freeze(
    lab: Lab,
    project: LabProject,
    known: FrozenFrames | None,
    frames: Mapping[FrameKey, FrozenFrame],
    gaps: Iterable[FrameKey],
    images: Mapping[FrameKey, Path],
) -> None:
    """Record benchmark frames that are not recorded yet (all in one line, so that a crash leaves none or all) and copy the images.

    Parameters
    ----------
    known
        What `frozen_frames` returned; where it is of an earlier release, it is recorded as well.
    frames, gaps
        What is added to it.
    images
        Where the images lie, of frames that are new or have lost their copy.
    """
    recorded = known is not None and known.recorded
    of_before = known.frames if known is not None and not recorded else {}
    gaps_before = known.gaps if known is not None and not recorded else set()
    added = {**of_before, **frames}
    if added:
        append_record(
            lab.layout,
            "benchmark_frames",
            {
                "project": project.name,
                "root": project.root,
                "frames": [
                    {"folder": folder, "image": image, "sha256": frame.sha256, "by": frame.by}
                    for (folder, image), frame in _sorted(added)
                ],
                "gaps": [list(key) for key, _ in _sorted(dict.fromkeys({*gaps_before, *gaps}))],
            },
        )
    every = {**(known.frames if known is not None else {}), **frames}
    name = known.name if known is not None else project.name
    for key, frame in every.items():
        copy = lab.layout.benchmark_image(name, *key)
        source = images.get(key, project.image(key))
        if not copy.is_file() and source.is_file() and image_hash(source) == frame.sha256:
            with atomic_path(copy) as partial:
                shutil.copyfile(source, partial)


def beside_blocks(frames: Mapping[FrameKey, str], folders: Iterable[str]) -> list[FrameKey]:
    """Return the frames of the gaps that lie directly beside the benchmark blocks of *folders* (*frames*: frame to set)."""
    found: list[FrameKey] = []
    for folder in folders:
        members = sorted((key for key in frames if key[0] == folder), key=lambda key: natural_key(key[1]))
        for ordered in (members, members[::-1]):
            inside = False
            for key in ordered:
                inside = frames[key] == BENCHMARK or (inside and frames[key] == GAP)
                if inside and frames[key] == GAP:
                    found.append(key)
    return sorted(set(found))


# --- datasets of earlier releases -----------------------------------------------------------------


def earlier_datasets(layout: LabLayout, project: LabProject) -> list[tuple[Path, Manifest]]:
    """Return the training datasets of *project* that a release without frozen benchmark frames made, oldest first."""
    found = [
        (path.parent, manifest)
        for path in layout.store.glob("datasets/*/*/manifest.json")
        if (manifest := _manifest(path, path.stat().st_mtime_ns)) is not None
        and ASSIGNMENT not in manifest.inputs
        and _is_made_from(manifest, project)
        and (path.parent / FRAMES).is_file()
    ]
    return sorted(found, key=lambda entry: (entry[1].made, entry[0]))


@functools.lru_cache(maxsize=2000)
def _manifest(file: Path, _mtime_ns: int) -> Manifest | None:
    return read_manifest(file)


def _is_made_from(manifest: Manifest, project: LabProject) -> bool:
    """Say whether a dataset was made from *project*, also where the lab or the project was moved or copied since."""
    config = PureWindowsPath(str(manifest.details.get("config_path", "")))  # takes both kinds of separator
    inside = PureWindowsPath(project.root).parts
    if config.parent == PureWindowsPath(project.folder) or config.parent.parts[-len(inside) :] == inside:
        return True
    return config.parent.name == project.folder.name and not Path(config).is_file()


def sets_of_dataset(folder: Path) -> dict[FrameKey, str]:
    """Return each frame of a training dataset with its set."""
    file = folder / FRAMES
    return dict(_sets_of(file, file.stat().st_mtime_ns))


@functools.lru_cache(maxsize=500)
def _sets_of(file: Path, _mtime_ns: int) -> tuple[tuple[FrameKey, str], ...]:
    return tuple(((row["folder"], row["image"]), row["set"]) for row in read_json(file))


def as_earlier(folder: Path, manifest: Manifest) -> Earlier:
    """Return what a dataset of an earlier release decided."""
    frames = sets_of_dataset(folder)
    how = str(manifest.details["split"]["how"])
    if how == "frame":
        return Earlier(how, {}, frames)
    in_folder: dict[str, set[str]] = {}
    for (name, _), to in frames.items():
        in_folder.setdefault(name, set()).add(to)
    videos = {name: next(iter(sets)) for name, sets in in_folder.items() if len(sets) == 1}
    return Earlier(how, videos, frames, frozenset(set(in_folder) - set(videos)))


def _of_earlier_release(lab: Lab, project: LabProject) -> FrozenFrames | None:
    """Return the benchmark set of the newest old dataset that has one, and frames of older ones that no dataset learned from."""
    datasets = earlier_datasets(lab.layout, project)
    learned = {key for folder, _ in datasets for key, name in sets_of_dataset(folder).items() if name in LEARNED_FROM}
    found = FrozenFrames(name=project.name, recorded=False)
    for folder, manifest in reversed(datasets):
        decided = as_earlier(folder, manifest)
        newest = not found.frames
        for key in [key for key, name in decided.frames.items() if name == BENCHMARK]:
            copy = folder / HELD_OUT / key[0] / key[1]
            source = copy if copy.is_file() else project.image(key)
            if source.is_file() and (newest or (key not in found.frames and key not in learned)):
                alone = not newest and key[0] in {name for name, _ in learned}
                found.frames[key] = FrozenFrame(image_hash(source), FRAME if alone else _by(decided, key))
        if newest and found.frames:
            found.gaps |= set(beside_blocks(decided.frames, decided.cut))
            found.since = manifest.made
    return found if found.frames else None


def _by(decided: Earlier, frame: FrameKey) -> str:
    if decided.videos.get(frame[0]) == BENCHMARK:
        return VIDEO
    return BLOCK if frame[0] in decided.cut else FRAME


# --- words ----------------------------------------------------------------------------------------


def _these(keys: Sequence[FrameKey]) -> str:
    names = ["/".join(key) for key in sorted(keys)[:_LISTED]]
    one = len(keys) == 1
    return f"{len(keys)} benchmark frame{'' if one else 's'} ({', '.join(names)}) {'is' if one else 'are'}"


def _sorted(frames: Mapping[FrameKey, Any]) -> Iterator[tuple[FrameKey, Any]]:
    for key in sorted(frames, key=lambda key: (key[0], natural_key(key[1]))):
        yield key, frames[key]
