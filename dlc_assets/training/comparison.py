"""Comparing model versions fairly: on labeled frames that none of them has seen, with the labels as they are now.

What cannot be ranked is not ranked: versions of different projects, without body parts in common, or without frames unseen by all
stand in groups of their own. A difference that may be noise is said to be so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.catalog.schema import COMPARISON
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import atomic_path, content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.training.benchmark import benchmark_frames, human_errors, seen_frames
from dlc_assets.training.bootstrap import Interval, Units, mean_interval, units_of
from dlc_assets.training.evaluation import dataset_frames, read_estimates
from dlc_assets.training.labels import FrameKey
from dlc_assets.training.models import (
    ModelVersion,
    current_version,
    evaluation_manifest,
    find_version,
    trained_models,
    versions,
)
from dlc_assets.training.scores import PCK_PX, near_enough

COMPARISON_FILE = "models.parquet"
FRAMES_FILE = "frames.parquet"
BEST, WORSE, ALIKE, UNKNOWN = "best", "worse than the best", "not distinguishable from the best", "cannot be told"
_GROUP_DIGITS = 8
_DIGITS = 4
_LISTED = 6
# A version joins a group only if so much of what the group's first version can be scored on is left: one that has seen nearly all
# benchmark frames would else leave a handful for everybody.
_SHARE_LEFT = 0.5


@dataclass(frozen=True)
class Group:
    """Versions that can be ranked against each other.

    Attributes
    ----------
    comparable
        Hash of the labels scored on.
    project
        Name of the project that the frames are of.
    frames
        (folder, image) of each frame: none of the versions has seen any of them.
    videos
        Number of folders that they come from.
    drawn
        What the intervals are drawn from: ``videos``, or ``blocks`` of frames where there is one video.
    bodyparts
        Body parts scored: those that all versions know.
    versions
        ``model@version``, best first.
    """

    comparable: str
    project: str
    frames: tuple[FrameKey, ...]
    videos: int
    drawn: str
    bodyparts: tuple[str, ...]
    versions: tuple[str, ...]

    def sentence(self) -> str:
        """Say which frames the group was compared on."""
        folders = sorted({folder for folder, _ in self.frames})
        named = ", ".join(folders[:_LISTED]) + (", ..." if len(folders) > _LISTED else "")
        frames, videos = _n(len(self.frames), "frame"), f"{_n(self.videos, 'video')} ({named})"
        kind = "videos" if self.drawn == "videos" else "blocks of frames: one video says little of others"
        alone = len(self.versions) == 1
        unseen = "that it has not seen" if alone else f"that none of the {len(self.versions)} has seen"
        return f"{frames} of {videos} of {self.project}, {unseen}; body parts: {', '.join(self.bodyparts)}; intervals over {kind}"


@dataclass(frozen=True)
class Comparison:
    """The outcome.

    Attributes
    ----------
    rows
        One a version, with the columns of `schema.COMPARISON`; groups lie together, each best first.
    groups
        The groups, in the order of the rows.
    refused
        A sentence for each reason why something is not ranked.
    """

    rows: list[dict[str, Any]]
    groups: list[Group]
    refused: list[str] = field(default_factory=list)

    @property
    def data_version(self) -> str:
        return content_hash([self.rows, [vars(group) for group in self.groups]])

    @property
    def best(self) -> str | None:
        """The best version (``model@version``) where all versions stand in one group, None where they cannot all be ranked."""
        if len(self.groups) != 1 or len(self.groups[0].versions) != len(self.rows):
            return None
        return self.groups[0].versions[0]


# --- what is compared -----------------------------------------------------------------------------


def chosen_versions(lab: Lab, references: Sequence[str]) -> list[ModelVersion]:
    """Return the versions that *references* mean: every version of every model where there are none.

    One name alone means all versions of that model; of several, each name means its current version, and ``name@digits`` that
    version.

    Raises
    ------
    NotFoundError
        There is no such model or version.
    """
    if not references:
        return [version for model in trained_models(lab.layout) for version in versions(lab.layout, model)]
    if len(references) == 1 and "@" not in references[0]:
        return versions(lab.layout, find_version(lab.layout, references[0]).model)
    found = [find_version(lab.layout, reference) for reference in references]
    return list({str(version): version for version in found}.values())


def compare_versions(lab: Lab, chosen: Sequence[ModelVersion], *, together: bool = False) -> Comparison:
    """Rank *chosen* by their mean error on benchmark frames that none of them has seen, in as few groups as that takes.

    Nothing is run and nothing is written: what each network says of the frames is known from its evaluation, the labels are read as
    they are now.

    Parameters
    ----------
    together
        Rank all against all, on however few frames are left, or not at all. Otherwise a version that would take too many
        frames from the others gets a group of its own.

    Notes
    -----
    Labels for which one of the versions gave no position are left out for all of them: ``missed`` says how many. The interval of a
    difference is of the paired differences, label by label, on the same draws.
    """
    scored: dict[str, list[_Scored]] = defaultdict(list)
    lacks: dict[str, str] = {}
    for project, members in sorted(_by_project(chosen).items()):
        labels = _labels_of_project(lab, members)
        for version in members:
            one = _scored(lab, version, labels)
            if isinstance(one, str):
                lacks[str(version)] = one
            else:
                scored[project].append(one)
    grouped = [(project, group) for project, members in scored.items() for group in _grouped(members, together)]
    grouped.sort(key=lambda item: (-len(item[1]), item[0], str(item[1][0].version)))
    if together and (len(grouped) > 1 or lacks):
        refused = [*lacks.values(), *_why_apart(grouped)]
        rows = [_row(lab, version, note=lacks.get(str(version), "")) for version in _in_order(chosen)]
        return Comparison([row | {"note": row["note"] or " ".join(refused)} for row in rows], [], refused)
    rows, groups = [], []
    for project, ones in grouped:
        group, ranked = _rank(lab, project, ones, _usable_by_all(ones))
        groups.append(group)
        rows += ranked
    rows += [_row(lab, version, note=lacks[str(version)]) for version in _in_order(chosen) if str(version) in lacks]
    return Comparison(rows, groups, [*_why_apart(grouped), *dict.fromkeys(lacks.values())])


def compare_models(lab: Lab) -> tuple[Comparison, Path]:
    """Compare every version of every model; write the table, and beside it the frames of each group. Return it and where it lies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    compared = compare_versions(lab, chosen_versions(lab, ()))
    path = lab.layout.comparison / COMPARISON_FILE
    frames = [
        {"comparable": group.comparable, "project": group.project, "folder": folder, "image": image}
        for group in compared.groups
        for folder, image in group.frames
    ]
    schema = pa.schema([(name, pa.string()) for name in ("comparable", "project", "folder", "image")])
    for place, table in (
        (path.with_name(FRAMES_FILE), pa.Table.from_pylist(frames, schema)),
        (path, COMPARISON.arrow(compared.rows)),
    ):
        with atomic_path(place) as partial:
            pq.write_table(table, partial, compression="zstd")
    return compared, path


