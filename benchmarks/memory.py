"""Whether memory grows with the length of a video: the peak of a process that analyzes 1,000 frames, and 20,000.

Each length has a process of its own, which loads the network and makes one pose table; with ``--peer`` so has
`analyze_videos`, whose memory is told beside (it takes long, and has no limit here). Most of the peak is the libraries and the
network: it is told too, as that of 32 frames. The pictures are small, so that 20,000 of them take minutes on a CPU; they
would still fill 370 MB if they were kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.inference_lab import (
    SMALL,
    add_lab_options,
    deeplabcut_project,
    need_lab,
    need_model,
    need_recording,
    probe,
    say,
)
from benchmarks.report import command_line, finish, machine, result, target
from benchmarks.worker import Worker, use_device

SIZE = (96, 64)  # px
_BASELINE = 32  # frames
LIMIT_MB = 50.0
_PEER_BATCH_SIZE = 8


def run(folder: Path, *, device: str, short: int, long: int, peer: bool) -> dict[str, Any]:
    """Measure the peak of each length and compare their difference with the limit."""
    kind = use_device(device)
    lab = need_lab(folder)
    version = need_model(lab, SMALL)
    lengths = (_BASELINE, short, long)
    recordings = {frames: need_recording(lab, "memory", frames, size=SIZE) for frames in lengths}
    probe(lab)
    on = machine()
    asked = {"lab": lab.root, "model": SMALL, "precision": "float32"}
    ours, theirs = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        project = deeplabcut_project(lab, version, Path(scratch) / "project")
        for frames, (session, video) in recordings.items():
            say(f"{frames} frames")
            with Worker() as worker:
                worker.ask("load", height=SIZE[1], width=SIZE[0], **asked)
                told = worker.ask("estimate", session=session, **asked)
                ours[frames] = {"seconds": told["seconds"], **worker.ask("peak_memory")}
            if peer:
                with Worker() as worker:
                    destination = Path(scratch) / str(frames)
                    told = worker.ask(
                        "analyze_videos",
                        config=project,
                        videos=[video],
                        destination=destination,
                        batch_size=_PEER_BATCH_SIZE,
                    )
                    theirs[frames] = {"seconds": told["seconds"], **worker.ask("peak_memory")}
    growth = ours[long]["peak_mb"] - ours[short]["peak_mb"]
    facts = {"device": kind, "size": SIZE, "ours": ours, "peer": theirs}
    return result("memory", facts, {"growth_mb": target(growth, LIMIT_MB)}, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if the target is met, else 1."""
    parser = command_line("memory", __doc__)
    add_lab_options(parser)
    parser.add_argument("--short", type=int, default=1_000, help="frames of the short video")
    parser.add_argument("--long", type=int, default=20_000, help="frames of the long video")
    parser.add_argument("--peer", action="store_true", help="measure analyze_videos, too")
    asked = parser.parse_args(arguments)
    measured = run(asked.lab, device=asked.device, short=asked.short, long=asked.long, peer=asked.peer)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    lines = [f"{SIZE[0]}x{SIZE[1]} px on {measured['device']}: peak of the process, MB"]
    for side in ("ours", "peer"):
        for frames, of in measured[side].items():
            lines.append(f"  {side}, {frames} frames: {of['peak_mb']:.0f} MB, {of['seconds']:.1f} s")
    return lines


if __name__ == "__main__":
    sys.exit(main())
