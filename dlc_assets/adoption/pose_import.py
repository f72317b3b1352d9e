"""Pose tables from results that another program made: the same file in the same place as if they had been estimated here.

What they are made from is stated as an estimation here would state it, so that the lab's state holds them up to date.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlc_assets.adoption.crop_facts import CropFact, MetaFacts, meta_of_result
from dlc_assets.adoption.result_files import ResultTable, file_name, read_result
from dlc_assets.inference.frozen_poses import replacing
from dlc_assets.inference.pose_tables import imported_from, pose_inputs
from dlc_assets.inference.releases import Releases
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash, sha256_file
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import Blocks, PoseSummary, write_poses
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_times
from dlc_assets.training.models import ModelVersion

CROP_UNKNOWN = "crop unknown"
_BEYOND = 16.0  # px: networks place points a little outside the picture, by up to a cell of their score map
_PROGRAMS = {"sleap": "SLEAP", "lightning-pose": "Lightning Pose"}  # by kind; the others are DeepLabCut's


@dataclass(frozen=True)
class ImportedResult:
    """One result file for one recording.

    Parameters
    ----------
    path
        The file.
    crop
        The part of the frame that the network saw, as a person states it: ``(x from, x to, y from, y to)`` px, or ``"none"`` where it
        saw all; None: what the file's ``_meta.pickle`` says, else it is unknown.
    labels
        Take a table of labels, too: the numbers of its images are frames of the recording.
    """

    path: Path
    crop: tuple[int, int, int, int] | Literal["none"] | None = None
    labels: bool = False


def import_poses(
    lab: Lab,
    session_key: str,
    version: ModelVersion,
    results: Mapping[str, ImportedResult],
    *,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Write the pose table of *session_key* by *version* from result files: one Parquet file a recording, then the manifest.

    Parameters
    ----------
    session_key
        A session that was probed.
    version
        The network that the results are of; whether it can run here does not matter.
    results
        By recording. Recordings of an earlier import that are not among them keep their poses.

    Returns
    -------
    tuple
        The manifest, and whether something was written (False: the same results were there already). `Manifest.problems` holds a
        sentence for all that the results deserve to be warned of, with recording, file and row; nothing of a file is left out silently.

    Raises
    ------
    NotFoundError
        The session, a recording, or a file is not there.
    InputError
        A file has more frames than its recording, body parts that *version* does not have, or cannot be read; or poses that were
        estimated here lie in the place.
    """
    if not results:
        raise InputError(f"{session_key}: expected a result file for at least one recording, got none.")
    key = pose_key(version.model, session_key)
    with hold(lab.layout.lock("pose_table", key), f"poses of {session_key} by {version.model}", log=log):
        session, _ = need_session_info(lab.layout, session_key)
        recordings = {name: session.recording(name) for name in results}
        folder = lab.layout.pose_folder(version.model, version.version, session_key)
        existing = read_manifest(folder)
        if existing is not None and imported_from(existing) is None:
            raise InputError(
                f"{session_key} has poses by {version} that were estimated here ({existing.made}): results of another program do not "
                f"take their place. Import them as another version, or delete {folder} first."
            )
        kept = _kept(existing, session, results)
        sources = {name: _source(result) for name, result in results.items()}
        inputs = _inputs(
            lab, session, version, [*recordings.values(), *(session.recording(row["recording"]) for row in kept)]
        )
        if existing is not None and _is_the_same(existing, sources, inputs):
            log(f"{session_key}: these results by {version} are imported already")
            return existing, False
        manifest = Manifest(asset="pose_table", key=key, inputs=inputs, data_version="", run_id=run_id)
        work = lab.layout.pose_work(version.model, version.version, session_key)
        shutil.rmtree(work, ignore_errors=True)
        rows = []
        for name, result in results.items():
            rows.append(
                _import_recording(lab, session, recordings[name], version, result, sources[name], manifest, work)
            )
            log(f"{session_key}, {name}: {rows[-1]['frames']} frames from {file_name(result.path)}")
        rows += kept
        _complete(manifest, session, version, rows, lab, results)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(lab, existing, manifest.data_version):
            for name in recordings:
                _staged(work, name).replace(lab.layout.pose_file(version.model, version.version, session_key, name))
            manifest.write(folder)
        shutil.rmtree(work, ignore_errors=True)
        for path in folder.glob("*.parquet"):
            if path.stem not in {row["recording"] for row in rows}:
                path.unlink()  # of a recording that the session does not have any more
        return manifest, True


