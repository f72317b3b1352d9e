"""Making a quality report: measured, drawn and written into a folder, from a pose table, what its checks found, and its video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.inference.pose_comparison_report import frames_of
from dlc_assets.inference.pose_tables import pose_files
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import content_hash, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.recordings.info import need_session_info
from dlc_assets.review.findings import Finding
from dlc_assets.review.quality_record import NAME as RECORD
from dlc_assets.review.quality_record import QualityRecord
from dlc_assets.review.report.charts import (
    MOST_ANIMALS,
    MOST_LIMBS,
    MOST_TRACKS,
    clock,
    likelihood_chart,
    limb_chart,
    speed_chart,
)
from dlc_assets.review.report.measures import RecordingMeasures
from dlc_assets.review.report.moments import Place, even_frames, places_to_show, strip_frames
from dlc_assets.review.report.opened import OpenedRecording, open_recording
from dlc_assets.review.report.page import (
    MomentShown,
    Page,
    Picture,
    RecordingShown,
    check_rows,
    html_of,
    tone_of,
)
from dlc_assets.review.report.pictures import (
    PosedFrame,
    as_jpeg,
    occupancy_picture,
    paths_picture,
    posed_picture,
    window_around,
)
from dlc_assets.review.report.points import points_at
from dlc_assets.review.report.said import (
    day_of,
    every_words,
    facts_of,
    moments_said,
    provenance_of,
    recording_said,
    stayed_said,
)
from dlc_assets.review.report.summary import write_summary
from dlc_assets.review.report.verdict import check_words, verdict_of

if TYPE_CHECKING:
    from PIL.Image import Image

PAGE = "report.html"
SUMMARY = "summary.png"

MOST_RECORDINGS = 4  # that are drawn; the page must stay small enough to open and to send
MOST_BYTES = 3_000_000
_BATCH_BYTES = 300_000_000  # of decoded frames that are in memory at once
_PLACE_WIDTH = 640  # px
_PLACE_WIDTH_OF_MANY = 480  # px, where there are several recordings
_TILE = 210  # px high
_STRIP_GAP = 4


@dataclass(frozen=True)
class Report:
    """What was written, and what a person should know of it."""

    record: QualityRecord
    data_version: str
    problems: tuple[str, ...]


def build_report(
    lab: Lab,
    poses: Manifest,
    folder: Path,
    findings: Sequence[Finding],
    *,
    filtered: Mapping[str, Path] | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write the report of the pose table of *poses* into *folder*: `PAGE`, `SUMMARY` and the record of *findings*.

    Parameters
    ----------
    filtered
        The filtered pose table's file of each recording that has one.
    log
        Is told what could not be shown.

    Raises
    ------
    NotFoundError, InputError
        The session was never probed, or a pose table is missing or damaged.
    """
    details = poses.details
    session, _ = need_session_info(lab.layout, details["session"])
    verdict = verdict_of(findings)
    places = places_to_show(findings)
    files = {file.recording: file.path for file in pose_files(lab, poses)}
    names = _most_in_doubt_first(list(files), places)
    notes = list(_notes_on(names[MOST_RECORDINGS:]))
    recordings = {
        name: open_recording(lab, session, name, files[name], (filtered or {}).get(name), details, notes)
        for name in files
        if name in names[:MOST_RECORDINGS]
    }
    places = [place for place in places if place.moment.recording in recordings]
    shown, moments, tiles, ground = [], {}, [], {}
    for name, recording in recordings.items():
        here = [place for place in places if place.moment.recording == name]
        drawn = _draw(lab, recording, here, notes, _PLACE_WIDTH if len(recordings) == 1 else _PLACE_WIDTH_OF_MANY)
        shown.append(drawn.shown)
        moments.update({id(place): strip for place, strip in zip(here, drawn.moments, strict=True)})
        ground[name] = drawn.where
        tiles += drawn.tiles
    for note in notes:
        log(note)
    made = datetime.now(UTC).isoformat(timespec="seconds")
    record = QualityRecord(
        session=session.session,
        model=details["model"],
        version=details["version"],
        day=day_of(session),
        poses=poses.data_version,
        made=made,
        verdict=verdict,
        findings=tuple(findings),
    )
    failed = any(not finding.passed for finding in findings)
    page = Page(
        session=session.session,
        model=details["model"],
        version=details["version"],
        verdict=verdict,
        facts=tuple(facts_of(session, list(recordings.values()), len(files))),
        notes=tuple(notes),
        checks=tuple(check_rows(findings)),
        moments_title="The worst moments" if failed or not places else "The least good moments",
        moments_said=moments_said(places, failed, any(r.filtered is not None for r in recordings.values())),
        moments=tuple(moments[id(place)] for place in places),
        recordings=tuple(shown),
        provenance=tuple(provenance_of(poses, list(recordings.values()), made)),
    )
    write_text(folder / PAGE, _small_enough(page))
    first = next((place.moment.recording for place in places), next(iter(recordings)))
    several = f", {len(files)} recordings" if len(files) > 1 else ""
    order = {id(place): number for number, place in enumerate(places)}
    write_summary(
        folder / SUMMARY,
        title=f"{session.session} by {details['model']}@{details['version']}{several}",
        verdict=verdict,
        recording=first,
        measures=recordings[first].measures,
        pcutoff=recordings[first].pcutoff,
        px_per_cm=recordings[first].setup.px_per_cm,
        where=ground[first],
        legend=recordings[first].legend,
        moments=[
            (place.moment.what, np.asarray(tile)) for place, tile in sorted(tiles, key=lambda one: order[id(one[0])])
        ],
    )
    record.write(folder / RECORD)
    said = [{"check": f.check, "passed": f.passed, "sentence": f.sentence, "value": f.value} for f in findings]
    version = content_hash({"poses": poses.data_version, "findings": said, "notes": notes})
    return Report(record, version, tuple(notes))


