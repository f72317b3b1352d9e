"""Commands about the lab as a whole: init, scan, status, notify, sql, dev, demo."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dlc_assets.cli.app import app
from dlc_assets.cli.output import (
    FAILED,
    JsonOption,
    LabOption,
    finish,
    opened_lab,
    say_problems,
    speaking,
)
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import open_lab_folder

if TYPE_CHECKING:
    from dlc_assets.state.behind import Product

_LISTED = 30  # products of one asset in one state that `status` shows


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder of the new lab.")],
    name: Annotated[str | None, typer.Option(help="The lab's name; default: the folder's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a new lab: a commented lab.yaml, example files, and folders to drop projects and recordings into."""
    from dlc_assets.lab.template import write_new_lab

    with speaking(as_json) as output:
        written = write_new_lab(folder, name=name)
        output.say(f"New lab in {folder}:")
        for path in written:
            output.say(f"  {path}")
        output.say(
            f"Next: put a DeepLabCut project into {folder / 'projects'}, write models/<model>.yaml, put videos into "
            f"{folder / 'recordings'}, and run: dlc-assets scan --lab {folder}"
        )
        output.result({"ok": True, "lab": str(folder), "written": [str(path) for path in written]})


@app.command()
def scan(lab: LabOption = None, as_json: JsonOption = False) -> None:
    """Find recordings, register their sessions, and probe those that are new or have changed."""
    with speaking(as_json) as output, opened_lab(lab, output) as (opened, instance):
        from dlc_assets.commands import register_models, scan_recordings
        from dlc_assets.recordings.discovery import discover
        from dlc_assets.state.lab_state import lab_state

        register_models(opened, instance, output.log)
        discovery = discover(opened)
        outcomes = scan_recordings(opened, instance, discovery, None, log=output.log)
        state = lab_state(opened)
        rows = [(p.key, p.state, p.why) for p in state.of("session_recordings")]
        output.table(f"{len(rows)} sessions", ("session", "recordings", "why"), rows)
        say_problems(output, [*state.problems, *_unmatched(state.unmatched)])
        finish(
            output,
            outcomes,
            {
                "sessions": [dict(zip(("session", "state", "why"), row, strict=True)) for row in rows],
                "problems": state.problems,
                "unmatched": [str(path) for path in state.unmatched],
            },
        )


