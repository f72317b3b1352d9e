"""`dandiset.yaml`: what says to dandi's own tools which dandiset the NWB files in a folder are of, and describes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.publishing.selection import dandi_settings

_HEADER = "# Written once by `dlc-assets publish --init` from lab.yaml. The archive's own page of the dandiset is what counts.\n"


def write_dandiset_file(lab: Lab, cohort: Cohort | None = None) -> Path:
    """Write `dandiset.yaml` beside the NWB files of the lab, or of *cohort*, and return where it is.

    Raises
    ------
    SettingsError
        lab.yaml names no dandiset, or does not describe it.
    InputError
        There is such a file already; it may have been edited.
    """
    settings = dandi_settings(lab)
    description = settings.description or lab.settings.nwb.experiment_description
    if not description:
        raise SettingsError(
            f"{lab.layout.settings_file}: dandi: `description` is empty, and a dandiset needs one: some sentences on what was done and why."
        )
    place = lab.layout.dandiset_file(None if cohort is None else cohort.name)
    if place.exists():
        raise InputError(f"{place} is there already and is left as it is. Move it away to have it written anew.")
    about: dict[str, Any] = {
        "identifier": settings.dandiset,
        "name": settings.name or lab.settings.name,
        "description": description,
        "license": [settings.license],
        "keywords": list(lab.settings.nwb.keywords),
        "contributor": [
            {"schemaKey": "Person", "name": name, "roleName": ["dcite:Author"], "includeInCitation": True}
            for name in lab.settings.experimenters
        ],
    }
    write_text(place, _HEADER + yaml.safe_dump(about, sort_keys=False, allow_unicode=True))
    return place
