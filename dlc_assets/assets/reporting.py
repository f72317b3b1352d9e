"""Reporting many partitions of one run, each as soon as it is done, so that a failure in the middle keeps what was made.

A run of one key yields an ordinary `MaterializeResult`; a run of several logs one materialization event a key, with the data version and
input provenance that Dagster itself would write, since a normal output of a range run has one data version for the whole range.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem
from dlc_assets.lab.lab import Lab
from dlc_assets.state.attempts import attempting
from dlc_assets.state.failures import clear_failure, is_lasting, record_failure

RUN_TAG_CUSTOM = "dlc_assets/custom"


@dataclass
class Made:
    """One partition that is done: its content hash, what the UI shows of it, and the data versions of what went in."""

    data_version: str
    metadata: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    checks: Sequence[dg.AssetCheckEvaluation] = ()


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn an error that every partition of the run would have into the step's failure, in its own words."""
    try:
        yield
    except DlcAssetsError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def make_partitions(
    context: dg.AssetExecutionContext,
    lab: Lab,
    make: Callable[[str], Made | None],
    expected_inputs: Callable[[str], dict[str, str]],
    observe: Callable[[str], None] | None = None,
    *,
    retried: bool = False,
    failing_check: str | None = None,
) -> Iterator[dg.MaterializeResult]:
    """Make each partition of the run, report it at once, go on after a failure, and fail at the end if any failed.

    Parameters
    ----------
    make
        Makes one partition key; returns None where there is nothing to make, and says why in the log.
    expected_inputs
        Gives the hashes that a key is made from, kept with its failure so that it is tried again once they change.
    observe
        Reports what a key is made from as it is now, where nobody else may have done so.
    retried
        The sensors try again what failed through no fault of its own, and what its process died over (`state.failures`).
    failing_check
        The check that a key fails, with the reason, where nothing at all could be made of it.
    """
    stage = Stage(context.asset_key.to_user_string(), make, expected_inputs, observe, retried, failing_check)
    yield from make_chains(context, lab, [stage])


@dataclass(frozen=True)
class Stage:
    """How one asset of a run is made; the parameters of `make_partitions`."""

    asset: str
    make: Callable[[str], Made | None]
    expected_inputs: Callable[[str], dict[str, str]]
    observe: Callable[[str], None] | None = None
    retried: bool = False
    failing_check: str | None = None
    needs: tuple[str, ...] = ()  # assets of the same run that it is made from

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(self.asset)


def make_chains(context: dg.AssetExecutionContext, lab: Lab, stages: Sequence[Stage]) -> Iterator[dg.MaterializeResult]:
    """Make *stages* of each partition of the run, one after the other, each from those before it.

    Each product is reported at once. Where one fails, those that need it are left out for its partition, all others go on, and the
    step fails at the end.
    """
    keys = list(context.partition_keys)
    if not keys:
        named = ", ".join(stage.asset for stage in stages)
        raise dg.Failure(f"{named}: this range holds no partition: its end comes before its start. Swap them.")
    failures: dict[str, str] = {}
    for number, key in enumerate(keys, start=1):
        if len(keys) > 1:
            context.log.info(f"{key} ({number} of {len(keys)})")
        missing: set[str] = set()
        for stage in stages:
            if missing.intersection(stage.needs):
                missing.add(stage.asset)
                continue
            try:
                if stage.observe is not None:
                    stage.observe(key)
                pointers = newest_events(context.instance, context.assets_def.asset_deps[stage.key])
                with _attempt(context, lab, stage, key) if stage.retried else nullcontext():
                    made = stage.make(key)
            except Exception as error:  # noqa: BLE001  # one bad recording never stops the others, whatever went wrong with it
                failures[key] = " ".join(filter(None, [failures.get(key), _message(error)]))
                missing.add(stage.asset)
                _report_failure(context, lab, stage, key, error)
                continue
            clear_failure(lab.layout, stage.asset, key)
            if made is None:
                missing.add(stage.asset)
                continue
            for check in made.checks:
                context.log_event(check)
            if len(keys) == 1:
                # With tags of our own: Dagster's would point at what was observed before this step, not at what it observed.
                yield dg.MaterializeResult(
                    asset_key=stage.key,
                    metadata=made.metadata,
                    data_version=dg.DataVersion(made.data_version),
                    tags=_tags(context, stage.key, made, pointers),
                )
            else:
                tags = _tags(context, stage.key, made, pointers)
                context.log_event(dg.AssetMaterialization(stage.key, partition=key, metadata=made.metadata, tags=tags))
    if failures:
        raise dg.Failure(
            description=f"{len(failures)} of {len(keys)} failed; the others are done.\n"
            + "\n".join(_named(key, message) for key, message in failures.items()),
            metadata={"failed": dg.MetadataValue.json(failures)},
            allow_retries=False,
        )


