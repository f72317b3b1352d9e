"""pandas' tables in HDF5 files, read without unpickling anything.

`pandas.read_hdf` (and PyTables below it) unpickles whatever the file holds as a pickle: columns of objects, but also plain attributes such
as the list of a table's columns. Here h5py reads the numbers, `adoption.safe_pickle` the attributes, and columns of objects are refused.
Both of pandas' formats are read: *table* (DeepLabCut's ``df_with_missing``) and *fixed* (its ``tracks``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.adoption.safe_pickle import parse_pickle
from dlc_assets.lab.errors import InputError

_CHUNK_BYTES = 1 << 24  # of rows that are turned around at once


@dataclass(frozen=True)
class H5Table:
    """The head of a table of poses or labels in an HDF5 file.

    *levels* are the names of the columns' levels, *columns* the columns' names, one by level, *index* the frame numbers (rows,) int64, or
    the images that the rows are of (*images*); `values` reads the numbers.
    """

    levels: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    rows: int
    images: bool
    index: Callable[[], np.ndarray | list[str]]
    values: Callable[[], np.ndarray]


def h5_keys(file: Any) -> list[str]:
    """Return the names of pandas' tables in the opened *file*."""
    return [name for name in file if "pandas_type" in file[name].attrs]


def h5_table(file: Any, name: str, path: Path) -> H5Table:
    """Return the table *name* of the opened HDF5 *file*; its numbers can be read while the file is open.

    `H5Table.values` gives shape (columns, rows), float32.

    Raises
    ------
    InputError
        It is no table of numbers: pickled columns, text, or another kind of pandas object.
    """
    group = file[name]
    kind = _text(group.attrs["pandas_type"])
    where = f'{path}, table "{name}"'
    if kind == "frame_table":
        return _appendable(group, where)
    if kind == "frame":
        return _fixed(group, where)
    raise InputError(f"{where}: expected one of pandas' tables (frame or frame_table), got the kind {kind!r}.")


def _appendable(group: Any, where: str) -> H5Table:
    table = group["table"]
    axes = _attribute(group, "non_index_axes", where)
    info = _attribute(group, "info", where)
    columns = [tuple(map(str, column)) for column in axes[0][1]]
    named = info.get(axes[0][0], {}) if isinstance(info, dict) else {}
    levels = tuple(map(str, named.get("names", ())))
    places: dict[tuple[str, ...], tuple[str, int]] = {}
    for field in table.dtype.names:
        if not field.startswith("values_block_"):
            continue
        dtype = table.dtype[field]
        if dtype.base.kind not in "fiu":
            raise InputError(f"{where}: expected numbers, got columns of the type {dtype.base} ({field}).")
        of_block = _attribute(table, f"{field}_kind", where)
        for number, column in enumerate(of_block):
            places[tuple(map(str, column))] = (field, number)
    missing = [column for column in columns if column not in places]
    if missing:
        raise InputError(f"{where}: the column {' / '.join(missing[0])} is listed, but the table does not hold it.")

    def index() -> np.ndarray | list[str]:
        return _numbers_or_texts(table.fields("index")[:])

    def values() -> np.ndarray:
        made = np.empty((len(columns), len(table)), dtype=np.float32)
        for first, last in _chunks(len(table), table.dtype.itemsize):
            rows = table[first:last]
            for place, column in enumerate(columns):
                field, number = places[column]
                block = rows[field]
                made[place, first:last] = block if block.ndim == 1 else block[:, number]
        return made

    images = table.dtype["index"].kind not in "fiu"
    return H5Table(levels, tuple(columns), len(table), images, index, values)


