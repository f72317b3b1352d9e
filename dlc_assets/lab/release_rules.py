"""Writing release rules into a lab.yaml that a person wrote: every other character of the file stays as it is."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dlc_assets.lab.errors import BusyError, SettingsError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold
from dlc_assets.lab.settings import LabSettings, ReleaseRule
from dlc_assets.lab.yaml_settings import parse_settings, read_yaml

_KEY = "release"
_COMMENT = re.compile(r"[ \t]*#")
_BLANK_OR_COMMENT = re.compile(r"[ \t]*(#.*)?\r?\n?")


@dataclass(frozen=True)
class PlacedRule:
    """A rule to be written in front of the rule that is number *before* now (0 the first; their number: at the end)."""

    rule: ReleaseRule
    before: int

    @property
    def text(self) -> str:
        """The rule as it is written into lab.yaml."""
        return rule_text(self.rule)


def rule_text(rule: ReleaseRule) -> str:
    """Return *rule* on one line, as lab.yaml has it: ``{devices: [top], model: walker@089fbb27ddba, from: 2026-11-24}``."""
    stated: dict[str, Any] = {}
    if rule.devices is not None:
        stated["devices"] = list(rule.devices)
    stated["model"] = rule.model
    if rule.first is not None:
        stated["from"] = rule.first
    if rule.until is not None:
        stated["until"] = rule.until
    return str(
        yaml.safe_dump(stated, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True)
    ).strip()


def with_rules(rules: Sequence[ReleaseRule], placed: Sequence[PlacedRule]) -> tuple[ReleaseRule, ...]:
    """Return *rules* with the *placed* ones in their places."""
    result = []
    for number in range(len(rules) + 1):
        result += [new.rule for new in placed if new.before == number]
        result += rules[number : number + 1]
    return tuple(result)


@contextmanager
def writing_rules(layout: LabLayout, before: bytes, placed: Sequence[PlacedRule]) -> Iterator[bytes]:
    """Write *placed* into lab.yaml: prepared and read again on entering, in place on leaving; an error in between writes nothing.

    Parameters
    ----------
    before
        The file's bytes when its rules were read.

    Yields
    ------
    bytes
        The file as it will be.

    Raises
    ------
    BusyError
        The file has changed since it was read.
    SettingsError
        The rules cannot be written into it without changing something else.
    """
    path = layout.settings_file
    final = path.resolve()  # a link to a file that is kept elsewhere stays a link
    with hold(layout.lock("settings", "lab"), "writing release rules"), atomic_path(final) as partial:
        _check_unchanged(path, before)
        after = add_rules(before, placed, path)
        partial.write_bytes(after)
        shutil.copymode(final, partial)
        _check_read_again(path, partial, placed)
        yield after
        _check_unchanged(path, before)


def _check_unchanged(path: Path, before: bytes) -> None:
    if path.read_bytes() != before:
        raise BusyError(
            f"{path} was changed by somebody else meanwhile: nothing was written. Look at it, and give the command again."
        )


def add_rules(before: bytes, placed: Sequence[PlacedRule], path: Path) -> bytes:
    """Return the bytes of a lab.yaml (*path* names it in errors) with *placed* rules added; all its own bytes stay.

    Raises
    ------
    SettingsError
        The file's form leaves no place for a rule: its rules are those of another key, say.
    """
    text = before.decode("utf-8-sig")
    mark = before[: len(before) - len(text.encode())]
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    for new in sorted(placed, key=lambda new: new.before, reverse=True):  # from the end, so that numbers stay
        text = _add(text, new, newline, path)
    return mark + text.encode()


def _add(text: str, new: PlacedRule, newline: str, path: Path) -> str:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        raise SettingsError(f"{path}: expected keys and values (a YAML mapping). {_by_hand([new])}")
    entry = next(((key, value) for key, value in root.value if key.value == _KEY), None)
    if entry is None:
        return _add_key(text, root, new, newline)
    key, rules = entry
    if not isinstance(rules, yaml.SequenceNode) or rules.start_mark.index < key.start_mark.index:
        raise SettingsError(f"{path}: release: its rules stand somewhere else in the file. {_by_hand([new])}")
    if rules.flow_style:
        return _add_to_flow(text, rules, new)
    return _add_to_block(text, key, rules, new, newline)


def _add_key(text: str, root: yaml.MappingNode, new: PlacedRule, newline: str) -> str:
    if root.flow_style:
        last = root.value[-1][1].end_mark.index if root.value else root.start_mark.index + 1
        return f"{text[:last]}{', ' if root.value else ''}{_KEY}: [{new.text}]{text[last:]}"
    indent = " " * root.value[0][0].start_mark.column
    end = root.end_mark.index  # of the document: what follows it (`...`) stays behind
    head, tail = text[:end], text[end:]
    if head and not head.endswith("\n"):
        head += newline
    return f"{head}{indent}{_KEY}:{newline}{indent}  - {new.text}{newline}{tail}"


def _add_to_flow(text: str, rules: yaml.SequenceNode, new: PlacedRule) -> str:
    if new.before < len(rules.value):
        at = rules.value[new.before].start_mark.index
        return f"{text[:at]}{new.text}, {text[at:]}"
    if not rules.value:
        at = rules.start_mark.index + text[rules.start_mark.index : rules.end_mark.index].index("[") + 1
        return f"{text[:at]}{new.text}{text[at:]}"
    at = rules.value[-1].end_mark.index
    return f"{text[:at]}, {new.text}{text[at:]}"


def _add_to_block(text: str, key: yaml.Node, rules: yaml.SequenceNode, new: PlacedRule, newline: str) -> str:
    dashes, column, last = _dashes(text, rules)
    indent = " " * column
    if new.before == len(dashes):
        end = last - 1 if text[last - 1] == "\n" else text.find("\n", last)  # a block scalar takes its line end with it
        head, tail = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
        if not head.endswith("\n"):
            head += newline
        return f"{head}{indent}- {new.text}{newline}{tail}"
    dash = dashes[new.before]
    line = text.rfind("\n", 0, dash) + 1
    if text[line:dash].strip():  # something stands before it on its line
        return f"{text[:dash]}- {new.text}{newline}{indent}{text[dash:]}"
    # What is said of a rule stands above it and goes on standing there.
    above = text.find("\n", key.end_mark.index) + 1 if new.before == 0 else _first_comment_above(text, line)
    between = text[above:line].splitlines(keepends=True)
    if above > line or not all(_BLANK_OR_COMMENT.fullmatch(part) for part in between):
        above = line
    return f"{text[:above]}{indent}- {new.text}{newline}{text[above:]}"


def _dashes(text: str, rules: yaml.SequenceNode) -> tuple[list[int], int, int]:
    """Return where the dash of each rule of a block sequence stands, in which column, and where the last rule's last word ends."""
    dashes: list[yaml.Mark] = []
    last = rules.start_mark.index
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if not rules.start_mark.index <= token.start_mark.index < rules.end_mark.index:
            continue
        dash = isinstance(token, yaml.BlockEntryToken)
        if dash and (not dashes or token.start_mark.column == dashes[0].column):
            dashes.append(token.start_mark)
        if not isinstance(token, yaml.BlockEndToken):
            last = token.end_mark.index
    return [mark.index for mark in dashes], dashes[0].column, last


