"""Reading a lab's DeepLabCut project without DeepLabCut, whose own `read_config` rewrites what it reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dlc_assets.lab.errors import InputError, did_you_mean

_MULTI = "MULTI!"  # what DeepLabCut writes as `bodyparts` of a multi-animal project
_DEFAULT_PCUTOFF = 0.6  # DeepLabCut's own


@dataclass(frozen=True)
class DlcProject:
    """What a model needs to know of a DeepLabCut project's config.yaml.

    Attributes
    ----------
    config_path
        The file it was read from.
    task, scorer, date
        The three parts of a project's name; empty where the file has none.
    bodyparts
        In the order of the file: the order of every array of coordinates.
    skeleton
        Edges as pairs of body parts.
    pcutoff
        Likelihood (0 to 1) below which DeepLabCut takes a body part as not seen.
    multianimal
        Whether the labels are of several animals per frame.
    individuals, unique_bodyparts
        Of a multi-animal project: the names of its animals, and the body parts that there is one of in a frame.
    iteration
        DeepLabCut's count of the rounds of refinement, of which file names of machine labels speak.
    """

    config_path: Path
    task: str
    scorer: str
    date: str
    bodyparts: tuple[str, ...]
    skeleton: tuple[tuple[str, str], ...]
    pcutoff: float
    multianimal: bool
    individuals: tuple[str, ...] = ()
    unique_bodyparts: tuple[str, ...] = ()
    iteration: int = 0

    @property
    def root(self) -> Path:
        """The folder of config.yaml; `project_path` in it may be another computer's or a placeholder."""
        return self.config_path.parent


def read_project(config_path: Path) -> DlcProject:
    """Read a DeepLabCut project's config.yaml; nothing is written.

    Parameters
    ----------
    config_path
        The config.yaml, or the folder that holds it.

    Raises
    ------
    InputError
        The file is missing, is not YAML, names no body parts or one twice, or has a skeleton edge with a body
        part that it does not list.
    """
    path = config_path / "config.yaml" if config_path.is_dir() else config_path
    config = _load(path)
    multianimal = _is_multianimal(config, path)
    bodyparts = _names(config, "multianimalbodyparts" if multianimal else "bodyparts", path)
    unique = _names(config, "uniquebodyparts", path, required=False) if multianimal else ()
    return DlcProject(
        config_path=path,
        task=_text(config.get("Task")),
        scorer=_text(config.get("scorer")),
        date=_text(config.get("date")),
        bodyparts=bodyparts,
        skeleton=_skeleton(config.get("skeleton"), (*bodyparts, *unique), path),
        pcutoff=_pcutoff(config.get("pcutoff"), path),
        multianimal=multianimal,
        individuals=_names(config, "individuals", path, required=False) if multianimal else (),
        unique_bodyparts=unique,
        iteration=_iteration(config.get("iteration")),
    )


def _load(path: Path) -> Mapping[str, Any]:
    try:
        config = yaml.safe_load(path.read_bytes())
    except OSError as err:
        raise InputError(
            f"{path} cannot be read ({err.strerror or err}): a DeepLabCut project is a folder with its config.yaml."
        ) from err
    except (yaml.YAMLError, ValueError) as err:  # ValueError: an impossible date such as 2018-13-40
        raise InputError(f"{path} is not the YAML that DeepLabCut writes: {err}") from err
    if not isinstance(config, Mapping):
        raise InputError(
            f"{path} should hold keys such as Task, scorer and bodyparts, but holds {_kind(config)}. "
            "Is it the config.yaml of a DeepLabCut project?"
        )
    return config


def _is_multianimal(config: Mapping[str, Any], path: Path) -> bool:
    stated = config.get("multianimalproject")
    if stated is not None and not isinstance(stated, bool):
        raise InputError(f"{path}: multianimalproject should be true or false, but is {stated!r}.")
    return bool(stated) or config.get("bodyparts") == _MULTI


def _names(config: Mapping[str, Any], key: str, path: Path, *, required: bool = True) -> tuple[str, ...]:
    stated = config.get(key)
    if stated is None or stated == []:
        if not required:
            return ()
        near = did_you_mean(key, (str(known) for known in config if known != key))
        raise InputError(f"{path}: {key} should list the body parts, but is {_absent(config, key)}.{near}")
    if not isinstance(stated, list) or any(isinstance(name, list | Mapping) for name in stated):
        raise InputError(f"{path}: {key} should be a list of names, but is {_kind(stated)}.")
    names = tuple(_text(name) for name in stated)
    if "" in names:
        raise InputError(f"{path}: {key} has an empty name at position {names.index('') + 1}; write a name there.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{path}: {key} lists {_quoted(twice)} more than once; each body part needs a name of its own."
        )
    return names


def _skeleton(stated: Any, bodyparts: Sequence[str], path: Path) -> tuple[tuple[str, str], ...]:
    if stated is None:
        return ()
    if not isinstance(stated, list):
        raise InputError(f"{path}: skeleton should be a list of pairs of body parts, but is {_kind(stated)}.")
    return tuple(_edge(edge, bodyparts, path) for edge in stated)


def _edge(edge: Any, bodyparts: Sequence[str], path: Path) -> tuple[str, str]:
    if not isinstance(edge, list) or len(edge) != 2:
        raise InputError(f"{path}: a skeleton edge should be a pair of body parts, but one is {edge!r}.")
    first, second = _text(edge[0]), _text(edge[1])
    for name in (first, second):
        if name not in bodyparts:
            raise InputError(
                f'{path}: the skeleton edge [{first}, {second}] names "{name}", which is not among the '
                f"body parts ({', '.join(bodyparts)}).{did_you_mean(name, bodyparts)} Correct the edge, "
                "or write `skeleton: []` if it is left over from DeepLabCut's template."
            )
    return first, second


def _pcutoff(stated: Any, path: Path) -> float:
    if stated is None:
        return _DEFAULT_PCUTOFF
    is_number = isinstance(stated, int | float) and not isinstance(stated, bool)
    if not is_number or not math.isfinite(stated) or not 0 <= stated <= 1:
        raise InputError(f"{path}: pcutoff should be a number from 0 to 1, but is {stated!r}.")
    return float(stated)


def _iteration(stated: Any) -> int:
    """Return the iteration, 0 where it is no number: it only names files, and is no reason to refuse a project."""
    return stated if isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0 else 0


def _text(value: Any) -> str:
    """Return a name as text: YAML reads a body part `1` or a date `2018-10-30` as something else."""
    return "" if value is None else str(value).strip()


def _absent(config: Mapping[str, Any], key: str) -> str:
    return "empty" if key in config else "missing"


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:60]!r}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
