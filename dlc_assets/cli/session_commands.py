"""Commands about what is stated of sessions: import-sessions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, USAGE, JsonOption, LabOption, say_problems, speaking
from dlc_assets.lab.lab import open_lab_folder


@app.command("import-sessions")
def import_sessions(
    file: Annotated[Path, typer.Argument(help="A table with one row a session: CSV in UTF-8.")],
    template: Annotated[
        bool, typer.Option("--template", help="Write FILE, a new one: every session found, with what is known of it.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put the file's values in the place of others that the lab has.")
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take metadata of many sessions into the lab's sessions.csv: all rows of a table, or none where anything is wrong with one."""
    from dlc_assets.recordings.discovery import discover
    from dlc_assets.recordings.session_import import import_sessions as do_import
    from dlc_assets.recordings.session_import import template_text, write_template

    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        found = discover(opened).sessions
        if template:
            if dry_run:
                output.say(template_text(opened, found))
            else:
                write_template(opened, file, found)
                output.say(f"{file}: {len(found)} sessions. Fill it in and run: dlc-assets import-sessions {file}")
            output.result({"ok": True, "template": str(file), "sessions": sorted(found), "written": not dry_run})
            return
        plan = do_import(opened, file, found, replace=replace, dry_run=dry_run)
        rows = [(row.row, row.session, row.what, " ".join(row.says)) for row in plan.rows]
        output.table(f"{file}", ("row", "session", "what", "more"), rows)
        said = {f"{file}: {words}" for row in plan.rows for words in row.says}
        say_problems(output, [problem for problem in plan.problems if problem not in said])
        refused = bool(plan.problems) or (bool(plan.differences) and not replace)
        written = plan.content is not None and not dry_run
        counts = Counter(row.what for row in plan.rows)
        if plan.problems:
            output.log("Error: nothing was imported, as something is wrong in the file. Mend it and import it again.")
        elif refused:
            number = "1 value is" if len(plan.differences) == 1 else f"{len(plan.differences)} values are"
            output.log(
                f"Error: nothing was imported: {number} another in {plan.target}. State --replace to put the file's in the place of "
                "the lab's, or empty those cells."
            )
        else:
            told = ", ".join(f"{count} {what}" for what, count in counts.items()) or "no rows"
            does = "written" if written else "not written (--dry-run)" if plan.content is not None else "as it was"
            output.say(f"{plan.target}: {told}; {does}.")
        if plan.not_found:
            number = "1 session is" if len(plan.not_found) == 1 else f"{len(plan.not_found)} sessions are"
            output.say(f"{number} not found yet; what is stated of them counts once their videos are there.")
        output.result(
            {
                "ok": not refused,
                "table": str(plan.target),
                "written": written,
                "rows": [vars(row) for row in plan.rows],
                "problems": list(plan.problems),
                "differences": list(plan.differences),
                "not_found": list(plan.not_found),
            }
        )
        if refused:
            raise typer.Exit(USAGE if plan.problems else FAILED)
