"""What a session costs beyond the network's time: many short sessions in one run, against `deeplabcut.analyze_videos`.

Ours is one run of the asset `pose_table` over all sessions, as `dlc-assets analyze` and the UI make it: finding out what is to be
done, decoding, network, table, manifest, previews and the recorded materialization. A session's time is that from the
materialization before to its own; the time of its network, as its manifest says, is taken off. DeepLabCut's side is
one call of `analyze_videos` a session in one process, and a process for each session, as scripts on a cluster run it; of
the latter a few are measured and the rest counted like them.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg

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
from benchmarks.openfield import command
from benchmarks.report import command_line, finish, machine, result, target
from benchmarks.worker import Worker, use_device
from dlc_assets.inference.pose_tables import pose_manifest
from dlc_assets.lab.keys import split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import need_session_info
from dlc_assets.resources.instance import open_instance

LIMIT_S = 0.3  # a session
SIZE = (320, 240)  # px
_APART = 15  # frames of the walk between the starts of two sessions
_BATCH_SIZES = (1, 8)


def our_run(lab: Lab, sessions: list[str]) -> dict[str, Any]:
    """Analyze *sessions* in one run; seconds of the command, and of each session but the first, whose time has the start in it."""
    begun = time.perf_counter()
    done = command(lab.root, "analyze", *sessions, "--model", SMALL, "--recompute")
    command_seconds = time.perf_counter() - begun
    (run,) = (run for run in done["runs"] if run["job"] == "analyze")
    recorded = sorted(_recorded(lab, run["run_id"]).items(), key=lambda each: each[1])
    if {key for key, _ in recorded} != set(sessions):
        raise RuntimeError(f"run {run['run_id']} recorded {len(recorded)} sessions, expected {len(sessions)}")
    network = [_network_seconds(lab, key) for key, _ in recorded]
    seconds = [at - before for (_, before), (_, at) in itertools.pairwise(recorded)]
    return {
        "command_seconds": command_seconds,
        "session_seconds": seconds,
        "beyond_network_seconds": [taken - of for taken, of in zip(seconds, network[1:], strict=True)],
    }


def _recorded(lab: Lab, run_id: str) -> dict[str, float]:
    """Return when the run recorded each session's materialization (s)."""
    with open_instance(lab, say) as instance:
        records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    times = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.partition is not None:
            _, session = split_pose_key(event.partition)
            times[session] = record.event_log_entry.timestamp
    return times


def _network_seconds(lab: Lab, session: str) -> float:
    manifest = pose_manifest(lab, SMALL, need_session_info(lab.layout, session)[0])
    if manifest is None:
        raise RuntimeError(f"{session} has no pose table")
    return float(sum(recording["stages"]["network"] for recording in manifest.details["recordings"]))


def _call(worker: Worker, project: Path, video: Path, batch_size: int, scratch: Path) -> float:
    """Return the seconds of one call of `analyze_videos` into a new folder."""
    destination = Path(tempfile.mkdtemp(dir=scratch)) / "h5"
    asked = {"config": project, "videos": [video], "destination": destination, "batch_size": batch_size}
    return float(worker.ask("analyze_videos", **asked)["seconds"])


