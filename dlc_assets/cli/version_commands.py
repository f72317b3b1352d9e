"""Commands about model versions and what they made: compare-poses, forget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, Output, finish, opened_lab, speaking
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import size_words
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.poses.differences import MOVED_PX
from dlc_assets.training.models import ModelVersion


@app.command()
def forget(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL@VERSION|SESSION|MODEL]",
            help="A model version; or a session whose videos are gone; or a model whose specification is gone.",
            show_default=False,
        ),
    ] = None,
    with_poses: Annotated[bool, typer.Option("--with-poses", help="Remove the pose tables that it made, too.")] = False,
    empty: Annotated[
        bool, typer.Option("--empty-trash", help="Delete for good what was moved to the trash before.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a model version, or what is left of a gone session or model, to the trash; never what something else names."""
    with speaking(as_json) as output:
        if (name is None) != empty:
            raise SettingsError("expected either what is to be forgotten, or --empty-trash.")
        if name is None:
            _empty_trash(output, lab, dry_run=dry_run, yes=yes)
            return
        with opened_lab(lab, output) as (opened, instance):
            from dlc_assets.forgetting import forget as move
            from dlc_assets.forgetting import refuse_to_forget, what_is_meant, would_move
            from dlc_assets.resources.janitor import end_dead_runs

            end_dead_runs(instance, opened.layout, output.log)
            meant = what_is_meant(opened, instance, name)
            refuse_to_forget(opened, instance, meant, with_poses=with_poses)
            paths = would_move(opened, meant, with_poses=with_poses)
            what: dict[str, Any] = {"what": meant.kind, "name": meant.name}
            output.say(f"Nothing keeps the {meant.kind} {meant.name}. The store has of it:")
            for path in paths:
                output.say(f"  {path.relative_to(opened.root)}")
            if dry_run:
                output.say("This would be moved to the trash; nothing was changed.")
                output.result({"ok": True, **what, "dry_run": True, "paths": [str(path) for path in paths]})
                return
            if not _agreed(output, f"Move the {meant.kind} {meant.name} to the trash?", yes=yes):
                output.result({"ok": False, **what, "error": "not confirmed"})
                raise typer.Exit(FAILED)
            entry = move(opened, instance, meant, with_poses=with_poses, log=output.log)
            output.say(f"{meant.name} is in {entry.folder} ({size_words(entry.bytes)}).")
            output.say("`dlc-assets forget --empty-trash` deletes it for good.")
            output.result(
                {"ok": True, **what, "trash": str(entry.folder), "paths": list(entry.paths), "bytes": entry.bytes}
            )


@app.command("compare-poses")
def compare_poses(
    old: Annotated[str, typer.Argument(help="MODEL (its current version) or MODEL@VERSION.")],
    new: Annotated[str, typer.Argument(help="The other one.")],
    sessions: Annotated[
        list[str] | None, typer.Option("--sessions", metavar="KEY", help="Only these; may be repeated.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            min=0, help="So many sessions, those that change most, are listed and get pictures; 0: all, none."
        ),
    ] = 10,
    moved: Annotated[
        float, typer.Option("--moved", metavar="PX", help="Distance beyond which a position has moved.")
    ] = MOVED_PX,
    analyze: Annotated[
        bool, typer.Option("--analyze", help="First estimate with NEW the sessions that only OLD has analysed.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank sessions by how much their poses change from OLD to NEW, with pictures of the largest changes."""
    from dlc_assets.inference.pose_comparison import compare_poses as compare
    from dlc_assets.inference.pose_comparison import versions_to_compare
    from dlc_assets.inference.pose_comparison_report import COLUMNS, ranking, write_report

    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        one, other = versions_to_compare(opened, old, new)
        outcomes = _analyze_missing(output, lab, one, other, sessions) if analyze else []
        found = compare(opened, one, other, sessions or None, moved_px=moved, log=output.log)
        report, sheets, missing = write_report(opened, found, limit=limit, log=output.log)
        shown = ranking(found)[: limit or None]
        output.table(f"Poses of {other} against {one}, the largest change first", COLUMNS, shown)
        if len(found.sessions) > len(shown):
            output.say(f"and {len(found.sessions) - len(shown)} more in the report")
        for version, alone in ((one, found.only_old), (other, found.only_new)):
            if alone:
                more = ", ..." if len(alone) > 10 else ""
                output.say(f"Sessions with poses by {version} alone ({len(alone)}): {', '.join(alone[:10])}{more}")
        if found.only_old:
            output.say(f"--analyze estimates them with {other}; what is released stays as it is.")
        for note in (*found.notes, *missing):
            output.log(f"Note: {note}")
        output.say(f"Report and {len(sheets)} {'sheet' if len(sheets) == 1 else 'sheets'} of pictures: {report}")
        result = {
            "old": str(one),
            "new": str(other),
            "moved_px": moved,
            "changes": found.table().to_dict(orient="records"),
            "only_old": found.only_old,
            "only_new": found.only_new,
            "notes": [*found.notes, *missing],
            "report": str(report),
            "pictures": [str(sheet) for sheet in sheets],
        }
        finish(output, outcomes, result)


def _analyze_missing(
    output: Output, lab: Path | None, old: ModelVersion, new: ModelVersion, sessions: list[str] | None
) -> list[Any]:
    """Estimate with *new* what only *old* has analysed (of *sessions*, or of all)."""
    with opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import analyze_with_version
        from dlc_assets.inference.pose_comparison import analysed_sessions

        there = set(analysed_sessions(opened, new))
        missing = [
            key for key in analysed_sessions(opened, old) if key not in there and (not sessions or key in sessions)
        ]
        if not missing:
            output.log(f"{new} has analysed all that {old} has")
            return []
        output.log(f"{new} analyses {len(missing)} sessions that only {old} has analysed")
        return analyze_with_version(opened, instance, new, missing, log=output.log)


def _empty_trash(output: Output, lab: Path | None, *, dry_run: bool, yes: bool) -> None:
    from dlc_assets.lab.trash import empty_trash, trash_entries

    layout = open_lab_folder(lab).layout
    entries = trash_entries(layout)
    rows = [(entry.name, size_words(entry.bytes), str(entry.folder)) for entry in entries]
    output.table("In the trash", ("what", "size", "folder"), rows)
    if entries and not dry_run:
        if not _agreed(output, f"Delete all of it ({len(entries)}) for good?", yes=yes):
            output.result({"ok": False, "error": "not confirmed"})
            raise typer.Exit(FAILED)
        entries = empty_trash(layout, log=output.log)
    output.result(
        {
            "ok": True,
            "dry_run": dry_run,
            "deleted": [] if dry_run else [str(entry.folder) for entry in entries],
            "bytes": sum(entry.bytes for entry in entries),
        }
    )


def _agreed(output: Output, question: str, *, yes: bool) -> bool:
    """Ask, on standard error; where nobody can answer, that is wrong usage."""
    if yes:
        return True
    if output.as_json or not sys.stdin.isatty():
        raise SettingsError(f"{question} Nobody is here to ask: give --yes, or --dry-run to see what would be done.")
    return typer.confirm(question, err=True)
