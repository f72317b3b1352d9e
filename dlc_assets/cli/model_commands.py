"""Commands about trained models: comparing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, speaking
from dlc_assets.lab.lab import Lab, open_lab_folder

if TYPE_CHECKING:
    from dlc_assets.training.models import ModelVersion


@app.command("compare-models")
def compare_models(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL[@VERSION]]...",
            help="None: every version of every model. One name: all its versions. Several: the current version of each.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        bool, typer.Option(help="Evaluate first what is behind its labels; without it, what is known is compared.")
    ] = True,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank versions by their error on labeled frames that none of them has seen, and say which differences are noise."""
    with speaking(as_json) as output:
        from dlc_assets.training.comparison import chosen_versions, compare_versions

        opened = open_lab_folder(lab)
        stated = models or []
        chosen = chosen_versions(opened, stated)
        problems = _evaluated(opened, chosen, output.log) if run else []
        for problem in problems:
            output.log(f"Problem: {problem}")
        compared = compare_versions(opened, chosen, together=len(stated) > 1)
        for group in compared.groups:
            rows = [row for row in compared.rows if row["comparable"] == group.comparable]
            output.table(
                f"Compared on {group.sentence()}",
                (
                    "rank",
                    "version",
                    "error (px)",
                    "95 %",
                    "above p-cutoff",
                    "median",
                    "within 5 px",
                    "parameters",
                    "frames/s",
                    "what it says",
                ),
                [_cells(row) for row in rows],
            )
            if rows[0]["human_error"] is not None:
                output.say(f"Two people who labeled the same frames: {rows[0]['human_error']:.2f} px apart.")
        for sentence in compared.refused:
            output.say(f"Not ranked: {sentence}")
        if not chosen:
            output.say("There is no trained model yet: `dlc-assets train MODEL` makes one.")
        refused = len(stated) > 1 and not compared.groups
        if refused:
            output.log("Error: these cannot be ranked against each other; the reasons are above.")
        output.result(
            {
                "ok": not refused,
                "best": compared.best,
                "groups": [
                    {**vars(group), "frames": ["/".join(key) for key in group.frames]} for group in compared.groups
                ],
                "versions": compared.rows,
                "not_ranked": compared.refused,
                "problems": problems,
            }
        )
        if refused:
            raise typer.Exit(FAILED)


def _evaluated(lab: Lab, chosen: Sequence[ModelVersion], log: Callable[[str], None]) -> list[str]:
    """Evaluate what is behind; Dagster is loaded only where something is."""
    from dlc_assets.training.rescoring import behind_labels

    behind, problems = behind_labels(lab, chosen)
    if not behind:
        return problems
    from dlc_assets.commands import evaluate_versions

    return problems + evaluate_versions(lab, behind, log=log)


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    def number(name: str, digits: int = 2) -> str:
        return "" if row[name] is None else f"{row[name]:.{digits}f}"

    interval = "not known" if row["rmse_low"] is None else f"{number('rmse_low')} to {number('rmse_high')}"
    parameters = "" if row["parameters"] is None else f"{row['parameters'] / 1e6:.1f} M"
    speed = "" if row["frames_per_second"] is None else f"{row['frames_per_second']:g} ({row['device']})"
    return (
        row["rank"],
        f"{row['model']}@{row['version']}{' (current)' if row['current'] else ''}",
        number("rmse"),
        interval,
        number("rmse_pcutoff"),
        number("median_error"),
        "" if row["pck_5px"] is None else f"{row['pck_5px']:.0%}",
        parameters,
        speed,
        row["note"],
    )
