"""The checks as Dagster knows them: those of an asset's products, and those over the whole lab.

A run of an asset logs the evaluations of its checks itself, one for each key with its partition (an AssetCheckResult cannot name a
partition, so that a run of several keys could not say which of them failed). The checks here give the UI their names, and
run alone on demand: in a run of some keys for each of them, else once over all that the store holds.

They have no partitions of their own: Dagster finds out the state of a partitioned check from all its evaluations anew whenever a page
shows the asset, asking the instance about each key by itself: minutes for a lab of 20,000 sessions.
"""

from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from dlc_assets.assets.catalog import catalog
from dlc_assets.checks.outcomes import CHECKS, evaluation
from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import MODEL, SESSION, keys_of_run
from dlc_assets.resources.lab import LabResource
from dlc_assets.state.lab_state import lab_state
from dlc_assets.state.stored import stored_keys, stored_manifest

# The dynamic partition along which the keys of a run lie.
_ALONG = {
    "training_dataset": MODEL,
    "session_recordings": SESSION,
    "pose_table": SESSION,
    "filtered_pose_table": SESSION,
    "kinematics": SESSION,
    "nwb_file": SESSION,
    "dandi_asset": SESSION,
}
_LISTED = 50  # rows that a check shows; `dlc-assets status` shows all


def _product_check(asset: str, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(asset=dg.AssetKey(asset), name=name, description=CHECKS[asset][name].__doc__)
    def check(context: dg.AssetCheckExecutionContext, lab: LabResource) -> Any:
        opened = lab.open()
        run = context.op_execution_context.run
        keys = list(keys_of_run(run, context.instance.get_dynamic_partitions(_ALONG[asset])))
        if not keys:
            return _over_all(opened, asset, name)
        log_event: Callable[[Any], None] = context.op_execution_context.log_event
        for key in keys:
            log_event(_evaluation(opened, asset, key, name))
        return None

    return check


def _over_all(lab: Lab, asset: str, name: str) -> dg.AssetCheckResult:
    """Say which of the asset's products in the store do not pass the check *name*."""
    found = [_evaluation(lab, asset, key, name) for key in stored_keys(lab)[asset]]
    failing = [evaluation for evaluation in found if not evaluation.passed]
    return dg.AssetCheckResult(
        passed=not failing,
        severity=failing[0].severity if failing else dg.AssetCheckSeverity.WARN,
        description=f"{len(failing)} of {len(found)} do not pass" if failing else f"all {len(found)} pass",
        metadata={
            "failing": dg.MetadataValue.table(
                [dg.TableRecord({"key": e.partition or "", "why": e.description or ""}) for e in failing[:_LISTED]],
                schema=dg.TableSchema([dg.TableColumn(column) for column in ("key", "why")]),
            )
        },
    )


def _evaluation(lab: Lab, asset: str, key: str, name: str) -> dg.AssetCheckEvaluation:
    manifest = stored_manifest(lab, asset, key)
    if manifest is not None:
        return evaluation(manifest, name, lab.root)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset), check_name=name, passed=False, description=f"{key} is not made yet", partition=key
    )


@dg.asset_check(
    asset=catalog, description="Everything that should be there is made from the lab's files as they are now."
)
def up_to_date(lab: LabResource) -> dg.AssetCheckResult:
    """Say what is missing, behind or failed, along the whole chain, and why."""
    state = lab_state(lab.open())
    behind = state.behind()
    return dg.AssetCheckResult(
        passed=not behind,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{len(behind)} products are missing, behind or failed" if behind else "everything is up to date",
        metadata={
            "products": dg.MetadataValue.json(state.counts()),
            "behind": dg.MetadataValue.table(
                [
                    dg.TableRecord({"asset": p.asset, "key": p.key, "state": p.state, "why": p.why})
                    for p in behind[:_LISTED]
                ],
                schema=dg.TableSchema([dg.TableColumn(name) for name in ("asset", "key", "state", "why")]),
            ),
        },
    )


@dg.asset_check(asset=catalog, description="Every release rule of lab.yaml names a model that exists.")
def release_rules_valid(lab: LabResource) -> dg.AssetCheckResult:
    """Say which release rules name no model."""
    problems = rule_problems(lab.open())
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(problems) or "every release rule names a model that exists",
    )


@dg.asset_check(asset=catalog, description="Files, settings and specifications of the lab can be used.")
def lab_files_valid(lab: LabResource) -> dg.AssetCheckResult:
    """Say what is wrong with the lab's own files."""
    state = lab_state(lab.open())
    return dg.AssetCheckResult(
        passed=not state.problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description=" ".join(state.problems[:3]) or "no problem found in the lab's files",
        metadata={"problems": dg.MetadataValue.json(state.problems[:_LISTED])},
    )


def all_checks() -> Iterator[dg.AssetChecksDefinition]:
    """Yield every check."""
    for asset, checks in CHECKS.items():
        for name in checks:
            yield _product_check(asset, name)
    yield from (up_to_date, release_rules_valid, lab_files_valid)
