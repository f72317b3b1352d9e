"""How fast poses are estimated, against `deeplabcut.analyze_videos` with the same network on the same video.

Both sides take whole videos: decoding, network, results on disk. They run in turn, each in a process of its own; medians of
several rounds count. DeepLabCut's side is the better of its batch sizes 1 and 8, its other settings its own defaults. It loads
the network in each call, ours once a process: both load times are told, and taken off both sides' rates, so that the
ratios hold for long videos. With a GPU, the network alone is timed as well: batches that lie on the device already, same
precision, same batch size, nothing decoded. Two networks: a small one, and DeepLabCut's default, ResNet-50.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from dlc_assets.lab.lab import Lab
from dlc_assets.training.models import ModelVersion

PRECISIONS = ("float32", "proven")
PEER_BATCH_SIZES = (1, 8)

# Ours divided by DeepLabCut's rate, at least.
LIMITS: Mapping[str, Mapping[str, float]] = {
    "cpu": {"float32": 1.3, "proven": 2.5},
    "cuda": {"float32": 2.0, "proven": 3.0},
}
LEAST_SHARE_OF_BARE = 0.85  # of the network's own rate, on a GPU

_SECONDS_A_VIDEO = 8.0  # that ours takes at least, if --frames does not say otherwise
_FEWEST, _MOST = 60, 3840  # by doubling, so that a later run finds its video rendered
_TRIAL_FRAMES = 24
_PROOF_FRAMES = 300


def measure(lab: Lab, model: str, *, kind: str, frames: int | None, rounds: int, scratch: Path) -> dict[str, Any]:
    """Return the rates of both sides on one network."""
    version = need_model(lab, model)
    trial, trial_video = need_recording(lab, "trial", _TRIAL_FRAMES)
    _, clip = need_recording(lab, "proof", _PROOF_FRAMES)
    probe(lab)
    project = deeplabcut_project(lab, version, scratch / model / "project")
    asked = {"lab": lab.root, "model": model}
    with Worker() as ours, Worker() as peer:
        say(f"{model}: comparing its reduced precision with float32, where that was not done yet")
        ours.ask("prove", lab=lab.root, model=model, video=clip)
        width, height = PICTURE
        loads = {p: ours.ask("load", precision=p, height=height, width=width, **asked) for p in PRECISIONS}
        peer.ask("import_deeplabcut")
        # The first calls pay for what later ones find done.
        for precision in PRECISIONS:
            ours.ask("estimate", session=trial, precision=precision, **asked)
        for batch_size in PEER_BATCH_SIZES:
            _peer(peer, project, trial_video, batch_size, scratch / model / f"trial-{batch_size}")
        warm = ours.ask("estimate", session=trial, precision="float32", **asked)
        frames = frames or _enough(warm["frames"] / warm["seconds"])
        session, video = need_recording(lab, "speed", frames)
        probe(lab)
        calls: dict[str, list[dict[str, Any]]] = {}
        for number in range(rounds):
            say(f"{model}, {frames} frames: round {number + 1} of {rounds}")
            for precision, batch_size in zip(PRECISIONS, PEER_BATCH_SIZES, strict=True):
                answer = ours.ask("estimate", session=session, precision=precision, **asked)
                calls.setdefault(precision, []).append(answer)
                destination = scratch / model / f"{number}-{batch_size}"
                calls.setdefault(f"batch {batch_size}", []).append(_peer(peer, project, video, batch_size, destination))
        bare = _bare(peer, version, calls) if kind == "cuda" else {}
    return {"frames": frames, "load": loads, **_summary(calls, frames), "bare_frames_per_second": bare}


def _peer(peer: Worker, project: Path, video: Path, batch_size: int, destination: Path) -> dict[str, Any]:
    return peer.ask("analyze_videos", config=project, videos=[video], destination=destination, batch_size=batch_size)


def _enough(rate: float) -> int:
    frames = _FEWEST
    while frames < min(rate * _SECONDS_A_VIDEO, _MOST):
        frames *= 2
    return frames


def _bare(worker: Worker, version: ModelVersion, calls: Mapping[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return the network's own rate, for each precision with the batch size that ours took."""
    width, height = PICTURE
    rates = {}
    for precision in PRECISIONS:
        inference = calls[precision][-1]["inference"]
        rates[precision] = worker.ask(
            "bare_rate",
            pytorch_config=version.pytorch_config,
            snapshot=version.snapshot,
            precision=inference["precision"],
            batch_size=inference["batch_size"],
            height=height,
            width=width,
        )["frames_per_second"]
    return rates