def _first_comment_above(text: str, line: int) -> int:
    while line > 0:
        above = text.rfind("\n", 0, line - 1) + 1
        if not _COMMENT.match(text[above:line]):
            break
        line = above
    return line


def _check_read_again(path: Path, partial: Path, placed: Sequence[PlacedRule]) -> None:
    """Read the new file as lab.yaml is read: it must say what the old one says, and the new rules."""
    try:
        old, now = read_yaml(path), read_yaml(partial)
        settings = parse_settings(now, LabSettings, where=str(path))
        was = parse_settings(old, LabSettings, where=str(path))
    except SettingsError as error:
        raise SettingsError(f"{path}: the release could not be written into it ({error}). {_by_hand(placed)}") from None
    others = {name: value for name, value in now.items() if name != _KEY}
    if others != {name: value for name, value in old.items() if name != _KEY} or settings.release != with_rules(
        was.release, placed
    ):
        raise SettingsError(
            f"{path}: the release could not be written without changing something else. {_by_hand(placed)}"
        )


def _by_hand(placed: Sequence[PlacedRule]) -> str:
    lines = "; ".join(
        f"- {new.text} " + ("in front" if new.before == 0 else f"after the {new.before} rules there") for new in placed
    )
    return f"Nothing was changed. Write it by hand, under release: {lines}"
