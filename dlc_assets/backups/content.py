"""What of a lab goes into a backup: what nobody can make again, or only at great cost. Videos never do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlc_assets.backups.instance_settings import stored_in
from dlc_assets.inference.pose_tables import imported_from
from dlc_assets.lab.cohorts import cohorts
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import NAME, read_manifest
from dlc_assets.recordings.found import VIDEO_SUFFIXES

POSTGRES_FOLDER = (
    "dagster-postgresql"  # of a restored lab: what its next instance needs, where no instance looks for it
)
DAGSTER_YAML = "dagster.yaml"
_INSTANCE_OF = "dlc_assets_lab.json"  # which lab an instance serves; a restored lab's instance serves that one
_SQLITE = b"SQLite format 3\0"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
Kind = Literal["file", "database", "instance settings"]


@dataclass(frozen=True)
class Source:
    """One file that goes into a backup, under the path that it is to have in a restored lab."""

    name: str
    path: Path
    kind: Kind = "file"

    def stamp(self) -> str:
        """Return what changes whenever the file does, without reading it: size and time, of a database with the files beside it.

        Raises
        ------
        FileNotFoundError
            It is gone.
        """
        status = self.path.stat()
        stamps = [f"{status.st_size}:{status.st_mtime_ns}"]
        for beside in beside_database(self.path) if self.kind == "database" else ():
            status = beside.stat()
            stamps.append(f"{beside.name[-4:]} {status.st_size}:{status.st_mtime_ns}")
        return ", ".join(stamps)


@dataclass
class Contents:
    """Everything that goes into a backup.

    Attributes
    ----------
    files
        By their path in a restored lab.
    links
        Links that lead out of the lab: path -> target. What they lead to is not in the backup.
    notes
        In words, what is not in the backup though somebody might expect it there.
    problems
        What belongs into the backup and cannot be read.
    """

    files: dict[str, Source] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, source: Source) -> None:
        if _is_text(source.name):
            self.files[source.name] = source
        else:
            shown = os.fsencode(source.path).decode(errors="backslashreplace")
            self.problems.append(f"{shown}: its name is not UTF-8, so that it cannot be kept. Rename it.")


def beside_database(path: Path) -> list[Path]:
    """Return the files beside an SQLite database that hold part of it now: someone has it open, or died over it."""
    return [beside for end in ("-wal", "-journal") if (beside := path.with_name(path.name + end)).is_file()]


class LabContents:
    """Looks through a lab for what goes into its backup; asked again, it reads anew only what has changed."""

    def __init__(self, lab: Lab, home: Path, *, poses: bool) -> None:
        """Take the lab, the folder *home* of its Dagster instance, and whether all *poses* are wanted."""
        self._lab, self._layout, self._poses = lab, lab.layout, poses
        self._home = home
        self._imported: dict[tuple[Path, int], bool] = {}

    def look(self) -> Contents:
        """Return what goes into a backup now."""
        found = Contents()
        self._own_files(found)
        self._projects(found)
        for folder in self._layout.irreplaceable:
            self._folder(found, folder, self._in_store(folder))
        self._pose_tables(found)
        if self._layout.index_file.is_file():
            found.add(Source(self._in_store(self._layout.index_file), self._layout.index_file, "database"))
        # It says where backups of this very store are; a restored lab begins a list of its own.
        found.files.pop(self._in_store(self._layout.records_file("backups")), None)
        self._instance(found)
        return found

    # --- what the lab wrote ---------------------------------------------------------------------------

    def _own_files(self, found: Contents) -> None:
        root, settings = self._lab.root, self._lab.settings
        for path in (self._layout.settings_file, self._layout.sessions_table, *sorted(root.glob("adopt-*.yaml"))):
            self._own_file(found, path)
        self._folder(found, self._layout.specifications, self._own_name(self._layout.specifications))
        for setups in settings.setups.values():
            for setup in setups:
                if setup.reference is not None:
                    self._own_file(found, root / setup.reference)
        for specification in self._lab.specifications()[0].values():
            kind, _, stated = specification.weights.partition(":")
            if kind == "file":
                self._own_file(found, root / Path(stated).expanduser())
        for folder in dict.fromkeys(self._lab.recording_roots()):
            if self._is_own(folder):  # what people wrote beside their videos
                self._folder(found, folder, self._own_name(folder), lambda path: path.suffix == ".yaml")

    def _own_file(self, found: Contents, path: Path) -> None:
        if path.is_file() and self._is_own(path):
            found.add(Source(self._own_name(path), path))

    def _projects(self, found: Contents) -> None:
        self._folder(found, self._layout.projects, self._own_name(self._layout.projects), _is_no_video)
        for name, stated in self._lab.settings.projects.items():
            path = self._lab.root / Path(stated).expanduser()
            folder = path.parent if path.suffix in {".yaml", ".yml"} else path
            if self._is_own(folder):
                self._folder(found, folder, self._own_name(folder), _is_no_video)
            else:
                found.notes.append(
                    f"the DeepLabCut project {name} lies outside the lab, in {folder}: back it up yourself (its labels above all)"
                )

    def _is_own(self, path: Path) -> bool:
        inside = Path(os.path.normpath(path))
        return inside.is_relative_to(self._lab.root) and inside != self._lab.root

    def _own_name(self, path: Path) -> str:
        return Path(os.path.normpath(path)).relative_to(self._lab.root).as_posix()

    # --- the store ------------------------------------------------------------------------------------

    def _in_store(self, path: Path) -> str:
        return path.relative_to(self._lab.root).as_posix()

    def _pose_tables(self, found: Contents) -> None:
        """Take all pose tables, or those alone that no network makes again: imported ones, and those that a cohort names."""
        layout = self._layout
        if self._poses:
            self._folder(found, layout.poses, self._in_store(layout.poses))
            return
        for folder in _pose_folders(layout.poses):
            if self._is_imported(folder / NAME):
                self._folder(found, folder, self._in_store(folder))
        for cohort in cohorts(layout):
            for session, pinned in cohort.sessions.items():
                for model, version in pinned.items():
                    folder = layout.pose_folder(model, version, session)
                    self._folder(found, folder, self._in_store(folder))

    def _is_imported(self, manifest: Path) -> bool:
        try:
            key = (manifest, manifest.stat().st_mtime_ns)
        except FileNotFoundError:
            return False
        if key not in self._imported:
            read = read_manifest(manifest)
            self._imported[key] = read is not None and imported_from(read) is not None
        return self._imported[key]

    # --- the Dagster instance ---------------------------------------------------------------------------

    def _instance(self, found: Contents) -> None:
        settings = self._home / DAGSTER_YAML
        if not settings.is_file():
            return  # no command has been used yet
        try:
            place_of_history = stored_in(self._home / DAGSTER_YAML)
        except DlcAssetsError as error:
            found.problems.append(str(error))
            return
        place = self._in_store(self._layout.dagster_home) if place_of_history == "files" else POSTGRES_FOLDER
        found.add(Source(f"{place}/{DAGSTER_YAML}", settings, "instance settings"))
        if place_of_history != "files":
            found.notes.append(
                "the history of runs is in a database of its own: back it up with its own tools (pg_dump). No result depends on it"
            )
            return
        history = Contents()
        self._folder(history, self._home, place)
        for name, source in history.files.items():
            if source.path == settings or source.path.name == _INSTANCE_OF:
                continue
            if not source.path.name.endswith(_BESIDE_SQLITE):
                found.files[name] = Source(name, source.path, "database") if _is_database(source.path) else source
        found.problems += history.problems

    # --- folders ----------------------------------------------------------------------------------------

    def _folder(
        self, found: Contents, folder: Path, name: str, wanted: Callable[[Path], bool] = lambda _: True
    ) -> None:
        """Add each file below *folder* that is *wanted* and not hidden; the folder itself may be a link, to another disk say."""
        folders = [(folder, name)]
        while folders:
            place, prefix = folders.pop()
            try:
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except (FileNotFoundError, NotADirectoryError):
                continue  # just removed, or never there
            except OSError as error:
                found.problems.append(f"{place} cannot be read: {error.strerror or error}")
                continue
            for entry in entries:
                if entry.name.startswith("."):
                    continue  # unfinished files of the platform's, and what programs keep for themselves
                path, inner = Path(entry.path), f"{prefix}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append((path, inner))
                elif entry.is_symlink() and path.is_dir():
                    self._link(found, path, inner)
                elif entry.is_file() and wanted(path):
                    found.add(Source(inner, path))

    def _link(self, found: Contents, path: Path, name: str) -> None:
        """Keep a link to a folder as a link: what it leads to is in the backup by itself, or lies outside the lab."""
        found.links[name] = os.readlink(path)  # noqa: PTH115  # as it is written, not made absolute
        if not path.resolve().is_relative_to(self._lab.root.resolve()):
            found.notes.append(f"{path} leads out of the lab, to {path.resolve()}: back that up yourself")


def _pose_folders(poses: Path) -> Iterator[Path]:
    for version in sorted(poses.glob("model=*/version=*")):
        for entry in sorted(os.scandir(version), key=lambda entry: entry.name):
            if entry.name.startswith("session="):
                yield Path(entry.path)


def _is_no_video(path: Path) -> bool:
    return path.suffix.lower() not in VIDEO_SUFFIXES


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(_SQLITE)) == _SQLITE
    except OSError:
        return False


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
