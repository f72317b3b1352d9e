"""Commands that keep what a lab cannot make again: backup, restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, say_problems, speaking
from dlc_assets.lab.files import size_words
from dlc_assets.lab.lab import open_lab_folder

FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The folder of the lab's backups, on another disk.")
]


@app.command()
def backup(
    folder: FolderArgument,
    lab: LabOption = None,
    poses: Annotated[
        bool, typer.Option("--poses", help="All pose tables, too, which the GPU could make again.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read back all files of the backup, not only new ones.")
    ] = False,
    keep: Annotated[int | None, typer.Option(min=1, help="Remove all but so many of the newest backups.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy what the lab cannot make again: labels, models, records, history. Only what is new is copied, and read back."""
    with speaking(as_json) as output:
        from dlc_assets.backups.making import make_backup
        from dlc_assets.resources.instance import dagster_home

        opened = open_lab_folder(lab)
        made = make_backup(opened, dagster_home(opened), folder, log=output.log, poses=poses, verify=verify, keep=keep)
        output.say(
            f"Backup {made.name}: {made.files} files, {size_words(made.size)}; {made.copied} with new content "
            f"({size_words(made.copied_bytes)}) were copied and read back."
        )
        for note in made.notes:
            output.say(f"Not in it: {note}")
        if made.removed:
            output.say(f"{made.removed} older backups were removed.")
        say_problems(output, made.problems)
        output.result({"ok": not made.problems, **vars(made)})
        if made.problems:
            raise typer.Exit(FAILED)


@app.command()
def restore(
    folder: FolderArgument,
    lab: Annotated[
        Path | None, typer.Option("--lab", help="The new folder of the restored lab.", show_default=False)
    ] = None,
    at: Annotated[str | None, typer.Option(help="Which backup; default: the newest.", show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="Read the backup whole and restore nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a lab again from a backup, in a new folder; each file is proven to be what it was."""
    with speaking(as_json) as output:
        from dlc_assets.backups.folder import BackupFolder
        from dlc_assets.backups.making import check_files
        from dlc_assets.backups.restoring import restore_lab
        from dlc_assets.lab.errors import SettingsError

        backups = BackupFolder(folder.expanduser().resolve())
        if check:
            backups.owner()
            listed = backups.read(at)
            problems = check_files(backups, listed.files, output.log)
            output.say(
                f"Backup {listed.at} of {listed.root}: {len(listed.files) - len(problems)} files can be read back."
            )
        elif lab is None:
            raise SettingsError("--lab DIR is needed: the new folder of the restored lab.")
        else:
            restored = restore_lab(backups, lab, at=at, log=output.log)
            listed, problems = restored.listed, restored.problems
            output.say(f"{lab} is the lab {listed.root} as it was at {listed.at}: {restored.files} files.")
            for note in listed.notes:
                output.say(f"Not in it: {note}")
            output.say(
                f"Next: copy its recordings, with their times (cp -a), to where lab.yaml says, then dlc-assets status --lab {lab}"
            )
        say_problems(output, problems)
        output.result({"ok": not problems, "backup": listed.at, "files": len(listed.files), "problems": problems})
        if problems:
            raise typer.Exit(FAILED)
