"""The documentation says what is there, all of it, and nothing else: keys, commands, tables, assets, links and examples."""

from __future__ import annotations

import re
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import typer
from pydantic import BaseModel

from dlc_assets.adoption.answers import Answers
from dlc_assets.assets import (
    derived,
    documentation,
    export,
    frames_to_label,
    inference,
    labeled_video,
    publishing,
    recordings,
    training,
)
from dlc_assets.catalog import sql
from dlc_assets.catalog.schema import COMPARISON, TABLES, VIEWS
from dlc_assets.cli import app
from dlc_assets.definitions import defs
from dlc_assets.derived.kinematics_schema import RULES, base_columns
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.session_metadata import SessionMetadata
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.lab.yaml_settings import read_settings
from dlc_assets.poses.schema import COLUMNS
from dlc_assets.sensors import definitions as sensors
from docs_tools import reference
from docs_tools.setting_types import keys

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
OTHER_YAML = "dagster.yaml"  # what is not the lab's own file and not ours to check


def _page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=_page_id)


def _first_cells(text: str) -> list[str]:
    """Return the first cell of each table row where that is in backticks."""
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


def _rows(text: str) -> list[list[str]]:
    """Return the table rows of *text* without head, cells without backticks."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def _sections(page: Path) -> dict[str, str]:
    """Return the text below each heading of the second level, by its words without backticks."""
    pieces = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title.strip("` "): text for title, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def _blocks(page: Path, language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, text in found]


# --- settings


def _models_in(annotation: Any, path: str) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, path
        return
    kind = typing.get_origin(annotation)
    below = f"{path}[]" if kind in (tuple, list) else f"{path}.<name>" if kind is dict else path
    for argument in typing.get_args(annotation):
        yield from _models_in(argument, below)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        for inner, path in _models_in(field.annotation, key):
            yield from _keys(inner, f"{path}.")


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("lab-yaml.md", LabSettings),
        ("model-specification.md", ModelSpecification),
        ("session-yaml.md", SessionMetadata),
    ],
)
def test_the_page_of_a_settings_file_lists_its_keys_and_no_others(page: str, model: type[BaseModel]) -> None:
    assert _first_cells((REFERENCE / page).read_text(encoding="utf-8")) == list(_keys(model))


@pytest.mark.parametrize(
    ("page", "model"),
    [
        ("lab-yaml.md", LabSettings),
        ("model-specification.md", ModelSpecification),
        ("session-yaml.md", SessionMetadata),
    ],
)
def test_the_page_of_a_settings_file_states_the_defaults_that_hold(page: str, model: type[BaseModel]) -> None:
    text = (REFERENCE / page).read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `([^`]+)` \| ([^|]*) \|", text, re.MULTILINE))
    wrong = {
        key.path: (stated[key.path], key.default)
        for key in keys(model)
        if key.default.startswith("`") and stated[key.path].startswith("`") and stated[key.path] != key.default
    }
    assert not wrong, "key: (stated on the page, true); a default may also be told in words"


def _settings_of_block(block: str, place: Path) -> BaseModel | None:
    """Read an example as the file that its first line names; a part of lab.yaml needs no name."""
    first = block.splitlines()[0]
    name = re.fullmatch(r"# (\S+\.yaml)", first)
    assert name is not None, f"a yaml example begins with a comment that names its file, not with {first!r}"
    if name[1] == OTHER_YAML:
        return None
    if name[1] == "lab.yaml":
        model: type[BaseModel] = LabSettings
    elif name[1].startswith("models/"):
        model = ModelSpecification
    elif name[1].startswith("adopt-"):
        model = Answers
    else:
        assert re.search(r"/(session|(sub-[^_/]+_)?ses-[^_/]+)\.yaml$", name[1]), f"which file is {name[1]}?"
        model = SessionMetadata
    file = place / "example.yaml"
    file.write_text(block, encoding="utf-8")
    return read_settings(file, model)


@every_page
def test_examples_of_settings_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in _blocks(page, "yaml"):
        _settings_of_block(block, tmp_path)


# --- what is made from the code


def test_the_parts_of_the_reference_that_are_made_from_the_code_say_what_it_says() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in reference.outdated()]
    assert not names, "these do not say what the code says: `make reference` writes them anew"


def test_a_table_of_the_catalog_that_nobody_described_gets_a_place_and_its_columns() -> None:
    page = (REFERENCE / "catalog.md").read_text(encoding="utf-8")
    without = re.sub(r"^## `devices`.*?(?=^## )", "", page, flags=re.MULTILINE | re.DOTALL)
    assert "manufacturer" not in without
    added = reference.with_catalog_tables(without)
    assert re.search(r"^## `devices`\n\nCameras.*?^\| `manufacturer` \| string \|", added, re.MULTILINE | re.DOTALL)


# --- tables


def test_the_catalogs_page_lists_its_tables_and_columns_and_no_others() -> None:
    described = {
        name: [cell for cell in _first_cells(text) if cell != "tag_<name>"]
        for name, text in _sections(REFERENCE / "catalog.md").items()
    }
    tables = (*TABLES, *VIEWS, COMPARISON)
    assert described == {table.name: [column.name for column in table.columns] for table in tables}
    tagged = {name for name, text in _sections(REFERENCE / "catalog.md").items() if "`tag_<name>`" in text}
    assert tagged == {table.name for table in tables if table.tagged}


def test_the_pose_tables_page_lists_its_columns() -> None:
    first_table = (REFERENCE / "pose-table.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert [row[:4] for row in _rows(first_table)] == [
        [column.name, column.arrow, column.unit, "yes" if column.nullable else "no"] for column in COLUMNS
    ]


def test_the_kinematics_tables_page_lists_its_columns() -> None:
    first_table = (REFERENCE / "kinematics-table.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert _rows(first_table) == [
        *([name, arrow, unit, "no", description] for name, arrow, unit, _, description in base_columns()),
        *([r.template, r.arrow, r.unit, "yes" if r.lengths else "no", r.description] for r in RULES),
    ]


def test_every_table_of_element_deeplabcut_is_mapped_to_its_catalog_table() -> None:
    text = _sections(ROOT / "docs" / "coming-from-element-deeplabcut.md")["The map"]
    mapped = {
        (element, table)
        for line in text.splitlines()
        if line.startswith("| ") and "---" not in line
        for cells in [re.split(r"(?<!\\)\|", line)]
        for element in cells[1].strip().split(", ")
        for table in re.findall(r"`([^`]+)`", cells[3])
    }
    assert mapped == {(element, table.name) for table in (*TABLES, *VIEWS) for element in table.element}


# --- commands


def _commands() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # a group has commands


def _options(command: Any) -> set[str]:
    """Return every way to write an option of *command*; arguments have none."""
    written = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return {name for name in written if name.startswith("--")}


def test_the_page_of_commands_lists_every_command_and_option_and_no_others() -> None:
    sections = _sections(REFERENCE / "commands.md")
    del sections["Environment variables"]
    described = {
        name: {option for row in _rows(text) for option in re.findall(r"--[a-z-]+", row[0])}
        for name, text in sections.items()
    }
    assert described == {name: _options(command) for name, command in _commands().items()}


def _command_lines(page: Path) -> Iterator[str]:
    for block in _blocks(page, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "dlc-assets":
                yield line
    yield from re.findall(r"`(dlc-assets [a-z][^`]*)`", page.read_text(encoding="utf-8"))


@every_page
def test_every_command_in_the_text_exists_with_its_options(page: Path) -> None:
    commands = _commands()
    for line in _command_lines(page):
        _, name, *words = shlex.split(line, comments=True)
        assert name in commands, line
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= _options(commands[name]) | {"--help"}, line


@pytest.fixture(scope="module")
def small_lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with nothing but a subject: every table is there, and the tag that the examples use."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "lab.yaml").write_text("name: small\nsubjects: {m01: {tags: {group: control}}}\n", encoding="utf-8")
    return folder


@every_page
def test_every_query_in_the_text_can_be_asked(page: Path, small_lab: Path) -> None:
    lab = open_lab_folder(small_lab)
    for line in _command_lines(page):
        _, name, *words = shlex.split(line, comments=True)
        queries = [word for word in words if word.startswith(("select ", "show ", "describe "))]
        if name == "sql" and words and words != ["QUERY"]:
            assert len(queries) == 1, line
            assert sql.query(lab, queries[0]).columns
    for text in re.findall(r"`(select [^`]*)`", page.read_text(encoding="utf-8")):
        assert sql.query(lab, text).columns


# --- the graph


def _asset_names() -> set[str]:
    return {spec.key.to_user_string() for spec in defs.resolve_all_asset_specs()}


def test_the_page_of_assets_lists_the_graph_and_nothing_else() -> None:
    sections = _sections(REFERENCE / "assets.md")
    specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    assert {row[0]: row[1] for row in _rows(sections["Assets"])} == {
        name: spec.group_name for name, spec in specs.items()
    }
    checks = {
        (spec.asset_key.to_user_string(), spec.name) for check in defs.asset_checks or () for spec in check.check_specs
    }
    assert {(row[0], row[1]) for row in _rows(sections["Checks"])} == checks
    assert set(_first_cells(sections["Sensors"])) == {sensor.name for sensor in sensors.ALL}
    seconds = {row[0]: row[1] for row in _rows(sections["Sensors"])}
    assert seconds == {sensor.name: f"{sensor.minimum_interval_seconds} s" for sensor in sensors.ALL}
    assert set(_first_cells(sections["Jobs"])) == {job.name for job in defs.jobs or ()}


def test_the_page_of_assets_lists_the_settings_of_a_run() -> None:
    configs: dict[str, type[Any]] = {
        "trained_model": training.TrainingConfig,
        "model_evaluation": training.EvaluationConfig,
        "frames_to_label": frames_to_label.FramesToLabelConfig,
        "session_recordings": recordings.RecordingsConfig,
        "pose_table": inference.PoseTableConfig,
        "review_poses": derived.ReviewConfig,
        "labeled_video": labeled_video.LabeledVideoConfig,
        "nwb_file": export.NwbConfig,
        "dandi_asset": publishing.PublishConfig,
    }
    described = [(row[0], row[1]) for row in _rows(_sections(REFERENCE / "assets.md")["Settings of a run"])]
    assert described == [(asset, field) for asset, config in configs.items() for field in config.model_fields]
    configurable = {
        definition.op.name
        for definition in defs.assets or ()
        if isinstance(definition, dg.AssetsDefinition)
        if getattr(definition.op.config_schema.config_type, "fields", None)
    }
    assert configurable == set(configs)


def test_the_concepts_name_every_sensor_and_every_asset() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert {sensor.name for sensor in sensors.ALL} <= named
    assert _asset_names() <= named


def test_the_description_of_every_asset_leads_to_its_page() -> None:
    specs = list(defs.resolve_all_asset_specs())
    assert {spec.key.to_user_string() for spec in specs} == set(documentation.PAGES)
    for spec in specs:
        page = documentation.PAGES[spec.key.to_user_string()]
        assert (documentation.DOCS / page).is_file(), page
        assert (spec.description or "").endswith(f"docs/{page}`")
        assert "docs" in spec.metadata


def test_where_the_pages_are_served_the_descriptions_link_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(documentation.DOCS_URL, "https://lab.example/docs/")
    (spec,) = documentation.with_pages([dg.AssetSpec("catalog", description="Tables.")])
    url = "https://lab.example/docs/reference/catalog.html"
    assert spec.description == f"Tables.\n\nMore: [docs/reference/catalog.md]({url})"
    assert spec.metadata["docs"] == dg.MetadataValue.url(url)


# --- links


def _anchor(heading: str) -> str:
    """Return the anchor that a heading gets: lower case, words joined by hyphens, no other signs."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@every_page
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(_anchor, headings), f"{link}: {target} has no such heading"


@every_page
def test_every_page_is_reached_from_the_readme(page: Path) -> None:
    seen = {ROOT / "README.md"}
    waiting = list(seen)
    while waiting:
        here = waiting.pop()
        for link in re.findall(r"\]\(([^)#\s]+\.md)", here.read_text(encoding="utf-8")):
            target = (here.parent / link).resolve()
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    assert page in seen


def test_every_picture_is_small_and_on_a_page() -> None:
    shown = {
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"!\[[^]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture in shown, f"no page shows {picture.name}"
        assert picture.stat().st_size <= 200_000, picture.name
