"""The whole examination of a lab and its machine, in one list."""

from __future__ import annotations

import dagster as dg

from dlc_assets.doctor import instance as of_instance
from dlc_assets.doctor import machine, outside, places
from dlc_assets.doctor.backups import last_backup
from dlc_assets.doctor.findings import ORDER, Finding, examined
from dlc_assets.lab.lab import Lab


def examine(lab: Lab, instance: dg.DagsterInstance) -> list[Finding]:
    """Look at everything that the lab's work depends on; what is worst comes first. Nothing that is found stops the other looks."""
    looks = {
        "lab": lambda: places.lab_files(lab),
        "store": lambda: places.store(lab),
        "locks": lambda: places.locks(lab),
        "last backup": lambda: last_backup(lab),
        "database": lambda: of_instance.database(lab, instance),
        "dagster.yaml": lambda: of_instance.configuration(lab),
        "daemon": lambda: of_instance.daemon(instance),
        "sensors": lambda: of_instance.sensors(instance),
        "runs": lambda: of_instance.runs(instance),
        "GPUs": lambda: machine.gpus(lab),
        "torch": machine.torch_build,
        "memory": machine.memory,
        "disk": lambda: machine.disks(lab),
        "clocks": lambda: machine.clocks(lab),
        "videos": machine.decoding,
        "packages": outside.packages,
        "model hub": outside.hub,
        "DANDI": lambda: outside.archive(lab),
    }
    found: list[Finding] = []
    for about, look in looks.items():
        found += examined(about, look)
    return sorted(found, key=lambda finding: ORDER.index(finding.level))
