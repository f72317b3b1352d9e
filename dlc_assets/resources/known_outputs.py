"""Telling an instance what the store holds: a new database, or a lab that was moved, does not know what was made before.

The manifests in the store are the truth, and nothing is made again for want of this; but the UI would show a full store as empty, and
a backfill of what is missing would take in everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from dlc_assets.assets.labels import observe_labels
from dlc_assets.assets.reporting import newest_events
from dlc_assets.checks.outcomes import CHECKS, evaluations
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.keys import split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.partitions import MODEL, SESSION, add_keys
from dlc_assets.state.stored import place_of, stored_keys, stored_manifest

_BY_SESSION = ("session_recordings", "nwb_file", "dandi_asset")


def report_known_outputs(
    instance: dg.DagsterInstance,
    lab: Lab,
    log: Callable[[str], None],
    *,
    anew: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> int:
    """Report every product of the store that *instance* has no materialization of; return how many there were.

    *anew* are keys by asset that are reported though they are known: they were made again by no run.

    Each is reported as made from the newest of what lies above it; whether it is behind is for the hashes to say (`dlc-assets status`).
    """
    stored = stored_keys(lab)
    unknown: dict[str, list[str]] = {}
    repeated: dict[str, set[str]] = {}
    for asset, keys in stored.items():
        known = instance.get_materialized_partitions(dg.AssetKey(asset)) if keys else set()
        if missing := [key for key in keys if key not in known or key in anew.get(asset, ())]:
            unknown[asset] = missing
            repeated[asset] = known & set(missing)
    total = sum(len(keys) for keys in unknown.values())
    if not total:
        return 0
    log(f"the store holds {total} products that this Dagster instance does not know; it is told of them")
    _add_partitions(instance, unknown)
    progress = LoggedProgress(log, "reporting what the store holds", "products")
    reported = 0
    for asset, keys in unknown.items():
        if asset == "training_dataset":
            _observe_labels(instance, lab, keys, log)
        for event in _events(instance, lab, asset, keys, repeated[asset]):
            instance.report_runless_asset_event(event)
            if isinstance(event, dg.AssetMaterialization):
                reported += 1
                progress(reported, total)
    return reported


def _add_partitions(instance: dg.DagsterInstance, unknown: dict[str, list[str]]) -> None:
    models, sessions = [], []
    for asset, keys in unknown.items():
        if any("|" in key for key in keys):
            for model, session in map(split_pose_key, keys):
                models.append(model)
                sessions.append(session)
        else:
            (sessions if asset in _BY_SESSION else models).extend(keys)
    add_keys(instance, MODEL, models)
    add_keys(instance, SESSION, sessions)


def _observe_labels(instance: dg.DagsterInstance, lab: Lab, models: list[str], log: Callable[[str], None]) -> None:
    """Report the labels of *models* before their datasets, so that only later changes mark the datasets as out of date."""
    for model in models:
        try:
            instance.report_runless_asset_event(observe_labels(lab, model))
        except DlcAssetsError as error:
            log(f"{model}: its labels cannot be read now: {error}")


def _events(
    instance: dg.DagsterInstance, lab: Lab, asset: str, keys: list[str], repeated: Collection[str]
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    from dlc_assets.definitions import defs  # only where there is something to report: it loads the whole graph

    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    pointers = newest_events(instance, node.parent_keys)
    lineage = {CODE_VERSION_TAG: node.code_version or "", DATA_VERSION_IS_USER_PROVIDED_TAG: "true"}
    for parent in node.parent_keys:
        # Of partitioned inputs Dagster compares the events, not this version.
        lineage[get_input_data_version_tag(parent)] = "INITIAL"
        lineage[get_input_event_pointer_tag(parent)] = str(pointers.get(parent, "NULL"))
    for key in keys:
        manifest = stored_manifest(lab, asset, key)
        if manifest is None:
            continue  # its files went between the listing and now
        if asset in CHECKS and key not in repeated:  # Dagster keeps one outcome of a check that no run made
            yield from evaluations(manifest, lab.root)
        yield dg.AssetMaterialization(
            asset,
            partition=key,
            description="Found in the store: made before this Dagster instance, or by another one.",
            metadata=_metadata(lab, manifest),
            tags={**lineage, DATA_VERSION_TAG: manifest.data_version},
        )


def _metadata(lab: Lab, manifest: Manifest) -> dict[str, dg.MetadataValue | str | bool]:
    return {
        "made": manifest.made,
        "run": manifest.run_id,
        "custom": manifest.custom,
        "dagster/uri": dg.MetadataValue.path(str(place_of(lab, manifest))),
    }
