"""Reading the poses of many recordings at once, and no more of each than was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.lab.body_part_names import NO_SYNONYMS, BodyPartNames
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError
from dlc_assets.poses.formats import tracks_to_movement, values_to_dlc
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import PoseTableFile, RowGroup, as_names, quoted, read_pose_metadata, require_known

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import xarray as xr

_LISTED = 12  # recordings that a message or a repr names one by one


@dataclass(frozen=True)
class PoseFile:
    """One pose table of the store and what it is of."""

    path: Path
    model: str
    version: str
    session: str
    recording: str

    def located(self) -> Path:
        """Return where the file lies; one that is made when it is asked for is made now."""
        return self.path

    def __str__(self) -> str:
        return f"session {self.session}, recording {self.recording} ({self.model}@{self.version})"


class PoseSelection:
    """Poses that were asked for; nothing is read before one of the ``to_`` methods is called.

    Parameters
    ----------
    files
        The pose tables, in the order in which their rows come.
    bodyparts, individuals
        Names to keep; None keeps all. A name must be in at least one of the tables: models differ in theirs.
    allow_mixed_versions
        Whether a model may come in several versions; their errors differ, so by default it may not.
    names
        Which names mean the same body part. A part is found by any of them, and called as it was asked for.
    canonical
        Whether body parts are called by the lab's names, whatever the models call them.

    Raises
    ------
    NotFoundError
        The selection is empty.
    DlcAssetsError
        A model comes in several versions.
    """

    def __init__(
        self,
        files: Sequence[PoseFile],
        *,
        bodyparts: Iterable[str] | str | None = None,
        individuals: Iterable[str] | str | None = None,
        allow_mixed_versions: bool = False,
        names: BodyPartNames = NO_SYNONYMS,
        canonical: bool = False,
    ) -> None:
        self.files = tuple(files)
        self._bodyparts, self._individuals = as_names(bodyparts), as_names(individuals)
        self._names, self._canonical = names, canonical
        if not self.files or self._bodyparts == () or self._individuals == ():
            raise NotFoundError(
                f"The selection is empty: {len(self.files)} pose tables, bodyparts={bodyparts!r}, "
                f"individuals={individuals!r}. Leave an argument out to select all."
            )
        if not allow_mixed_versions:
            self._refuse_mixed_versions()

    def __len__(self) -> int:
        """Return the number of pose tables: one a recording, model and version."""
        return len(self.files)

    def __repr__(self) -> str:
        names = (("body parts", self._bodyparts), ("individuals", self._individuals))
        chosen = [f"{what}: {'all' if wanted is None else ', '.join(wanted)}" for what, wanted in names]
        tables = "1 pose table" if len(self) == 1 else f"{len(self)} pose tables"
        return "\n".join([f"PoseSelection of {tables}; {'; '.join(chosen)}", *_listed(self.files)])

    def metadata(self) -> list[PoseMetadata]:
        """Return what each of the files says of itself, in the order of `files`."""
        return [read_pose_metadata(file.located()) for file in self.files]

    def to_arrow(self) -> pa.Table:
        """Return the rows as one Arrow table with the pose table's columns.

        ``session`` and ``model`` come before them where there are several of either, and ``version`` where a
        model has several. Names are dictionary-encoded, missing values are nulls.

        Raises
        ------
        NotFoundError
            None of the tables has a body part or individual of that name.
        """
        import pyarrow as pa

        tables = []
        for file, table_file in self._opened():
            names = self._given(table_file)
            row_groups = table_file.matching(list(names), self._individuals)
            if row_groups:
                rows = _renamed(table_file.read(row_groups).replace_schema_metadata(None), names)
                tables.append(self._with_labels(file, rows))
        if not tables:
            raise NotFoundError(
                f"None of the individuals {quoted(self._individuals or ())} has any of the body parts "
                f"{quoted(self._bodyparts or ())} in the {len(self)} selected pose tables."
            )
        return pa.concat_tables(tables).unify_dictionaries()

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows of `to_arrow` as a DataFrame: names are categorical, missing values NaN."""
        return self.to_arrow().to_pandas()

    def to_xarray(self) -> xr.Dataset:
        """Return one recording as a poses dataset of movement; see `tracks_to_movement`.

        Raises
        ------
        DlcAssetsError
            The selection is of several tables.
        NotFoundError
            The table has no body part or individual of that name.
        """
        table_file = self._only("to_xarray")
        names = self._given(table_file)
        tracks = [
            replace(track, bodypart=names[track.bodypart])
            for track in table_file.tracks(self._chosen(table_file, names))
        ]
        dataset = tracks_to_movement(tracks, table_file.times(), table_file.metadata)
        dataset.attrs["source_file"] = table_file.path.as_posix()
        return dataset

    def to_dlc(self) -> pd.DataFrame:
        """Return one recording in DeepLabCut's own layout; see `values_to_dlc`. Errors as `to_xarray`."""
        table_file = self._only("to_dlc")
        called = self._given(table_file)
        names, values = table_file.values(self._chosen(table_file, called))
        names = [(individual, called[bodypart]) for individual, bodypart in names]
        scorer = table_file.metadata.scorer or table_file.metadata.model
        return values_to_dlc(names, values, scorer=scorer, first_frame=table_file.first_frame)

    def _opened(self) -> list[tuple[PoseFile, PoseTableFile]]:
        opened = [(file, PoseTableFile.open(file.located())) for file in self.files]
        where = f"the {len(opened)} selected pose tables" if len(opened) > 1 else str(opened[0][1].path)
        bodyparts = dict.fromkeys(name for _, table_file in opened for name in table_file.bodyparts)
        parts = {self._names.lab_name(name) for name in bodyparts}
        wanted = [name for name in self._bodyparts or () if self._names.lab_name(name) not in parts]
        individuals = dict.fromkeys(name for _, table_file in opened for name in table_file.individuals)
        require_known("body part", wanted, list(bodyparts), where)
        require_known("individual", self._individuals, list(individuals), where)
        return opened

    def _given(self, table_file: PoseTableFile) -> dict[str, str]:
        """Return the wanted body parts of a table: how each is to be called, by its name there."""
        return self._names.given(
            table_file.bodyparts, self._bodyparts, canonical=self._canonical, where=str(table_file.path)
        )

    def _chosen(self, table_file: PoseTableFile, names: Mapping[str, str]) -> list[RowGroup]:
        """Return the row groups of the body parts *names* and the wanted individuals; an error for what the table has not."""
        parts = {self._names.lab_name(name) for name in table_file.bodyparts}
        lacking = [name for name in self._bodyparts or () if self._names.lab_name(name) not in parts]
        return table_file.choose([*lacking, *names], self._individuals)

    def _with_labels(self, file: PoseFile, rows: pa.Table) -> pa.Table:
        import pyarrow as pa

        labels: dict[str, str] = {}
        if len({other.session for other in self.files}) > 1 or len({other.model for other in self.files}) > 1:
            labels |= {"session": file.session, "model": file.model}
        if len(self._versions()) > len({other.model for other in self.files}):
            labels["version"] = file.version
        for place, (name, value) in enumerate(labels.items()):
            column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(rows), dtype=np.int32)), pa.array([value]))
            rows = rows.add_column(place, pa.field(name, column.type, nullable=False), column)
        return rows

    def _versions(self) -> Counter[tuple[str, str]]:
        return Counter((file.model, file.version) for file in self.files)

    def _refuse_mixed_versions(self) -> None:
        versions = self._versions()
        for model in dict.fromkeys(file.model for file in self.files):
            counts = {version: count for (name, version), count in versions.items() if name == model}
            if len(counts) > 1:
                found = ", ".join(f"{version} ({count} pose tables)" for version, count in counts.items())
                raise DlcAssetsError(
                    f'The selection mixes versions of the model "{model}": {found}. Choose one with '
                    f'model="{model}@{next(iter(counts))}", or pass allow_mixed_versions=True.'
                )

    def _only(self, method: str) -> PoseTableFile:
        if len(self.files) != 1:
            raise DlcAssetsError(
                "\n".join(
                    [
                        f"{method} needs exactly one recording, and the selection has {len(self.files)} pose "
                        "tables. Choose one with session=, recording= and model=:",
                        *_listed(self.files),
                    ]
                )
            )
        return PoseTableFile.open(self.files[0].located())


def _renamed(rows: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return *rows* with body parts called as *names* has it by their names there."""
    import pyarrow as pa

    if all(name == called for name, called in names.items()):
        return rows
    place = rows.schema.get_field_index("bodypart")
    chunks = []
    for chunk in rows.column(place).chunks:
        called = [names.get(name, name) for name in chunk.dictionary.to_pylist()]
        chunks.append(pa.DictionaryArray.from_arrays(chunk.indices, pa.array(called, chunk.type.value_type)))
    return rows.set_column(place, rows.schema.field(place), pa.chunked_array(chunks, rows.schema.field(place).type))


def _listed(files: Sequence[PoseFile]) -> list[str]:
    more = [f"  ... and {len(files) - _LISTED} more"] if len(files) > _LISTED else []
    return [*(f"  {file}" for file in files[:_LISTED]), *more]
