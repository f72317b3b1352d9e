"""Naming a DeepLabCut project that lies elsewhere in a lab.yaml that a person wrote: every other character of the file stays as it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import yaml

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.yaml_settings import parse_settings, read_yaml

_BLOCK = re.compile(r"^projects:[ \t]*(?P<rest>[^\r\n]*)(?P<end>\r?\n|$)", re.MULTILINE)


def name_of_project(lab: Lab, config: Path) -> str | None:
    """Return the name by which the lab knows the project of *config*, None where it does not."""
    folder = config.resolve().parent if config.suffix else config.resolve()
    for name, stated in lab.settings.projects.items():
        known = (lab.root / Path(stated).expanduser()).resolve()
        if folder in {known, known.parent if known.suffix in {".yaml", ".yml"} else known}:
            return name
    inside = lab.layout.projects.resolve()
    return folder.name if folder.parent == inside else None


def add_project(lab: Lab, name: str, folder: Path) -> None:
    """Write *name*: *folder* under ``projects`` of lab.yaml.

    Raises
    ------
    SettingsError
        The name is that of another project, or the file's form leaves no place for the line: says what to write.
    """
    path = lab.layout.settings_file
    if name in lab.settings.projects or (lab.layout.projects / name).exists():
        raise SettingsError(
            f'{path}: the lab has another project named "{name}" already. Rename the folder {folder}, or name it in lab.yaml under '
            "`projects` yourself."
        )
    inside = folder.is_relative_to(lab.root)  # then it moves with the lab
    stated = (folder.relative_to(lab.root) if inside else folder).as_posix()
    entry = f"{_scalar(name)}: {_scalar(stated)}"
    final = path.resolve()
    with hold(lab.layout.lock("settings", "lab"), "writing a project"), atomic_path(final) as partial:
        before = path.read_bytes()
        partial.write_bytes(_with(before.decode("utf-8-sig"), entry).encode())
        shutil.copymode(final, partial)
        wanted = {**lab.settings.projects, name: stated}
        try:
            after = parse_settings(read_yaml(partial), LabSettings, where=str(path))
        except SettingsError:
            after = None
        if (
            after is None
            or dict(after.projects) != wanted
            or after.model_copy(update={"projects": lab.settings.projects}) != lab.settings
        ):
            raise SettingsError(
                f"{path}: the project could not be written into the file as it is. Add below `projects:` yourself: {entry}"
            )


def _with(text: str, entry: str) -> str:
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    found = _BLOCK.search(text)
    if found is None:
        gap = "" if text.endswith(("\n", "\r")) or not text else newline
        return f"{text}{gap}projects:{newline}  {entry}{newline}"
    rest = found["rest"].strip()
    if rest.startswith("{"):
        at = found.start("rest") + found["rest"].index("{") + 1
        return f"{text[:at]}{entry}{'' if text[at:].lstrip().startswith('}') else ', '}{text[at:]}"
    indent = re.match(r"[ \t]*", text[found.end() :])
    spaces = indent[0] if indent is not None and indent[0] else "  "
    end = found["end"] or newline
    return f"{text[: found.end('rest')]}{end}{spaces}{entry}{end if found['end'] else ''}{text[found.end() :]}"


def _scalar(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=float("inf"))).strip()