def run(folder: Path, *, device: str, sessions: int, frames: int, rounds: int, processes: int) -> dict[str, Any]:
    """Measure both sides and compare what a session costs with the limit."""
    kind = use_device(device)
    lab = need_lab(folder)
    version = need_model(lab, SMALL)
    recordings = [
        need_recording(lab, f"s{number:02d}", frames, size=SIZE, first=number * _APART) for number in range(sessions)
    ]
    probe(lab)
    keys, videos = [key for key, _ in recordings], [video for _, video in recordings]
    on = machine()
    ours: list[dict[str, Any]] = []
    calls: list[list[float]] = []
    apart: list[float] = []
    with tempfile.TemporaryDirectory() as folder_of_peer:
        scratch = Path(folder_of_peer)
        project = deeplabcut_project(lab, version, scratch / "project")
        with Worker() as peer:
            imported = peer.ask("import_deeplabcut")["import_seconds"]
            _call(peer, project, videos[0], 1, scratch)  # the first pays for what later ones find done
            trials = {
                size: sum(_call(peer, project, video, size, scratch) for video in videos[:2]) for size in _BATCH_SIZES
            }
            batch_size = min(trials, key=lambda size: trials[size])
            for number in range(rounds):
                say(f"{sessions} sessions of {frames} frames: round {number + 1} of {rounds}")
                ours.append(our_run(lab, keys))
                calls.append([_call(peer, project, video, batch_size, scratch) for video in videos])
        for video in videos[:processes]:
            say(f"a process for a session: {len(apart) + 1} of {processes}")
            begun = time.perf_counter()
            with Worker() as alone:
                _call(alone, project, video, batch_size, scratch)
            apart.append(time.perf_counter() - begun)
    beyond = [each for one in ours for each in one["beyond_network_seconds"]]
    session_seconds = statistics.median(each for one in ours for each in one["session_seconds"])
    command_seconds = statistics.median(one["command_seconds"] for one in ours)
    call_seconds = statistics.median(each for one in calls for each in one)
    process_seconds = statistics.median(apart)
    facts = {
        "device": kind,
        "sessions": sessions,
        "frames": frames,
        "size": SIZE,
        "rounds": rounds,
        "ours": {
            "session_seconds": session_seconds,
            "command_seconds": command_seconds,
            "beyond_network_seconds": {
                "median": statistics.median(beyond),
                "mean": statistics.fmean(beyond),
                "largest": max(beyond),
            },
        },
        "peer": {
            "batch_size": batch_size,
            "import_seconds": imported,
            "call_seconds": call_seconds,
            "process_seconds": process_seconds,
            "processes_measured": processes,
        },
        # of the peer's seconds to ours
        "ratios": {
            "call_to_session": call_seconds / session_seconds,
            "one_process_to_command": (imported + sessions * call_seconds) / command_seconds,
            "a_process_each_to_command": sessions * process_seconds / command_seconds,
        },
    }
    targets = {"beyond_network_seconds": target(statistics.median(beyond), LIMIT_S)}
    return result("sessions", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if the target is met, else 1."""
    parser = command_line("sessions", __doc__)
    add_lab_options(parser)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--frames", type=int, default=30, help="of each session")
    parser.add_argument("--rounds", type=int, default=3, help="runs, and calls a session, to take the median of")
    parser.add_argument(
        "--processes", type=int, default=3, help="sessions of analyze_videos measured in a process each"
    )
    asked = parser.parse_args(arguments)
    sizes = {name: getattr(asked, name) for name in ("sessions", "frames", "rounds", "processes")}
    measured = run(asked.lab, device=asked.device, **sizes)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    ours, peer, ratios = measured["ours"], measured["peer"], measured["ratios"]
    beyond = ours["beyond_network_seconds"]
    return [
        f"{measured['sessions']} sessions of {measured['frames']} frames of {SIZE[0]}x{SIZE[1]} px on {measured['device']}, "
        "medians",
        f"  ours: {ours['session_seconds']:.2f} s a session, beyond the network {beyond['median']:.2f} s (mean "
        f"{beyond['mean']:.2f}, largest {beyond['largest']:.2f}); the whole command {ours['command_seconds']:.0f} s",
        f"  analyze_videos (batch {peer['batch_size']}): {peer['call_seconds']:.2f} s a call, {ratios['call_to_session']:.2f} times ours; "
        f"one process with its import {ratios['one_process_to_command']:.2f} times our command",
        f"  a process each: {peer['process_seconds']:.1f} s ({peer['processes_measured']} measured), for all "
        f"{ratios['a_process_each_to_command']:.1f} times our command",
    ]


if __name__ == "__main__":
    sys.exit(main())
