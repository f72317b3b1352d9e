"""How near the poses are to those that `deeplabcut.analyze_videos` writes into its h5, with the same network and video.

In float32, every point above likelihood 0.1 must agree to 0.01 px and 1e-4 of likelihood. In bfloat16 (what a processor or GPU is
much faster with) points above 0.6, DeepLabCut's p-cutoff, must agree to 0.1 px in the median, 99 % of them to 0.5 px. The
likelihoods that decide are DeepLabCut's. Float32 poses are read back from the stored table, as users do.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.inference_lab import (
    PICTURE,
    RESNET_50,
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
from dlc_assets.api import OpenLab
from dlc_assets.lab.lab import Lab

SEEN, SURE = 0.1, 0.6  # likelihood
LIMITS = {"float32_px": 0.01, "float32_likelihood": 1e-4, "bfloat16_median_px": 0.1}
NEAR = 0.5  # px
LEAST_NEAR = 0.99
LEAST_SHARE = 0.2  # of the points that must lie above each likelihood: else the comparison says nothing

_FRAMES = {"cpu": 200, "cuda": 400}


def compare(ours: np.ndarray, theirs: np.ndarray, above: float) -> dict[str, float]:
    """Return how far *ours* lies from *theirs*, both (points, 3): x and y in px, likelihood, where theirs is above *above*.

    A point that only one side has counts as infinitely far.
    """
    seen = theirs[:, 2] > above
    apart = np.hypot(*(ours[seen, :2] - theirs[seen, :2]).astype(np.float64).T)
    apart = np.where(np.isnan(apart), np.inf, apart)
    likelihood = np.abs(ours[seen, 2].astype(np.float64) - theirs[seen, 2])
    if not seen.any():
        return {"points": 0, "share": 0.0, "median_px": np.nan, "p99_px": np.nan, "largest_px": np.nan} | {
            "share_near": np.nan,
            "largest_likelihood": np.nan,
        }
    return {
        "points": int(seen.sum()),
        "share": float(seen.mean()),
        "median_px": float(np.median(apart)),
        "p99_px": float(np.quantile(apart, 0.99)),
        "largest_px": float(apart.max()),
        "share_near": float((apart <= NEAR).mean()),
        "largest_likelihood": float(likelihood.max()),
    }


def measure(lab: Lab, model: str, *, frames: int, scratch: Path) -> dict[str, Any]:
    """Return how far our poses are from DeepLabCut's, in float32 and in bfloat16."""
    version = need_model(lab, model)
    session, video = need_recording(lab, "parity", frames)
    probe(lab)
    say(f"{model}: estimating {frames} frames three times")
    project = deeplabcut_project(lab, version, scratch / model / "project")
    with Worker() as peer:
        answer = peer.ask(
            "analyze_videos", config=project, videos=[video], destination=scratch / model / "h5", batch_size=1
        )
    theirs = pd.DataFrame(pd.read_hdf(answer["h5"][0]))
    bodyparts = list(theirs.columns.get_level_values("bodyparts").unique())
    asked = {"lab": lab.root, "model": model}
    rounded_file = scratch / model / "bfloat16.npy"
    with Worker() as ours:
        ours.ask("load", precision="float32", height=PICTURE[1], width=PICTURE[0], **asked)
        told = ours.ask("estimate", session=session, precision="float32", **asked)["inference"]
        rounded = ours.ask(
            "estimate_video",
            pytorch_config=version.pytorch_config,
            snapshot=version.snapshot,
            video=video,
            precision="bfloat16",
            file=rounded_file,
        )
    stored = OpenLab(lab).poses(session=session, model=model, bodyparts=bodyparts).to_dlc()
    if [column[1:] for column in stored.columns] != [column[1:] for column in theirs.columns] or len(stored) != frames:
        raise RuntimeError(f"{session}: the table has other body parts or frames than {answer['h5'][0]}.")
    points = theirs.to_numpy().reshape(-1, 3)
    return {
        "frames": frames,
        "inference": {"float32": told, "bfloat16": rounded},
        "float32": compare(stored.to_numpy().reshape(-1, 3), points, SEEN),
        "bfloat16": compare(np.load(rounded_file).reshape(-1, 3), points, SURE),
    }


def run(folder: Path, models: list[str], *, device: str, frames: int | None) -> dict[str, Any]:
    """Compare the poses of every network with the limits."""
    kind = use_device(device)
    lab = need_lab(folder)
    on = machine()
    with tempfile.TemporaryDirectory() as scratch:
        networks = {
            model: measure(lab, model, frames=frames or _FRAMES[kind], scratch=Path(scratch)) for model in models
        }
    targets: dict[str, dict[str, Any]] = {}
    for model, apart in networks.items():
        exact, rounded = apart["float32"], apart["bfloat16"]
        targets |= {
            f"{model}_float32_px": target(exact["largest_px"], LIMITS["float32_px"]),
            f"{model}_float32_likelihood": target(exact["largest_likelihood"], LIMITS["float32_likelihood"]),
            f"{model}_bfloat16_median_px": target(rounded["median_px"], LIMITS["bfloat16_median_px"]),
            f"{model}_bfloat16_share_within_{NEAR}_px": target(rounded["share_near"], LEAST_NEAR, "at least"),
            f"{model}_share_sure": target(rounded["share"], LEAST_SHARE, "at least"),
        }
    return result("parity", {"device": kind, "networks": networks}, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("parity", __doc__)
    add_lab_options(parser)
    parser.add_argument("--model", action="append", choices=[SMALL, RESNET_50], help="default: both")
    parser.add_argument(
        "--frames", type=int, help=f"of the video (default: {_FRAMES['cpu']}, {_FRAMES['cuda']} on a GPU)"
    )
    asked = parser.parse_args(arguments)
    measured = run(asked.lab, asked.model or [SMALL, RESNET_50], device=asked.device, frames=asked.frames)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    lines = [f"{PICTURE[0]}x{PICTURE[1]} px on {measured['device']}: distance to the poses of analyze_videos"]
    for model, apart in measured["networks"].items():
        lines.append(f"{model}, {apart['frames']} frames")
        for precision, above in (("float32", SEEN), ("bfloat16", SURE)):
            of, said = apart[precision], apart["inference"][precision]
            lines.append(
                f"  {precision} ({said['backend']}), likelihood > {above} ({100 * of['share']:.0f} % of the points): median "
                f"{of['median_px']:.2g} px, 99 % {of['p99_px']:.2g} px, largest {of['largest_px']:.2g} px; likelihood "
                f"{of['largest_likelihood']:.2g}"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
