"""Pose tracks in the layouts of other programs: DeepLabCut's tables and movement's datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.poses.schema import PoseMetadata, Track

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# movement's own name for the animal of a DeepLabCut table without an individuals level
SINGLE_INDIVIDUAL = "individual_0"

_LEVELS = (["scorer", "bodyparts", "coords"], ["scorer", "individuals", "bodyparts", "coords"])


def tracks_from_dlc(df: pd.DataFrame) -> list[Track]:
    """Return the tracks of one of DeepLabCut's result tables, in its order.

    Parameters
    ----------
    df
        One row a frame; column levels scorer[, individuals], bodyparts, coords (x, y and maybe likelihood).

    Returns
    -------
    list of Track
        float32; NaN where the table has NaN, and for the likelihood where it has none.

    Raises
    ------
    InputError
        Other column levels, several scorers, other coordinates, or rows that are not consecutive frames.
    """
    levels = [str(name) for name in df.columns.names]
    if levels not in _LEVELS:
        raise InputError(
            f"Expected a DeepLabCut table with column levels {' or '.join(map(str, _LEVELS))}, got {levels}."
        )
    scorers = list(df.columns.unique("scorer"))
    if len(scorers) != 1:
        raise InputError(f"Expected a DeepLabCut table of one scorer, got {len(scorers)}: {scorers}.")
    if len(df) and (df.index.dtype.kind not in "iu" or (np.diff(df.index.to_numpy()) != 1).any()):
        raise InputError(
            "Expected a DeepLabCut table with one row for each frame in order, got the index "
            f"{list(df.index[:3])} ... (labels, unlike results, are indexed by image)."
        )
    columns: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for place, key in enumerate(df.columns):
        individual = str(key[1]) if len(key) == 4 else ""
        coords = columns.setdefault((individual, str(key[-2])), {})
        coords[str(key[-1])] = df.iloc[:, place].to_numpy(dtype=np.float32)
    return [_track(individual, bodypart, coords) for (individual, bodypart), coords in columns.items()]


def tracks_to_dlc(tracks: Sequence[Track], *, scorer: str, first_frame: int = 0) -> pd.DataFrame:
    """Return *tracks* in the layout of DeepLabCut's result tables.

    Returns
    -------
    pandas.DataFrame
        float32; index the frame number; column levels scorer, bodyparts, coords, and individuals after scorer
        where a track names one.
    """
    names = [(track.individual, track.bodypart) for track in tracks]
    values = np.stack([[track.x, track.y, track.likelihood] for track in tracks])
    return values_to_dlc(names, values, scorer=scorer, first_frame=first_frame)


def values_to_dlc(
    names: Sequence[tuple[str, str]], values: np.ndarray, *, scorer: str, first_frame: int = 0
) -> pd.DataFrame:
    """Return what `tracks_to_dlc` does, without a copy, of the tracks called *names* (individual, body part).

    Parameters
    ----------
    values
        Shape (tracks, 3, frames), float32: x, y, likelihood.
    """
    import pandas as pd

    several = any(individual for individual, _ in names)
    keys: list[tuple[str, ...]] = []
    for individual, bodypart in names:
        levels = (individual, bodypart) if several else (bodypart,)
        keys += [(scorer, *levels, coord) for coord in ("x", "y", "likelihood")]
    frames = pd.RangeIndex(first_frame, first_frame + values.shape[2])
    columns = pd.MultiIndex.from_tuples(keys, names=_LEVELS[several])
    return pd.DataFrame(values.reshape(len(keys), -1).T, index=frames, columns=columns)


def tracks_to_movement(tracks: Sequence[Track], times: np.ndarray, metadata: PoseMetadata) -> xr.Dataset:
    """Return *tracks* as a poses dataset of movement.

    Dimensions have the names that the installed movement gives them; ``position`` and ``confidence`` are
    float32, ``time`` is in seconds on the session's clock. The animal of a single-animal table is called
    `SINGLE_INDIVIDUAL`, as movement does. Body parts that an individual does not have are NaN. The attribute
    ``fps`` is left out where the rate varies.

    Notes
    -----
    Likelihoods of different networks are not on one scale: a threshold found for one model does not carry
    over to another.
    """
    from movement.validators.datasets import ValidPosesInputs

    individuals = list(dict.fromkeys(track.individual for track in tracks))
    keypoints = list(dict.fromkeys(track.bodypart for track in tracks))
    position = np.full((len(times), 2, len(keypoints), len(individuals)), np.nan, dtype=np.float32)
    confidence = np.full((len(times), len(keypoints), len(individuals)), np.nan, dtype=np.float32)
    for track in tracks:
        place = keypoints.index(track.bodypart), individuals.index(track.individual)
        position[:, 0, *place], position[:, 1, *place] = track.x, track.y
        confidence[:, *place] = track.likelihood
    dataset = ValidPosesInputs(
        position_array=position,
        confidence_array=confidence,
        individual_names=[name or SINGLE_INDIVIDUAL for name in individuals],
        keypoint_names=keypoints,
        fps=metadata.fps,
        source_software="DeepLabCut",
    ).to_dataset()
    # movement counts time from 0 at a steady rate; ours are the frames' own times, gaps included
    dataset = dataset.assign_coords(time=np.asarray(times, dtype=np.float64))
    dataset.attrs |= {
        "time_unit": "seconds",
        "session": metadata.session,
        "recording": metadata.recording,
        "model": metadata.model,
        "version": metadata.version,
    }
    return dataset


def _track(individual: str, bodypart: str, coords: dict[str, np.ndarray]) -> Track:
    if not {"x", "y"} <= coords.keys() <= {"x", "y", "likelihood"}:
        raise InputError(
            f'Body part "{bodypart}" of the DeepLabCut table: expected the coordinates x, y and maybe '
            f"likelihood, got {', '.join(coords)}."
        )
    likelihood = coords.get("likelihood", np.full_like(coords["x"], np.nan))
    return Track(individual, bodypart, coords["x"], coords["y"], likelihood)