def _unmatched(paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    shown = ", ".join(str(path) for path in paths[:3])
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    count = "1 video fits" if len(paths) == 1 else f"{len(paths)} videos fit"
    return [f"{count} no template of lab.yaml and will not be used: {shown}{more}."]


@app.command()
def status(
    everything: Annotated[bool, typer.Option("--all", help="List what is up to date, too.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is there, what is missing, behind, failed or gone, and why; what has stopped, and which messages could not be sent."""
    from dlc_assets.notices.looked import stopped_sentences, unsent_sentences
    from dlc_assets.notices.voice import Voice
    from dlc_assets.state.lab_state import lab_state
    from dlc_assets.state.versions import COLUMNS, version_states

    with speaking(as_json) as output:
        opened = open_lab_folder(lab)
        state = lab_state(opened)
        counts = state.counts()
        states = sorted({name for by_state in counts.values() for name in by_state})
        output.table(
            f"{opened.settings.name} ({opened.root})",
            ("asset", *states),
            [(asset, *(by_state.get(name, "") for name in states)) for asset, by_state in counts.items()],
        )
        listed = [p for p in state.products if everything or p.state != "up to date"]
        if listed:
            shown = listed if everything else _first_of_each(listed)
            output.table(
                "What is not up to date" if not everything else "Everything",
                ("asset", "key", "state", "why"),
                [(p.asset, p.key, p.state, p.why) for p in shown],
            )
            if len(shown) < len(listed):
                output.say(
                    f"{len(listed) - len(shown)} more are not up to date: `dlc-assets status --all` lists everything."
                )
        elif state.products:
            output.say("Everything is up to date.")
        else:
            output.say(
                "There is nothing here yet: no model specification and no recording. See `dlc-assets init --help`."
            )
        models = version_states(opened)
        if models:
            output.table("Model versions", COLUMNS, [version.cells() for version in models])
        voice, now = Voice.of(opened), time.time()
        stopped = stopped_sentences(voice, now=now, behind=bool(state.behind()))
        unsent = unsent_sentences(voice, now=now)
        say_problems(output, [*state.problems, *stopped, *unsent])
        output.result(
            {
                "ok": True,
                "lab": str(opened.root),
                "counts": counts,
                "products": [vars(p) for p in listed],
                "versions": [version.facts() for version in models],
                "problems": state.problems,
                "stopped": stopped,
                "unsent": unsent,
            }
        )


def _first_of_each(products: Sequence[Product]) -> list[Product]:
    """Return the first products of each asset in each state: a large lab's table would hide the failures among what waits."""
    seen: Counter[tuple[str, str]] = Counter()
    shown = []
    for product in products:
        seen[product.asset, product.state] += 1
        if seen[product.asset, product.state] <= _LISTED:
            shown.append(product)
    return shown


@app.command()
def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a test message by each of them.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say by which ways people are told, as lab.yaml has it, or try each of them."""
    from dlc_assets.notices.channels import channels_of
    from dlc_assets.notices.looked import unsent_sentences
    from dlc_assets.notices.trial import try_channels
    from dlc_assets.notices.voice import Voice

    with speaking(as_json) as output:
        voice = Voice.of(open_lab_folder(lab))
        channels = channels_of(voice)
        if not channels:
            raise SettingsError(
                f"{voice.layout.settings_file} names nobody to be told: add a block notify with mail or webhook. "
                "docs/how-to/be-told.md shows both."
            )
        if not test:
            rows = [(channel.name, channel.leads_to) for channel in channels.values()]
            output.table(f"Told of {', '.join(voice.notify.about) or 'nothing'}", ("by", "leads to"), rows)
            unsent = unsent_sentences(voice, now=time.time())
            say_problems(output, unsent)
            ways = [dict(zip(("channel", "leads_to"), row, strict=True)) for row in rows]
            output.result({"ok": True, "channels": ways, "about": list(voice.notify.about), "unsent": unsent})
            return
        trials = try_channels(voice, channels, now=time.time())
        output.table("Test messages", ("by", "leads to", "result"), [trial.cells() for trial in trials])
        ok = all(trial.sent for trial in trials)
        output.result({"ok": ok, "channels": [vars(trial) for trial in trials]})
        if not ok:
            raise typer.Exit(FAILED)


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='For example: "select * from sessions".')],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the catalog and the poses, as the store is now, in SQL (DuckDB, read-only)."""
    from dlc_assets.catalog.sql import query as ask

    with speaking(as_json) as output:
        answer = ask(open_lab_folder(lab), query)
        output.table("", answer.columns, answer.rows)
        output.result({"ok": True, "columns": list(answer.columns), "rows": [list(row) for row in answer.rows]})


@app.command()
def dev(
    lab: LabOption = None,
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Start the Dagster UI and daemon for the lab on 127.0.0.1, sensors on."""
    with speaking(False) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.doctor.instance import refuse_unsafe_database
        from dlc_assets.lab.leftovers import remove_leftovers
        from dlc_assets.resources.instance import open_instance
        from dlc_assets.resources.janitor import end_dead_runs
        from dlc_assets.resources.known_outputs import report_known_outputs
        from dlc_assets.serving import serve

        with open_instance(opened, output.log) as instance:
            refuse_unsafe_database(opened, instance)
            end_dead_runs(instance, opened.layout, output.log)
            remove_leftovers(opened.layout, output.log)
            report_known_outputs(instance, opened, output.log)  # of a lab that was moved, or filled by another instance
        output.say(f"The lab {opened.root} at http://127.0.0.1:{port} (stop with Ctrl-C)")
        sys.stdout.flush()
        serve(port, output.log)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's lab is made.")] = Path("demo-lab"),
    as_json: JsonOption = False,
) -> None:
    """Render a lab with known truth and run the whole chain on it: labels, training, evaluation, poses, NWB."""
    from dlc_assets.demo.run import run_demo

    with speaking(as_json) as output:
        report = run_demo(folder, log=output.log)
        for title, columns, rows in report.tables:
            output.table(title, columns, rows)
        for line in report.next_steps:
            output.say(line)
        output.result({"ok": report.ok, **report.facts})
        if not report.ok:
            raise typer.Exit(FAILED)
