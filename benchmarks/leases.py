"""Whether GPUs are shared rightly: leases of eight slots by many processes, over a thousand short steps, no GPU needed.

Each process leases a slot, holds it as long as a short step takes, and gives it back, again and again. From what all of them write down
follow two figures: how often a slot was held twice at once (never may be), and the share of the slots' time that was idle though
somebody waited. Real steps take minutes to hours; what a lease wastes is the same for each. The peer is what a lease without waiting asleep
would be: a loop that looks again each second, as the product did before.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.report import command_line, finish, machine, result, target

LIMIT_IDLE_SHARE = 0.05
_PEER_POLL = 1.0  # s
_WORKER = """
import os, random, sys, time
from pathlib import Path
from dlc_assets.lab import compute
from dlc_assets.lab.layout import LabLayout

root, record, steps, slots, seconds, poll = sys.argv[1:]
if poll != "own":
    compute._POLL = float(poll)
layout, file = LabLayout(Path(root)), os.open(record, os.O_WRONLY | os.O_APPEND)
names = [str(number) for number in range(int(slots))]

def say(what, name):
    os.write(file, f"{time.monotonic():.6f} {os.getpid()} {what} {name}\\n".encode())

sys.stdin.readline()  # all begin at once
for _ in range(int(steps)):
    time.sleep(random.random() * float(seconds))  # other work: who gave a slot back is not the one who takes it
    say("wait", "-")
    with compute.leased_slot(layout, names, "a step", lambda _: None) as name:
        say("in", name)
        time.sleep(float(seconds))
        say("out", name)
say("done", "-")
"""


def run(folder: Path, *, steps: int, slots: int, workers: int, seconds: float) -> dict[str, Any]:
    """Measure *steps* steps of *seconds* s in *workers* processes that share *slots* slots, below *folder*."""
    on = machine()
    ours = _measured(folder / "ours", steps, slots, workers, seconds, "own")
    peer = _measured(folder / "peer", min(steps, 20 * workers), slots, workers, seconds, str(_PEER_POLL))
    facts = {
        "steps": steps,
        "slots": slots,
        "workers": workers,
        "step_seconds": seconds,
        "ours": ours,
        "peer": {"name": f"looking again each {_PEER_POLL:g} s", **peer},
    }
    targets = {
        "held_twice": target(ours["held_twice"], 0),
        "idle_while_waited_share": target(ours["idle_while_waited_share"], LIMIT_IDLE_SHARE),
        "steps_done": target(ours["steps"], steps, "at least"),
    }
    return result("leases", facts, targets, on=on)


def _measured(folder: Path, steps: int, slots: int, workers: int, seconds: float, poll: str) -> dict[str, Any]:
    folder.mkdir()
    record = folder / "record"
    record.touch()
    each = -(-steps // workers)
    command = [sys.executable, "-c", _WORKER, str(folder), str(record), str(each), str(slots), str(seconds), poll]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) for _ in range(workers)]
    try:
        for worker in started:
            assert worker.stdin is not None
            worker.stdin.write(b"\n")
            worker.stdin.flush()
        statuses = [worker.wait(600) for worker in started]
    finally:
        for worker in started:
            worker.kill()
    if any(statuses):
        raise RuntimeError(f"a process of the benchmark failed: {statuses}")
    return judged(record.read_text(encoding="utf-8").splitlines(), slots)


def judged(lines: list[str], slots: int) -> dict[str, Any]:
    """Return what *lines* (``seconds process wait|in|out|done slot``) say: steps, slots held twice, and idle time while others waited.

    The beginning, until all slots were held for the first time, and the end, once a process has nothing left to do, do not count:
    there are then fewer steps than slots.
    """
    split = ((float(at), process, what, slot) for at, process, what, slot in map(str.split, lines))
    events = sorted(split, key=lambda event: event[0])  # of one moment in the order in which they were written
    held: dict[str, str] = {}
    waiting: set[str] = set()
    twice = steps = 0
    idle = busy = 0.0
    full, last = False, 0.0
    ended = next((at for at, _, what, _ in events if what == "done"), float("inf"))
    for at, process, what, slot in events:
        if full and at <= ended:
            busy += (at - last) * slots
            if waiting:
                idle += (at - last) * min(slots - len(held), len(waiting))
        last = at
        if what == "wait":
            waiting.add(process)
        elif what == "in":
            waiting.discard(process)
            twice += slot in held
            held[slot] = process
            full = full or len(held) == slots
        elif what == "out":
            steps += 1
            if held.get(slot) == process:
                del held[slot]
    return {"steps": steps, "held_twice": twice, "idle_while_waited_share": idle / busy if busy else 1.0}


def main() -> int:
    parser: argparse.ArgumentParser = command_line("leases", __doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.4, help="how long a step holds its slot")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="leases-") as folder:
        measured = run(
            Path(folder), steps=options.steps, slots=options.slots, workers=options.workers, seconds=options.seconds
        )
    ours, peer = measured["ours"], measured["peer"]
    lines = [
        f"{ours['steps']} steps of {options.seconds:g} s, {options.workers} processes, {options.slots} slots",
        f"ours: held twice {ours['held_twice']}, idle while waited for {ours['idle_while_waited_share']:.1%}",
        f"{peer['name']}: idle while waited for {peer['idle_while_waited_share']:.1%}",
    ]
    return finish(measured, lines, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
