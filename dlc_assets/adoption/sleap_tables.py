"""SLEAP's analysis files: tracks of nodes in HDF5, in the order of axes that the file states.

SLEAP writes (track, xy, node, frame); newer programs write (frame, track, node, xy) and say so in the attribute ``dims``. movement's reader
takes the first order for granted, and so turns files of the second around; they are read here by what they say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.errors import InputError

_SLEAP = ("track", "xy", "node", "frame")
_WANTED = ("track", "node", "xy", "frame")


@dataclass(frozen=True)
class SleapHead:
    """The head of an analysis file: its tracks and nodes by name, its frames, the order of its axes, and the video it is of."""

    individuals: tuple[str, ...]
    bodyparts: tuple[str, ...]
    frames: int
    dims: tuple[str, ...]
    video: str
    problems: tuple[str, ...]


def is_sleap(file: Any) -> bool:
    """Say whether the opened HDF5 *file* is one of SLEAP's analysis files."""
    return "tracks" in file and hasattr(file["tracks"], "shape") and "node_names" in file


def sleap_head(file: Any, path: Path) -> SleapHead:
    """Read the head of the opened analysis *file*.

    Raises
    ------
    InputError
        Names and numbers do not fit together.
    """
    shape = file["tracks"].shape
    bodyparts = tuple(_names(file["node_names"]))
    names = tuple(_names(file["track_names"])) if "track_names" in file else ()
    dims = _dims(file["tracks"], shape, len(bodyparts), path)
    size = dict(zip(dims, shape, strict=True))
    problems: list[str] = []
    if size["xy"] != 2:
        raise InputError(f"{path}: expected x and y in the axis xy of tracks, got {size['xy']} numbers.")
    if size["node"] != len(bodyparts):
        raise InputError(f"{path}: {len(bodyparts)} node names, but tracks of {size['node']} nodes.")
    if not names and size["track"] == 1:
        names = ("",)
    elif len(names) != size["track"] or len(set(names)) != len(names) or "" in names:
        stated = f"{len(names)} track names" if names else "no track names"
        names = tuple(f"track{number}" for number in range(size["track"]))
        problems.append(
            f"{stated} for {size['track']} tracks: they are called {names[0]} to {names[-1]} in their order"
        )
    return SleapHead(
        names,
        bodyparts,
        size["frame"],
        dims,
        _text(file["video_path"][()]) if "video_path" in file else "",
        tuple(problems),
    )


def sleap_values(file: Any, head: SleapHead) -> np.ndarray:
    """Return the poses: shape (tracks, nodes, 3, frames), float32: x, y and the point's score (NaN where the file has none)."""
    made = np.full((len(head.individuals), len(head.bodyparts), 3, head.frames), np.nan, dtype=np.float32)
    made[:, :, :2] = np.transpose(file["tracks"][:], [head.dims.index(dim) for dim in _WANTED])
    if "point_scores" in file:
        scores = file["point_scores"]
        without = tuple(dim for dim in head.dims if dim != "xy")
        dims = _stated_dims(scores) or without
        made[:, :, 2] = np.transpose(scores[:], [dims.index(dim) for dim in ("track", "node", "frame")])
    return made


def _dims(tracks: Any, shape: tuple[int, ...], nodes: int, path: Path) -> tuple[str, ...]:
    stated = _stated_dims(tracks)
    if stated is not None:
        if sorted(stated) != sorted(_SLEAP):
            raise InputError(
                f"{path}: expected the axes {', '.join(_SLEAP)} of tracks in some order, got {', '.join(stated)}."
            )
        return stated
    if len(shape) == 4 and shape[1] == 2 and shape[2] == nodes:
        return _SLEAP
    if len(shape) == 4 and shape[3] == 2 and shape[2] == nodes:
        return ("frame", "track", "node", "xy")
    raise InputError(f"{path}: expected tracks of the shape (tracks, 2, {nodes} nodes, frames), got {tuple(shape)}.")


def _stated_dims(dataset: Any) -> tuple[str, ...] | None:
    stated = dataset.attrs.get("dims")
    if stated is None:
        return None
    try:
        dims = json.loads(_text(stated))
    except ValueError:
        return None
    return tuple(map(str, dims)) if isinstance(dims, list) and len(dims) == dataset.ndim else None


def _names(dataset: Any) -> list[str]:
    return [_text(name) for name in dataset[:]]


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
