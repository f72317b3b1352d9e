"""What a sensor asks for: each product once, a vanished run again after a pause, and one run for what lies side by side."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise

import dagster as dg
import pytest

from dlc_assets.partitions import SESSION, KeyRange, add_keys, contiguous_ranges, keys_of_run
from dlc_assets.sensors.batches import Requested, in_flight, newest_first
from dlc_assets.state.behind import Product

SESSIONS = ["ses-1", "ses-2", "ses-3", "ses-4"]
NOON = 1_780_000_000.0


class Sensor:
    """A sensor's ticks, with the cursor that Dagster keeps between them."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self.database = database
        self.cursor: str | None = None

    def tick(
        self, products: list[Product], *, busy: set[str] | None = None, at: float = NOON, kept: bool = True
    ) -> list[dg.RunRequest]:
        """Ask for *products* as one run each; *kept*: Dagster has stored the tick (its daemon was not killed)."""
        self.requested = Requested.from_cursor(self.database, "recordings", self.cursor)
        self.requested.forget_all_but([product.key for product in products])
        chosen = {product.key: product for product in self.requested.open(products, busy or set(), at)}
        requests = self.requested.ask("record", [KeyRange((key,)) for key in chosen], chosen, at)
        if kept:
            self.cursor = self.requested.to_cursor(at)
        return requests


@pytest.fixture
def sensor() -> Iterator[Sensor]:
    database = sqlite3.connect(":memory:", isolation_level=None)
    yield Sensor(database)
    database.close()


def behind(*keys: str, inputs: str = "v1", retry_at: float | None = None) -> list[Product]:
    return [Product("session_recordings", key, "behind", inputs={"videos": inputs}, retry_at=retry_at) for key in keys]


def keys_of(requests: list[dg.RunRequest]) -> list[str]:
    return [request.tags["dagster/partition"] for request in requests]


def test_what_is_behind_is_asked_for(sensor: Sensor) -> None:
    assert keys_of(sensor.tick(behind("ses-1", "ses-2"))) == ["ses-1", "ses-2"]


def test_what_a_run_is_making_is_not_asked_for(sensor: Sensor) -> None:
    assert keys_of(sensor.tick(behind("ses-1", "ses-2"), busy={"ses-1"})) == ["ses-2"]


def test_a_product_whose_run_vanished_is_asked_for_again_at_once_then_after_longer_and_longer_pauses(
    sensor: Sensor,
) -> None:
    asked = [at for at in range(0, 1200, 10) if sensor.tick(behind("ses-1"), at=NOON + at)]
    assert asked == [0, 10, 70, 190, 430, 910]
    assert "asked for 6 times" in sensor.requested.vanished[0]
    asked = [at for at in range(1200, 90_000, 60) if sensor.tick(behind("ses-1"), at=NOON + at)]
    assert len(asked) > 20, "it is never given up"
    assert {after - before for before, after in pairwise(asked[3:])} == {3600}


def test_waiting_for_a_run_makes_no_pause_longer(sensor: Sensor) -> None:
    sensor.tick(behind("ses-1"))
    for _ in range(10):
        assert sensor.tick(behind("ses-1"), busy={"ses-1"}) == []
    assert keys_of(sensor.tick(behind("ses-1"))) == ["ses-1"]


def test_other_inputs_and_a_failure_since_begin_anew(sensor: Sensor) -> None:
    for _ in range(3):
        sensor.tick(behind("ses-1"))
    assert sensor.tick(behind("ses-1")) == []
    assert keys_of(sensor.tick(behind("ses-1", inputs="v2"))) == ["ses-1"]
    sensor.tick(behind("ses-1", inputs="v2"))
    assert sensor.tick(behind("ses-1", inputs="v2")) == []
    assert keys_of(sensor.tick(behind("ses-1", inputs="v2", retry_at=NOON))) == ["ses-1"]


def test_what_is_done_is_forgotten_and_can_be_asked_for_again(sensor: Sensor) -> None:
    for _ in range(4):
        sensor.tick(behind("ses-1"))
    assert sensor.tick([]) == []
    assert sensor.requested.keys() == []
    assert keys_of(sensor.tick(behind("ses-1"))) == ["ses-1"]


def test_a_tick_that_dagster_did_not_keep_is_asked_again_under_the_same_run_key_and_counts_once(sensor: Sensor) -> None:
    sensor.tick(behind("ses-1"))
    (lost,) = sensor.tick(behind("ses-1"), at=NOON + 10, kept=False)
    (again,) = sensor.tick(behind("ses-1"), at=NOON + 20)
    assert again.run_key == lost.run_key
    assert sensor.tick(behind("ses-1"), at=NOON + 79) == []
    (later,) = sensor.tick(behind("ses-1"), at=NOON + 80)
    assert later.run_key != again.run_key