def _small_enough(page: Page) -> str:
    """Return the page as HTML, with as many recordings drawn as there is room for."""
    html = html_of(page)
    while len(html) > MOST_BYTES and len(page.recordings) > 1:
        left_out = page.recordings[-1].name
        note = f"Checked, but not drawn, as this page would become too large: the recording {left_out}."
        page = replace(page, recordings=page.recordings[:-1], notes=(*page.notes, note))
        html = html_of(page)
    return html


@dataclass(frozen=True)
class _Drawn:
    shown: RecordingShown
    moments: list[MomentShown]
    tiles: list[tuple[Place, Image]]
    where: np.ndarray


def _draw(lab: Lab, recording: OpenedRecording, places: Sequence[Place], notes: list[str], width: int) -> _Drawn:
    measures, drawing = recording.measures, recording.drawing
    strips = [strip_frames(place.moment, measures.frames) for place in places]
    even = even_frames(measures.frames)
    wanted = sorted({0, *even, *(frame for strip in strips for frame in strip)})
    points = points_at(recording.path, measures.names, wanted)
    smoothed = None
    if recording.filtered_path is not None:
        smoothed = {f: p[:, :2] for f, p in points_at(recording.filtered_path, measures.names, wanted).items()}
    ground: np.ndarray | None = None
    even_tiles: dict[int, Image] = {}
    strip_tiles: dict[tuple[int, int], Image] = {}
    windows: dict[int, tuple[int, int, int, int]] = {}
    marked: dict[int, list[int]] = {}
    for number, (place, strip) in enumerate(zip(places, strips, strict=True)):
        marked[number] = _marked(place, recording)
        there = [PosedFrame(None, recording.size, points[frame], None) for frame in strip if frame in points]
        windows[number] = window_around(there, marked[number], recording.pcutoff)
    batch = max(3, _BATCH_BYTES // (3 * recording.size[0] * recording.size[1]))
    for start in range(0, len(wanted), batch):
        frames = _decoded(lab, recording, wanted[start : start + batch], notes)
        for frame in wanted[start : start + batch]:
            if frame not in points:
                continue
            posed = PosedFrame(
                frames.get(frame), recording.size, points[frame], None if smoothed is None else smoothed.get(frame)
            )
            if frame == 0:
                ground = posed.frame
            if frame in even and posed.frame is not None:
                whole = (0, 0, *recording.size)
                even_tiles[frame] = posed_picture(posed, drawing, whole, 150)
            for number, strip in enumerate(strips):
                if frame in strip:
                    strip_tiles[number, frame] = posed_picture(posed, drawing, windows[number], _TILE, marked[number])
    moments = []
    tiles = []
    for number, (place, strip) in enumerate(zip(places, strips, strict=True)):
        row = [strip_tiles[number, frame] for frame in strip if (number, frame) in strip_tiles]
        if row:
            tiles.append((place, row[len(row) // 2]))
        moments.append(_moment_shown(place, row, recording))
    where = paths_picture(ground, recording.size, measures.paths, drawing, recording.outlines, width)
    pictures = [
        _picture(
            where, f"Every body part, {every_words(measures)}, where its likelihood reaches {recording.pcutoff:g}."
        )
    ]
    if recording.filtered is not None:
        after = paths_picture(ground, recording.size, recording.filtered.paths, drawing, recording.outlines, width)
        pictures.append(_picture(after, "The same after filtering."))
    stayed = occupancy_picture(ground, recording.size, measures, recording.outlines, width)
    pictures.append(_picture(stayed, stayed_said(measures)))
    return _Drawn(_shown(recording, pictures, _side_by_side(list(even_tiles.values()))), moments, tiles, where)


def _decoded(lab: Lab, recording: OpenedRecording, frames: Sequence[int], notes: list[str]) -> dict[int, np.ndarray]:
    """Return frames of the video; none, and a note, where it is gone, changed or cannot be read."""
    if recording.info is None:
        return {}
    missing = f"{recording.name}: without pictures of the video"
    if any(note.startswith(missing) for note in notes):
        return {}
    try:
        for file in recording.info.files:
            path = file.resolve(lab.root)
            if path.is_file() and path.stat().st_size != file.size:
                notes.append(f"{missing}: {path} is not the video that was probed (it has another size).")
                return {}
        found = frames_of(lab, recording.info, frames)
    except (DlcAssetsError, OSError) as error:
        notes.append(f"{missing}: {error}.".replace("..", "."))
        return {}
    for frame, picture in found.items():
        if picture.shape[:2] != (recording.size[1], recording.size[0]):
            notes.append(
                f"{missing}: frame {frame} is {picture.shape[1]}x{picture.shape[0]} px, expected {recording.size[0]}x{recording.size[1]}."
            )
            return {}
    return found


def _marked(place: Place, recording: OpenedRecording) -> list[int]:
    """Return the tracks that a moment is about."""
    moment = place.moment
    return [
        number
        for number, (individual, part) in enumerate(recording.measures.names)
        if part in moment.bodyparts and (individual == moment.individual or not moment.individual)
    ]


def _moment_shown(place: Place, row: Sequence[Image], recording: OpenedRecording) -> MomentShown:
    moment, measures = place.moment, recording.measures
    picture = _picture_of(_side_by_side(row), "")
    one = moment.first_frame == moment.last_frame
    frames = f"frame {moment.first_frame}" if one else f"frames {moment.first_frame} to {moment.last_frame}"
    step = 0.1 if measures.last_time - measures.first_time < 600 else 1.0
    return MomentShown(
        picture=picture.data if picture is not None else "",
        width=picture.width if picture is not None else 0,
        height=picture.height if picture is not None else 0,
        tone=tone_of(place.finding),
        said=moment.what,
        check=check_words(place.finding.check),
        where=f"{recording.name}, {clock(moment.time, step)}, {frames}",
        also=place.also,
    )


def _shown(recording: OpenedRecording, pictures: Sequence[Picture], even: Image | None) -> RecordingShown:
    from markupsafe import Markup

    measures, px_per_cm = recording.measures, recording.setup.px_per_cm
    left_out = len(measures.names) - MOST_TRACKS
    limbs_left_out = len(measures.limbs) - MOST_LIMBS
    limbs = (
        "Distances between body parts that the project's skeleton joins"
        if measures.stated_skeleton
        else "The project states no skeleton: these are the shortest lines that join its body parts"
    )
    return RecordingShown(
        name=recording.name,
        said=recording_said(recording),
        even=None if even is None else _picture_of(even, ""),
        even_said="Five moments spread evenly over the recording. Full points reach the p-cutoff, hollow ones do not."
        + (" White crosses: after filtering." if recording.filtered is not None else ""),
        places=tuple(pictures),
        legend=tuple({"color": color, "name": name} for name, color in recording.legend),
        likelihood=Markup(likelihood_chart(measures, recording.pcutoff)),  # its names are escaped
        likelihood_said=f"Mean over time. Blue reaches the p-cutoff of {recording.pcutoff:g}, red does not, nothing is drawn where there "
        "is no value. At the right: share of frames with a position that can be trusted."
        + (f" {left_out} more, which can be trusted more, are not drawn." if left_out > 0 else ""),
        limbs=Markup(limb_chart(measures, recording.filtered)) if measures.limbs else "",
        limbs_said=f"{limbs}, where both ends reach the p-cutoff. At the right: median, and the range of 90 % of frames."
        + (f" {limbs_left_out} more, which vary less, are not drawn." if limbs_left_out > 0 else ""),
        speed=Markup(speed_chart(measures, recording.filtered, px_per_cm)),
        speed_said="How far the body parts of an animal that are seen in two frames in a row moved on average."
        + _animals_left_out(measures)
        + ("" if px_per_cm else " In px, as no scale is stated for this camera (setups in lab.yaml)."),
        filtered=recording.filtered is not None,
    )


def _animals_left_out(measures: RecordingMeasures) -> str:
    count = len(measures.animals) - MOST_ANIMALS
    return f" {count} more animals are not drawn." if count > 0 else ""


def _picture(pixels: np.ndarray, said: str) -> Picture:
    return Picture.of(as_jpeg(pixels), "jpeg", (pixels.shape[1], pixels.shape[0]), said)


def _picture_of(image: Image | None, said: str) -> Picture | None:
    return None if image is None else Picture.of(as_jpeg(image, 78), "jpeg", image.size, said)


def _side_by_side(tiles: Sequence[Image]) -> Image | None:
    from PIL import Image

    if not tiles:
        return None
    width = sum(tile.width for tile in tiles) + _STRIP_GAP * (len(tiles) - 1)
    row = Image.new("RGB", (width, tiles[0].height), (128, 128, 128))
    left = 0
    for tile in tiles:
        row.paste(tile, (left, 0))
        left += tile.width + _STRIP_GAP
    return row


def _most_in_doubt_first(names: Sequence[str], places: Sequence[Place]) -> list[str]:
    first = [place.moment.recording for place in places]
    return sorted(names, key=lambda name: first.index(name) if name in first else len(first))


def _notes_on(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [f"Checked, but not drawn: the recordings {', '.join(left_out)}. Those with the worst moments are drawn."]
