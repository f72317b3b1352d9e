"""A process that evaluates a lab's sensors as the daemon's code server does, and tells what each tick took: one JSON object a line.

``python -m benchmarks.discovery_ticks LAB SENSOR [SENSOR ...] --ticks N``: N ticks of each sensor in turn, or, with ``--until-found``,
ticks until a whole round through the roots was made and every session is a partition. Cursors are kept in a file, as the daemon keeps them,
so that a process that is killed can be followed by another.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg

from dlc_assets.definitions import build_defs
from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.partitions import SESSION
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.resources.instance import open_instance
from dlc_assets.resources.lab import LabResource


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.discovery_ticks", description=__doc__)
    parser.add_argument("lab", type=Path)
    parser.add_argument("sensors", nargs="+")
    parser.add_argument("--ticks", type=int, default=1)
    parser.add_argument("--until-found", action="store_true")
    options = parser.parse_args(arguments)
    os.environ["DLC_ASSETS_LAB"] = str(options.lab)
    lab = open_lab_folder(options.lab)
    defs = build_defs()
    with open_instance(lab, lambda line: None) as instance:
        _say({"imported_mb": _peak_mb()})
        while True:
            for _ in range(options.ticks):
                for sensor in options.sensors:
                    _say(_tick(defs, instance, options.lab, sensor))
            if not options.until_found or _all_found(options.lab, instance):
                return


def _tick(defs: dg.Definitions, instance: dg.DagsterInstance, lab: Path, sensor: str) -> dict[str, Any]:
    """Evaluate one tick as the daemon does, with the cursor that the last one left."""
    kept = lab / "cursors.json"
    cursors: dict[str, str] = read_json(kept) if kept.is_file() else {}
    began = time.monotonic()
    context = dg.build_sensor_context(
        instance=instance,
        cursor=cursors.get(sensor),
        definitions=defs,
        sensor_name=sensor,
        resources={"lab": LabResource()},
    )
    data = defs.resolve_sensor_def(sensor).evaluate_tick(context)
    seconds = time.monotonic() - began
    if data.cursor is not None:
        write_json(kept, {**cursors, sensor: data.cursor})
    return {
        "sensor": sensor,
        "seconds": seconds,
        "runs": len(data.run_requests or []),
        "cursor_bytes": len((data.cursor or "").encode()),
        "peak_mb": _peak_mb(),
        "said": str(data.skip_message or ""),
    }


def _all_found(folder: Path, instance: dg.DagsterInstance) -> bool:
    with RecordingIndex.opened(open_lab_folder(folder)) as index:
        counted, done = index.counts(), index.looked_at() is not None
    sessions = counted["sessions"]
    return (
        done and sessions > 0 and not counted["waiting"] and len(instance.get_dynamic_partitions(SESSION)) == sessions
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
