"""A real Slurm of one node, this machine: munge, slurmctld and slurmd of Debian's packages, on loopback, with all data in one folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.services import ServiceMissing

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel", "sinfo")
_STARTING_SECONDS = 40.0
_SETTINGS = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
ReturnToService=2
KillWait=5
OverTimeLimit=0
MinJobAge=300
InactiveLimit=0
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def own_slurm() -> Iterator[dict[str, str]]:
    """Give the environment that makes Slurm's commands talk to a cluster of this machine alone.

    Raises
    ------
    ServiceMissing
        Programs are missing, or this user may not start them.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [name for name in _PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        raise ServiceMissing(f"no {', '.join(missing)}: install Debian's slurmctld, slurmd, slurm-client and munge")
    if os.geteuid() != 0:
        raise ServiceMissing("a Slurm node of one's own can be started by root only")
    # munge does not trust folders that others may write to.
    with tempfile.TemporaryDirectory(prefix="dlc-assets-slurm-", dir="/run") as folder:
        place = Path(folder)
        place.chmod(0o755)
        started: list[subprocess.Popen[bytes]] = []
        try:
            yield _start(place, path, started)
        finally:
            for process in reversed(started):
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _start(place: Path, path: str, started: list[subprocess.Popen[bytes]]) -> dict[str, str]:
    for name in ("state", "spool"):
        (place / name).mkdir()
    key = place / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().split(".")[0]
    settings = _SETTINGS.format(
        place=place, host=host, port=_free_port(), node_port=_free_port(), cpus=os.cpu_count() or 1
    )
    (place / "slurm.conf").write_text(settings)
    environment = {**os.environ, "PATH": path, "SLURM_CONF": str(place / "slurm.conf")}

    def start(*words: str) -> None:
        with (place / f"{words[0]}.out").open("wb") as output:
            started.append(subprocess.Popen(words, env=environment, stdout=output, stderr=output))

    start(
        "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={place}/munge.socket", f"--pid-file={place}/munge.pid",
        f"--log-file={place}/munge.log", f"--seed-file={place}/munge.seed",
    )  # fmt: skip
    _await("munge", lambda: (place / "munge.socket").exists(), place)
    start("slurmctld", "-D")
    start("slurmd", "-D", "-N", host)

    def idle() -> bool:
        said = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        return said.stdout.strip() == "idle"

    _await("the node", idle, place)
    return {"SLURM_CONF": environment["SLURM_CONF"], "PATH": path}


def _await(what: str, look: Callable[[], bool], place: Path) -> None:
    deadline = time.monotonic() + _STARTING_SECONDS
    while not look():
        if time.monotonic() > deadline:
            said = "\n".join(
                path.read_text(errors="replace")[-400:] for path in sorted(place.glob("*.log")) if path.is_file()
            )
            raise ServiceMissing(f"Slurm does not start: {what} is not there within {_STARTING_SECONDS:.0f} s. {said}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
