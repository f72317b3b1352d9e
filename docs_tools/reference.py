"""The parts of the reference that the code itself can say: `python -m docs_tools.reference` writes them (`make reference`).

Two kinds, so that people's words and the code's never stand in each other's way:

- pages below ``docs/reference/generated`` are made whole: every key of the settings files with its type, default and limits, and
  every command with its arguments and options;
- in ``catalog.md`` and ``pose-table.md`` only the tables of columns are made, wherever they stand; the words around them are people's.

What it writes is committed, so that it can be read without building anything; a test says when it is no longer what the code says.
"""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from dlc_assets.catalog.schema import COMPARISON, TABLES, VIEWS, CatalogTable
from dlc_assets.cli import app
from dlc_assets.lab.session_metadata import SessionMetadata
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.poses.schema import COLUMNS
from docs_tools.setting_types import keys, type_words

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_MADE = "<!-- Made by `make reference` from the code; edit that, not this page. -->"
_CATALOG_HEAD = ("column", "type", "what it holds")
_POSES_HEAD = ("column", "type", "unit", "nulls", "what it holds")


def pages() -> dict[Path, str]:
    """Return the text of each page that is made from the code, or has parts that are, by its path."""
    generated = REFERENCE / "generated"
    catalog, poses = REFERENCE / "catalog.md", REFERENCE / "pose-table.md"
    return {
        generated / "lab-yaml.md": _keys_page("lab.yaml", LabSettings, "lab-yaml.md"),
        generated / "model-specification.md": _keys_page(
            "Model specification", ModelSpecification, "model-specification.md"
        ),
        generated / "session-yaml.md": _keys_page("session.yaml", SessionMetadata, "session-yaml.md"),
        generated / "commands.md": _commands_page(),
        catalog: with_catalog_tables(catalog.read_text(encoding="utf-8")),
        poses: _with_table(poses.read_text(encoding="utf-8"), _POSES_HEAD, _pose_rows()),
    }


def outdated() -> list[Path]:
    """Return the pages that do not say what the code says."""
    return [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "".join(f"| {cell} " if cell else "|  " for cell in cells) + "|"

    return "\n".join([line(head), "|---" * len(head) + "|", *map(line, rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _keys_page(title: str, model: type[BaseModel], explained: str) -> str:
    rows = [(f"`{key.path}`", _cell(key.type), _cell(key.default), _cell(key.description)) for key in keys(model)]
    return "\n".join(
        [
            f"# {title}: types and limits",
            "",
            _MADE,
            "",
            f"Every key with the type that is accepted and what counts where it is left out. What each means is explained in "
            f"[{title}](../{explained}).",
            "",
            "`[]` means: for each entry of a list; `<name>` means: for each name that you choose.",
            "",
            _table(("key", "type", "default", "note"), rows),
            "",
        ]
    )


def _commands_page() -> str:
    group = typer.main.get_command(app)
    parts = [
        "# Commands: arguments and options",
        "",
        _MADE,
        "",
        "What `dlc-assets COMMAND --help` says. More about each, with examples, stands in [commands](../commands.md).",
    ]
    for name, command in group.commands.items():  # type: ignore[attr-defined]  # a group has commands
        parts += ["", f"## `{name}`", "", *_command_text(name, command)]
    return "\n".join([*parts, ""])


def _command_text(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["dlc-assets", name, "[OPTIONS]", *(_argument(p) for p in arguments)])
    yield from (command.help.strip(), "", "```", usage, "```")
    if arguments:
        taken = [(f"`{_cell(_argument(p))}`", _cell(getattr(p, "help", None) or "")) for p in arguments]
        yield from ("", _table(("argument", "what it is"), taken))
    rows = [(_option(p), _cell(_kind(p)), _cell(_default(p)), _cell(p.help or "")) for p in options]
    yield from ("", _table(("option", "type", "default", "what it does"), rows))


def _argument(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    name = parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]"
    return f"{name}..." if parameter.nargs == -1 else name


def _option(parameter: Any) -> str:
    return ", ".join(f"`{written}`" for written in (*parameter.opts, *parameter.secondary_opts))


def _kind(parameter: Any) -> str:
    if parameter.is_flag:
        return "switch"
    if parameter.metavar:
        kind = " or ".join(f"`{one}`" for one in parameter.metavar.split("|"))
    else:
        kind = _type_words(parameter.type_descriptor.annotation)
    limits = [f"at least {parameter.min}"] * (parameter.min is not None)
    limits += [f"at most {parameter.max}"] * (parameter.max is not None)
    return ", ".join([kind, *limits, *(["may be repeated"] if parameter.multiple else [])])


def _type_words(annotation: Any) -> str:
    if typing.get_origin(annotation) is list:
        return _type_words(*typing.get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    return "path" if annotation is Path else type_words(annotation)


def _default(parameter: Any) -> str:
    default = parameter.default
    if parameter.required:
        return "must be stated"
    if default is None or default is False or default in ((), []):
        return ""
    default = getattr(default, "value", default)
    return f"`{parameter.opts[0]}`" if default is True else f"`{default}`"


def _with_table(page: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return *page* with *rows* in its first table under *head*."""
    title = f"| {' | '.join(head)} |\n"
    if title not in page:
        raise ValueError(f"expected a table under {title.strip()!r} in the page, found none")
    before, _, after = page.partition(title)
    rest = re.sub(r"\A(\|.*(\n|\Z))*", "", after)
    return f"{before}{_table(head, rows)}\n{rest}"


def _pose_rows() -> list[tuple[str, ...]]:
    return [(f"`{c.name}`", c.arrow, c.unit, "yes" if c.nullable else "no", _cell(c.description)) for c in COLUMNS]


def with_catalog_tables(page: str) -> str:
    """Return *page* with the columns of each table below its heading; a table without a heading gets one at the end."""
    head, *sections = re.split(r"(?=^## )", page, flags=re.MULTILINE)
    tables = {table.name: table for table in (*TABLES, *VIEWS, COMPARISON)}
    written = []
    for section in sections:
        name = section.partition("\n")[0].strip("#` ")
        table = tables.pop(name, None)
        written.append(section if table is None else _with_table(section, _CATALOG_HEAD, _catalog_rows(table)))
    for table in tables.values():
        written.append(
            "\n".join(
                [
                    f"\n## `{table.name}`",
                    "",
                    table.description,
                    "",
                    _table(_CATALOG_HEAD, _catalog_rows(table)),
                    "",
                ]
            )
        )
    return head + "".join(written)


def _catalog_rows(table: CatalogTable) -> list[tuple[str, str, str]]:
    rows = [(f"`{c.name}`", c.type, _cell(c.description)) for c in table.columns]
    tags = [("`tag_<name>`", "bool, float64 or string", "One column for each tag of the lab.")] if table.tagged else []
    return rows + tags


def main() -> None:
    """Write the pages, and name those that changed."""
    for path, text in pages().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(REFERENCE.parent.parent)}")


if __name__ == "__main__":
    main()
