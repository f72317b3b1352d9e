"""The beta and preview features of Dagster that we build on, each with the reason; every other one is an error in the tests."""

from __future__ import annotations

import warnings

import dagster as dg

# (category, how its message begins, why we accept it)
ACCEPTED: tuple[tuple[type[Warning], str, str], ...] = (
    (
        dg.BetaWarning,
        "Parameter `backfill_policy`",
        "the only way to give one run many sessions, so that a network is loaded once",
    ),
    (
        dg.BetaWarning,
        "Class `MultiToSingleDimensionPartitionMapping`",
        "poses are [model|session], NWB files [session]",
    ),
)


def accept() -> None:
    """Say nothing of the accepted features: whoever runs a lab can do nothing about them."""
    for category, message, _ in ACCEPTED:
        warnings.filterwarnings("ignore", message=message, category=category)
