"""`dlc-assets`: what the UI does, without the UI, through the same Dagster instance.

Exit status: 0 done, 1 something failed (and says what), 2 wrong usage or settings. `--json` prints one JSON object on
standard output; logs go to standard error.
"""

from __future__ import annotations

from dlc_assets.cli import (  # noqa: F401  # each adds its commands to app
    adoption_commands,
    backup_commands,
    doctor_commands,
    lab_commands,
    labeling_commands,
    model_commands,
    release_commands,
    review_commands,
    run_commands,
    session_commands,
    sharing_commands,
    version_commands,
    worker_commands,
)
from dlc_assets.cli.app import app


def main() -> None:
    """Run the command line."""
    app()


__all__ = ["app", "main"]
