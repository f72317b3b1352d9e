"""What the benchmarks share: the machine's description, targets with limits, one JSON object or text, the exit status."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal


def command_line(benchmark: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``python -m benchmarks.<benchmark>`` with the option that all of them have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def machine() -> dict[str, Any]:
    """Return what times depend on: processor, cores, how busy they are, Python."""
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }


def target(value: float, limit: float, direction: Literal["at most", "at least"] = "at most") -> dict[str, Any]:
    """Return a measured *value* beside its *limit*, and whether it is met; what is not a number meets none."""
    met = value <= limit if direction == "at most" else value >= limit
    return {"value": value, "limit": limit, "direction": direction, "ok": bool(met)}


def result(
    benchmark: str, facts: Mapping[str, Any], targets: Mapping[str, dict[str, Any]], *, on: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the object that a benchmark prints, measured *on* a `machine`; it is ok when every target is met."""
    return {
        "benchmark": benchmark,
        "machine": dict(on),
        **facts,
        "targets": dict(targets),
        "ok": all(each["ok"] for each in targets.values()),
    }


def finish(measured: Mapping[str, Any], lines: Sequence[str], *, as_json: bool) -> int:
    """Print *measured* as JSON, or *lines* and the targets as text; return the exit status, 0 if it is ok, else 1."""
    print(json.dumps(_strict(measured)) if as_json else "\n".join([*lines, *_target_lines(measured["targets"])]))
    return 0 if measured["ok"] else 1


def _strict(value: Any) -> Any:
    """Return *value* with null in place of what JSON has no word for: NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _target_lines(targets: Mapping[str, dict[str, Any]]) -> list[str]:
    return [
        f"  {name} {each['value']:.3f}, {each['direction']} {each['limit']}: {'ok' if each['ok'] else 'MISSED'}"
        for name, each in targets.items()
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []  # not Linux
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
