"""The partitions of the asset graph, and ranges over them.

See https://docs.dagster.io/guides/build/partitions-and-backfills. What belongs here: partition definitions, the keys of a run, and
cutting keys into contiguous ranges. What does not: how keys are written (lab/keys.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.keys import pose_key

SESSION, MODEL = "session", "model"
sessions = dg.DynamicPartitionsDefinition(name=SESSION)
models = dg.DynamicPartitionsDefinition(name=MODEL)
session_models = dg.MultiPartitionsDefinition({MODEL: models, SESSION: sessions})

_ADD_CHUNK = 5_000  # the instance writes so many keys in one transaction


@dataclass(frozen=True)
class KeyRange:
    """Partition keys that one run takes: a single one, or a contiguous range in the instance's order."""

    keys: tuple[str, ...]

    @property
    def tags(self) -> dict[str, str]:
        """The run tags that mean these keys."""
        if len(self.keys) == 1:
            return {"dagster/partition": self.keys[0]}
        return {ASSET_PARTITION_RANGE_START_TAG: self.keys[0], ASSET_PARTITION_RANGE_END_TAG: self.keys[-1]}

    def for_model(self, model: str) -> KeyRange:
        """Return the same sessions as pose-estimation tasks of *model*."""
        return KeyRange(tuple(pose_key(model, session) for session in self.keys))


def contiguous_ranges(wanted: Iterable[str], known: Sequence[str], most: int) -> list[KeyRange]:
    """Cut *wanted* into ranges of at most *most* keys that lie side by side in *known* (the instance's order).

    Dagster's ranges are all that lies between two keys, so that a gap must start a new range.
    """
    position = {key: index for index, key in enumerate(known)}
    unknown = sorted(set(wanted) - position.keys())
    if unknown:
        raise NotFoundError(f"not partitions of this instance: {', '.join(unknown)}. Run `dlc-assets scan` first.")
    ranges: list[list[str]] = []
    for key in sorted(set(wanted), key=position.__getitem__):
        if ranges and len(ranges[-1]) < most and position[key] == position[ranges[-1][-1]] + 1:
            ranges[-1].append(key)
        else:
            ranges.append([key])
    return [KeyRange(tuple(keys)) for keys in ranges]


def add_keys(
    instance: dg.DagsterInstance, name: str, keys: Iterable[str], known: Iterable[str] | None = None
) -> list[str]:
    """Add the keys that *instance* does not know to the dynamic partition *name*; return them.

    *known* are those that it knows, where they were read already: a large lab's take a third of a second.
    """
    known = set(instance.get_dynamic_partitions(name) if known is None else known)
    new = [key for key in dict.fromkeys(keys) if key not in known]
    for start in range(0, len(new), _ADD_CHUNK):
        instance.add_dynamic_partitions(name, new[start : start + _ADD_CHUNK])
    return new


def keys_of_run(run: dg.DagsterRun, known: Sequence[str]) -> Iterator[str]:
    """Yield the partition keys that *run* was asked to make (a range's keys lie between its ends in *known*, the sessions)."""
    key = run.tags.get("dagster/partition")
    first, last = run.tags.get(ASSET_PARTITION_RANGE_START_TAG), run.tags.get(ASSET_PARTITION_RANGE_END_TAG)
    if key is not None:
        yield key
    elif first is not None and last is not None:
        model, bar, first_session = first.rpartition("|")
        last_session = last.rpartition("|")[2]
        if first_session in known and last_session in known:
            for session in known[known.index(first_session) : known.index(last_session) + 1]:
                yield f"{model}{bar}{session}"
