"""What a sensor asks for: each product once, a vanished run again but not for ever, and one run for what lies side by side."""

from __future__ import annotations

import dagster as dg
import pytest

from dlc_assets.partitions import SESSION, add_keys, contiguous_ranges, keys_of_run
from dlc_assets.sensors.batches import ATTEMPTS, Requested, in_flight, request
from dlc_assets.state.behind import Product

SESSIONS = ["ses-1", "ses-2", "ses-3", "ses-4"]


def behind(*keys: str, inputs: str = "v1") -> list[Product]:
    return [Product("session_recordings", key, "behind", inputs={"videos": inputs}) for key in keys]


def chosen(requested: Requested, products: list[Product], busy: set[str] | None = None) -> list[str]:
    return [product.key for product in requested.choose(products, busy or set())]


def test_what_is_behind_is_asked_for() -> None:
    assert chosen(Requested(), behind("ses-1", "ses-2")) == ["ses-1", "ses-2"]


def test_what_a_run_is_making_is_not_asked_for() -> None:
    assert chosen(Requested(), behind("ses-1", "ses-2"), {"ses-1"}) == ["ses-2"]


def test_a_product_whose_runs_vanish_is_given_up_after_some_attempts() -> None:
    requested = Requested()
    for _ in range(ATTEMPTS):
        assert chosen(requested, behind("ses-1")) == ["ses-1"]
    assert chosen(requested, behind("ses-1")) == []


def test_waiting_for_a_run_costs_no_attempt() -> None:
    requested = Requested()
    chosen(requested, behind("ses-1"))
    for _ in range(10):
        assert chosen(requested, behind("ses-1"), {"ses-1"}) == []
    assert chosen(requested, behind("ses-1")) == ["ses-1"]


def test_other_inputs_begin_anew() -> None:
    requested = Requested()
    for _ in range(ATTEMPTS + 1):
        chosen(requested, behind("ses-1"))
    assert chosen(requested, behind("ses-1", inputs="v2")) == ["ses-1"]


def test_what_is_done_is_forgotten_and_can_be_asked_for_again() -> None:
    requested = Requested()
    for _ in range(ATTEMPTS + 1):
        chosen(requested, behind("ses-1"))
    chosen(requested, [])
    assert chosen(requested, behind("ses-1")) == ["ses-1"]


def test_what_was_asked_for_survives_the_daemon() -> None:
    requested = Requested()
    for _ in range(ATTEMPTS):
        chosen(requested, behind("ses-1"))
        requested = Requested.from_cursor(requested.to_cursor())
    assert chosen(requested, behind("ses-1")) == []
    assert Requested.from_cursor(None) == Requested()


def test_the_same_tick_again_is_the_same_run_and_a_later_one_is_another() -> None:
    products = behind("ses-1", "ses-2")
    first, again = Requested(), Requested()
    first.choose(products, set())
    again.choose(products, set())
    assert first.run_key(products) == again.run_key(products)
    before = first.run_key(products)
    first.choose(products, set())
    assert first.run_key(products) != before


def test_two_batches_of_one_tick_are_two_runs() -> None:
    products = behind(*SESSIONS)
    requested = Requested()
    requested.choose(products, set())
    ranges = contiguous_ranges(["ses-1", "ses-2", "ses-4"], SESSIONS, 10)
    requests = request("record", ranges, {product.key: product for product in products}, requested)
    assert len({asked.run_key for asked in requests}) == len(requests) == 2
    assert requests[0].tags["dagster/asset_partition_range_end"] == "ses-2"
    assert requests[1].tags["dagster/partition"] == "ses-4"
    assert {asked.tags["dlc_assets/asked_by"] for asked in requests} == {"sensor"}


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