def _inputs(
    lab: Lab, session: SessionInfo, version: ModelVersion, recordings: Iterable[RecordingInfo]
) -> dict[str, str]:
    """Return what an estimation of these recordings by *version* would be made from."""
    names = [recording.recording for recording in session.recordings if recording in list(recordings)]
    released = Releases(recordings={version.model: names}, versions={version.model: version})
    return pose_inputs(lab, version.model, session, released)


def _is_the_same(existing: Manifest, sources: Mapping[str, dict[str, Any]], inputs: Mapping[str, str]) -> bool:
    there = imported_from(existing) or {}
    same = all(existing.inputs.get(name) == inputs[name] for name in ("model", "recordings"))
    return same and all(there.get(name) == source for name, source in sources.items())


def _kept(
    existing: Manifest | None, session: SessionInfo, results: Mapping[str, ImportedResult]
) -> list[dict[str, Any]]:
    there = {recording.recording for recording in session.recordings} - results.keys()
    return [row for row in existing.details["recordings"] if row["recording"] in there] if existing is not None else []


def _source(result: ImportedResult) -> dict[str, Any]:
    """Return what makes two imports of a recording the same: the file's content, and what a person and the pickle say of its crop."""
    from dlc_assets.adoption.crop_facts import meta_file

    if not result.path.is_file():
        raise InputError(f"{result.path}: expected a result file, but there is none.")
    meta = meta_file(result.path)
    return {
        "file": file_name(result.path),
        "sha256": sha256_file(result.path),
        "stated crop": list(result.crop) if isinstance(result.crop, tuple) else result.crop,
        "meta": None if meta is None else sha256_file(meta),
        "labels": result.labels,
    }


def _import_recording(
    lab: Lab,
    session: SessionInfo,
    recording: RecordingInfo,
    version: ModelVersion,
    result: ImportedResult,
    source: Mapping[str, Any],
    manifest: Manifest,
    work: Path,
) -> dict[str, Any]:
    begun = datetime.now(UTC)
    table = read_result(result.path)
    problems = list(table.problems)
    _check_rows(table, recording, result)
    _check_bodyparts(table, version, problems)
    problems += _missing_frames(table, recording)
    crop, meta = _crop(table, result, problems)
    problems += _said_otherwise(table, meta)
    problems += _fit(table, recording, crop)
    times = read_times(lab.layout, session.session, recording.recording)
    names = [(track.individual, track.bodypart) for track in table.tracks]
    origin = f"imported from {source['file']}, sha256 {source['sha256']}, scorer {table.scorer or 'not stated'}"
    how = {
        "origin": origin,
        "program": _PROGRAMS.get(table.kind, "DeepLabCut"),
        "filtered": table.filtered,
        "crop": CROP_UNKNOWN if crop is None else crop.source,
        "frames with a row": len(table.frames),
        "problems": problems,
    }
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=session.session,
        recording=recording.recording,
        device=recording.device,
        video_files=[{"name": Path(file.path).name, "sha256": file.sha256} for file in recording.files],
        crop=None if crop is None or crop.x is None or crop.y is None else {"x": list(crop.x), "y": list(crop.y)},
        rate=recording.rate if recording.regular else None,
        frame_count=recording.frame_count,
        clock=recording.clock,
        time_start=recording.time_start,
        inference=how,
        origin=origin,
        created=begun.isoformat(timespec="seconds"),
        input_hash=manifest.input_hash,
        bodyparts=[part for part in version.card["bodyparts"] if part in table.bodyparts],
        individuals=[name for name in table.individuals if name],
        skeleton=[list(edge) for edge in version.card.get("skeleton", [])],
        pcutoff=version.card.get("pcutoff"),
        scorer=table.scorer or version.card.get("scorer"),
    )
    summary = write_poses(_staged(work, recording.recording), names, _blocks(table, crop), times, metadata)
    return {
        "recording": recording.recording,
        "device": recording.device,
        "frames": recording.frame_count,
        "rows": summary.rows,
        "seconds": round((datetime.now(UTC) - begun).total_seconds(), 3),
        "origin": origin,
        "imported": dict(source),
        "how": how,
        "data_version": summary.data_version,
        **_likelihoods(names, summary),
    }


