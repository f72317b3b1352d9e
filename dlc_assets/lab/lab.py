"""A lab folder, opened: its settings, its model specifications, and where everything lies."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.keys import check_model_key
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.lab.yaml_settings import parse_settings, read_settings, read_yaml

LAB_VARIABLE = "DLC_ASSETS_LAB"


@dataclass(frozen=True)
class Lab:
    """One lab; its files are read when they are asked for, and each once."""

    layout: LabLayout

    @property
    def root(self) -> Path:
        return self.layout.root

    @cached_property
    def settings(self) -> LabSettings:
        return read_settings(self.layout.settings_file, LabSettings)

    def model_names(self) -> list[str]:
        """Return the names of the model specifications, good and bad, sorted."""
        folder = self.layout.specifications
        return sorted(path.stem for path in folder.glob("[!.]*.yaml")) if folder.is_dir() else []

    def specification(self, model: str) -> ModelSpecification:
        """Read models/<model>.yaml."""
        known = self.model_names()
        if model not in known:
            listed = ", ".join(known) or "none yet"
            raise NotFoundError(
                f'there is no model specification "{model}" in {self.layout.specifications}.{did_you_mean(model, known)} '
                f"Specifications there: {listed}."
            )
        check_model_key(model)
        path = self.layout.specification(model)
        stated = read_yaml(path)
        return parse_settings(self._with_parameters(path, stated), ModelSpecification, where=str(path))

    def _with_parameters(self, path: Path, stated: Any) -> Any:
        """Return what a specification states, completed by the parameter set that it names."""
        name = stated.get("parameters") if isinstance(stated, dict) else None
        if name is None:
            return stated
        known = self.settings.parameters
        shared = known.get(str(name))
        if shared is None:
            raise SettingsError(
                f'{path}: parameters: there is no set "{name}" among the parameters of {self.layout.settings_file}.'
                f"{did_you_mean(str(name), known)} Sets there: {', '.join(known) or 'none'}."
            )
        below = shared.model_dump(exclude={"description"}, exclude_none=True)
        merged = {**below, **stated}
        for block in ("training", "pytorch_config"):
            own = stated.get(block, {})
            merged[block] = {**below[block], **own} if isinstance(own, dict) else own
        return merged

    def specifications(self) -> tuple[dict[str, ModelSpecification], dict[str, str]]:
        """Return the specifications that can be read, and for every other one what is wrong with it."""
        good: dict[str, ModelSpecification] = {}
        bad: dict[str, str] = {}
        for model in self.model_names():
            try:
                good[model] = self.specification(model)
            except DlcAssetsError as error:
                bad[model] = str(error)
        for path in self.layout.specifications.glob("[!.]*.yml"):
            if path.stem not in good:
                bad[path.stem] = f"{path}: a model specification's file ends in .yaml. Rename it to {path.stem}.yaml."
        return good, bad

    def project_config(self, model: str) -> Path:
        """Return the config.yaml of the DeepLabCut project that *model* names."""
        name = self.specification(model).project
        if not name:
            raise SettingsError(
                f"{self.layout.specification(model)} names no project: of this model only results are left. State `project` where "
                "its labels are wanted."
            )
        stated = self.settings.projects.get(name)
        folder = self.root / Path(stated).expanduser() if stated is not None else self.layout.projects / name
        config = folder if folder.suffix in {".yaml", ".yml"} else folder / "config.yaml"
        if config.is_file():
            return config
        here = sorted(p.parent.name for p in self.layout.projects.glob("*/config.yaml"))
        known = sorted({*self.settings.projects, *here})
        raise SettingsError(
            f'{self.layout.specification(model)}: project: there is no DeepLabCut project "{name}" (no {config}).'
            f"{did_you_mean(name, known)} Projects found: {', '.join(known) or 'none'}. Put the project's folder under "
            f"{self.layout.projects}, or name its path in lab.yaml under projects."
        )

    def recording_roots(self) -> list[Path]:
        """Return the root folder of each entry of `recordings`."""
        return [self.root / Path(entry.root).expanduser() for entry in self.settings.recordings]


def _stated(path: str | os.PathLike[str] | None) -> str:
    return os.fspath(path) if path is not None else os.environ.get(LAB_VARIABLE) or "lab"


def lab_folder(path: str | os.PathLike[str] | None = None) -> Path:
    """Return which folder `open_lab_folder` would open, whether or not it is a lab."""
    return Path(_stated(path)).expanduser().resolve()


def open_lab_folder(path: str | os.PathLike[str] | None = None) -> Lab:
    """Open the lab at *path*, else at `$DLC_ASSETS_LAB`, else at ./lab.

    Raises
    ------
    SettingsError
        The folder is not a lab, or its lab.yaml is wrong.
    """
    root = lab_folder(path)
    lab = Lab(LabLayout(root))
    if not lab.layout.settings_file.is_file():
        what = "has no lab.yaml" if root.is_dir() else "does not exist"
        raise SettingsError(
            f"{root} is not a lab folder: it {what}. Name the lab with --lab DIR or {LAB_VARIABLE}, or make one with "
            f"`dlc-assets init {_stated(path)}`."
        )
    _ = lab.settings  # a lab.yaml that cannot be read is said here, not in the middle of the work
    return lab
