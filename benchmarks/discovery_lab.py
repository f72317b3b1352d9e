"""A lab with very many recordings, to measure discovery with: small files of different content that are no videos, in folders by session.

`--folders 1000 --recordings 100000` makes 1,000 folders of 100 files, `--folders 100000 --recordings 100000` as many folders of one.
Every hundredth session has a metadata file. All files are as old as an archive's.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

_FIRST_DAY = datetime(2020, 1, 1, 12, tzinfo=UTC)
_WITH_METADATA = 100

_LAB = """\
# Very many small files in the place of videos, to measure discovery with. Written by the benchmarks; safe to remove.
name: Benchmark lab
recordings:
  - {{root: recordings, template: "{template}"}}
analyze: {{auto: false}}
"""
# A folder of one video is a session's own; in a folder of many each file is a session.
_ONE_EACH = "{subject}/{session}/{camera}.mp4"
_MANY_EACH = "{subject}/{session}_{camera}.mp4"


def make_discovery_lab(folder: Path, *, recordings: int, folders: int, video: bytes | None = None) -> Path:
    """Make a lab at *folder* with *recordings* files in *folders* folders, each of its own session; return the recordings' root.

    Sessions keep their names whatever the number of recordings, so that a lab can be made larger. The files are no videos, unless
    *video* is the content of one.
    """
    per_folder = max(1, recordings // folders)
    folder.mkdir(parents=True, exist_ok=True)
    template = _ONE_EACH if per_folder == 1 else _MANY_EACH
    (folder / "lab.yaml").write_text(_LAB.format(template=template), encoding="utf-8")
    root = folder / "recordings"
    for number in range(folders):
        for index in range(per_folder):
            add_recording(root, number, index, alone=per_folder == 1, video=video)
    return root


def add_recording(root: Path, folder: int, index: int, *, alone: bool, video: bytes | None = None) -> Path:
    """Write one file below *root*, with its metadata file where it has one; return its path."""
    day = _FIRST_DAY + timedelta(days=folder % 2000, minutes=index)
    name = f"{day:%Y%m%d}-{index:03d}"
    place = root / f"m{folder:06d}" / name if alone else root / f"m{folder:06d}"
    place.mkdir(parents=True, exist_ok=True)
    path = place / "top.mp4" if alone else place / f"{name}_top.mp4"
    path.write_bytes(video or f"recording {index} of folder {folder}\n".encode())
    os.utime(path, (day.timestamp(), day.timestamp()))
    if (folder + index) % _WITH_METADATA == 0:
        metadata = place / "session.yaml" if alone else place / f"sub-m{folder:06d}_ses-{name}.yaml"
        metadata.write_text(f"start: {day.isoformat()}\ndescription: open field\n", encoding="utf-8")
    return path


def main() -> None:
    """Make the lab that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lab", type=Path, help="where to make it")
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1_000)
    stated = parser.parse_args()
    started = time.monotonic()
    root = make_discovery_lab(stated.lab, recordings=stated.recordings, folders=stated.folders)
    print(
        f"{stated.recordings} recordings in {stated.folders} folders below {root}: {time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    main()
