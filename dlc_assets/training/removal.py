"""What names a model version, and so keeps it; taking versions and whole models that nothing names out of the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.cohorts import cohorts, freezing
from dlc_assets.lab.errors import BusyError, NotFoundError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import is_held
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.lab.trash import TrashEntry, move_to_trash
from dlc_assets.training.models import ModelVersion, current_version, versions

_LISTED = 3


@dataclass
class VersionUses:
    """All that names one model version.

    Attributes
    ----------
    current
        It is what its model's partition means.
    rules
        Numbers of release rules of lab.yaml, from 1.
    cohorts
        Names of frozen cohorts.
    pose_tables, nwb_files
        Sessions with such a file made by it.
    specifications
        Models whose specification starts from its weights.
    descendants
        Versions (``model@version``) that were trained from its weights.
    under_way
        What is running now and may use it, in words.
    """

    current: bool = False
    rules: list[int] = field(default_factory=list)
    cohorts: list[str] = field(default_factory=list)
    pose_tables: list[str] = field(default_factory=list)
    nwb_files: list[str] = field(default_factory=list)
    specifications: list[str] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)
    under_way: list[str] = field(default_factory=list)

    def sentences(self, version: ModelVersion) -> list[str]:
        """Return one sentence for each kind of use of *version*."""
        kinds: list[tuple[Sequence[str | int], str]] = [
            (["current"] if self.current else [], f"it is the current version of {version.model}"),
            (self.rules, "release {n:rule|rules} {list} of lab.yaml"),
            (self.cohorts, "the frozen {n:cohort|cohorts} {list}"),
            (self.pose_tables, "{count} pose {n:table|tables} made by it: {list}"),
            (self.nwb_files, "{count} NWB {n:file|files} with its poses: {list}"),
            (
                self.specifications,
                "the {n:specification|specifications} of {list}, which {n:starts|start} from its weights",
            ),
            (self.descendants, "{list}, trained from its weights"),
        ]
        return [_filled(words, names) for names, words in kinds if names] + self.under_way

    def summary(self) -> str:
        """Return the uses in a few words, for a table."""
        kinds: list[tuple[Sequence[str | int], str]] = [
            (self.rules, "release {n:rule|rules} {list}"),
            (self.cohorts, "{n:cohort|cohorts} {list}"),
            (self.pose_tables, "{count} pose {n:table|tables}"),
            (self.nwb_files, "{count} NWB {n:file|files}"),
            (self.specifications, "weights of {list}"),
            (self.descendants, "{list}"),
        ]
        return ", ".join(_filled(words, names) for names, words in kinds if names)


def references_to(lab: Lab, version: ModelVersion) -> list[str]:
    """Return a sentence for each thing that names *version*; it may be deleted only when there is none.

    Raises
    ------
    EnvironmentProblem
        The lab's records cannot be read, so that nobody knows what cohorts name.
    """
    return uses_of(lab, [version])[version].sentences(version)


def uses_of(lab: Lab, of: Iterable[ModelVersion]) -> dict[ModelVersion, VersionUses]:
    """Return what names each of the versions *of*; the store and the lab's files are read once for all."""
    uses = {version: VersionUses() for version in of}
    by_name = {str(version): found for version, found in uses.items()}
    models = sorted({version.model for version in uses})
    current = {model: current_version(lab.layout, model) for model in models}
    under_way = {model: _under_way(lab, model) for model in models}
    for version, found in uses.items():
        found.current = current[version.model] == version
        for number, rule in enumerate(lab.settings.release, start=1):
            if rule.model_name == version.model and _means(rule.version, version, found.current):
                found.rules.append(number)
        folder = lab.layout.poses_of_version(version.model, version.version)
        tables = {path.parent.name for path in folder.glob("session=*/*.parquet")}
        found.pose_tables = sorted(name.removeprefix("session=") for name in tables)
        found.under_way = list(under_way[version.model])
    for cohort in cohorts(lab.layout):
        for name in cohort.versions:
            if name in by_name:
                by_name[name].cohorts.append(cohort.name)
    for path in sorted(lab.layout.nwb.glob(".manifests/*.json")):
        manifest = read_manifest(path)
        for model, number in (manifest.details.get("models", {}) if manifest is not None else {}).items():
            if f"{model}@{number}" in by_name:
                by_name[f"{model}@{number}"].nwb_files.append(path.stem)
    _find_weights(lab, uses)
    return uses


