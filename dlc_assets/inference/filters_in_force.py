"""The filters that a cohort is frozen with: the steps, and what they need of each recording's rig, so that they can be done again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import NotFoundError, SettingsError
from dlc_assets.lab.filter_settings import ALGORITHM, Steps, filters_hash, steps_from
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.filter_rigs import FilterRig, filter_rigs
from dlc_assets.recordings.info import need_session_info


@dataclass(frozen=True)
class FrozenFilters:
    """What a cohort's record says of filters; *rigs* by session, model and recording, where a step needs one.

    *unknown* says by session why a rig that a step needs was not known.
    """

    steps: Steps
    hash: str
    algorithm: int
    rigs: Mapping[str, Mapping[str, Mapping[str, FilterRig]]]
    unknown: Mapping[str, str]

    def rigs_of(self, session: str, model: str) -> Mapping[str, FilterRig]:
        """Return the rigs of one pose table, by recording; none where no step needs one.

        Raises
        ------
        NotFoundError
            It was not known when the cohort was frozen.
        """
        if session in self.unknown:
            raise NotFoundError(
                f"{session}: what its filters need of the rig was not known when the cohort was frozen ({self.unknown[session]}). "
                "Read it without filtered=True, or freeze it again under another name."
            )
        return self.rigs.get(session, {}).get(model, {})


def filters_to_freeze(lab: Lab, recordings: Mapping[str, Mapping[str, list[str]]]) -> dict[str, Any]:
    """Return what a new cohort's record says of the filters that lab.yaml states now.

    Parameters
    ----------
    recordings
        session -> model -> all recordings of the pose table.

    Returns
    -------
    dict
        As in `Cohort`. Of a session whose setup is not known, ``unknown`` says why: it is frozen all the same, without filtered poses.
    """
    steps = lab.settings.filters
    if steps is None:
        return {"steps": None, "hash": filters_hash(None), "algorithm": ALGORITHM, "rigs": {}, "unknown": {}}
    rigs: dict[str, dict[str, Any]] = {}
    unknown: dict[str, str] = {}
    for session, of_model in recordings.items():
        info, _ = need_session_info(lab.layout, session)
        for model, names in of_model.items():
            try:
                found = filter_rigs(lab, info, names, steps)
            except SettingsError as error:
                unknown[session] = str(error)
                continue
            needed = {name: rig.to_json() for name, rig in found.items() if rig != FilterRig()}
            if needed:
                rigs.setdefault(session, {})[model] = needed
    return {
        "steps": [step.parameters for step in steps],
        "hash": filters_hash(steps),
        "algorithm": ALGORITHM,
        "rigs": rigs,
        "unknown": unknown,
    }


def frozen_filters(cohort: Cohort) -> FrozenFilters:
    """Return the filters that *cohort* was frozen with.

    Raises
    ------
    NotFoundError
        It was frozen while lab.yaml said ``filters: none``, or by a release that did not record filters.
    """
    stated = cohort.filters
    if not stated:
        raise NotFoundError(
            f'the cohort "{cohort.name}" was frozen ({cohort.made}) by a release that did not record filters: which filtered '
            "poses are its, nobody can say. Read it without filtered=True, or freeze its sessions again under another name."
        )
    if stated["steps"] is None:
        raise NotFoundError(
            f'the cohort "{cohort.name}" was frozen while lab.yaml said filters: none, so that it has no filtered poses. Read it '
            "without filtered=True, or freeze its sessions again under another name."
        )
    rigs = {
        session: {
            model: {name: FilterRig.from_json(rig) for name, rig in of_recordings.items()}
            for model, of_recordings in of_model.items()
        }
        for session, of_model in stated["rigs"].items()
    }
    return FrozenFilters(steps_from(stated["steps"]), stated["hash"], stated["algorithm"], rigs, stated["unknown"])
