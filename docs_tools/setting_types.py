"""What a settings model accepts, in words: each key with its type, default and limits."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
    date: "day",
    datetime: "day and time",
    time: "time of day",
    Any: "any value",
}


@dataclass(frozen=True)
class Key:
    """One key of a settings file: its path from the top, the type it takes, and what counts where it is left out."""

    path: str
    type: str
    default: str
    description: str


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Yield the keys of *model* and of the blocks in it, in the order in which they are defined."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        yield Key(path, type_words(field.annotation, field.metadata), _default(field), field.description or "")
        for inner, place in _blocks(field.annotation, path):
            yield from keys(inner, f"{place}.")


def _blocks(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        return
    kind = typing.get_origin(annotation)
    below = f"{path}[]" if kind in (tuple, list) else f"{path}.<name>" if kind is dict else path
    for argument in typing.get_args(annotation):
        yield from _blocks(argument, below)


def type_words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """Return what *annotation* accepts, in words: "list of text", "whole number, at least 1"."""
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        return type_words(inner, [*_flat(metadata), *limits])
    said = [words for limit in limits for words in _limit(limit)]
    return ", ".join([_kind(annotation), *dict.fromkeys(said)])


def _flat(metadata: Sequence[Any]) -> Iterator[Any]:
    for entry in metadata:
        if isinstance(entry, FieldInfo):
            yield from entry.metadata
        else:
            yield entry


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    if origin is typing.Literal:
        return " or ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(a) for a in arguments if a is not type(None)))
    if origin is tuple and Ellipsis not in arguments:
        return f"list of {len(arguments)} {', '.join(_plural(words) for words in dict.fromkeys(map(type_words, arguments)))}"
    if origin in (tuple, list):
        return f"list of {_plural(type_words(arguments[0]))}"
    if origin is dict:
        return f"names, each with {_singular(type_words(arguments[1]))}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a block of keys"
    raise TypeError(f"{annotation!r} is a type that the reference has no words for: add them to {__name__}")


def _plural(words: str) -> str:
    for one, many in (
        ("a block", "blocks"),
        ("whole number", "whole numbers"),
        ("number", "numbers"),
        ("list", "lists"),
    ):
        if words.startswith(one):
            return many + words.removeprefix(one)
    return words


def _singular(words: str) -> str:
    return f"a {words}" if words.startswith("list") else words


def _limit(limit: Any) -> Iterator[str]:
    if isinstance(limit, annotated_types.Ge):
        yield f"at least {limit.ge}"
    elif isinstance(limit, annotated_types.Gt):
        yield f"above {limit.gt}"
    elif isinstance(limit, annotated_types.Le):
        yield f"at most {limit.le}"
    elif isinstance(limit, annotated_types.Lt):
        yield f"below {limit.lt}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be stated"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or (isinstance(value, tuple | list | dict | str) and not value):
        return "none"
    if isinstance(value, BaseModel):
        return ""  # its keys follow, with their own
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    if isinstance(value, tuple | list):
        return ", ".join(f"`{_written(each)}`" for each in value)
    return f"`{value:%H:%M}`" if isinstance(value, time) else f"`{value}`"


def _written(value: Any) -> str:
    """Return one entry of a list as YAML has it."""
    if not isinstance(value, BaseModel):
        return str(value)
    stated = value.model_dump(mode="json", by_alias=True, exclude_none=True)
    return "{" + ", ".join(f"{name}: {given}" for name, given in stated.items()) + "}"
