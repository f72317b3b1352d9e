"""A name of the lab that no other has: kept in its instance's database, so that a copy of the folder does not carry it along."""

from __future__ import annotations

import uuid

import dagster as dg

from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold

_KEY = "dlc_assets_lab_id"


def lab_id(instance: dg.DagsterInstance, layout: LabLayout) -> str:
    """Return the id of the lab whose records are in *instance*; the first time it is made up."""
    storage = instance.daemon_cursor_storage
    with hold(layout.lock("lab", "id"), "the lab's id"):
        known = storage.get_cursor_values({_KEY}).get(_KEY)
        if known is None:
            known = uuid.uuid4().hex[:12]
            storage.set_cursor_values({_KEY: known})
    return known
