"""The same session through every executor: in process, on this machine, through Celery and through Slurm the poses are equal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from benchmarks.postgres import own_postgres
from benchmarks.rabbitmq import URL, rabbitmq
from benchmarks.slurm import own_slurm
from dlc_assets.definitions import defs
from dlc_assets.demo.run import MODEL
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.partitions import MODEL as MODELS
from dlc_assets.partitions import SESSION, add_keys
from dlc_assets_tests.services import or_skip

pytest.importorskip("celery")
pytestmark = pytest.mark.slow

_SESSION = "sub-m01_ses-20260501"


@pytest.fixture
def services(lab_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PostgreSQL, a RabbitMQ and a Slurm for the demo's lab."""
    with or_skip(own_slurm()) as slurm, or_skip(rabbitmq()) as broker, own_postgres() as database:
        home = tmp_path / "instance"
        home.mkdir()
        shutil.copyfile(Path(database.environment["DAGSTER_HOME"]) / "dagster.yaml", home / "dagster.yaml")
        stated = {
            **database.environment,
            **slurm,
            URL: broker,
            "DAGSTER_HOME": str(home),
            "DLC_ASSETS_LAB": str(lab_copy),
        }
        for name, value in stated.items():
            monkeypatch.setenv(name, value)
        yield


def _poses(lab: Lab, instance: dg.DagsterInstance, kind: str) -> tuple[str, Path]:
    """Analyze the session anew through one executor; return the run's status and the table."""
    repository = ReconstructableRepository.for_module("dlc_assets.definitions", "defs", str(Path.cwd()))
    key = pose_key(MODEL, _SESSION)
    config = {} if kind == "in_process" else {"execution": {"config": {"kind": kind}}}
    job = repository.get_reconstructable_job("analyze")
    table = next(lab.layout.poses_of_model(MODEL).glob(f"version=*/session={_SESSION}/*.parquet"))
    shutil.rmtree(table.parent)
    if kind == "in_process":
        done = defs.resolve_job_def("analyze").execute_in_process(
            instance=instance, partition_key=key, op_selection=["pose_table"]
        )
        return ("SUCCESS" if done.success else "FAILURE"), table
    with dg.execute_job(
        job,
        instance,
        run_config=config,
        tags={"dagster/partition": key},
        raise_on_error=False,
        op_selection=["pose_table"],  # its checks are steps of their own
    ) as result:
        run = instance.get_run_by_id(result.run_id)
    assert run is not None
    said = "\n".join(entry.message for entry in instance.all_logs(run.run_id) if "health" in entry.message)
    return run.status.value + said, table


def test_every_executor_makes_the_same_poses(lab_copy: Path, services: None, tmp_path: Path) -> None:
    (lab_copy / "lab.yaml").open("a").write("executor: {kind: local, slurm: {gpu: {gres: null, cpus: 1}}}\n")
    lab = open_lab_folder(lab_copy)
    log = (tmp_path / "worker.log").open("wb")
    words = [sys.executable, "-m", "dlc_assets.cli", "worker", "gpu", "--at-once", "1", "--lab", str(lab_copy)]
    with dg.DagsterInstance.get() as instance:
        add_keys(instance, SESSION, [_SESSION])
        add_keys(instance, MODELS, [MODEL])
        worker = subprocess.Popen(words, stdout=log, stderr=log, env=dict(os.environ), start_new_session=True)
        try:
            tables = {}
            for kind in ("in_process", "local", "celery", "slurm"):
                status, table = _poses(lab, instance, kind)
                assert status == "SUCCESS", (kind, (tmp_path / "worker.log").read_text()[-3000:])
                tables[kind] = pq.read_table(table)
        finally:
            worker.kill()
            worker.wait()
            log.close()
    first = tables.pop("in_process")
    assert first.num_rows > 0
    for kind, table in tables.items():
        assert table.equals(first), kind
