"""One lab, one Dagster instance: where it is, how it is set up, and that it never serves another lab."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from dlc_assets.executors import GPU_POOL
from dlc_assets.lab.compute import pool_limit
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_path, read_json, write_json
from dlc_assets.lab.lab import LAB_VARIABLE, Lab
from dlc_assets.resources.known_outputs import report_known_outputs

_log = logging.getLogger(__name__)
_RECORD = "dlc_assets_lab.json"
_POOL_RECORD = "dlc_assets_gpu_pool.json"
_DEFAULT_POOL_LIMIT = 1  # of dagster.yaml
_ROOT = Path(__file__).resolve().parent.parent.parent


def shipped_file(name: str) -> Path:
    """Return a file that ships beside the package (dagster.yaml, workspace.yaml): in a checkout, or installed."""
    for folder in (_ROOT, Path(sys.prefix) / "share" / "dlc_assets"):
        if (folder / name).is_file():
            return folder / name
    raise SettingsError(
        f"{name} is missing from this installation of dlc_assets (looked in {_ROOT}): install it again."
    )


def dagster_home(lab: Lab) -> Path:
    """Return the folder of the lab's instance: `$DAGSTER_HOME` if set, else store/dagster."""
    stated = os.environ.get("DAGSTER_HOME")
    return Path(stated).expanduser().resolve() if stated else lab.layout.dagster_home


def prepare_instance(lab: Lab) -> Path:
    """Set up the lab's instance folder if it is new, and point this process and its children to lab and instance.

    Raises
    ------
    SettingsError
        The instance belongs to another lab, whose partitions and assets would mix with this one's.
    """
    home = dagster_home(lab)
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").is_file():
        with atomic_path(home / "dagster.yaml") as partial:
            shutil.copyfile(shipped_file("dagster.yaml"), partial)
    _claim(home, lab)
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ[LAB_VARIABLE] = str(lab.root)
    return home


def _claim(home: Path, lab: Lab) -> None:
    record = home / _RECORD
    inside = home.is_relative_to(lab.root)
    if not record.is_file():
        write_json(record, {"lab": "." if inside else str(lab.root)})
        return
    stated = read_json(record)["lab"]
    owner = home.parent.parent if stated == "." else Path(stated)
    # An instance inside its lab moves with it; one outside knows its lab by path.
    if not (inside and stated == ".") and Path(stated) != lab.root:
        raise SettingsError(
            f"the Dagster instance {home} belongs to the lab {owner}, not to {lab.root}: two labs in one instance would mix "
            "their sessions. Set DAGSTER_HOME to another folder, or unset it to use the lab's own. If the lab was moved, "
            f"correct {record}."
        )


def set_gpu_pool(instance: dg.DagsterInstance, lab: Lab) -> None:
    """Let as many steps of the pool ``gpu`` run at once as there are GPUs; a limit that a person set to another number stays."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    # Whoever opens a lab has not the GPUs that its steps get: those of workers and clusters are not to be counted on one machine.
    elsewhere = lab.settings.executor.gpus_elsewhere
    wanted = pool_limit(lab.settings.gpus) if elsewhere is None else elsewhere
    found = storage.get_concurrency_info(GPU_POOL).limit
    # The instance's folder in a pod ends with it.
    record = (lab.layout.work if elsewhere is not None else dagster_home(lab)) / _POOL_RECORD
    set_before = read_json(record)["limit"] if record.is_file() else _DEFAULT_POOL_LIMIT
    if found == wanted or found not in {None, _DEFAULT_POOL_LIMIT, set_before}:
        return
    storage.set_concurrency_slots(GPU_POOL, wanted)
    write_json(record, {"limit": wanted})


@contextmanager
def open_instance(lab: Lab, log: Callable[[str], None] = _log.info) -> Iterator[dg.DagsterInstance]:
    """Open the lab's Dagster instance; one that is new is set up, and told what the store holds already."""
    prepare_instance(lab)
    with dg.DagsterInstance.get() as instance:
        set_gpu_pool(instance, lab)
        if not instance.get_runs(limit=1):
            report_known_outputs(instance, lab, log)
        yield instance