def _complete(
    manifest: Manifest,
    session: SessionInfo,
    version: ModelVersion,
    rows: Sequence[dict[str, Any]],
    lab: Lab,
    results: Mapping[str, ImportedResult],
) -> None:
    covered = {row["recording"] for row in rows}
    rest = [recording.recording for recording in session.recordings if recording.recording not in covered]
    manifest.data_version = content_hash({row["recording"]: row["data_version"] for row in rows})
    manifest.problems = [
        f"{row['recording']}, {row['imported']['file']}: {problem}"
        for row in rows
        for problem in row["how"]["problems"]
    ]
    if rest:
        manifest.problems.append(f"no results were imported of {', '.join(rest)}")
    manifest.details = {
        "model": version.model,
        "version": version.version,
        "session": session.session,
        "bodyparts": list(version.card["bodyparts"]),
        "origin": "; ".join(dict.fromkeys(row["origin"] for row in rows)),
        "imported": {row["recording"]: row["imported"] for row in rows},
        "inference": {"imported": True, **{name: rows[0]["how"][name] for name in ("program", "filtered", "crop")}},
        "pcutoff": version.card.get("pcutoff"),
        "recordings": list(rows),
        "frames": sum(row["frames"] for row in rows),
        "rows": sum(row["rows"] for row in rows),
    }


def _check_rows(table: ResultTable, recording: RecordingInfo, result: ImportedResult) -> None:
    if table.images is not None and not result.labels:
        raise InputError(
            f"{table.path}: expected results, one row a frame, got labels, one row an image ({table.images[0] if table.images else 'none'} "
            "...). Import the results of the network that was trained on them; or say that these labels are wanted as poses."
        )
    if table.images is not None and len({image.rpartition("/")[0] for image in table.images}) > 1:
        raise InputError(
            f"{table.path}: the labelled images are of several videos; one recording takes those of its own."
        )
    last = int(table.frames[-1]) if len(table.frames) else -1
    if last >= recording.frame_count:
        raise InputError(
            f"{table.path}: the table reaches frame {last} ({len(table.frames)} rows), but {recording.recording} has "
            f"{recording.frame_count} frames (0 to {recording.frame_count - 1}): these are results of another video, or the video was cut "
            "since. Match them by hand, or bring back the video that was analysed."
        )


def _check_bodyparts(table: ResultTable, version: ModelVersion, problems: list[str]) -> None:
    known = list(version.card["bodyparts"])
    strange = [part for part in table.bodyparts if part not in known]
    if strange:
        raise InputError(
            f"{table.path}: the body parts {', '.join(strange)} are none of {version}'s, which has {', '.join(known)}: these are "
            "results of another network."
        )
    absent = [part for part in known if part not in table.bodyparts]
    if absent:
        problems.append(f"the table has no {', '.join(absent)}, which {version} has")


def _missing_frames(table: ResultTable, recording: RecordingInfo) -> list[str]:
    missing = recording.frame_count - len(table.frames)
    if not missing:
        return []
    last = int(table.frames[-1]) if len(table.frames) else -1
    tail = recording.frame_count - 1 - last
    end = f", {tail} of them at the end, from frame {last + 1} on" if tail else ""
    return [
        f"the table has {len(table.frames)} rows and the recording {recording.frame_count} frames: {missing} frame(s) have no poses (null)"
        f"{end}"
    ]


def _crop(table: ResultTable, result: ImportedResult, problems: list[str]) -> tuple[CropFact | None, MetaFacts | None]:
    """Return the crop of the results, None where nobody says; and what the file's pickle tells."""
    meta: MetaFacts | None = None
    refused = ""
    if table.kind.startswith("dlc-"):
        try:
            meta = meta_of_result(result.path)
        except InputError as error:
            refused = str(error)
    if result.crop is not None:
        stated = CropFact(None, None, "stated by a person (not cropped)")
        if result.crop != "none":
            x0, x1, y0, y1 = result.crop
            stated = CropFact((x0, x1), (y0, y1), "stated by a person")
        if meta is not None and (meta.crop.x, meta.crop.y) != (stated.x, stated.y):
            problems.append(
                f"the stated crop {result.crop} is not the one of {meta.crop.source} ({meta.crop.x}, {meta.crop.y}); the stated one counts"
            )
        return stated, meta
    if meta is not None:
        return meta.crop, meta
    if table.kind in {"sleap", "lightning-pose"} or table.images is not None:
        of = "labels are" if table.images is not None else f"{_PROGRAMS[table.kind]}'s coordinates are"
        return CropFact(None, None, f"{of} of the whole frame"), None
    why = refused or "its _meta.pickle is not beside it"
    problems.append(
        f"{CROP_UNKNOWN}: {why}. If the analysis was cropped, x and y are wrong by the crop's offset; state the crop, and import again"
    )
    return None, None