# --- what is known of each version ----------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """The benchmark labels of one project.

    `frames` are (folder, image), sorted; `xy` is (frames, body parts, 2) px; `problem` says why the labels as they are now cannot be
    read, where that is so.
    """

    frames: tuple[FrameKey, ...]
    bodyparts: tuple[str, ...]
    xy: np.ndarray
    problem: str


@dataclass(frozen=True)
class _Scored:
    """One version on its project's benchmark labels; arrays are (frames, body parts).

    `usable`: labeled, unseen, and known what the network says; `error`: px, NaN where it gave no position; `unestimated`: frames
    that it could be scored on if the network were run.
    """

    version: ModelVersion
    labels: _Labels
    usable: np.ndarray
    error: np.ndarray
    likelihood: np.ndarray
    unestimated: int


def _usable_by_all(members: Sequence[_Scored]) -> np.ndarray:
    return np.logical_and.reduce([member.usable for member in members])


def project_of(version: ModelVersion) -> str:
    """Return the name of the project that *version* was trained from, as its specification stated it."""
    card = version.card
    stated = card.get("project_name") or (card.get("specification") or {}).get("project")
    return str(stated or card.get("project"))


def _by_project(chosen: Iterable[ModelVersion]) -> dict[str, list[ModelVersion]]:
    found: dict[str, list[ModelVersion]] = defaultdict(list)
    for version in _in_order(chosen):
        found[project_of(version)].append(version)
    return dict(found)


def _in_order(chosen: Iterable[ModelVersion]) -> list[ModelVersion]:
    return sorted(chosen, key=str)


def _labels_of_project(lab: Lab, members: Sequence[ModelVersion]) -> _Labels:
    """Return the project's benchmark labels as they are now; where it has none frozen, those that its versions' datasets hold."""
    bodyparts = tuple(dict.fromkeys(part for version in members for part in version.card["bodyparts"]))
    found: dict[FrameKey, np.ndarray] = {}
    problem = ""
    for model in dict.fromkeys(version.model for version in members):
        try:
            found = {(frame.folder, frame.image): frame.xy for frame in benchmark_frames(lab, model, bodyparts)}
            problem = ""
            break
        except DlcAssetsError as error:  # this model's specification is gone or wrong; another's names the same project
            problem = str(error)
    if not found:
        for version in sorted(members, key=lambda version: (version.manifest.made, str(version))):
            place = [bodyparts.index(part) for part in version.card["bodyparts"]]
            for frame in dataset_frames(lab, version):
                if frame.set == "benchmark":
                    xy = found.setdefault(frame.key, np.full((len(bodyparts), 2), np.nan))
                    xy[place] = frame.xy
    frames = tuple(sorted(found))
    return _Labels(
        frames, bodyparts, np.array([found[key] for key in frames]).reshape(len(frames), len(bodyparts), 2), problem
    )


def _scored(lab: Lab, version: ModelVersion, labels: _Labels) -> _Scored | str:
    """Return *version* on *labels*, or a sentence that says why it cannot be scored on any of them."""
    project = project_of(version)
    if not version.runnable:
        return f"{version} cannot be scored: {version.why_not_runnable}"
    if not labels.frames and labels.problem:
        return f"{version}: the benchmark labels of {project} cannot be read: {labels.problem}"
    if not labels.frames:
        return f"{version}: {project} has no benchmark frames. State split.benchmark above 0, or label more videos."
    try:
        seen = seen_frames(lab, version)
    except DlcAssetsError as error:
        return f"{version}: which frames it has seen is not known: {error}"
    parts = [labels.bodyparts.index(part) for part in version.card["bodyparts"]]
    unseen = np.array([key not in seen for key in labels.frames])
    labeled = ~np.isnan(labels.xy).any(axis=2) & unseen[:, None]
    labeled[:, [at for at in range(len(labels.bodyparts)) if at not in parts]] = False
    if not labeled.any():
        return f"{version} has seen all benchmark frames of {project} in training: its errors on them say nothing."
    pose, known = np.full((*labels.xy.shape[:2], 3), np.nan), np.zeros(labels.xy.shape[:2], dtype=bool)
    estimates = read_estimates(lab, version)
    for at, key in enumerate(labels.frames):
        if key in estimates:
            pose[at, parts], known[at, parts] = estimates[key].pose, estimates[key].known
    if not (labeled & known).any():
        return f"{version} was never run on the benchmark frames: `dlc-assets compare-models {version}` does it."
    return _Scored(
        version,
        labels,
        usable=labeled & known,
        error=np.hypot(*np.moveaxis(pose[..., :2] - labels.xy, 2, 0)),
        likelihood=pose[..., 2],
        unestimated=int((labeled & ~known).any(axis=1).sum()),
    )


# --- groups ---------------------------------------------------------------------------------------


def _grouped(members: Sequence[_Scored], together: bool) -> list[list[_Scored]]:
    """Put versions of one project in groups that share enough labels; those that can be scored on most found the groups."""
    groups: list[list[_Scored]] = []
    for member in sorted(members, key=lambda member: (-int(member.usable.sum()), str(member.version))):
        for group in groups:
            least = 1 if together else _SHARE_LEFT * group[0].usable.sum()
            if _usable_by_all([*group, member]).sum() >= least:
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


def _why_apart(grouped: Sequence[tuple[str, list[_Scored]]]) -> list[str]:
    """Return a sentence for each two groups in a row: why what they hold is not ranked against each other."""
    sentences = []
    for (project, group), (other_project, other) in pairwise(grouped):
        names = _named(group), _named(other)
        if project != other_project:
            why = f"they are of different projects ({project}, {other_project}), and share no frames"
        elif not set(group[0].version.card["bodyparts"]) & set(other[0].version.card["bodyparts"]):
            why = "they have no body part in common"
        else:
            why = (
                "hardly any benchmark frame is unseen by all of them"
                if _overlap(group, other)
                else ("no benchmark frame is unseen by all of them")
            )
        sentences.append(f"{names[0]} and {names[1]} cannot be ranked against each other: {why}.")
    return sentences


def _overlap(group: Sequence[_Scored], other: Sequence[_Scored]) -> bool:
    return bool((_usable_by_all(group) & other[0].usable).any())


def _named(group: Sequence[_Scored]) -> str:
    first = str(group[0].version)
    return first if len(group) == 1 else f"{first} and {len(group) - 1} more"


# --- ranking --------------------------------------------------------------------------------------


def _rank(lab: Lab, project: str, members: Sequence[_Scored], mask: np.ndarray) -> tuple[Group, list[dict[str, Any]]]:
    labels = members[0].labels
    chosen = np.flatnonzero(mask.any(axis=1))
    frames = tuple(labels.frames[at] for at in chosen)
    units = units_of(frames)
    by_all = mask & np.logical_and.reduce([~np.isnan(member.error) for member in members])
    errors = {str(m.version): np.where(by_all, m.error, np.nan)[chosen] for m in members}
    means = {name: _mean(values) for name, values in errors.items()}
    ordered = sorted(members, key=lambda m: (np.isnan(means[str(m.version)]), means[str(m.version)], str(m.version)))
    best = str(ordered[0].version)
    parts = tuple(part for at, part in enumerate(labels.bodyparts) if mask[:, at].any())
    scored_on = sorted(
        (*labels.frames[f], labels.bodyparts[p], *labels.xy[f, p].tolist()) for f, p in np.argwhere(mask)
    )
    group = Group(
        comparable=content_hash([project, scored_on])[:_GROUP_DIGITS],
        project=project,
        frames=frames,
        videos=len({folder for folder, _ in frames}),
        drawn=units.kind,
        bodyparts=parts,
        versions=tuple(str(member.version) for member in ordered),
    )
    yardstick = _human_error(lab, members, parts)
    rows = []
    for place, member in enumerate(ordered, start=1):
        name = str(member.version)
        difference = errors[name] - errors[best]
        apart = None if place == 1 else mean_interval(difference, units)
        row = _row(lab, member.version, note="") | _figures(member, mask, by_all, errors[name], units)
        row |= {
            "comparable": group.comparable,
            "rank": None if len(members) == 1 or np.isnan(means[name]) else place,
            "verdict": _verdict(place, apart) if len(members) > 1 else "",
            "frames": len(frames),
            "videos": group.videos,
            "labels": int(by_all.sum()),
            "body_parts": list(parts),
            "difference": None if place == 1 else _rounded(_mean(difference)),
            "difference_low": _rounded(apart.low) if apart else None,
            "difference_high": _rounded(apart.high) if apart else None,
            "human_error": yardstick,
        }
        rows.append(row | {"note": _note(row, group, best, member)})
    return group, rows


def _figures(member: _Scored, mask: np.ndarray, by_all: np.ndarray, values: np.ndarray, units: Units) -> dict[str, Any]:
    error, likelihood = member.error[by_all], member.likelihood[by_all]
    sure = error[likelihood >= member.version.card["pcutoff"]]
    interval = mean_interval(values, units)
    return {
        "rmse": _rounded(_mean(error)),
        "rmse_low": _rounded(max(interval.low, 0.0)) if interval else None,
        "rmse_high": _rounded(interval.high) if interval else None,
        "rmse_pcutoff": _rounded(_mean(sure)),
        "median_error": _rounded(float(np.median(error))) if len(error) else None,
        "pck_5px": _rounded(near_enough(member.error[mask], PCK_PX)),
        "missed": int(np.isnan(member.error[mask]).sum()),
    }


def _row(lab: Lab, version: ModelVersion, *, note: str) -> dict[str, Any]:
    """Return what is said of *version* wherever it stands."""
    card, manifest = version.card, evaluation_manifest(version, lab.layout)
    details = manifest.details if isinstance(manifest, Manifest) else {}
    speed: Mapping[str, Any] = details.get("speed") or {}
    row: dict[str, Any] = dict.fromkeys(column.name for column in COMPARISON.columns)
    return row | {
        "model": version.model,
        "version": version.version,
        "current": current_version(lab.layout, version.model) == version,
        "project": project_of(version),
        "verdict": "",
        "pcutoff": card.get("pcutoff"),
        "parameters": details.get("parameters"),
        "frames_per_second": speed.get("frames_per_second"),
        "device": speed.get("device_name"),
        "net_type": card.get("net_type"),
        "epochs": (card.get("training") or {}).get("epochs"),
        "custom": version.manifest.custom,
        "dataset": card.get("dataset"),
        "label_hash": card.get("label_hash"),
        "trained": version.manifest.made,
        "note": note,
    }


def _verdict(place: int, apart: Interval | None) -> str:
    if place == 1:
        return BEST
    if apart is None:
        return UNKNOWN
    return WORSE if apart.low > 0 else ALIKE


def _note(row: Mapping[str, Any], group: Group, best: str, member: _Scored) -> str:
    """Return in words how *row* stands to the best, and what to keep in mind."""
    if len(group.versions) == 1:
        said = "the only one that can be scored on these frames"
    elif row["verdict"] == BEST:
        said = f"the smallest error of {len(group.versions)}"
    elif row["verdict"] == UNKNOWN:
        said = f"cannot be told apart from {best}: the frames are too few"
    else:
        between = f"{row['difference']:.2f} px more than {best}, 95 % interval {row['difference_low']:.2f} to {row['difference_high']:.2f}"
        said = f"worse: {between}" if row["verdict"] == WORSE else f"not distinguishable from the best: {between}"
    keep = []
    if row["missed"]:
        keep.append(f"it gave no position for {_n(row['missed'], 'label')}, which are left out for all")
    if member.unestimated:
        keep.append(
            f"{_n(member.unestimated, 'benchmark frame')} left out, as it was never run on them "
            f"(`dlc-assets compare-models` does it)"
        )
    return "; ".join([said, *keep])


def _human_error(lab: Lab, members: Sequence[_Scored], parts: Sequence[str]) -> float | None:
    """Return the mean distance (px) between two people's labels of the same frames, None where no two labeled one."""
    for model in dict.fromkeys(member.version.model for member in members):
        try:
            distances = human_errors(lab, model, parts)["distance"].dropna()
        except DlcAssetsError:  # as in _labels_of_project
            continue
        return _rounded(float(distances.mean())) if len(distances) else None
    return None


def _mean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else float("nan")


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), _DIGITS)


def _n(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
