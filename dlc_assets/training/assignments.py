"""Which labeled frame is in which set, for ever: what earlier datasets decided is read from the records, and new decisions are added.

`planned_split` only reads, so that everybody can ask what a dataset would be made from now; `keep_split` records it. What was
recorded gives the same plan again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.records import append_record, read_records
from dlc_assets.lab.specification import SplitSettings
from dlc_assets.training.division import Division, Earlier, Frozen, divide
from dlc_assets.training.frozen import (
    BLOCK,
    FRAME,
    VIDEO,
    FrozenFrame,
    FrozenFrames,
    LabProject,
    as_earlier,
    beside_blocks,
    earlier_datasets,
    frames_in,
    freeze,
    frozen_frames,
    project_of,
    recorded_sets,
    renamed_since,
)
from dlc_assets.training.labels import FrameKey, LabeledImage, LabelSet, image_hash
from dlc_assets.training.split import BENCHMARK, GAP, LEARNED_FROM, Split

_SHARED = ""  # the owner of a division that all models with the same split settings share


@dataclass(frozen=True)
class PlannedSplit:
    """The split that a dataset made now would have.

    Attributes
    ----------
    project
        Whose frames they are.
    split
        Of the label set's images.
    problems
        Sentences about benchmark frames that were renamed, changed or lost.
    """

    project: LabProject
    labels: LabelSet
    split: Split
    problems: list[str]
    _owner: str
    _key: str
    _settings: SplitSettings
    _division: Division
    _decided: Earlier  # before, by records or by a dataset of an earlier release
    _recorded: bool  # whether the records have that already
    _frozen: FrozenFrames | None
    _known: Frozen

    @property
    def learned_from(self) -> list[LabeledImage]:
        """The images in train and validation: what the training dataset is made from."""
        indices = sorted(index for name in LEARNED_FROM for index in self.split.sets[name])
        return [self.labels.images[index] for index in indices]

    @property
    def assignment(self) -> list[tuple[str, str, str]]:
        """Folder, image and set of each of these."""
        return [(*image.key, self._division.frames[image.key]) for image in self.learned_from]


def split_hash(settings: SplitSettings) -> str:
    """Return the hash that names a way to split, as training datasets state it."""
    return content_hash(settings.model_dump())


def planned_split(lab: Lab, model: str, labels: LabelSet, *, divided_before: bool) -> PlannedSplit:
    """Return the split of *labels* by *model*'s specification, every frame that was divided before in its set.

    Parameters
    ----------
    divided_before
        Whether the model has a dataset of this way to split. The first time a model may have a division of its own, where the one
        that the project's models share leaves it nothing to learn from or to check on.

    Raises
    ------
    InputError
        Too few frames; or all are benchmark frames.
    """
    settings = lab.specification(model).split
    key = split_hash(settings)
    project = project_of(lab, model)
    frozen = frozen_frames(lab, project)
    rows = [row for row in read_records(lab.layout, "splits") if project.is_of(row)]
    datasets = earlier_datasets(lab.layout, project)
    seen = frames_in((*LEARNED_FROM, GAP), lab, project, labels.images)
    learned = frames_in(LEARNED_FROM, lab, project, labels.images)
    known = None if frozen is None else frozen.seen_in(project, labels.images, learned)
    owner, earlier, recorded = model, _recorded(rows, key, model, project, labels), True
    if earlier is None:
        old = [entry for entry in datasets if entry[1].key == model and entry[1].inputs.get("split") == key]
        earlier, recorded = as_earlier(*old[-1]) if old else None, False
    if earlier is None:
        owner, earlier, recorded = _SHARED, _recorded(rows, key, _SHARED, project, labels), True
    try:
        division = divide(labels.images, settings, earlier=earlier, frozen=known, seen=seen)
    except InputError:
        if owner != _SHARED or earlier is None or divided_before:
            raise
        owner, earlier = model, None
        division = divide(labels.images, settings, frozen=known, seen=seen)
    division = _without_copies(division, labels)
    known = known or Frozen()
    return PlannedSplit(
        project=project,
        labels=labels,
        split=division.split,
        problems=[] if frozen is None else frozen.problems(project, known, [image.key for image in labels.images]),
        _owner=owner,
        _key=key,
        _settings=settings,
        _division=division,
        _decided=earlier or Earlier(division.split.how),
        _recorded=recorded,
        _frozen=frozen,
        _known=known,
    )


def keep_split(lab: Lab, plan: PlannedSplit) -> int:
    """Record what *plan* decides anew, and set its new benchmark frames aside; return their number. The caller holds the lock.

    The benchmark frames come first: after a crash between the two, they stay benchmark frames.
    """
    division, decided, known = plan._division, plan._decided, plan._known
    # Of a block that was there before, the gaps are known; here they might run on into those of another split.
    blocks = {key[0] for key, name in division.frames.items() if name == BENCHMARK} & division.cut - known.cut
    images = {known.renamed.recorded_as(image.key): image.path for image in plan.labels.images}
    already = set() if plan._frozen is None else set(plan._frozen.frames)
    benchmark = {}
    for key, name in division.frames.items():
        recorded_as = known.renamed.recorded_as(key)
        if name == BENCHMARK and recorded_as not in already:
            benchmark[recorded_as] = FrozenFrame(image_hash(images[recorded_as]), _by(plan, key))
    freeze(lab, plan.project, plan._frozen, benchmark, beside_blocks(division.frames, blocks), images)
    # What a dataset of an earlier release decided is not in the records yet.
    before = decided if plan._recorded else Earlier(decided.how)
    contents = {decided.renamed.recorded_as(image.key): image_hash(image.path) for image in plan.labels.images}
    frames = dict(decided.frames) | {decided.renamed.recorded_as(key): name for key, name in division.frames.items()}
    frames = {key: name for key, name in frames.items() if key not in before.frames}
    videos = {**division.videos, **decided.videos}
    videos = {folder: name for folder, name in videos.items() if folder not in before.videos}
    cut = (decided.cut | division.cut) - before.cut
    if frames or videos or cut:
        append_record(
            lab.layout,
            "splits",
            {
                "project": plan.project.name,
                "root": plan.project.root,
                "split": plan._settings.model_dump(),
                "split_hash": plan._key,
                "model": plan._owner,
                "how": division.split.how,
                "videos": videos,
                "cut": sorted(cut),
                "frames": _nested({key: (name, contents.get(key, "")) for key, name in frames.items()}),
            },
        )
    return len(benchmark)


def _by(plan: PlannedSplit, frame: FrameKey) -> str:
    folder = plan._known.renamed.recorded_as(frame)[0]
    if folder in plan._known.videos or plan._division.videos.get(frame[0]) == BENCHMARK:
        return VIDEO
    return BLOCK if folder in plan._known.cut or frame[0] in plan._division.cut else FRAME


def _without_copies(division: Division, labels: LabelSet) -> Division:
    """Leave out of training what has the very content of a benchmark image of another name."""
    images = labels.images
    scoring = {image_hash(images[at].path) for at in division.split.sets[BENCHMARK]}
    copies = {at for name in LEARNED_FROM for at in division.split.sets[name] if image_hash(images[at].path) in scoring}
    if not copies:
        return division
    sets = {name: tuple(at for at in members if at not in copies) for name, members in division.split.sets.items()}
    sets[GAP] = tuple(sorted({*sets[GAP], *copies}))
    if empty := [name for name in LEARNED_FROM if not sets[name]]:
        raise InputError(
            f"No frame is left for {' and '.join(empty)}: the images are copies of benchmark images. Label other frames."
        )
    note = f"{division.split.note} Of {len(copies)} frames the image is a copy of a benchmark image: they are left out."
    frames = division.frames | dict.fromkeys((images[at].key for at in copies), GAP)
    return replace(division, split=Split(sets, division.split.how, note), frames=frames)


# --- records --------------------------------------------------------------------------------------


def _nested(frames: Mapping[FrameKey, tuple[str, str]]) -> dict[str, dict[str, dict[str, str]]]:
    """Return set -> folder -> image -> sha256 of the image."""
    nested: dict[str, dict[str, dict[str, str]]] = {}
    for (folder, image), (name, sha256) in frames.items():
        nested.setdefault(name, {}).setdefault(folder, {})[image] = sha256
    return nested


def _recorded(
    rows: list[dict[str, Any]], key: str, owner: str, project: LabProject, labels: LabelSet
) -> Earlier | None:
    """Return what the records say of one division, None where they say nothing."""
    mine = [row for row in rows if row["split_hash"] == key and row["model"] == owner]
    if not mine:
        return None
    frames: dict[FrameKey, tuple[str, str]] = {}
    videos: dict[str, str] = {}
    cut: set[str] = set()
    for row in mine:
        frames = {**recorded_sets(row), **frames}
        videos = {**row["videos"], **videos}
        cut |= set(row["cut"])
    renamed = renamed_since(project, {frame: sha256 for frame, (_, sha256) in frames.items()}, labels.images)
    sets = {frame: name for frame, (name, _) in frames.items()}
    return Earlier(str(mine[0]["how"]), videos, sets, frozenset(cut), renamed)