def _report_failure(context: dg.AssetExecutionContext, lab: Lab, stage: Stage, key: str, error: Exception) -> None:
    message = _message(error)
    context.log.error(_named(key, message))
    if not isinstance(error, DlcAssetsError):
        context.log.error("".join(traceback.format_exception(error)))
    if stage.failing_check is not None:
        context.log_event(_failing(stage.key, stage.failing_check, key, message))
    try:
        record_failure(
            lab.layout,
            stage.asset,
            key,
            message,
            inputs=_inputs_or_none(stage.expected_inputs, key),
            run_id=context.run.run_id,
            lasting=not stage.retried or is_lasting(error),
        )
    except (
        EnvironmentProblem
    ) as problem:  # without a record, the product counts as missing or behind, and is tried again
        context.log.error(str(problem))


def _failing(asset: dg.AssetKey, check: str, key: str, why: str) -> dg.AssetCheckEvaluation:
    error = dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckEvaluation(
        asset_key=asset, check_name=check, passed=False, severity=error, description=why, partition=key
    )


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, DlcAssetsError) else f"{type(error).__name__}: {error}"


def _named(key: str, message: str) -> str:
    """Return *message* with the partition's name in front, unless it begins with it."""
    return message if message.startswith((key, key.rpartition("|")[2])) else f"{key}: {message}"


def _attempt(context: dg.AssetExecutionContext, lab: Lab, stage: Stage, key: str) -> AbstractContextManager[None]:
    inputs = _inputs_or_none(stage.expected_inputs, key)
    return attempting(lab.layout, stage.asset, key, inputs=inputs, run_id=context.run.run_id)


def _inputs_or_none(expected_inputs: Callable[[str], dict[str, str]], key: str) -> dict[str, str]:
    """Return the hashes that *key* is made from now, none where they cannot be known."""
    try:
        return expected_inputs(key)
    except Exception:  # noqa: BLE001  # the inputs themselves are what is wrong, in whatever way
        return {}


def newest_events(instance: dg.DagsterInstance, assets: Iterable[dg.AssetKey]) -> dict[dg.AssetKey, int]:
    """Return the storage id of the newest event of each of *assets*: a later one makes what was made from them out of date."""
    keys = list(assets)
    pointers = {}
    for record in instance.get_asset_records(keys):
        newest = record.asset_entry.last_materialization_record
        if newest is not None:
            pointers[record.asset_entry.asset_key] = newest.storage_id
    for key in keys:  # asset records hold no observations, which are all that external assets have
        observed = [] if key in pointers else instance.fetch_observations(key, limit=1).records
        if observed:
            pointers[key] = observed[0].storage_id
    return pointers


def _tags(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, made: Made, pointers: Mapping[dg.AssetKey, int]
) -> dict[str, str]:
    tags = {
        DATA_VERSION_TAG: made.data_version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: context.assets_def.code_versions_by_key[asset] or context.run.run_id,
    }
    for key in context.assets_def.asset_deps[asset]:
        tags[get_input_data_version_tag(key)] = made.inputs.get(key.to_user_string(), "INITIAL")
        tags[get_input_event_pointer_tag(key)] = str(pointers[key]) if key in pointers else "NULL"
    return tags