def _summary(calls: Mapping[str, list[dict[str, Any]]], frames: int) -> dict[str, Any]:
    """Return rates (frames/s) without and with the loading of the network, and where our time went."""
    ours = {}
    for precision in PRECISIONS:
        last = calls[precision][-1]
        seconds = statistics.median(call["seconds"] for call in calls[precision])
        ours[precision] = {
            "frames_per_second": frames / seconds,
            "shares": last["inference"]["shares"],
            "inference": last["inference"],
        }
    peer = {}
    for batch_size in PEER_BATCH_SIZES:
        of_batch = calls[f"batch {batch_size}"]
        peer[f"batch {batch_size}"] = {
            "frames_per_second": frames / statistics.median(c["seconds"] - c["load_seconds"] for c in of_batch),
            "with_loading": frames / statistics.median(c["seconds"] for c in of_batch),
            "load_seconds": statistics.median(c["load_seconds"] for c in of_batch),
        }
    return {"ours": ours, "peer": peer}


def run(folder: Path, models: list[str], *, device: str, frames: int | None, rounds: int) -> dict[str, Any]:
    """Measure both sides on every network and compare them with the limits."""
    kind = use_device(device)
    lab = need_lab(folder)
    for model in models:
        need_model(lab, model)
    on = machine()
    with tempfile.TemporaryDirectory() as scratch:
        networks = {
            model: measure(lab, model, kind=kind, frames=frames, rounds=rounds, scratch=Path(scratch))
            for model in models
        }
    targets: dict[str, dict[str, Any]] = {}
    for model, rates in networks.items():
        best = max(each["frames_per_second"] for each in rates["peer"].values())
        for precision in PRECISIONS:
            rate = rates["ours"][precision]["frames_per_second"]
            targets[f"{model}_{precision}_ratio"] = target(rate / best, LIMITS[kind][precision], "at least")
            if precision in rates["bare_frames_per_second"]:
                share = rate / rates["bare_frames_per_second"][precision]
                targets[f"{model}_{precision}_share_of_bare"] = target(share, LEAST_SHARE_OF_BARE, "at least")
    return result("inference", {"device": kind, "rounds": rounds, "networks": networks}, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("inference", __doc__)
    add_lab_options(parser)
    parser.add_argument("--model", action="append", choices=[SMALL, RESNET_50], help="default: both")
    parser.add_argument(
        "--frames", type=int, help=f"of the video (default: {_SECONDS_A_VIDEO:.0f} s of our work or more, measured)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="calls of each kind to take the median of")
    asked = parser.parse_args(arguments)
    models = asked.model or [SMALL, RESNET_50]
    measured = run(asked.lab, models, device=asked.device, frames=asked.frames, rounds=asked.rounds)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    lines = [f"{PICTURE[0]}x{PICTURE[1]} px on {measured['device']}, medians of {measured['rounds']}, frames/s"]
    for model, rates in measured["networks"].items():
        lines.append(f"{model}, {rates['frames']} frames")
        for precision, of_ours in rates["ours"].items():
            said = of_ours["inference"]
            shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in of_ours["shares"].items())
            lines.append(
                f"  ours, {precision}: {of_ours['frames_per_second']:.2f} ({said['backend']}, {said['precision']}, batches of "
                f"{said['batch_size']}; {shares}); loaded in {rates['load'][precision]['load_seconds']:.1f} s"
            )
        for name, of_peer in rates["peer"].items():
            lines.append(
                f"  analyze_videos, {name}: {of_peer['frames_per_second']:.2f}; {of_peer['with_loading']:.2f} with its "
                f"{of_peer['load_seconds']:.1f} s of loading"
            )
        for precision, rate in rates["bare_frames_per_second"].items():
            lines.append(f"  the network alone, {precision}: {rate:.2f}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
