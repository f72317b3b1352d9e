"""The command line's root, to which the modules of commands add theirs."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Pose estimation with DeepLabCut as Dagster assets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
