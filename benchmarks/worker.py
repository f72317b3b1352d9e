"""One side of a comparison in a process of its own, so that neither side's threads, memory or imports touch the other's.

A benchmark starts a `Worker` for its own side and one for DeepLabCut's, and asks them in turn. A worker answers with
what it measured inside: the benchmark's own process and the pipe between them are not in any figure. What DeepLabCut prints
goes to a log file, whose end is shown when a request fails.

Times are of whole calls, from the call to its return, with the results on disk. Loading the network is in the call for
`deeplabcut.analyze_videos`, which does it each time; it is measured apart and can be taken off.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal

from dlc_assets.lab.compute import gpus_present
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.training.models import find_version

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import Precision
    from dlc_assets.inference.pose_tables import Estimators

Wanted = Literal["float32", "proven"]

_BARE_SECONDS, _BARE_ROUNDS = 3.0, 5
_LOG_END = 4000


class Worker:
    """A process that does what it is asked; use it as a context manager."""

    def __init__(self) -> None:
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def ask(self, what: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request: one of this module's `REQUESTS` and its arguments.

        Raises
        ------
        RuntimeError
            It failed; the message has the end of the process's log.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"what": what, **request}, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer or not (told := json.loads(answer))["ok"]:
            self._log.seek(0)
            raise RuntimeError(f"{what} failed in its own process. The end of its log:\n{self._log.read()[-_LOG_END:]}")
        return dict(told["answer"])


def use_device(device: str) -> str:
    """Make this process and those that it starts use *device*: ``auto`` (the first GPU, if there is one) or ``cpu``.

    Returns
    -------
    str
        ``cuda`` or ``cpu``: what is used. On a GPU both sides see the same one.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return "cpu"
    gpus = gpus_present()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[0]
    return "cuda" if gpus else "cpu"


class _Ours:
    """The networks of this process, by precision, as runs have them; batch sizes are chosen by the product."""

    def __init__(self) -> None:
        self._loaded: dict[str, Estimators] = {}

    def load(self, lab: str, model: str, precision: Wanted, height: int, width: int) -> dict[str, Any]:
        """Get a network ready for pictures of a size: weights, precision, compiling. The seconds, and why not *precision*."""
        begun = time.perf_counter()
        import deeplabcut  # noqa: F401  its 20 seconds are told apart

        from dlc_assets.inference.pose_tables import Estimators

        imported = time.perf_counter()
        opened = open_lab_folder(lab)
        estimators = Estimators(gpus_present()[0] if gpus_present() else "cpu", precision=precision)
        estimator, why_not = estimators.chosen(opened, find_version(opened.layout, model), None, _no_clips, _to_log)
        estimator.for_pictures((height, width))
        self._loaded[precision] = estimators
        return {
            "import_seconds": imported - begun,
            "load_seconds": time.perf_counter() - imported,
            "why_not": why_not,
        }

    def estimate(self, lab: str, model: str, session: str, precision: Wanted) -> dict[str, Any]:
        """Make the pose table of *session* with the network that is loaded; seconds, and what its manifest says."""
        from dlc_assets.inference.pose_tables import estimate_session

        opened = open_lab_folder(lab)
        begun = time.perf_counter()
        manifest, _ = estimate_session(
            opened,
            model,
            session,
            self._loaded[precision],
            overrides={},
            recompute=True,
            run_id="",
            log=_to_log,
        )
        seconds = time.perf_counter() - begun
        (recording,) = manifest.details["recordings"]
        return {
            "seconds": seconds,
            "frames": recording["frames"],
            "stages": recording["stages"],
            "inference": manifest.details["inference"],
            "data_version": manifest.data_version,
        }


def prove(lab: str, model: str, video: str) -> dict[str, Any]:
    """Have the proof of *model*'s reduced precision made with the start of *video*, if nobody has."""
    from dlc_assets.inference.pose_tables import Estimators
    from dlc_assets.video.decode import decode_video

    opened = open_lab_folder(lab)
    version = find_version(opened.layout, model)
    estimators = Estimators(gpus_present()[0] if gpus_present() else "cpu", precision="proven")
    begun = time.perf_counter()
    _, why_not = estimators.chosen(
        opened, version, None, lambda count: [list(islice(decode_video(Path(video)), count))], _to_log
    )
    return {"seconds": time.perf_counter() - begun, "why_not": why_not}


def _no_clips(_: int) -> list[Any]:
    return []  # the proof is there already, or is not needed


