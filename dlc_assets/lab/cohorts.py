"""Cohorts: lists of sessions frozen under a name, with the model versions and the poses that they had then.

A cohort is a decision, kept in the lab's records: it is never changed, and its name is never used again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dlc_assets.lab.errors import EnvironmentProblem, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold
from dlc_assets.lab.records import append_record, read_records

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?")


@dataclass(frozen=True)
class Cohort:
    """One frozen cohort.

    Parameters
    ----------
    sessions
        session -> model -> version.
    filters
        The filters as they were then: ``steps`` with their parameters (None: none), their ``hash``, the ``algorithm``, and the
        ``rigs`` that they need. Empty in cohorts of releases that did not record them.
    made, by, reason
        When (ISO 8601, UTC), who, and why.
    recordings
        session -> model -> the recordings that are this model's.
    poses
        session -> model -> the data version of the pose table: the poses themselves, not only who estimated them.
    """

    name: str
    sessions: dict[str, dict[str, str]]
    filters: dict[str, Any]
    made: str
    by: str
    reason: str
    recordings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    poses: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def versions(self) -> list[str]:
        """Every model version of the cohort as ``model@version``, sorted."""
        return sorted({f"{model}@{version}" for pinned in self.sessions.values() for model, version in pinned.items()})

    def pins(self, session: str, model: str, version: str, data_version: str) -> bool:
        """Say whether these very poses are the cohort's."""
        if self.sessions.get(session, {}).get(model) != version:
            return False
        return self.poses.get(session, {}).get(model) in {None, data_version}


def cohorts(layout: LabLayout) -> list[Cohort]:
    """Return every cohort, the first frozen first.

    Raises
    ------
    EnvironmentProblem
        The records cannot be read.
    """
    return [_cohort(layout, row) for row in read_records(layout, "cohorts")]


def find_cohort(layout: LabLayout, name: str) -> Cohort:
    """Return the cohort called *name*.

    Raises
    ------
    NotFoundError
        There is none.
    """
    there = {cohort.name: cohort for cohort in cohorts(layout)}
    if name not in there:
        raise NotFoundError(
            f'there is no cohort "{name}".{did_you_mean(name, there)} Cohorts: {", ".join(there) or "none yet"}. '
            "`dlc-assets freeze` makes one."
        )
    return there[name]


def check_new_name(layout: LabLayout, name: str) -> str:
    """Return *name* if a new cohort can have it.

    Raises
    ------
    SettingsError
        It has characters that file names cannot carry everywhere, or it is taken (also in other letter case: some file systems do
        not tell them apart).
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f'"{name}" cannot be a cohort\'s name: expected at most 80 letters (a to z), digits, "-", "_" and ".", '
            "a letter or digit first and no point last."
        )
    taken = {cohort.name.casefold(): cohort for cohort in cohorts(layout)}
    if (former := taken.get(name.casefold())) is not None:
        raise SettingsError(
            f'a cohort "{former.name}" was frozen already ({former.made}, by {former.by}, {len(former.sessions)} sessions) '
            "and is never changed. Choose another name."
        )
    return name


@contextmanager
def freezing(layout: LabLayout) -> Iterator[None]:
    """Hold what cohorts pin: no pose table is replaced while a cohort is frozen, and no two are frozen at a time."""
    with hold(layout.lock("cohorts", "freeze"), "freezing a cohort, or replacing poses"):
        yield


def keep_cohort(
    layout: LabLayout,
    name: str,
    *,
    sessions: Mapping[str, Mapping[str, str]],
    recordings: Mapping[str, Mapping[str, list[str]]],
    poses: Mapping[str, Mapping[str, str]],
    filters: Mapping[str, Any],
    reason: str,
) -> Cohort:
    """Write a new cohort to the records (the caller holds `freezing`); arguments as in `Cohort`.

    Raises
    ------
    SettingsError
        The name cannot be used, or there are no sessions.
    """
    check_new_name(layout, name)
    if not sessions:
        raise SettingsError(f'the cohort "{name}" would have no session.')
    row = append_record(
        layout,
        "cohorts",
        {
            "name": name,
            "sessions": {session: dict(pinned) for session, pinned in sessions.items()},
            "recordings": {session: dict(of_model) for session, of_model in recordings.items()},
            "poses": {session: dict(of_model) for session, of_model in poses.items()},
            "filters": dict(filters),
            "reason": reason,
        },
    )
    return _cohort(layout, row)


def _cohort(layout: LabLayout, row: Mapping[str, Any]) -> Cohort:
    try:
        return Cohort(
            name=row["name"],
            sessions=row["sessions"],
            filters=row["filters"],
            made=row["at"],
            by=row["by"],
            reason=row["reason"],
            recordings=row.get("recordings", {}),
            poses=row.get("poses", {}),
        )
    except KeyError as error:
        raise EnvironmentProblem(
            f"{layout.records_file('cohorts')}: a cohort has no {error}. Restore the file from a backup, or mend the line."
        ) from None
