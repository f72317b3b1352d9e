"""Commands that judge poses: review."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import JsonOption, LabOption, SessionsArgument, finish, opened_lab, speaking


@app.command()
def review(
    sessions: SessionsArgument = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="A model, or model@version, whose poses are meant in the place of the released ones; may be repeated.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the reports in a browser, five at most.")] = False,
    recompute: Annotated[bool, typer.Option(help="Make everything though it is up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Filter the poses of sessions (of all that have released poses, unless named), measure movements, and judge them."""
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.reviewing import review_sessions

        outcomes, rows = review_sessions(
            opened, instance, sessions or None, model or (), recompute=recompute, log=output.log
        )
        output.table(
            "Quality reports", ("session", "model", "verdict", "report"), [tuple(row.values()) for row in rows]
        )
        for row in rows[:5] if show else ():
            webbrowser.open(Path(row["report"]).resolve().as_uri())
        finish(output, outcomes, {"quality_reports": rows})