def _fixed(group: Any, where: str) -> H5Table:
    levels, columns = _axis(group, "axis0", where)
    blocks = [_axis(group, f"block{number}_items", where)[1] for number in range(int(group.attrs["nblocks"]))]
    datasets = []
    for number, of_block in enumerate(blocks):
        dataset = group[f"block{number}_values"]
        if dataset.dtype.kind not in "fiu" or dataset.ndim != 2 or "shape" in dataset.attrs:
            empty = "shape" in dataset.attrs and 0 in np.ravel(dataset.attrs["shape"])
            if not empty:
                raise InputError(
                    f"{where}: expected numbers, got columns that pandas has pickled ({' / '.join(of_block[0])}). Pickles are not "
                    "read: open the table where you trust it and write it again with numbers alone."
                )
        datasets.append(dataset)
    places = {column: (block, number) for block, of in enumerate(blocks) for number, column in enumerate(of)}
    rows = _length(group, "axis1")

    def index() -> np.ndarray | list[str]:
        if _text(group.attrs.get("axis1_variety", "regular")) == "multi":
            return ["/".join(names) for names in _axis(group, "axis1", where)[1]]
        axis = group["axis1"]
        if axis.dtype.kind not in "fiuS":
            raise InputError(f"{where}: expected frame numbers or names of images as its index, got {axis.dtype}.")
        return _numbers_or_texts(axis[:rows])

    def values() -> np.ndarray:
        made = np.empty((len(columns), rows), dtype=np.float32)
        if not rows:
            return made
        for block, dataset in enumerate(datasets):
            width = dataset.shape[1] * dataset.dtype.itemsize
            for first, last in _chunks(rows, width):
                part = dataset[first:last]
                for place, column in enumerate(columns):
                    if places[column][0] == block:
                        made[place, first:last] = part[:, places[column][1]]
        return made

    several = _text(group.attrs.get("axis1_variety", "regular")) == "multi"
    return H5Table(levels, columns, rows, several or group["axis1"].dtype.kind not in "fiu", index, values)


def _axis(group: Any, name: str, where: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the level names and the entries of one axis of a *fixed* table."""
    if _text(group.attrs.get(f"{name}_variety", "")) != "multi":
        raise InputError(
            f"{where}: expected columns of the levels scorer, bodyparts and coords, got plain column names: no table of poses."
        )
    levels: list[str] = []
    of_level: list[list[str]] = []
    for number in range(int(group.attrs[f"{name}_nlevels"])):
        names, codes = group[f"{name}_level{number}"], group[f"{name}_label{number}"]
        levels.append(_level_name(names, where))
        if names.dtype.kind == "O":
            raise InputError(f"{where}: the names of {levels[-1] or name} are pickled, which is not read.")
        texts = [str(_text(value)) for value in names[:]]
        of_level.append([texts[code] if code >= 0 else "" for code in codes[:]])
    return tuple(levels), tuple(zip(*of_level, strict=True))


def _level_name(names: Any, where: str) -> str:
    stated = names.attrs.get("name", "")
    text = _text(stated)
    return "" if text in {"N.", ""} else str(text)


def _length(group: Any, name: str) -> int:
    if _text(group.attrs.get(f"{name}_variety", "regular")) == "multi":
        return len(group[f"{name}_label0"])
    axis = group[name]
    return 0 if "shape" in axis.attrs and 0 in np.ravel(axis.attrs["shape"]) else len(axis)


def _numbers_or_texts(values: np.ndarray) -> np.ndarray | list[str]:
    return values if values.dtype.kind in "fiu" else [str(_text(value)) for value in values]


def _chunks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    step = max(1, _CHUNK_BYTES // max(1, width))
    for first in range(0, rows, step):
        yield first, min(first + step, rows)


def _attribute(node: Any, name: str, where: str) -> Any:
    """Return an attribute that PyTables keeps as a pickle."""
    if name not in node.attrs:
        raise InputError(
            f"{where}: the attribute {name} is missing: this is not one of pandas' tables, or it is damaged."
        )
    stated = node.attrs[name]
    data = stated.tobytes() if isinstance(stated, np.ndarray) else stated
    if isinstance(data, str):
        data = data.encode("latin-1")
    return parse_pickle(bytes(data), f"{where}, attribute {name}")


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", errors="replace")
    return value
