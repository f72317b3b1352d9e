"""A Dagster instance that is new to a full store: nothing is made again, and the instance learns what is there."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from dlc_assets.definitions import defs
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.resources.instance import open_instance
from dlc_assets.resources.known_outputs import report_known_outputs
from dlc_assets.resources.lab import LabResource
from dlc_assets.sensors import definitions as sensors
from dlc_assets.state.lab_state import lab_state
from dlc_assets.state.stored import stored_keys
from dlc_assets_tests.conftest import hash_inputs
from dlc_assets_tests.live.server import command

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Unknowing:
    """A lab whose store is full and whose Dagster instance, chosen by `environment`, is new."""

    folder: Path
    environment: dict[str, str]

    @property
    def outputs(self) -> dict[str, int]:
        """When each file of the store was last written."""
        kept = [self.folder / "store" / name for name in ("models", "datasets", "recordings", "poses", "nwb")]
        return {str(path): path.stat().st_mtime_ns for folder in kept for path in folder.rglob("*")}


@pytest.fixture(params=["sqlite", "postgres"])
def unknowing(request: pytest.FixtureRequest, lab_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Unknowing:
    """The finished demo's lab with a new instance: an embedded one, or one on PostgreSQL."""
    shutil.rmtree(lab_copy / "store" / "dagster")
    environment: dict[str, str] = request.getfixturevalue("postgres") if request.param == "postgres" else {}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Unknowing(lab_copy, environment)


def test_a_new_instance_is_told_once_what_the_store_holds(unknowing: Unknowing) -> None:
    lab = open_lab_folder(unknowing.folder)
    stored = stored_keys(lab)
    said: list[str] = []
    with open_instance(lab, said.append) as instance:
        for asset, keys in stored.items():
            assert keys or asset in {"dandi_asset", "labeled_video", "frames_to_label"}, (
                f"the demo's store has no {asset}"
            )
            assert instance.get_materialized_partitions(dg.AssetKey(asset)) == set(keys), asset
        assert any("does not know" in line for line in said)
        assert report_known_outputs(instance, lab, said.append) == 0
        _nothing_is_out_of_date(instance, stored)
        _no_sensor_asks_for_a_run(instance)
        checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(dg.AssetKey("nwb_file"), "nwb_valid")]
        )
        assert checks, "the stored files' checks are not known"


def _nothing_is_out_of_date(instance: dg.DagsterInstance, stored: dict[str, list[str]]) -> None:
    resolver = CachingStaleStatusResolver(instance, defs.resolve_asset_graph(), LoadingContextForTest(instance))
    for asset, keys in stored.items():
        for key in keys:
            causes = resolver.get_stale_causes(dg.AssetKey(asset), key)
            assert resolver.get_status(dg.AssetKey(asset), key) == StaleStatus.FRESH, (asset, key, causes)


def _no_sensor_asks_for_a_run(instance: dg.DagsterInstance) -> None:
    for sensor in (sensors.recordings, sensors.analysis, sensors.review, sensors.export):
        context = dg.build_sensor_context(
            instance=instance, instance_ref=instance.get_ref(), definitions=defs, resources={"lab": LabResource()}
        )
        tick = sensor.evaluate_tick(context)
        assert not tick.run_requests, sensor.name


def test_a_command_on_a_new_instance_makes_nothing_again(unknowing: Unknowing) -> None:
    before, inputs = unknowing.outputs, hash_inputs(unknowing.folder)
    done = command(unknowing.folder, "scan", environment=unknowing.environment)
    assert done["exit"] == 0, done["log"]
    assert "does not know" in done["log"]
    assert done["runs"] == []
    assert unknowing.outputs == before
    assert hash_inputs(unknowing.folder) == inputs
    assert lab_state(open_lab_folder(unknowing.folder)).behind() == []
    embedded = (unknowing.folder / "store" / "dagster").exists()
    assert embedded is not bool(unknowing.environment), "the instance is where it was said to be"
