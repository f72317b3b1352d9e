"""The report of a pose comparison: a table, words for people, and sheets of the frames that changed most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.inference.pose_comparison import ALL, PoseComparison, SessionChange
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import atomic_path, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.poses.difference_pictures import Panel, draw_sheet
from dlc_assets.poses.differences import Look, TableChange, is_likely, merged, positions_in
from dlc_assets.poses.table_file import read_pose_metadata
from dlc_assets.recordings.info import RecordingInfo, need_session_info, read_times
from dlc_assets.video.frames import read_frames

REPORT, TABLE = "report.md", "changes.csv"
COLUMNS = ("session", "changed", "median (px)", "95 % (px)", "moved", "gained", "lost")


def write_report(
    lab: Lab, comparison: PoseComparison, *, limit: int, log: Callable[[str], None]
) -> tuple[Path, list[Path], list[str]]:
    """Write the report of *comparison* into the store, in the place of an earlier one.

    Parameters
    ----------
    limit
        So many sessions, those that change most, get pictures.

    Returns
    -------
    tuple
        The report, the sheets, and a sentence for each recording of which there is none though it changed.
    """
    folder = lab.layout.pose_comparison(str(comparison.old), str(comparison.new))
    sheets: list[Path] = []
    missing: list[str] = []
    with hold(lab.layout.lock("pose_comparison", folder.name), f"comparing {folder.name}", log=log):
        folder.mkdir(parents=True, exist_ok=True)
        for session in comparison.sessions[:limit]:
            for name, change in session.recordings.items():
                path = folder / f"{session.session}_{name}.png"
                try:
                    if _draw(lab, comparison, session, name, change, path):
                        sheets.append(path)
                        log(f"{session.session}, {name}: {path.name} shows the frames that changed most")
                except (DlcAssetsError, OSError) as error:
                    missing.append(f"{session.session}, {name}: no pictures: {error}")
        with atomic_path(folder / TABLE) as partial:
            comparison.table().to_csv(partial, index=False, float_format="%.6g")
        write_text(folder / REPORT, _words(comparison, sheets, missing))
        for former in set(folder.glob("*.png")) - set(sheets):
            former.unlink()
    return folder / REPORT, sheets, missing


def ranking(comparison: PoseComparison) -> list[tuple[str, ...]]:
    """Return a row a session under `COLUMNS`, that which changes most first."""
    return [(session.session, *_figures(session.total().row())) for session in comparison.sessions]


def _figures(row: dict[str, float]) -> tuple[str, ...]:
    shares = {name: _percent(row[name]) for name in ("changed", "moved", "gained", "lost")}
    distances = [_px(row[name]) for name in ("median", "p95")]
    return (shares["changed"], *distances, shares["moved"], shares["gained"], shares["lost"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "-"


def _px(distance: float) -> str:
    return f"{distance:.3g}" if np.isfinite(distance) else "-"


def _draw(
    lab: Lab, comparison: PoseComparison, session: SessionChange, name: str, change: TableChange, path: Path
) -> bool:
    """Draw the sheet of one recording; False where nothing in it changed."""
    if not change.looks:
        return False
    info, _ = need_session_info(lab.layout, session.session)
    recording = info.recording(name)
    looks = sorted(change.looks, key=lambda look: look.frame)
    frames = [look.frame for look in looks]
    pictures = frames_of(lab, recording, frames)
    times = read_times(lab.layout, session.session, name)
    of_versions = []
    skeleton: Sequence[Sequence[str]] = ()
    for version in (comparison.old, comparison.new):
        table = lab.layout.pose_file(version.model, version.version, session.session, name)
        metadata = read_pose_metadata(table)
        skeleton = metadata.skeleton
        of_versions.append((positions_in(table, frames), metadata.pcutoff))
    panels = []
    for place, look in enumerate(looks):
        old, new = (
            {
                track: values[place, :2].astype(np.float64)
                for track, values in positions.items()
                if is_likely(values[place][:, None], pcutoff)[0]
            }
            for positions, pcutoff in of_versions
        )
        common = [track for track in of_versions[0][0] if track in of_versions[1][0]]
        old, new = ({track: of[track] for track in common if track in of} for of in (old, new))
        panels.append(Panel(pictures[look.frame], old, new, _caption(look, float(times[look.frame]), old, new)))
    title = f"{session.session}, {name}: the frames that changed most"
    draw_sheet(path, panels, title=title, old=str(comparison.old), new=str(comparison.new), skeleton=skeleton)
    return True


def _caption(look: Look, time: float, old: dict[tuple[str, str], Any], new: dict[tuple[str, str], Any]) -> str:
    apart = {track: float(np.hypot(*(new[track] - old[track]))) for track in old if track in new}
    words = []
    if apart:
        farthest = max(apart, key=lambda track: apart[track])
        words.append(f"{farthest[1]} {apart[farthest]:.3g} px")
    gone, come = len(old.keys() - new.keys()), len(new.keys() - old.keys())
    words += [f"{gone} lost"] if gone else []
    words += [f"{come} gained"] if come else []
    return f"frame {look.frame} ({time:.2f} s): {', '.join(words)}"


def frames_of(lab: Lab, recording: RecordingInfo, frames: Sequence[int]) -> dict[int, np.ndarray]:
    """Return frames of a recording by their number over all its files, (height, width, 3) uint8 RGB, upright.

    Raises
    ------
    InputError
        A video does not open, or ends before a frame.
    FileNotFoundError
        A video is gone.
    """
    found: dict[int, np.ndarray] = {}
    first = 0
    for file in recording.files:
        here = [frame - first for frame in frames if first <= frame < first + file.frame_count]
        if here:
            path = file.resolve(lab.root)
            if not path.is_file():
                raise FileNotFoundError(f"the video {path} is gone")
            read = read_frames(path, here, rate=recording.video_rate, frame_count=file.frame_count)
            found |= {index + first: picture for index, picture in read.items()}
        first += file.frame_count
    return found


def _words(comparison: PoseComparison, sheets: Sequence[Path], missing: Sequence[str]) -> str:
    old, new, moved = str(comparison.old), str(comparison.new), f"{comparison.moved_px:g} px"
    count = len(comparison.sessions)
    lines = [
        f"# Poses of {new} against {old}",
        "",
        f"{'1 session' if count == 1 else f'{count} sessions'} that both analysed, the largest change first. "
        f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        f"- **changed**: share of positions (body part in a frame) that moved by more than {moved}, were gained or were lost.",
        "- **median**, **95 %**: distance between the two, over positions that are likely in both; within 1 %.",
        f"- **moved**: share of those that lie more than {moved} apart.",
        "- **gained**, **lost**: share of positions that reach the p-cutoff in the new table only, or in the old one only. Each table's "
        "own p-cutoff counts.",
        "",
        *_markdown_table(COLUMNS, ranking(comparison)),
        "",
        "## By body part, over all sessions",
        "",
        *_markdown_table(("body part", *COLUMNS[1:]), _by_bodypart(comparison)),
        "",
    ]
    for title, sessions in (
        (f"Only {old} analysed", comparison.only_old),
        (f"Only {new} analysed", comparison.only_new),
    ):
        if sessions:
            lines += [f"## {title}", "", *(f"- {session}" for session in sessions), ""]
    if comparison.notes or missing:
        lines += ["## Notes", "", *(f"- {note}" for note in (*comparison.notes, *missing)), ""]
    if sheets:
        lines += ["## Frames that changed most", "", f"Circles: {old}. Squares: {new}.", ""]
        for sheet in sheets:
            lines += [f"![{sheet.stem}]({sheet.name})", ""]
    return "\n".join(lines)


def _by_bodypart(comparison: PoseComparison) -> list[tuple[str, ...]]:
    rows = []
    for name in comparison.bodyparts:
        rows.append((name, *_figures(merged(session.bodypart(name) for session in comparison.sessions).row())))
    total = merged(session.total() for session in comparison.sessions)
    return [*rows, (ALL, *_figures(total.row()))]


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]
