"""The overview's page: a table that can be sorted and searched, with a link to each report; one HTML file that needs nothing else."""

from __future__ import annotations

import json
from typing import Any

from dlc_assets.review.overview.table import ERROR, PASS, WARN, Cell, Overview, Row
from dlc_assets.review.report.build import PAGE as REPORT
from dlc_assets.review.report.page import number_words
from dlc_assets.review.report.verdict import LEVELS, WORDS, check_words

MOST_ROWS = 25_000
_LONGEST = 160  # characters of a verdict; the report has all of it
_STATES = {PASS: 1, WARN: 2, ERROR: 3}


def html_of(overview: Overview, *, lab: str, made: str, table: str) -> str:
    """Return the page of *overview*; reports are found by links relative to the page's own folder.

    Parameters
    ----------
    lab
        The lab's name.
    made
        When, in words.
    table
        File name of the CSV with all rows, beside the page.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    rows = rows_shown(overview)
    environment = Environment(
        loader=PackageLoader("dlc_assets.review.overview", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html").render(
        lab=lab,
        made=made,
        table=table,
        sentence=overview.sentence(),
        counts=overview.counts,
        words=WORDS,
        omitted=len(overview.rows) - len(rows),
        checks=[check_words(check) for check in overview.checks],
        data=_as_script_data(_data(overview, rows)),
    )


def rows_shown(overview: Overview) -> list[Row]:
    """Return the rows of the page: all, or, of very many, those worth a look and the newest of the others."""
    if len(overview.rows) <= MOST_ROWS:
        return list(overview.rows)
    chosen = {id(row) for row in overview.to_look_at()[:MOST_ROWS]}
    for row in overview.rows:
        if len(chosen) >= MOST_ROWS:
            break
        chosen.add(id(row))
    return [row for row in overview.rows if id(row) in chosen]


def _data(overview: Overview, rows: list[Row]) -> dict[str, Any]:
    """Return the rows as lists: model's number, version, session, day, level's number (-1: no report), sentence, states, values."""
    models = sorted({row.model for row in rows})
    return {"models": models, "report": REPORT, "rows": [_row(overview, row, models) for row in rows]}


def _row(overview: Overview, row: Row, models: list[str]) -> list[Any]:
    cells = [row.cells.get(check, Cell()) for check in overview.checks]
    level = -1 if row.verdict is None else LEVELS.index(row.verdict.level)
    said = "" if row.verdict is None or level == 0 else _without_word(row.verdict.sentence, WORDS[row.verdict.level])
    return [
        models.index(row.model),
        row.version,
        row.session,
        row.day[:16].replace("T", " "),
        level,
        said,
        "".join(str(_STATES.get(cell.state, 0)) for cell in cells),
        [number_words(cell.value) for cell in cells],
    ]


def _without_word(sentence: str, word: str) -> str:
    rest = sentence.removeprefix(f"{word}:").strip()
    return rest if len(rest) <= _LONGEST else f"{rest[: _LONGEST - 4].rstrip()} ..."


def _as_script_data(obj: Any) -> Any:
    """Return *obj* as JSON that cannot end the script element that it lies in."""
    from markupsafe import Markup

    text = json.dumps(obj, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
