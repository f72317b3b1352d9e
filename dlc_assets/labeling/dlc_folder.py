"""A labeled-data folder as DeepLabCut's `extract_outlier_frames` leaves it: pictures, and machine labels for people to correct.

Such a folder holds ``img<frame>.png`` with as many digits as the video has frames, ``machinelabels-iter<n>.h5`` with the key
``df_with_missing``, and ``machinelabels.csv``. Rows are named (labeled-data, folder, picture); columns have the levels scorer,
individuals (of multi-animal projects), bodyparts and coords, the last being x, y and likelihood. napari-deeplabcut shows what begins
with ``machinelabels``, and saves what a person made of it as ``CollectedData_<scorer>.h5``: until then nobody takes them for labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.training.project import DlcProject

if TYPE_CHECKING:
    import pandas as pd

LABELED_DATA = "labeled-data"
KEY = "df_with_missing"
MACHINE = "machinelabels"  # what the names of files of machine labels begin with
MACHINE_CSV = f"{MACHINE}.csv"
UNIQUE = "single"  # the individual that unique body parts belong to
_COORDS = ("x", "y", "likelihood")

Pose = Mapping[tuple[str, str], np.ndarray]
"""(individual, body part) to (3,) x, y (px in the full upright frame) and likelihood; the individual is empty for a single animal."""


def picture_name(frame: int, frame_count: int) -> str:
    """Return the name of a frame's picture, as DeepLabCut names it: by the frame's number in its video file of *frame_count* frames."""
    digits = max(1, int(np.ceil(np.log10(max(frame_count, 1)))))
    return f"img{frame:0{digits}}.png"


def machine_file_name(iteration: int) -> str:
    """Return the name of the machine labels' file."""
    return f"{MACHINE}-iter{iteration}.h5"


def track_names(project: DlcProject) -> list[tuple[str, str]]:
    """Return the (individual, body part) that *project* labels, in the order of DeepLabCut's columns."""
    if not project.multianimal:
        return [("", part) for part in project.bodyparts]
    animals = [(individual, part) for individual in project.individuals for part in project.bodyparts]
    return [*animals, *((UNIQUE, part) for part in project.unique_bodyparts)]


def machine_labels(
    project: DlcProject, folder: str, names: Sequence[str], poses: Sequence[Pose], *, scorer: str, pcutoff: float
) -> pd.DataFrame:
    """Return the machine labels of some pictures of one folder, float64.

    Points whose likelihood does not reach *pcutoff* are NaN, so that people place them rather than overlook them; the likelihood stays.
    Body parts that the network does not know are NaN.

    Parameters
    ----------
    names, poses
        Of each picture.
    scorer
        DeepLabCut's name for the network.
    """
    import pandas as pd

    tracks = track_names(project)
    values = np.full((len(names), len(tracks), len(_COORDS)), np.nan)
    for row, pose in enumerate(poses):
        for column, track in enumerate(tracks):
            if track in pose:
                values[row, column] = pose[track]
    below = ~((values[..., 2] >= pcutoff) | np.isnan(values[..., 2]))
    values[below, :2] = np.nan
    values[~np.isfinite(values[..., :2]).all(axis=2), :2] = np.nan
    levels = ["scorer", "individuals", "bodyparts", "coords"]
    columns: list[tuple[str, ...]] = [(scorer, *track, coord) for track in tracks for coord in _COORDS]
    if not project.multianimal:
        levels.remove("individuals")
        columns = [(scorer, part, coord) for _, part in tracks for coord in _COORDS]
    return pd.DataFrame(
        values.reshape(len(names), -1),
        index=row_names(folder, names),
        columns=pd.MultiIndex.from_tuples(columns, names=levels),
    )


def row_names(folder: str, names: Sequence[str]) -> pd.MultiIndex:
    """Return the rows of a label table of *folder*, one a picture."""
    import pandas as pd

    return pd.MultiIndex.from_tuples([(LABELED_DATA, folder, name) for name in names])


def write_labels(table: pd.DataFrame, h5: Path, csv: Path | None = None) -> None:
    """Write a table of labels, as h5 and maybe as csv, to where it is not in its place yet."""
    import warnings

    with warnings.catch_warnings():
        # PyTables: names with a space or a hyphen, which DeepLabCut's tables are full of, are no Python attributes.
        warnings.simplefilter("ignore")
        table.to_hdf(h5, key=KEY, mode="w")
    if csv is not None:
        table.to_csv(csv)


def read_labels(h5: Path) -> pd.DataFrame:
    """Return a table of labels that this module wrote, or that napari-deeplabcut saved beside it."""
    import pandas as pd

    table = pd.read_hdf(h5)
    assert isinstance(table, pd.DataFrame), f"{h5} holds no table"
    return table


def of_folder(table: pd.DataFrame, folder: str) -> pd.DataFrame:
    """Return *table* with rows that name *folder*, for a folder that is put under another name."""
    names = [str(row[-1]) if isinstance(row, tuple) else Path(str(row)).name for row in table.index]
    renamed = table.copy()
    renamed.index = row_names(folder, names)
    return renamed