def _means(stated: str | None, version: ModelVersion, current: bool) -> bool:
    """Say whether ``model`` (*stated* is None) or ``model@stated`` means *version*."""
    return current if stated is None else version.version.startswith(stated)


def _find_weights(lab: Lab, uses: dict[ModelVersion, VersionUses]) -> None:
    """Add the specifications that start from each version's weights, and the versions that were trained from them."""
    specifications, broken = lab.specifications()
    for model, specification in specifications.items():
        kind, _, name = specification.weights.partition(":")
        source, _, digits = name.partition("@")
        for version, found in uses.items():
            if kind == "model" and source == version.model and _means(digits or None, version, found.current):
                found.specifications.append(model)
    for model in broken:  # what it will say once it is mended is not known, but what it says now is
        path = lab.layout.specification(model)
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        for source, digits in re.findall(r"model:([a-z0-9][a-z0-9-]*)@([0-9a-f]{4,12})", text):
            for version, found in uses.items():
                if source == version.model and version.version.startswith(digits) and model not in found.specifications:
                    found.specifications.append(model)
    for folder in sorted(lab.layout.models.glob("[!.]*")):
        for descendant in versions(lab.layout, folder.name):
            for name in _ancestors(descendant):
                for version, found in uses.items():
                    if str(version) == name and version != descendant:
                        found.descendants.append(str(descendant))


def _ancestors(version: ModelVersion) -> set[str]:
    """Return the model versions (``model@version``) whose weights *version* was trained from."""
    inputs = [version.manifest.inputs, *version.card.get("also_trained_from", [])]
    stated = {str(found.get("weights", "")) for found in inputs}
    return {weights.removeprefix("model:").partition(",")[0] for weights in stated if weights.startswith("model:")}


def _under_way(lab: Lab, model: str) -> list[str]:
    """Return what holds *model* now, in words."""
    doing = {"train": "trained", "evaluate": "evaluated"}
    running = [f"{model} is being {done} now" for kind, done in doing.items() if is_held(lab.layout.lock(kind, model))]
    analysed = [path.stem.partition("__")[2] for path in lab.layout.locks_on_poses(model=model) if is_held(path)]
    return [*running, *([_filled(f"{model} is analysing {{list}} now", analysed)] if analysed else [])]


def remove_version(
    lab: Lab,
    version: ModelVersion,
    *,
    with_poses: bool = False,
    check: Callable[[], None] = lambda: None,
    log: Callable[[str], None],
) -> TrashEntry:
    """Move *version* to the trash, and with it the pose tables that it made if *with_poses*.

    Parameters
    ----------
    check
        Raises where something else speaks against it; see `trash.move_to_trash`.

    Raises
    ------
    BusyError
        Something names the version; the message says what.
    """

    def check_all() -> None:
        check()
        refuse_while_used(lab, version, with_poses=with_poses)

    paths = files_of_version(lab, version, with_poses=with_poses)
    with freezing(lab.layout):  # no cohort comes to name it meanwhile
        return move_to_trash(lab.layout, "version", str(version), paths, check=check_all, log=log)


def files_of_version(lab: Lab, version: ModelVersion, *, with_poses: bool) -> list[Path]:
    """Return what the store may have of *version*, each after what is made from it."""
    layout = lab.layout
    poses = layout.poses_of_version(version.model, version.version)
    derived = layout.derived_of(model=version.model, version=version.version)
    return [
        *([*derived, poses] if with_poses else []),
        layout.pose_work(version.model, version.version, ""),
        version.folder,
    ]