def test_what_a_lost_tick_asked_for_first_is_forgotten(sensor: Sensor) -> None:
    sensor.tick(behind("ses-1"), kept=False)
    Requested.from_cursor(sensor.database, "recordings", None)
    assert sensor.database.execute("select * from asked").fetchall() == []


def test_the_cursor_stays_small_and_sensors_do_not_mix(sensor: Sensor) -> None:
    sensor.tick(behind(*(f"ses-{number}" for number in range(5000))))
    assert sensor.cursor is not None
    assert len(sensor.cursor) < 100
    assert Requested.from_cursor(sensor.database, "analysis", None).keys() == []


def test_two_batches_of_one_tick_are_two_runs(sensor: Sensor) -> None:
    products = {product.key: product for product in behind(*SESSIONS)}
    requested = Requested.from_cursor(sensor.database, "recordings", None)
    ranges = contiguous_ranges(["ses-1", "ses-2", "ses-4"], SESSIONS, 10)
    requests = requested.ask("record", ranges, products, NOON)
    assert len({asked.run_key for asked in requests}) == len(requests) == 2
    assert requests[0].tags["dagster/asset_partition_range_end"] == "ses-2"
    assert requests[1].tags["dagster/partition"] == "ses-4"
    assert {asked.tags["dlc_assets/asked_by"] for asked in requests} == {"sensor"}


def test_the_newest_sessions_come_first_and_no_more_runs_than_there_is_room_for() -> None:
    ranges = contiguous_ranges(SESSIONS, SESSIONS, 2)
    assert [keys.keys for keys in newest_first(ranges, 5)] == [("ses-3", "ses-4"), ("ses-1", "ses-2")]
    assert [keys.keys for keys in newest_first(ranges, 1)] == [("ses-3", "ses-4")]
    assert newest_first(ranges, 0) == []


# --- what runs are making -------------------------------------------------------------------------


@pytest.fixture
def instance() -> dg.DagsterInstance:
    made = dg.DagsterInstance.ephemeral()
    add_keys(made, SESSION, SESSIONS)
    return made


def start(
    instance: dg.DagsterInstance,
    job: str,
    tags: dict[str, str],
    status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED,
) -> dg.DagsterRun:
    @dg.job(name=job)
    def empty() -> None: ...

    return instance.create_run_for_job(empty, status=status, tags=tags)


def range_tags(first: str, last: str) -> dict[str, str]:
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def test_the_keys_of_unfinished_runs_are_in_flight_and_those_of_others_are_not(instance: dg.DagsterInstance) -> None:
    start(instance, "record", {"dagster/partition": "ses-1"}, dg.DagsterRunStatus.NOT_STARTED)
    start(instance, "record", {"dagster/partition": "ses-2"}, dg.DagsterRunStatus.SUCCESS)
    start(instance, "record", {"dagster/partition": "ses-3"}, dg.DagsterRunStatus.FAILURE)
    start(instance, "export_nwb", {"dagster/partition": "ses-4"})
    assert in_flight(instance, ["record"]) == {"ses-1"}
    assert in_flight(instance, ["record", "export_nwb"]) == {"ses-1", "ses-4"}


def test_a_backfill_from_the_ui_is_in_flight_too(instance: dg.DagsterInstance) -> None:
    start(instance, "__ASSET_JOB", range_tags("ses-2", "ses-4"))
    assert in_flight(instance, ["record"]) == {"ses-2", "ses-3", "ses-4"}


def test_a_range_of_pose_tables_is_its_model_over_the_sessions_between(instance: dg.DagsterInstance) -> None:
    run = start(instance, "analyze", range_tags("walker|ses-1", "walker|ses-3"))
    assert list(keys_of_run(run, SESSIONS)) == ["walker|ses-1", "walker|ses-2", "walker|ses-3"]


def test_a_run_of_keys_that_are_gone_or_of_none_holds_nothing(instance: dg.DagsterInstance) -> None:
    assert list(keys_of_run(start(instance, "record", range_tags("ses-1", "ses-9")), SESSIONS)) == []
    assert list(keys_of_run(start(instance, "write_catalog", {}), SESSIONS)) == []


def test_keys_are_added_once_and_in_their_order(instance: dg.DagsterInstance) -> None:
    assert add_keys(instance, SESSION, ["ses-9", "ses-2", "ses-8", "ses-9"]) == ["ses-9", "ses-8"]
    assert instance.get_dynamic_partitions(SESSION) == [*SESSIONS, "ses-9", "ses-8"]
    assert add_keys(instance, SESSION, ["ses-9"]) == []