def estimate_video(pytorch_config: str, snapshot: str, video: str, precision: Precision, file: str) -> dict[str, Any]:
    """Save the poses of *video* in *precision*, proven or not, to the .npy *file*; how they were estimated."""
    import numpy as np

    from dlc_assets.engine.estimator import Estimator
    from dlc_assets.video.decode import decode_video

    device = "cuda" if gpus_present() else "cpu"
    estimator = Estimator(Path(pytorch_config), Path(snapshot), device=device, precision=precision)
    np.save(file, estimator.estimate_video(Path(video)))
    height, width, _ = next(iter(decode_video(Path(video)))).shape
    return estimator.for_pictures((height, width)).description


def _to_log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def analyze_videos(config: str, videos: list[str], destination: str, batch_size: int) -> dict[str, Any]:
    """Call `deeplabcut.analyze_videos` with its own defaults but for the batch size; the folder *destination* must be new.

    Returns
    -------
    dict
        ``seconds`` of the call, ``load_seconds`` of it that loaded the network, and the ``h5`` files.
    """
    import deeplabcut
    from deeplabcut.pose_estimation_pytorch.apis import utils

    Path(destination).mkdir(parents=True)
    loading: list[float] = []
    load = utils.get_pose_inference_runner

    def timed(*arguments: Any, **keywords: Any) -> Any:
        begun = time.perf_counter()
        runner = load(*arguments, **keywords)
        loading.append(time.perf_counter() - begun)
        return runner

    utils.get_pose_inference_runner = timed
    try:
        begun = time.perf_counter()
        deeplabcut.analyze_videos(config, videos, destfolder=destination, batch_size=batch_size)
        seconds = time.perf_counter() - begun
    finally:
        utils.get_pose_inference_runner = load
    files = sorted(Path(destination).glob("*.h5"))
    if len(files) != len(videos) or len(loading) != 1:
        raise RuntimeError(f"analyze_videos wrote {len(files)} h5 files of {len(videos)} videos, see its log.")
    return {"seconds": seconds, "load_seconds": loading[0], "h5": files}


def import_deeplabcut() -> dict[str, Any]:
    """Import what `analyze_videos` needs; the seconds."""
    begun = time.perf_counter()
    import deeplabcut
    import deeplabcut.pose_estimation_pytorch.apis

    return {"import_seconds": time.perf_counter() - begun, "version": str(deeplabcut.__version__)}


def bare_rate(
    pytorch_config: str, snapshot: str, precision: str, batch_size: int, height: int, width: int
) -> dict[str, Any]:
    """Return the pictures a second of the network alone: batches that are on the device already, no decoding, no poses."""
    import torch
    import yaml
    from deeplabcut.pose_estimation_pytorch.models import PoseModel

    device = "cuda" if gpus_present() else "cpu"
    config = yaml.safe_load(Path(pytorch_config).read_text(encoding="utf-8"))
    model = PoseModel.build(config["model"])
    model.load_state_dict(torch.load(snapshot, map_location="cpu", weights_only=True)["model"])
    model = model.to(device).eval().to(memory_format=torch.channels_last)
    batch = torch.randn(batch_size, 3, height, width, device=device).to(memory_format=torch.channels_last)
    reduced = precision != "float32"
    rates = []
    with (
        torch.inference_mode(),
        torch.autocast(device, dtype=getattr(torch, precision) if reduced else None, enabled=reduced),
    ):
        for _ in range(_BARE_ROUNDS + 1):
            count, begun = 0, time.perf_counter()
            while time.perf_counter() - begun < _BARE_SECONDS / _BARE_ROUNDS or not count:
                model(batch)
                if device == "cuda":
                    torch.cuda.synchronize()
                count += batch_size
            rates.append(count / (time.perf_counter() - begun))
    return {"frames_per_second": statistics.median(rates[1:])}  # the first round warms up


def peak_memory() -> dict[str, Any]:
    """Return the most memory that this process ever had resident, MB.

    From Linux's own account of this program: `getrusage` begins with the memory of the process that started it.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return {"peak_mb": int(kilobytes) / 1024}


_OURS = _Ours()
REQUESTS: dict[str, Callable[..., dict[str, Any]]] = {
    "load": _OURS.load,
    "prove": prove,
    "estimate": _OURS.estimate,
    "estimate_video": estimate_video,
    "analyze_videos": analyze_videos,
    "import_deeplabcut": import_deeplabcut,
    "bare_rate": bare_rate,
    "peak_memory": peak_memory,
}


def _serve(requests: IO[str], answers: IO[str]) -> None:
    for line in requests:
        request = json.loads(line)
        try:
            told = {"ok": True, "answer": REQUESTS[request.pop("what")](**request)}
        except Exception:  # noqa: BLE001  whatever it is, the benchmark ends and shows it
            traceback.print_exc()
            told = {"ok": False}
        sys.stderr.flush()
        answers.write(json.dumps(told, default=str) + "\n")
        answers.flush()


def main() -> None:
    """Answer requests, a JSON object a line, until there are no more."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is printed, by C code too, is no answer
        _serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
