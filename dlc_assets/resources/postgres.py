"""Whether a lab's instance is on PostgreSQL, which whatever works on several machines needs."""

from __future__ import annotations

import dagster as dg

from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import Lab


def require_postgres(lab: Lab, instance: dg.DagsterInstance, why: str) -> None:
    """Refuse an instance whose records are in SQLite files or in the memory of a process.

    Raises
    ------
    EnvironmentProblem
        The records of runs or events are elsewhere than in PostgreSQL; *why* says what needs them there.
    """
    storages = {"runs": instance.run_storage, "events": instance.event_log_storage}
    elsewhere = [
        f"{what} in {type(storage).__name__}"
        for what, storage in storages.items()
        if not type(storage).__module__.startswith("dagster_postgres.")
    ]
    if elsewhere:
        raise EnvironmentProblem(
            f"{why} needs Dagster's records in PostgreSQL, which every machine can reach; the instance of {lab.root} has "
            f"{' and '.join(elsewhere)}. See docs/how-to/postgresql.md."
        )
