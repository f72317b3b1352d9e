"""Publishing one session: everything is prepared and checked before the first byte leaves, and what was published is remembered.

A session's record (`store/published/<instance>/<dandiset>/<session>.json`) is a manifest like any other: NWB files get new ids and
dates each time that they are written, so whether to upload again is decided by what they were made from, not by their bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from dlc_assets.lab.cohorts import Cohort, find_cohort
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash, read_json, saying_when_full, write_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.settings import Dandi
from dlc_assets.nwb.export import nwb_manifest
from dlc_assets.nwb.video_files import place_videos
from dlc_assets.publishing.archive import (
    Archive,
    Existing,
    PublishedAsset,
    asset_metadata,
    connected,
    digest_in,
    local_asset,
    validation_errors,
)
from dlc_assets.publishing.nwb_facts import read_nwb_facts, rename_videos
from dlc_assets.publishing.reencoding import encode_h264
from dlc_assets.publishing.selection import Selection, dandi_settings, need_nwb, select

Log = Callable[[str], None]


def published_manifest(lab: Lab, session: str) -> Manifest | None:
    """Return the record of *session* in the dandiset that lab.yaml names, None where it was not published there."""
    settings = lab.settings.dandi
    if settings is None:
        return None
    return read_manifest(lab.layout.published_manifest(settings.instance, settings.dandiset, session))


def publishing_inputs(lab: Lab, session: str, cohort: str | None = None) -> dict[str, str]:
    """Return what a session's publication is made from now, with its released poses or with those of *cohort*.

    Where there is no NWB file, its hash is empty.
    """
    settings = dandi_settings(lab)
    manifest = nwb_manifest(lab, session, None if cohort is None else find_cohort(lab.layout, cohort))
    return {
        "dandiset": f"{settings.instance}/{settings.dandiset}",
        "nwb": manifest.data_version if manifest is not None else "",
        "poses": "released" if cohort is None else f"cohort {cohort}",
        "videos": "none" if not settings.videos else settings.reencode or "as they are",
    }


def is_published(lab: Lab, session: str, cohort: str | None = None) -> bool:
    """Say whether *session* is in the dandiset as it is now, by its record: the archive is not asked."""
    manifest = published_manifest(lab, session)
    return manifest is not None and manifest.inputs == publishing_inputs(lab, session, cohort)


def publish_session(
    lab: Lab,
    session: str,
    *,
    cohort: Cohort | None = None,
    replace: bool = False,
    recompute: bool = False,
    run_id: str,
    log: Log,
) -> tuple[Manifest, bool]:
    """Publish the NWB files of a session, and its videos where lab.yaml says so, to the dandiset that it names.

    Parameters
    ----------
    cohort
        Publish the file with the poses that this cohort was frozen with.
    replace
        Take the place of files in the dandiset that this lab did not put there.
    recompute
        Compare with the archive though the record says that all is published.

    Returns
    -------
    tuple
        The record, and whether the archive was asked now (False: it was up to date).

    Raises
    ------
    SettingsError, InputError, NotFoundError, RefusedError, EnvironmentProblem
        Something speaks against it; nothing was uploaded then, unless the archive failed in the middle of it.
    """
    settings = dandi_settings(lab)
    with hold(lab.layout.lock("dandi_asset", session), f"publishing {session}", log=log):
        name = None if cohort is None else cohort.name
        manifest = Manifest(
            asset="dandi_asset",
            key=session,
            inputs=publishing_inputs(lab, session, name),
            data_version="",
            run_id=run_id,
        )
        former = published_manifest(lab, session)
        if former is not None and not recompute and former.inputs == manifest.inputs:
            log(f"{session}: it is published as it is")
            return former, False
        _refuse_other_cohort(settings, former, name, replace)
        chosen = select(lab, session, cohort)
        nwb = need_nwb(chosen)
        if chosen.problems:
            raise InputError("\n".join(chosen.problems))
        with connected(settings) as archive:  # before the long work: a wrong key is told at once
            staged = _staged(lab, settings, chosen, manifest.input_hash, log)
            files = [local_asset(staged / file, staged) for file in _in_order(chosen)]
            metadata = _checked(files)
            there = _there(lab, settings, session, archive, files, metadata, former, replace)
            assets = _upload(archive, files, metadata, there, settings.jobs, log)
            links = sorted({archive.link(file.path.parts[0]) for file in chosen.files})
        left = _left_behind(former, assets)
        manifest.data_version = content_hash(manifest.inputs)
        manifest.details = {
            "instance": settings.instance,
            "dandiset": settings.dandiset,
            "version": "draft",
            "url": archive.url,
            "links": links,
            "nwb_made": nwb.made,
            "cohort": name,
            "assets": [asdict(asset) for asset in assets],
            "left_behind": left,
        }
        manifest.problems = [
            *chosen.notes,
            *(
                f"{path} was published before and is still in the dandiset: delete it there if it should go."
                for path in left
            ),
        ]
        path = lab.layout.published_manifest(settings.instance, settings.dandiset, session)
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest.write(path)
        with suppress(FileNotFoundError):
            shutil.rmtree(lab.layout.publishing_work(settings.instance, settings.dandiset, session))
        return manifest, True


def _refuse_other_cohort(settings: Dandi, former: Manifest | None, cohort: str | None, replace: bool) -> None:
    published = None if former is None else former.details["cohort"]
    if former is None or replace or published in {None, cohort}:
        return
    raise InputError(
        f'{former.key} is in the dandiset {settings.dandiset} with the poses of the cohort "{published}", which a paper may rest on. '
        "`dlc-assets publish --replace` puts other poses in their place; a dandiset of its own for the cohort may be better."
    )


def preview_problems(chosen: Selection) -> list[str]:
    """Return what dandi's own validation finds in what would be published as it lies there; what is yet to be encoded is not looked at."""
    files = [
        local_asset(file.source, chosen.root) for file in chosen.files if file.source.is_file() and not file.encode
    ]
    return [problem for file in files for problem in validation_errors(file)]


