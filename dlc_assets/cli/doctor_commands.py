"""Commands about the machine that a lab works on: doctor."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import FAILED, JsonOption, LabOption, speaking
from dlc_assets.lab.lab import open_lab_folder


@app.command()
def doctor(
    forget_gpus: Annotated[
        bool,
        typer.Option("--forget-gpus", help="Forget which GPUs this machine had: their loss is then no error any more."),
    ] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at what the lab's work depends on (GPUs, disks, database, daemon, network, ...), and say what to do."""
    with speaking(as_json) as output:
        from dataclasses import asdict

        from dlc_assets.doctor.examination import examine
        from dlc_assets.lab.gpus import forget_gpus as forget
        from dlc_assets.resources.instance import open_instance

        opened = open_lab_folder(lab)
        if forget_gpus:
            output.say(
                "the GPUs of this machine are forgotten"
                if forget(opened.layout)
                else "no GPU of this machine was known"
            )
        with open_instance(opened, output.log) as instance:
            found = examine(opened, instance)
        rows = [(finding.level, finding.about, finding.found, finding.todo) for finding in found]
        output.table(f"{opened.settings.name} ({opened.root})", ("", "about", "found", "what to do"), rows)
        counts = Counter(finding.level for finding in found)
        output.say(f"{counts['error']} errors, {counts['warn']} warnings, {counts['ok']} as they should be.")
        ok = not counts["error"]
        output.result({"ok": ok, "findings": [asdict(finding) for finding in found]})
        if not ok:
            raise typer.Exit(FAILED)
