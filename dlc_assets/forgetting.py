"""Forgetting on request: what the store has of a version, a session or a model goes to the trash, and its key from the instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dagster as dg

from dlc_assets.lab.errors import BusyError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.trash import TrashEntry
from dlc_assets.partitions import MODEL, SESSION, keys_of_run
from dlc_assets.recordings.removal import files_of_session, refuse_while_session_used, remove_session
from dlc_assets.state.behind import recorded_sessions
from dlc_assets.training.models import ModelVersion, trained_models, versions
from dlc_assets.training.removal import (
    files_of_model,
    files_of_version,
    refuse_while_model_used,
    refuse_while_used,
    remove_model,
    remove_version,
    version_to_remove,
)

Kind = Literal["version", "session", "model"]
_ALIVE = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Forgettable:
    """What a name given to `forget` means; `version` where it is one."""

    kind: Kind
    name: str
    version: ModelVersion | None = None


def what_is_meant(lab: Lab, instance: dg.DagsterInstance, name: str) -> Forgettable:
    """Return what *name* means: ``model@version``, a session's key or a model's name.

    Raises
    ------
    NotFoundError
        Neither the store nor the instance knows it.
    SettingsError
        It is the name of a session and of a model.
    """
    if "@" in name:
        version = version_to_remove(lab, name)
        return Forgettable("version", str(version), version)
    sessions = {*instance.get_dynamic_partitions(SESSION), *recorded_sessions(lab)}
    stored = {folder.name for folder in lab.layout.models.glob("[!.]*") if versions(lab.layout, folder.name)}
    models = {*instance.get_dynamic_partitions(MODEL), *trained_models(lab.layout), *stored}
    if name in sessions and name in models:
        raise SettingsError(
            f'"{name}" is the name of a session and of a model: remove the versions of the model one by one, as {name}@VERSION, '
            "and rename its specification."
        )
    if name in sessions:
        return Forgettable("session", name)
    if name in models:
        return Forgettable("model", name)
    raise NotFoundError(
        f'there is no session and no model "{name}".{did_you_mean(name, sessions | models)} A version is given as '
        "MODEL@VERSION; `dlc-assets status` lists them all."
    )


def forget(
    lab: Lab,
    instance: dg.DagsterInstance,
    meant: Forgettable,
    *,
    with_poses: bool,
    log: Callable[[str], None],
) -> TrashEntry:
    """Move what the store has of *meant* to the trash, and delete its key from *instance* (a version has none).

    Raises
    ------
    BusyError
        Something names it or works on it; the message says what.
    """

    def check() -> None:
        refuse_while_run(instance, meant)

    if meant.version is not None:
        return remove_version(lab, meant.version, with_poses=with_poses, check=check, log=log)
    if meant.kind == "session":
        entry = remove_session(lab, meant.name, check=check, log=log)
        instance.delete_dynamic_partition(SESSION, meant.name)
        return entry
    entry = remove_model(lab, meant.name, with_poses=with_poses, check=check, log=log)
    instance.delete_dynamic_partition(MODEL, meant.name)
    return entry


def would_move(lab: Lab, meant: Forgettable, *, with_poses: bool) -> list[Path]:
    """Return the files and folders of the store that `forget` would move now."""
    if meant.version is not None:
        paths = files_of_version(lab, meant.version, with_poses=with_poses)
    elif meant.kind == "session":
        paths = files_of_session(lab, meant.name)
    else:
        paths = files_of_model(lab, meant.name, with_poses=with_poses)
    return [path for path in paths if path.exists()]


def refuse_to_forget(lab: Lab, instance: dg.DagsterInstance, meant: Forgettable, *, with_poses: bool) -> None:
    """Raise the BusyError that `forget` would raise now."""
    refuse_while_run(instance, meant)
    if meant.version is not None:
        refuse_while_used(lab, meant.version, with_poses=with_poses)
    elif meant.kind == "session":
        refuse_while_session_used(lab, meant.name)
    else:
        refuse_while_model_used(lab, meant.name, with_poses=with_poses)


def refuse_while_run(instance: dg.DagsterInstance, meant: Forgettable) -> None:
    """Raise a BusyError while a run that is queued or under way has *meant*."""
    runs = instance.get_runs(dg.RunsFilter(statuses=_ALIVE))
    known = list(instance.get_dynamic_partitions(SESSION)) if runs else []
    for run in runs:
        if _has(run, meant, known):
            raise BusyError(
                f"{meant.name} is kept: run {run.run_id} ({run.job_name}, {run.status.value.lower()}) has it. Wait for its end, "
                "or stop it in the UI."
            )


def _has(run: dg.DagsterRun, meant: Forgettable, sessions: list[str]) -> bool:
    if meant.version is not None:
        stated = _stated_version(run)
        models = {key.partition("|")[0] for key in keys_of_run(run, sessions)}
        return bool(stated) and meant.version.model in models and meant.version.version.startswith(str(stated))
    keys = {part for key in keys_of_run(run, sessions) for part in (key.partition("|")[0], key.rpartition("|")[2])}
    return meant.name in keys


def _stated_version(run: dg.DagsterRun) -> Any:
    """Return the version that a run's own configuration asks of `pose_table`, if any."""
    ops = run.run_config.get("ops", {}) if isinstance(run.run_config, dict) else {}
    return ops.get("pose_table", {}).get("config", {}).get("version")