def _in_order(chosen: Selection) -> list[PurePosixPath]:
    """Return the paths, videos first: no NWB file is ever in the archive before what it refers to."""
    return [file.path for kind in ("video", "nwb") for file in chosen.files if file.kind == kind]


def _staged(lab: Lab, settings: Dandi, chosen: Selection, input_hash: str, log: Log) -> Path:
    """Return the folder that holds what is to be uploaded: the files as they lie there, or one with videos encoded anew.

    What was encoded for the same inputs before the process was killed is used again.
    """
    if not chosen.reencoded:
        return chosen.root
    folder = lab.layout.publishing_work(settings.instance, settings.dandiset, chosen.session) / input_hash[:12]
    with saying_when_full(folder):
        for file in chosen.files:
            place = folder / file.path
            if file.encode and not place.is_file():
                encode_h264(file.source, place, log)
            elif file.kind == "video" and not file.encode:
                place_videos(folder / "link", {file.path: file.source}, "link")
        for file in chosen.files:
            if file.kind == "nwb":
                _stage_nwb(folder / file.path, file.source)
    return folder


def _stage_nwb(place: Path, source: Path) -> None:
    """Copy an NWB file, with the names that its videos have where they were encoded."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, place)
    encoded = {video: video.with_suffix(".mp4") for video in read_nwb_facts(source).videos}
    renamed = {old: new for old, new in encoded.items() if old != new and (place.parent / new).is_file()}
    if renamed:
        rename_videos(place, renamed)
        shutil.copystat(source, place)  # the archive keeps the file's date


def _checked(files: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the metadata of each file for the archive, once dandi's validation has nothing against any of them."""
    errors = [error for file in files for error in validation_errors(file)]
    if errors:
        raise InputError("DANDI's validation refuses it; nothing was uploaded.\n" + "\n".join(errors))
    return [asset_metadata(file) for file in files]


def _there(
    lab: Lab,
    settings: Dandi,
    session: str,
    archive: Archive,
    files: Sequence[Any],
    metadata: Sequence[dict[str, Any]],
    former: Manifest | None,
    replace: bool,
) -> list[Existing | None]:
    """Return what the dandiset has at the places of *files*, and note that this session is about to write there.

    Raises
    ------
    InputError
        Something else is there that this lab did not publish.
    """
    begun = lab.layout.publishing_work(settings.instance, settings.dandiset, session) / "begun.json"
    ours = {asset["path"] for asset in former.details["assets"]} if former is not None else set()
    with suppress(FileNotFoundError, ValueError):  # none, or written in part when the machine stopped
        ours |= set(read_json(begun))
    there = [archive.asset_at(file.path) for file in files]
    foreign = [
        file.path
        for file, described, existing in zip(files, metadata, there, strict=True)
        if existing is not None and existing.digest != digest_in(described) and file.path not in ours and not replace
    ]
    if foreign:
        raise InputError(
            f"{session}: the dandiset {settings.dandiset} has other files at {', '.join(foreign)}, which this lab did not publish (or its "
            "record of it is gone). Look at them there; `dlc-assets publish --replace` puts these in their place."
        )
    write_json(begun, sorted(ours | {file.path for file in files}))
    return there


def _upload(
    archive: Archive,
    files: Sequence[Any],
    metadata: Sequence[dict[str, Any]],
    there: Sequence[Existing | None],
    jobs: int,
    log: Log,
) -> list[PublishedAsset]:
    """Upload several files at once, the NWB files after all of the videos, and return what the archive has then."""

    def upload(number: int) -> PublishedAsset:
        asset = archive.upload(files[number], metadata[number], there[number])
        log(f"{asset.path}: {'uploaded' if asset.uploaded else 'is there already'}")
        return asset

    assets: list[PublishedAsset] = []
    videos = [number for number, file in enumerate(files) if not file.path.endswith(".nwb")]
    rest = [number for number in range(len(files)) if number not in set(videos)]
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for numbers in (videos, rest):
            waiting = [pool.submit(upload, number) for number in numbers]
            try:
                assets += [one.result() for one in waiting]
            finally:
                for one in waiting:
                    one.cancel()
    return assets


def _left_behind(former: Manifest | None, assets: Sequence[PublishedAsset]) -> list[str]:
    """Return the paths that were published before and that the session has no more."""
    if former is None:
        return []
    now = {asset.path for asset in assets}
    return sorted(({asset["path"] for asset in former.details["assets"]} | set(former.details["left_behind"])) - now)