def refuse_while_used(lab: Lab, version: ModelVersion, *, with_poses: bool = False) -> None:
    """Raise a BusyError that says what names *version*; its pose tables do not count where they are to go *with_poses*."""
    uses = uses_of(lab, [version])[version]
    tables = uses.pose_tables
    if with_poses:
        uses.pose_tables = []
    reasons = uses.sentences(version)
    if not reasons:
        return
    hint = ""
    if tables and not with_poses and len(reasons) == 1:
        hint = " Give --with-poses to remove them as well."
    raise BusyError(f"{version} is kept, as it is in use: {'; '.join(reasons)}.{hint}")


def remove_model(
    lab: Lab,
    model: str,
    *,
    with_poses: bool = False,
    check: Callable[[], None] = lambda: None,
    log: Callable[[str], None],
) -> TrashEntry:
    """Move everything that the store has of *model*, whose specification is gone, to the trash.

    Raises
    ------
    BusyError
        Its specification is there, or something else names one of its versions or the model itself; or, without *with_poses*, it
        has pose tables.
    """

    def check_all() -> None:
        check()
        refuse_while_model_used(lab, model, with_poses=with_poses)

    paths = files_of_model(lab, model, with_poses=with_poses)
    with freezing(lab.layout):
        return move_to_trash(lab.layout, "model", model, paths, check=check_all, log=log)


def files_of_model(lab: Lab, model: str, *, with_poses: bool) -> list[Path]:
    """Return what the store may have of *model*, each after what is made from it."""
    layout = lab.layout
    return [
        *([*layout.derived_of(model=model), layout.poses_of_model(model)] if with_poses else []),
        layout.work / "poses" / model,
        layout.work / "training" / model,
        *layout.failures_of(model),
        layout.to_label(model),
        layout.datasets(model),
        layout.model(model),
    ]


def refuse_while_model_used(lab: Lab, model: str, *, with_poses: bool = False) -> None:
    """Raise a BusyError that says why *model* cannot be removed; see `remove_model`."""
    specification = _specification_file(lab, model)
    if specification is not None:
        raise BusyError(
            f"the model {model} is kept: its specification {specification} is there. Delete that file first, or give "
            f"{model}@VERSION to remove one version."
        )
    reasons = [
        f"release rule {number} of lab.yaml names {rule.model}"
        for number, rule in enumerate(lab.settings.release, start=1)
        if rule.model_name == model
    ]
    own = versions(lab.layout, model)
    names = {str(version) for version in own}
    for version, uses in uses_of(lab, own).items():
        uses.current, uses.rules, uses.under_way = False, [], []
        uses.descendants = [name for name in uses.descendants if name not in names]
        uses.pose_tables = [] if with_poses else uses.pose_tables
        reasons += [f"{version}: {sentence}" for sentence in uses.sentences(version)]
    reasons += _under_way(lab, model)
    if reasons:
        hint = "" if with_poses else " Pose tables go as well with --with-poses."
        raise BusyError(f"the model {model} is kept, as it is in use: {'; '.join(reasons)}.{hint}")


def _specification_file(lab: Lab, model: str) -> Path | None:
    path = lab.layout.specification(model)
    return next((file for file in (path, path.with_suffix(".yml")) if file.is_file()), None)


def version_to_remove(lab: Lab, reference: str) -> ModelVersion:
    """Return the version that ``model@digits`` means; unlike `find_version`, also one whose network is damaged.

    Raises
    ------
    NotFoundError
        No such version, or digits that fit several.
    """
    model, _, digits = reference.partition("@")
    known = versions(lab.layout, model)
    fitting = [version for version in known if digits and version.version.startswith(digits)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(version.version for version in known) or "none"
    if not digits:
        what = "expected the digits of a version after @"
    else:
        what = f'{"several versions begin" if fitting else "no version begins"} with "{digits}"'
    raise NotFoundError(f"{reference}: {what}. Versions of {model}: {listed}.")


def _filled(words: str, names: Sequence[str | int]) -> str:
    """Fill in ``{list}``, ``{count}`` and ``{n:one|several}``."""
    shown = [str(name) for name in names[:_LISTED]]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    words = re.sub(r"\{n:([^|}]*)\|([^}]*)\}", lambda match: match[1] if len(names) == 1 else match[2], words)
    return words.replace("{list}", ", ".join(shown) + more).replace("{count}", str(len(names)))
