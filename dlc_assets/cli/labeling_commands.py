"""Commands about labels: which frames to label next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import (
    JsonOption,
    LabOption,
    Output,
    finish,
    opened_lab,
    say_problems,
    speaking,
)

if TYPE_CHECKING:
    from dlc_assets.labeling.adding import Added

_COLUMNS = ("session", "recording", "frame", "time", "score", "reasons", "folder", "image")


@app.command("frames-to-label")
def frames_to_label(
    model: Annotated[str, typer.Argument(help="The model: the name of its file in models/, without .yaml.")],
    sessions: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SESSION", help="Only this session; may be repeated; default: all with poses.", show_default=False
        ),
    ] = None,
    count: Annotated[int, typer.Option(help="How many frames.", min=1)] = 20,
    seed: Annotated[
        int, typer.Option(help="Of what is drawn: sessions of a large lab, frames that stand for a recording.")
    ] = 1,
    add: Annotated[
        bool, typer.Option("--add", help="Copy the folders into the project's labeled-data, where labeling tools look.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the frames that are most worth labeling next for MODEL, and write them as DeepLabCut's labeled-data, with machine labels."""
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import choose_frames
        from dlc_assets.labeling.adding import add_to_project
        from dlc_assets.labeling.batch import CONTACT_SHEET, batch_folder

        outcome, manifest = choose_frames(
            opened, instance, model, sessions or (), count=count, seed=seed, log=output.log
        )
        summary: dict[str, Any] = {"model": model, "batch": None}
        if manifest is None:
            finish(output, [outcome], summary)
            return
        folder = batch_folder(opened, manifest)
        rows = manifest.details["frames"]
        output.table(f"Frames to label next for {model}", _COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])
        for note in manifest.details["notes"]:
            output.say(note)
        say_problems(output, manifest.problems)
        output.say(f"In {folder}; {folder / CONTACT_SHEET} shows them.")
        summary |= {
            "batch": manifest.details["batch"],
            "folder": str(folder),
            "frames": rows,
            "notes": manifest.details["notes"],
            "problems": manifest.problems,
        }
        if not add:
            output.say(f"Nothing was put into the project: `dlc-assets frames-to-label {model} --add` does that.")
            finish(output, [outcome], summary)
            return
        added = add_to_project(opened, manifest)
        _say_added(output, model, added)
        summary["added"] = {**vars(added), "labeled_data": str(added.labeled_data)}
        finish(output, [outcome], summary, failed=bool(added.problems))


def _say_added(output: Output, model: str, added: Added) -> None:
    for name, number in added.added.items():
        output.say(f"Added: {number} frames to {added.labeled_data / name}")
    for name, number in added.already.items():
        output.say(f"Already there: {number} of the frames, in {added.labeled_data / name}; nothing was copied")
    for note in added.notes:
        output.say(note)
    say_problems(output, added.problems)
    if added.added:
        output.say(
            f"Open these folders in napari-deeplabcut, correct the machine labels and save them; then `dlc-assets train {model}`."
        )
