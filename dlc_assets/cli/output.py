"""Where commands speak, how they open the lab, and how they end: what all of them share."""

from __future__ import annotations

import json
import math
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

LabOption = Annotated[
    Path | None, typer.Option("--lab", help=f"The lab folder; else ${LAB_VARIABLE}, else ./lab.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
SessionsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[SESSION]...", help="Session keys; none means all.", show_default=False)
]
FAILED, USAGE = 1, 2


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
            self._out.print(escape(line), highlight=False)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table for people."""
        if self.as_json:
            return
        if not rows:
            self.say(f"{title}: none" if title else "no rows")
            return
        heads = (Column(escape(name), overflow="fold") for name in columns)
        table = Table(*heads, title=escape(title), title_justify="left")
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
def speaking(as_json: bool) -> Iterator[Output]:
    """Turn errors into messages and exit statuses."""
    output = Output(as_json)
    try:
        yield output
    except (SettingsError, NotFoundError) as error:
        _fail(output, error, USAGE)
    except DlcAssetsError as error:
        _fail(output, error, FAILED)
    except OSError as error:  # a disk that is full, a folder that may not be read or written: its message names it
        _fail(output, error, FAILED)
    except KeyboardInterrupt:
        output.log("stopped; what was finished is kept")
        output.result({"ok": False, "error": "stopped"})
        raise typer.Exit(130) from None


def _fail(output: Output, error: Exception, status: int) -> None:
    output.log(f"Error: {error}")
    output.result({"ok": False, "error": str(error)})
    raise typer.Exit(status) from None


@contextmanager
def opened_lab(lab: Path | None, output: Output) -> Iterator[tuple[Lab, Any]]:
    opened = open_lab_folder(lab)
    from dlc_assets.resources.instance import open_instance

    with open_instance(opened, output.log) as instance:
        yield opened, instance


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def say_problems(output: Output, problems: Sequence[str]) -> None:
    for problem in problems:
        output.log(f"Problem: {problem}")


def finish(output: Output, outcomes: Sequence[Any], result: dict[str, Any], *, failed: bool = False) -> None:
    """Say which runs failed and why, print the result, and exit."""
    bad = [outcome for outcome in outcomes if not outcome.success]
    for outcome in bad:
        output.log(f"Run {outcome.run_id} ({outcome.job}) ended as {outcome.status}.")
        for message in outcome.failures:
            output.log(message)
    runs = [vars(outcome) for outcome in outcomes]
    output.result({"ok": not bad and not failed, "runs": runs, **result})
    if bad or failed:
        raise typer.Exit(FAILED)
