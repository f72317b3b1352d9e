"""What is known of sessions and their subjects, as columns beside what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.catalog.schema import TAG_PREFIX, tag_columns
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import need_session_info

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

LABELS = ("subject", "day", "sex", "strain", "genotype")


def session_labels(lab: Lab, session: str) -> dict[str, Any]:
    """Return what is known of *session*: `LABELS`, and tags as ``tag_<name>``, the session's own in the place of its subject's."""
    info, _ = need_session_info(lab.layout, session)
    subject = lab.settings.subject(info.subject_source_name)
    own = {name.casefold() for name in info.tags}
    tags = {name: value for name, value in subject.tags.items() if name.casefold() not in own}
    return {
        "subject": info.subject,
        "day": info.day,
        "sex": subject.sex if info.subject is not None else None,
        "strain": subject.strain,
        "genotype": subject.genotype,
        **{f"{TAG_PREFIX}{name}": value for name, value in (tags | info.tags).items()},
    }


def with_labels(lab: Lab, table: pa.Table) -> pd.DataFrame:
    """Return *table* as a DataFrame with the labels of each row's session behind ``session``; names are categorical.

    ``version`` is left out where each model has one.
    """
    frame = table.to_pandas()
    if len(frame.groupby(["model", "version"], observed=True)) == len(frame["model"].cat.categories):
        frame = frame.drop(columns="version")
    known = {session: session_labels(lab, session) for session in frame["session"].cat.categories}
    rows = list(known.values())
    codes = frame["session"].cat.codes.to_numpy()
    labels = {name: _spread([row[name] for row in rows], codes) for name in LABELS}
    for tag in tag_columns(rows):
        labels[tag.name] = _spread([_of(row, tag.name) for row in rows], codes)
    import pandas as pd

    return pd.concat([frame[["session"]], pd.DataFrame(labels), frame.drop(columns="session")], axis=1)


def _of(row: Mapping[str, Any], name: str) -> Any:
    """Return the tag *name* of *row*, whatever its case."""
    return next((value for key, value in row.items() if key.casefold() == name.casefold()), None)


def _spread(values: list[Any], codes: np.ndarray) -> Any:
    """Return one of *values* (one a session) for each of *codes*: numbers as they are, everything else as categories."""
    import pandas as pd

    if any(isinstance(value, date) for value in values):
        return pd.to_datetime(pd.Series(values)).to_numpy()[codes]
    if any(isinstance(value, int | float) and not isinstance(value, bool) for value in values) and not any(
        isinstance(value, str | bool) for value in values
    ):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)[codes]
    categories = list(dict.fromkeys(value for value in values if value is not None))
    return pd.Categorical(values, categories=categories).take(codes.astype(np.intp))
