"""Reading a YAML file into a strict pydantic model, with errors that name file, key, what was expected and the nearest key."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dlc_assets.lab.errors import SettingsError, did_you_mean

M = TypeVar("M", bound=BaseModel)
UNSHOWN = "unshown"  # the type of an error whose input may be a secret
_INT, _MERGE = "tag:yaml.org,2002:int", "tag:yaml.org,2002:merge"
_UNION_BRANCH = re.compile(r"str|int|float|bool|constrained-\w+|literal\[.*|tuple\[.*|list\[.*|function-.*")


class StrictSettings(BaseModel):
    """Base of everything that a lab writes: unknown keys are errors, values are never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key written twice, and leaves names such as 001, 20260501_1 and 10:12 the text that they are.

    Plain YAML takes the second of two keys silently, and reads those names as the numbers 1, 202605011 and 612.
    """


# PyYAML keeps them by first character; `int` is the only one that is changed.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == _MERGE:
            continue  # what `<<` brings may be overridden
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(
                None, None, f"expected a name as a key, got {_shown(key)}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f'the key "{key}" stands twice (first on line {seen[key]})', key_node.start_mark
            )
        seen[key] = key_node.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


def _timestamp(loader: _Loader, node: yaml.ScalarNode) -> Any:
    try:
        return yaml.SafeLoader.construct_yaml_timestamp(loader, node)
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, f"{node.value}: {error}", node.start_mark) from None


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _timestamp)
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def read_yaml(path: Path) -> Any:
    """Return what the YAML file at *path* holds ({} when it is empty)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist.") from None
    except OSError as error:  # a folder of that name, or a file that may not be read
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8."
        ) from None
    try:
        return yaml.load(text, Loader=_Loader) or {}  # _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise SettingsError(f"{path}{line}: not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:  # a character that no text has
        raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None


def read_settings(path: Path, model: type[M], *, extra: dict[str, Any] | None = None) -> M:
    """Read the YAML file at *path* as *model*; *extra* adds values that the file does not hold (its own name, say)."""
    return parse_settings(read_yaml(path), model, where=str(path), extra=extra)


def parse_settings(data: Any, model: type[M], *, where: str, extra: dict[str, Any] | None = None) -> M:
    """Validate *data* as *model*; *where* names its file in errors."""
    if not isinstance(data, dict):
        raise SettingsError(f"{where}: expected keys and values (a YAML mapping), got {_shown(data)}.")
    try:
        return model.model_validate({**data, **(extra or {})})
    except ValidationError as error:
        lines = [_line(problem, model) for problem in error.errors()]
        raise SettingsError(f"{where}: " + (lines[0] if len(lines) == 1 else "\n  " + "\n  ".join(lines))) from None


def _line(problem: Any, model: type[BaseModel]) -> str:
    loc: tuple[int | str, ...] = problem["loc"]
    key = ".".join(str(piece) for piece in loc if not _is_tag(piece)) or "(the whole file)"
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, loc[:-1])
        listed = f" Known keys here: {', '.join(known)}." if known else ""
        return f'unknown key "{key}".{did_you_mean(str(loc[-1]), known)}{listed}'
    if problem["type"] == "missing":
        return f'the key "{key}" is missing.'
    if problem["type"] == UNSHOWN:
        return f"{key}: {problem['msg']}."
    said = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    expected = said if problem["type"] == "value_error" else f"expected {said}"
    return f"{key}: {expected}, got {_shown(problem['input'])}."


def _is_tag(piece: int | str) -> bool:
    """Say whether a location's piece is pydantic's own name for a branch of a union, not a key of the file."""
    return isinstance(piece, str) and bool(_UNION_BRANCH.fullmatch(piece))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _keys_at(model: type[BaseModel], loc: Iterable[int | str]) -> list[str]:
    """Return the keys that *model* knows at *loc*, an empty list where anything may stand."""
    here: type[BaseModel] | None = model
    inside = 0
    for piece in loc:
        if inside:  # an index of a list or a key of a mapping: `here` is its elements' model already
            inside -= 1
            continue
        field = next((f for name, f in here.model_fields.items() if piece in (name, f.alias)), None) if here else None
        if field is None:
            return []
        here = _model_in(field.annotation)
        inside = _collections(field.annotation)
    return [f.alias or name for name, f in here.model_fields.items()] if here is not None else []


def _collections(annotation: Any) -> int:
    """Return how many lists and mappings lie around the values of *annotation*."""
    around = 1 if typing.get_origin(annotation) in (list, tuple, dict) else 0
    return around + max(map(_collections, typing.get_args(annotation)), default=0)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (list, tuple, dict, typing.Union, types.UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            found = _model_in(argument)
            if found is not None:
                return found
    return None
