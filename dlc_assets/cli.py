"""`dlc-assets`: what the UI does, without the UI, through the same Dagster instance.

Exit status: 0 done, 1 something failed (and says what), 2 wrong usage or settings. `--json` prints one JSON object on
standard output; logs go to standard error.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.lab import LAB_VARIABLE, Lab, open_lab_folder

app = typer.Typer(
    help="Pose estimation with DeepLabCut as Dagster assets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LabOption = Annotated[
    Path | None, typer.Option("--lab", help=f"The lab folder; else ${LAB_VARIABLE}, else ./lab.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
SessionsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[SESSION]...", help="Session keys; none means all.", show_default=False)
]
_FAILED, _USAGE = 1, 2


class Output:
    """Where a command speaks: people read tables and lines, programs one JSON object."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        # In a file or a pipe there is no width to fit into, and half a path helps nobody.
        self._out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
        self._err = Console(stderr=True, soft_wrap=True, highlight=False)

    def log(self, line: str) -> None:
        self._err.print(escape(line))

    def say(self, line: str) -> None:
        """Print a line for people."""
        if not self.as_json:
            self._out.print(line, highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table for people."""
        if self.as_json:
            return
        if not rows:
            self.say(f"{title}: none" if title else "no rows")
            return
        table = Table(*(Column(name, overflow="fold") for name in columns), title=title, title_justify="left")
        for row in rows:
            table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
        self._out.print(table)

    def result(self, obj: dict[str, Any]) -> None:
        """Print the command's one JSON object for programs."""
        if self.as_json:
            sys.stdout.write(json.dumps(_without_nan(obj), indent=2, default=str, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    """Return *value* with null for each number that JSON has no word for."""
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _speaking(as_json: bool) -> Iterator[Output]:
    """Turn errors into messages and exit statuses."""
    output = Output(as_json)
    try:
        yield output
    except (SettingsError, NotFoundError) as error:
        _fail(output, error, _USAGE)
    except DlcAssetsError as error:
        _fail(output, error, _FAILED)
    except OSError as error:  # a disk that is full, a folder that may not be read or written: its message names it
        _fail(output, error, _FAILED)
    except KeyboardInterrupt:
        output.log("stopped; what was finished is kept")
        output.result({"ok": False, "error": "stopped"})
        raise typer.Exit(130) from None


def _fail(output: Output, error: Exception, status: int) -> None:
    output.log(f"Error: {error}")
    output.result({"ok": False, "error": str(error)})
    raise typer.Exit(status) from None


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder of the new lab.")],
    name: Annotated[str | None, typer.Option(help="The lab's name; default: the folder's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a new lab: a commented lab.yaml, example files, and folders to drop projects and recordings into."""
    from dlc_assets.lab.template import write_new_lab

    with _speaking(as_json) as output:
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
    with _speaking(as_json) as output, _opened(lab, output) as (opened, instance):
        from dlc_assets.commands import register_models, scan_recordings
        from dlc_assets.recordings.discovery import discover
        from dlc_assets.state.behind import lab_state

        register_models(opened, instance, output.log)
        discovery = discover(opened)
        outcomes = scan_recordings(opened, instance, discovery, None, log=output.log)
        state = lab_state(opened, discovery)
        rows = [(p.key, p.state, p.why) for p in state.of("session_recordings")]
        output.table(f"{len(rows)} sessions", ("session", "recordings", "why"), rows)
        _say_problems(output, [*state.problems, *_unmatched(discovery.unmatched)])
        _finish(
            output,
            outcomes,
            {
                "sessions": [dict(zip(("session", "state", "why"), row, strict=True)) for row in rows],
                "problems": state.problems,
                "unmatched": [str(path) for path in discovery.unmatched],
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
def train(
    model: Annotated[str, typer.Argument(help="The model: the name of its file in models/, without .yaml.")],
    epochs: Annotated[int | None, typer.Option(help="For this run only; the version is then custom.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="For this run only.", min=1)] = None,
    recompute: Annotated[bool, typer.Option(help="Train though the current version is up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the training dataset of MODEL, train it, and evaluate it."""
    with _speaking(as_json) as output, _opened(lab, output) as (opened, instance):
        from dlc_assets.commands import train_model
        from dlc_assets.training.models import current_version, evaluation_manifest

        settings = {"epochs": epochs, "batch_size": batch_size, "recompute": recompute or None}
        outcome = train_model(opened, instance, model, _stated(settings), log=output.log)
        version = current_version(opened.layout, model) if outcome.success else None
        summary: dict[str, Any] = {"model": model, "version": version.version if version else None}
        if version is not None:
            evaluation = evaluation_manifest(version, opened.layout)
            sets = (
                {name: evaluation.details[name] for name in ("train", "validation", "benchmark")} if evaluation else {}
            )
            rows = [
                (name, e["n"], e["rmse"], e["rmse_pcutoff"], e["median_error"])
                for name, e in sets.items()
                if e is not None
            ]
            output.table(
                f"{version}: errors in px", ("frames", "labels", "mean", "mean above p-cutoff", "median"), rows
            )
            output.say(f"In {version.folder}")
            summary |= {"folder": str(version.folder), "evaluation": sets}
        _finish(output, [outcome], summary)


@app.command()
def analyze(
    sessions: SessionsArgument = None,
    model: Annotated[str | None, typer.Option(help="The model; default: what the release rules say.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Frames at once, for this run only; the tables are then custom.", show_default=False),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(metavar="float32|proven", help="For this run only.", show_default=False)
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(metavar="best|last|EPOCH", help="Snapshot of the model, for this run only.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|gpu", help="For this run only.", show_default=False)
    ] = None,
    dynamic_cropping: Annotated[
        bool | None,
        typer.Option(help="Look only around where the animal was, for this run only.", show_default=False),
    ] = None,
    recompute: Annotated[bool, typer.Option(help="Estimate though the tables are up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate the poses of sessions (all of them, unless named), probing their videos first where that is behind."""
    settings = {
        "batch_size": batch_size,
        "precision": precision,
        "snapshot": snapshot,
        "device": device,
        "dynamic_cropping": dynamic_cropping,
    }
    with _speaking(as_json) as output, _opened(lab, output) as (opened, instance):
        from dlc_assets.commands import analyze_sessions

        done = analyze_sessions(
            opened,
            instance,
            sessions or None,
            model,
            settings=_stated(settings),
            recompute=recompute,
            log=output.log,
        )
        output.table(
            "Pose tables",
            ("session", "model", "version", "frames", "folder"),
            [tuple(row.values()) for row in done.pose_tables],
        )
        for note in done.notes:
            output.log(note)
        _say_problems(output, done.problems)
        result = {"pose_tables": done.pose_tables, "problems": done.problems, "notes": done.notes}
        _finish(output, done.outcomes, result, failed=bool(done.problems))


@app.command()
def export(
    sessions: SessionsArgument = None,
    recompute: Annotated[bool, typer.Option(help="Write the files though they are up to date.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the NWB files of sessions (all that have released poses, unless named)."""
    with _speaking(as_json) as output, _opened(lab, output) as (opened, instance):
        from dlc_assets.commands import export_sessions

        outcomes, done = export_sessions(opened, instance, sessions or None, recompute=recompute, log=output.log)
        output.table("NWB files", ("session", "file", "findings"), [tuple(row.values()) for row in done])
        _finish(output, outcomes, {"nwb_files": done})


@app.command()
def status(
    everything: Annotated[bool, typer.Option("--all", help="List what is up to date, too.")] = False,
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is there, what is missing, behind, failed or gone, and why."""
    from dlc_assets.state.behind import lab_state
    from dlc_assets.training.models import trained_models, versions

    with _speaking(as_json) as output:
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
            output.table(
                "What is not up to date" if not everything else "Everything",
                ("asset", "key", "state", "why"),
                [(p.asset, p.key, p.state, p.why) for p in listed],
            )
        elif state.products:
            output.say("Everything is up to date.")
        else:
            output.say(
                "There is nothing here yet: no model specification and no recording. See `dlc-assets init --help`."
            )
        models = [version for model in trained_models(opened.layout) for version in versions(opened.layout, model)]
        if models:
            rows = [(v.model, v.version, v.manifest.made, "custom" if v.manifest.custom else "") for v in models]
            output.table("Model versions", ("model", "version", "trained", ""), rows)
        _say_problems(output, state.problems)
        output.result(
            {
                "ok": True,
                "lab": str(opened.root),
                "counts": counts,
                "products": [vars(p) for p in listed],
                "versions": [{"model": v.model, "version": v.version, "made": v.manifest.made} for v in models],
                "problems": state.problems,
            }
        )


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='For example: "select * from sessions".')],
    lab: LabOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the catalog and the poses, as the store is now, in SQL (DuckDB, read-only)."""
    from dlc_assets.catalog.sql import query as ask

    with _speaking(as_json) as output:
        answer = ask(open_lab_folder(lab), query)
        output.table("", answer.columns, answer.rows)
        output.result({"ok": True, "columns": list(answer.columns), "rows": [list(row) for row in answer.rows]})


@app.command()
def dev(
    lab: LabOption = None,
    port: Annotated[int, typer.Option(help="Port of the UI on 127.0.0.1.")] = 3000,
) -> None:
    """Start the Dagster UI and daemon for the lab on 127.0.0.1, sensors on."""
    with _speaking(False) as output:
        opened = open_lab_folder(lab)
        from dlc_assets.resources.instance import open_instance, shipped_file
        from dlc_assets.resources.janitor import end_dead_runs
        from dlc_assets.resources.known_outputs import report_known_outputs

        with open_instance(opened, output.log) as instance:
            end_dead_runs(instance, opened.layout, output.log)
            report_known_outputs(instance, opened, output.log)  # of a lab that was moved, or filled by another instance
        output.say(f"The lab {opened.root} at http://127.0.0.1:{port} (stop with Ctrl-C)")
        workspace = str(shipped_file("workspace.yaml"))
        command = [sys.executable, "-m", "dagster", "dev", "-w", workspace, "-h", "127.0.0.1", "-p", str(port)]
        sys.stdout.flush()
        # A script's `&` makes its children ignore SIGINT, and Dagster then ignores SIGTERM as well: nothing would stop it.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(command[0], command)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's lab is made.")] = Path("demo-lab"),
    as_json: JsonOption = False,
) -> None:
    """Render a lab with known truth and run the whole chain on it: labels, training, evaluation, poses, NWB."""
    from dlc_assets.demo.run import run_demo

    with _speaking(as_json) as output:
        report = run_demo(folder, log=output.log)
        for title, columns, rows in report.tables:
            output.table(title, columns, rows)
        for line in report.next_steps:
            output.say(line)
        output.result({"ok": report.ok, **report.facts})
        if not report.ok:
            raise typer.Exit(_FAILED)


@contextmanager
def _opened(lab: Path | None, output: Output) -> Iterator[tuple[Lab, Any]]:
    opened = open_lab_folder(lab)
    from dlc_assets.resources.instance import open_instance

    with open_instance(opened, output.log) as instance:
        yield opened, instance


def _stated(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _say_problems(output: Output, problems: Sequence[str]) -> None:
    for problem in problems:
        output.log(f"Problem: {problem}")


def _finish(output: Output, outcomes: Sequence[Any], result: dict[str, Any], *, failed: bool = False) -> None:
    """Say which runs failed and why, print the result, and exit."""
    bad = [outcome for outcome in outcomes if not outcome.success]
    for outcome in bad:
        output.log(f"Run {outcome.run_id} ({outcome.job}) ended as {outcome.status}.")
        for message in outcome.failures:
            output.log(message)
    runs = [vars(outcome) for outcome in outcomes]
    output.result({"ok": not bad and not failed, "runs": runs, **result})
    if bad or failed:
        raise typer.Exit(_FAILED)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
