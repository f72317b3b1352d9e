"""The graph over a lab, on an instance of its own, executed in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleCause, StaleStatus
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.loader import LoadingContextForTest

from dlc_assets.definitions import build_defs
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.partitions import MODEL, SESSION, KeyRange, add_keys
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.resources.lab import LabResource
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph.small_lab import SESSIONS, write_small_lab


@dataclass
class Graph:
    """The definitions of the project over one lab and one instance."""

    root: Path
    instance: dg.DagsterInstance
    defs: dg.Definitions
    cursors: dict[str, str] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        """The lab, opened anew: its files as they are now."""
        return open_lab_folder(self.root)

    def run(
        self,
        job: str,
        keys: Sequence[str] | str = (),
        *,
        only: Sequence[str] | None = None,
        ops: dict[str, Any] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Execute *job* for one key, or for the range from the first to the last of *keys*."""
        keys = [keys] if isinstance(keys, str) else list(keys)
        tags = {}
        if len(keys) > 1:
            tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        return self.defs.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags=tags,
            asset_selection=[dg.AssetKey(name) for name in only] if only else None,
            run_config={"ops": {name: {"config": config} for name, config in (ops or {}).items()}},
            raise_on_error=False,
        )

    def tick(self, sensor: str) -> SensorExecutionData:
        """Evaluate a sensor as the daemon does: with the cursor it left, and its events recorded."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            definitions=self.defs,
            sensor_name=sensor,
            resources={"lab": LabResource()},
        )
        data = self.defs.resolve_sensor_def(sensor).evaluate_tick(context)
        if data.cursor is not None:
            self.cursors[sensor] = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        return data

    def asked(self, sensor: str) -> list[tuple[str | None, dict[str, str]]]:
        """Return (job, partition tags) of each run that a sensor asks for at its next tick."""
        requests = self.tick(sensor).run_requests or []
        return [
            (request.job_name, {name: tag for name, tag in request.tags.items() if "partition" in name})
            for request in requests
        ]

    def run_check(self, check: dg.AssetCheckKey, *keys: str) -> dg.ExecuteInProcessResult:
        """Execute one check: of no partition, as the UI's button does, of one, or of the range that *keys* are."""
        job = dg.define_asset_job("one_check", selection=dg.AssetSelection.checks(check))
        defs = dg.Definitions.merge(self.defs, dg.Definitions(jobs=[job]))
        return defs.resolve_job_def("one_check").execute_in_process(
            instance=self.instance, tags=KeyRange(keys).tags if keys else {}, raise_on_error=False
        )

    def session(self, key: str) -> SessionInfo:
        """Return what was learned of a session's recordings."""
        return need_session_info(self.lab.layout, key)[0]

    def recorded_version(self, key: str) -> str:
        """Return the data version of a session's recordings in the store."""
        return need_session_info(self.lab.layout, key)[1].data_version

    def materialization(self, asset: str, key: str | None = None) -> dg.AssetMaterialization:
        """Return the newest materialization of an asset's partition."""
        (record,) = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[key] if key is not None else None), limit=1
        ).records
        assert record.asset_materialization is not None
        return record.asset_materialization

    def materialized(self, asset: str) -> set[str]:
        """Return the partitions of an asset that were ever materialized."""
        return self.instance.get_materialized_partitions(dg.AssetKey(asset))

    def report_poses(self, model: str, session: str, version: str) -> None:
        """Record poses of another making, as if a run had materialized them."""
        key = dg.MultiPartitionKey({MODEL: model, SESSION: session})
        tags = {"dagster/data_version": version}
        self.instance.report_runless_asset_event(dg.AssetMaterialization("pose_table", partition=key, tags=tags))

    def checks(self, result: dg.ExecuteInProcessResult) -> dict[tuple[str, str | None], dg.AssetCheckEvaluation]:
        """Return the evaluations that a run stored, by (check, partition)."""
        records = self.instance.get_records_for_run(
            result.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
        events = [record.event_log_entry.get_dagster_event() for record in records]
        evaluations = [event.asset_check_evaluation_data for event in events]
        return {(evaluation.check_name, evaluation.partition): evaluation for evaluation in evaluations}

    def _resolver(self) -> CachingStaleStatusResolver:
        return CachingStaleStatusResolver(
            self.instance, self.defs.resolve_asset_graph(), LoadingContextForTest(self.instance)
        )

    def stale(self, asset: str, key: str) -> StaleStatus:
        """Return what the UI's Partitions page says of an asset's partition."""
        return self._resolver().get_status(dg.AssetKey(asset), key)

    def causes(self, asset: str, key: str) -> Sequence[StaleCause]:
        """Return why the UI says so."""
        return self._resolver().get_stale_causes(dg.AssetKey(asset), key)


@cache
def definitions() -> dg.Definitions:
    """Build the graph once for all tests: its lab is the one that `use_lab` made the process's own."""
    return build_defs(resources={"lab": LabResource()}, executor=dg.in_process_executor)


@pytest.fixture(scope="session")
def small_lab_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small lab, rendered once: to be copied only."""
    root = tmp_path_factory.mktemp("small") / "lab"
    write_small_lab(root)
    return root


@pytest.fixture
def small(small_lab_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    """The graph over a copy of the small lab: nothing is made yet, its sessions and models are partitions."""
    root = tmp_path / "lab"
    shutil.copytree(small_lab_files, root)
    use_lab(root, monkeypatch)
    with dg.DagsterInstance.ephemeral() as instance:
        add_keys(instance, SESSION, SESSIONS)
        add_keys(instance, MODEL, ["walker", "day2-walker"])
        yield Graph(root, instance, definitions())


@pytest.fixture
def demo(lab_copy: Path) -> Iterator[Graph]:
    """The graph over a copy of the finished demo, on the instance that recorded how it was made."""
    from dlc_assets.resources.instance import open_instance

    with open_instance(open_lab_folder(lab_copy)) as instance:
        yield Graph(lab_copy, instance, definitions())


def rows_of(value: Any) -> list[dict[str, Any]]:
    """Return the rows of a table in metadata."""
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]
