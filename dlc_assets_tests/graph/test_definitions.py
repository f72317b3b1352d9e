"""The graph as Dagster loads it: light to import, documented for the UI, and every change of it seen in review."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dlc_assets.accepted_features import ACCEPTED
from dlc_assets.definitions import build_defs, defs
from dlc_assets_tests.conftest import environment_without_lab

_GRAPH = Path(__file__).with_name("graph.txt")
_REWRITE = "DLC_ASSETS_REWRITE_GRAPH"
_IMPORT = """
import json, sys, time
begun = time.perf_counter()
import dlc_assets.definitions
seconds = time.perf_counter() - begun
heavy = ("deeplabcut", "torch", "torchvision", "cv2", "timm", "matplotlib", "pynwb", "movement", "dandi")
loaded = [name for name in heavy if name in sys.modules]
print(json.dumps({"seconds": seconds, "loaded": loaded}))
"""


def import_definitions() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        capture_output=True,
        text=True,
        check=True,
        env=environment_without_lab(),
        timeout=120,
    )
    return json.loads(done.stdout)


def test_the_definitions_load_fast_and_leave_the_heavy_packages_alone() -> None:
    tries: list[float] = []
    while len(tries) < 3 and (not tries or min(tries) >= 3):  # a machine that is busy gets three tries
        imported = import_definitions()
        assert imported["loaded"] == []
        tries.append(imported["seconds"])
    assert min(tries) < 3, f"importing dlc_assets.definitions took {tries} s"


def test_whoever_runs_a_lab_is_told_of_no_warning_that_only_we_can_mend() -> None:
    strict = (
        "import warnings, dagster as dg\n"
        "for kind in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning): warnings.simplefilter('error', kind)\n"
        "import dlc_assets.definitions\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", strict],
        capture_output=True,
        text=True,
        check=False,
        env=environment_without_lab(),
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Warning" not in done.stderr


def test_each_accepted_feature_is_still_used_and_has_a_reason() -> None:
    """An accepted warning that no longer comes would hide the next one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        sessions = dg.DynamicPartitionsDefinition(name="session")

        @dg.asset(partitions_def=sessions, backfill_policy=dg.BackfillPolicy.multi_run())
        def one() -> None: ...

        dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="session")

    said = [(warning.category, str(warning.message)) for warning in caught]
    for category, begins, reason in ACCEPTED:
        assert any(came is category and text.startswith(begins) for came, text in said), begins
        assert len(reason) > 20


def test_a_beta_feature_that_is_not_accepted_is_an_error_in_the_tests() -> None:
    with pytest.raises(dg.BetaWarning):
        dg.DataVersionsByPartition({"a": "1"})


def test_all_of_it_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(build_defs())


def test_every_asset_tells_the_ui_what_it_is() -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert len(node.description) > 40, key
        assert node.kinds, key
        assert node.owners, key
        assert node.group_name not in {None, "default"}, key
        assert node.is_external or node.code_version, key
    for check in graph.asset_check_keys:
        assert graph.get_check_spec(check).description, check


def test_neighbouring_assets_of_a_range_are_never_fused_into_one_run_by_a_backfill() -> None:
    graph = defs.resolve_asset_graph()
    sizes = {
        key: policy.max_partitions_per_run
        for key in graph.materializable_asset_keys
        if (policy := graph.get(key).backfill_policy) is not None
    }
    assert len(sizes) >= 3
    for key, size in sizes.items():
        for parent in graph.get(key).parent_keys:
            if graph.get(key).assets_def is not graph.get(parent).assets_def:  # else one step makes both, key by key
                assert sizes.get(parent) != size, (key, parent)


def test_no_job_makes_two_kinds_of_partitions() -> None:
    graph = defs.resolve_asset_graph()
    for job in defs.get_repository_def().get_all_jobs():
        if job.name.startswith("__"):
            continue
        kinds = {
            str(graph.get(key).partitions_def)
            for key in job.asset_layer.executable_asset_keys
            if graph.get(key).is_partitioned
        }
        assert len(kinds) <= 1, job.name


def test_every_setting_in_the_launchpad_is_documented_and_may_be_left_empty() -> None:
    settings = [(job, name, field) for job, name, field in _launchpad()]
    assert len(settings) >= 9
    for job, name, field in settings:
        assert field.description, (job, name)
        assert not field.is_required, (job, name)


def _launchpad() -> Iterator[tuple[str, str, dg.Field]]:
    """Yield (job, op.setting, field) of every setting of every job."""
    for job in sorted(defs.get_repository_def().get_all_jobs(), key=lambda job: job.name):
        if job.name.startswith("__"):
            continue
        for node in sorted(job.nodes, key=lambda node: node.name):
            declared = node.definition.config_schema
            schema = declared.config_type if declared is not None else None
            for name, field in sorted((getattr(schema, "fields", None) or {}).items()):
                yield job.name, f"{node.name}.{name}", field


def _described() -> str:
    """Return the graph as text: one line a thing, in an order that does not change by itself."""
    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    lines = ["assets"]
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        partitions = " ".join(str(node.partitions_def or "unpartitioned").split())
        lines.append(f"  {key.to_user_string()}: {node.group_name}{', external' if node.is_external else ''}")
        lines.append(
            f"    from {', '.join(sorted(parent.to_user_string() for parent in node.parent_keys)) or 'nothing'}"
        )
        lines.append(f"    {partitions}")
        lines.append(
            f"    kinds {', '.join(sorted(node.kinds))}; owners {', '.join(node.owners)}; code {node.code_version}"
        )
        policy = node.backfill_policy
        if policy is not None:
            lines.append(f"    at most {policy.max_partitions_per_run} partitions a run")
        if not node.is_external and node.pools:
            lines.append(f"    pool {', '.join(sorted(node.pools))}")
    lines.append("checks")
    for check in sorted(graph.asset_check_keys):
        partitions_def = graph.get(check).partitions_def
        kind = " ".join(str(partitions_def or "unpartitioned").split())
        lines.append(f"  {check.asset_key.to_user_string()}: {check.name} ({kind})")
    lines.append("jobs")
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            lines.append(f"  {job.name}: {', '.join(sorted(node.name for node in job.nodes))}")
    lines.append("settings")
    for job_name, name, field in _launchpad():
        default = f" = {field.default_value!r}" if field.default_provided else ""
        lines.append(f"  {job_name}: {name}{default}")
    lines.append("sensors")
    for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name):
        asks = ", ".join(sorted(target.job_name for target in sensor.targets)) if sensor.has_jobs else "no job"
        lines.append(f"  {sensor.name}: {asks}, {sensor.default_status.value.lower()}")
    return "\n".join(lines) + "\n"


def test_the_graph_is_what_was_last_reviewed() -> None:
    """A wanted change: run this test with DLC_ASSETS_REWRITE_GRAPH=1 and read the difference before it is committed."""
    if os.environ.get(_REWRITE):
        _GRAPH.write_text(_described(), encoding="utf-8")
    assert _described() == _GRAPH.read_text(encoding="utf-8")
