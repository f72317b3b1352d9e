"""Reading a bundle: what it says of itself, whether it is as it was written, and unpacking it."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from dlc_assets import __version__
from dlc_assets.bundles.content import LAYOUT, MANIFEST, Bundle, BundledMember
from dlc_assets.lab.errors import InputError, NotFoundError

_BLOCK = 1 << 20
_LARGEST_MANIFEST = 1 << 28  # bytes; read into memory
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def read_bundle(path: Path) -> Bundle:
    """Return what the bundle at *path* says of itself; its other members are not looked at.

    Raises
    ------
    NotFoundError
        There is no file.
    InputError
        It is no bundle, its manifest is damaged, or a later release wrote it.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no bundle {path}. `dlc-assets bundle SESSION` writes one.")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
                raise InputError(f"{path}: its {MANIFEST} is too large to be a bundle's.")
            text = archive.read(MANIFEST)
    except KeyError:
        raise InputError(
            f"{path} is no bundle: expected a zip file with a member {MANIFEST}, which it lacks."
        ) from None
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: expected a bundle, a zip file with a member {MANIFEST}, but it cannot be read ({error}). It is damaged or was "
            "copied in part: get it again."
        ) from error
    return _manifest(path, text)


def _manifest(path: Path, text: bytes) -> Bundle:
    try:
        stated = json.loads(text)
        layout = stated["layout"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: {MANIFEST} is not what a bundle has there ({error!r}): get the file again."
        ) from error
    if not isinstance(layout, int) or layout > LAYOUT:
        software = stated.get("software")
        by = software.get("dlc-assets", "of a later release") if isinstance(software, dict) else "of a later release"
        raise InputError(
            f"{path} has layout {layout} and was written by dlc-assets {by}; the one installed here, {__version__}, reads layouts up to "
            f"{LAYOUT}. Update dlc-assets to verify it."
        )
    try:
        return Bundle.model_validate(stated)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: {MANIFEST}, {where}: {first['msg']}. Get the file again from whoever wrote it."
        ) from error


def unpack(path: Path, bundle: Bundle, folder: Path) -> None:
    """Write every member of the bundle at *path* below *folder*, hashing each.

    Raises
    ------
    InputError
        Members are damaged, missing, or not in the manifest; all of them are named.
    """
    damaged = []
    try:
        with zipfile.ZipFile(path) as archive:
            there = {entry.filename for entry in archive.infolist() if not entry.is_dir()}
            for member in bundle.members:
                wrong = "it is missing" if member.name not in there else _written(archive, member, folder)
                damaged += [f"{member.name}: {wrong}"] if wrong else []
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({error}): get it again from whoever wrote it.") from error
    strange = sorted(there - {MANIFEST, *(member.name for member in bundle.members)})
    damaged += [f"{name}: the manifest does not name it" for name in strange]
    damaged += _not_named(bundle)
    if damaged:
        listed = "\n  ".join(damaged)
        raise InputError(
            f"{path} is damaged; nothing was verified.\n  {listed}\nGet it again from whoever wrote it, or from where it was published."
        )


def _written(archive: zipfile.ZipFile, member: BundledMember, folder: Path) -> str:
    """Unpack *member*; return what is wrong with it, empty where nothing is."""
    place = PurePosixPath(member.name)
    if place.is_absolute() or ".." in place.parts or "\\" in member.name or not place.parts:
        return "its name leads out of the bundle"
    target = folder.joinpath(*place.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    try:
        with archive.open(member.name) as source, target.open("wb") as written:
            while size <= member.size and (block := source.read(_BLOCK)):
                digest.update(block)
                written.write(block)
                size += len(block)
    except _UNREADABLE as error:
        return f"it cannot be read ({error})"
    if size != member.size:
        return f"it has another size than the {member.size} bytes that were written"
    return "" if digest.hexdigest() == member.sha256 else "its sha256 is not the one that was written"


def _not_named(bundle: Bundle) -> list[str]:
    """Say which members poses need that are not in the manifest."""
    names = {member.name for member in bundle.members}
    needed = [
        name
        for poses in bundle.poses
        for name in (
            poses.table,
            *(f"{poses.network}/{file}" for file in ("manifest.json", "pytorch_config.yaml", "snapshot.pt")),
        )
    ]
    return [f"{name}: it is missing from the manifest" for name in dict.fromkeys(needed) if name not in names]