def _said_otherwise(table: ResultTable, meta: MetaFacts | None) -> list[str]:
    if meta is None:
        return []
    problems = []
    if meta.scorer and table.scorer and meta.scorer != table.scorer:
        problems.append(f"the table's scorer is {table.scorer}, its _meta.pickle's is {meta.scorer}")
    if meta.frames is not None and meta.frames != len(table.frames):
        problems.append(
            f"the table has {len(table.frames)} rows, and by its _meta.pickle the video had {meta.frames} frames"
        )
    return problems


def _fit(table: ResultTable, recording: RecordingInfo, crop: CropFact | None) -> list[str]:
    """Say where coordinates need a larger picture than the recording, or than the crop, has."""
    width, height, what = recording.width, recording.height, "the video"
    problems = []
    if crop is not None and crop.x is not None and crop.y is not None:
        if crop.x[1] > width or crop.y[1] > height:
            problems.append(
                f"the crop x {crop.x[0]}-{crop.x[1]}, y {crop.y[0]}-{crop.y[1]} ({crop.source}) does not lie in the video of "
                f"{width} x {height} px: the results may be of a video of another size"
            )
        width, height, what = crop.x[1] - crop.x[0], crop.y[1] - crop.y[0], "the crop"
    count, worst = 0, (0.0, 0, "")
    for track in table.tracks:
        with np.errstate(invalid="ignore"):
            over = np.fmax(np.fmax(track.x - (width - 1), track.y - (height - 1)), np.fmax(-track.x, -track.y))
        far = np.flatnonzero(over > _BEYOND)
        count += len(far)
        if len(far):
            at = int(far[np.argmax(over[far])])
            who = f"{track.individual}, {track.bodypart}" if track.individual else track.bodypart
            worst = max(worst, (float(over[at]), at, f"{who} at x {track.x[at]:.1f}, y {track.y[at]:.1f}"))
    if count:
        problems.append(
            f"{count} point(s) lie more than {_BEYOND:.0f} px outside {what} of {width} x {height} px, farthest in frame "
            f"{table.frames[worst[1]]} ({worst[2]}): the results may be of a video of another size; they are kept"
        )
    return problems


def _blocks(table: ResultTable, crop: CropFact | None) -> Blocks:
    """Return the table's poses by frame of the recording, in the full frame: NaN where it has no row."""
    dx, dy = crop.offset if crop is not None else (0, 0)
    frames, tracks = table.frames, table.tracks

    def of(track: Track, first: int, last: int) -> np.ndarray:
        return np.stack(
            [track.x[first:last] + np.float32(dx), track.y[first:last] + np.float32(dy), track.likelihood[first:last]],
            axis=1,
        )

    def blocks(first: int, last: int) -> np.ndarray:
        block = np.full((last - first, len(tracks), 3), np.nan, dtype=np.float32)
        begin, end = np.searchsorted(frames, [first, last])
        for place, track in enumerate(tracks):
            block[frames[begin:end] - first, place] = of(track, int(begin), int(end))
        return block

    return blocks


def _likelihoods(names: Sequence[tuple[str, str]], summary: PoseSummary) -> dict[str, dict[str, float]]:
    """Return the mean likelihood and the share below the p-cutoff of each track that has any."""
    keys = [f"{individual} {bodypart}".strip() for individual, bodypart in names]

    def known(values: Sequence[float]) -> dict[str, float]:
        return {key: round(value, 4) for key, value in zip(keys, values, strict=True) if np.isfinite(value)}

    return {
        "mean_likelihood": known(summary.mean_likelihood),
        "share_below_pcutoff": known(summary.share_below_pcutoff),
    }


def _staged(work: Path, recording: str) -> Path:
    """Return where the finished table of a recording waits for those of the session's others."""
    return work / f"{recording}.parquet"
