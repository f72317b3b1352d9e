"""A lab to measure inference with: rendered videos of an animal, and two networks trained on it.

`SMALL` is a ResNet-10 of a few million weights, `RESNET_50` DeepLabCut's default (group norm, random weights). Both learn
briefly from frames of the very scene that is analyzed: what they know is of no use elsewhere, but their likelihoods
mean something, and that is what a comparison of poses needs. The lab is kept (`--lab`), so that only the first
benchmark trains.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import yaml
from PIL import Image

from benchmarks.openfield import command
from dlc_assets.demo.files import encode_video
from dlc_assets.demo.scene import BODYPARTS, Scene, SceneSettings
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_folder, write_text
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import read_session_info
from dlc_assets.recordings.session_recordings import record_session, session_inputs
from dlc_assets.training.models import ModelVersion, current_version, find_version

SMALL, RESNET_50 = "small", "resnet-50"
PICTURE = (640, 480)  # px, width and height: of the videos, and of the frames that the networks learn from

_RATE = Fraction(30)
_WALK_RATE = Fraction(10)  # the scene moves three times as fast as the video says: more poses in fewer frames
_RENDERED, _LABELED = 400, 100
_SEED, _SUBJECT = 5, 0
_PROJECT, _SCORER, _CAMERA = "walker-Benchmark-2026-01-01", "Benchmark", "top"

_LAB = """\
# Rendered videos and briefly trained networks, to measure inference with. Written by the benchmarks; safe to remove.
name: Benchmark lab
recordings:
  - {root: recordings, template: "{session}/{camera}.mp4"}
devices: {top: {description: rendered}}
analyze: {auto: false, settle_seconds: 0}
"""

# Targets as wide as the ears, and no augmentation: these networks have to learn in minutes on a CPU.
_SPECIFICATIONS = {
    SMALL: """\
project: {project}
split: {{by: frame, train: 0.9, validation: 0.1, benchmark: 0, seed: 1}}
net_type: resnet_50
weights: random
training: {{epochs: 80, batch_size: 8, save_epochs: 80, seed: 42}}
pytorch_config:
  model.backbone.model_name: resnet10t
  runner.scheduler.params.milestones: [56, 70]
  data.train.affine.p: 0
  data.train.motion_blur: false
  data.train.crop_sampling.width: 256
  data.train.crop_sampling.height: 256
  runner.eval_interval: 20
""",
    # Group norm takes its statistics over the whole picture: crops much smaller than the frame would teach it others.
    RESNET_50: """\
project: {project}
split: {{by: frame, train: 0.9, validation: 0.1, benchmark: 0, seed: 1}}
net_type: resnet_50
weights: random
training: {{epochs: 24, batch_size: 2, save_epochs: 24, seed: 42}}
pytorch_config:
  runner.scheduler.params.milestones: [17, 21]
  data.train.affine.p: 0
  data.train.motion_blur: false
  data.train.crop_sampling.width: 320
  data.train.crop_sampling.height: 256
  runner.eval_interval: 12
""",
}
# About what training takes on two idle cores, min.
_TRAINING_MINUTES = {SMALL: 3, RESNET_50: 4}


def add_lab_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--lab`` and ``--device`` to a benchmark's command line."""
    parser.add_argument(
        "--device", choices=["auto", "cpu"], default="auto", help="auto: the first GPU, if there is one"
    )
    parser.add_argument(
        "--lab",
        type=Path,
        default=_default_folder(),
        help="folder of the rendered videos and trained networks, made where it is not there and kept (default: %(default)s)",
    )


def say(line: str) -> None:
    """Say how far a benchmark is, on standard error."""
    print(line, file=sys.stderr, flush=True)


def need_lab(folder: Path) -> Lab:
    """Return the lab in *folder*, with its project and specifications; they are written where there are none.

    Raises
    ------
    SettingsError
        *folder* holds something else.
    """
    folder = folder.absolute()
    settings = folder / "lab.yaml"
    if not settings.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise SettingsError(f"--lab {folder}: expected a benchmark's lab, or an empty or new folder. Name another.")
        _write_project(folder / "projects" / _PROJECT)
        for model, text in _specifications().items():
            write_text(_specification(folder, model), text)
        write_text(settings, _LAB)
    if settings.read_text(encoding="utf-8") != _LAB:
        raise SettingsError(
            f"--lab {folder}: this lab was not written by this version of the benchmarks. Name another."
        )
    return open_lab_folder(folder)


def need_model(lab: Lab, model: str) -> ModelVersion:
    """Return the trained version of *model* (`SMALL` or `RESNET_50`); the first time it is trained, its progress on standard error."""
    version = current_version(lab.layout, model)
    if version is None:
        say(f"training {model}: about {_TRAINING_MINUTES[model]} min on two idle cores, once; it is kept in {lab.root}")
        command(lab.root, "train", model)
        version = find_version(lab.layout, model)
    return version


def need_recording(
    lab: Lab, name: str, frames: int, *, size: tuple[int, int] = PICTURE, first: int = 0
) -> tuple[str, Path]:
    """Return session key and video of a recording; it is rendered where it is not there, and not yet probed (see `probe`).

    The walk is played forth and back until *frames* are reached, from its frame *first* on.

    Parameters
    ----------
    size
        Width and height, px, even.
    """
    session = f"{name}-{size[0]}x{size[1]}-{frames}"
    video = lab.root / "recordings" / session / f"{_CAMERA}.mp4"
    if not video.is_file():
        say(f"rendering {frames} frames of {size[0]}x{size[1]} px: {session}")
        encode_video(video, _pictures(frames, size, first), _RATE)
        start = f"start: 2026-01-01T12:00:00+00:00\ndescription: rendered, {frames} frames\n"
        write_text(video.with_name("session.yaml"), start)
    return f"ses-{session}", video


def probe(lab: Lab) -> None:
    """Probe the recordings that are new."""
    for key, found in discover(lab).sessions.items():
        info = read_session_info(lab.layout, key)
        if info is None or info[1].inputs != session_inputs(lab, found):
            record_session(lab, found, run_id="", log=say)


def deeplabcut_project(lab: Lab, version: ModelVersion, folder: Path) -> Path:
    """Write the DeepLabCut project that *version* was trained in to *folder*, its network and configuration those of the store.

    Returns
    -------
    Path
        Its config.yaml, for `deeplabcut.analyze_videos`.
    """
    shutil.copytree(lab.layout.datasets(version.model) / version.card["dataset"] / "project", folder)
    train = next(folder.glob("dlc-models-pytorch/iteration-0/*/train"))
    shutil.copyfile(version.snapshot, train / "snapshot-001.pt")
    shutil.copyfile(version.pytorch_config, train / "pytorch_config.yaml")
    return folder / "config.yaml"


def _specification(folder: Path, model: str) -> Path:
    return folder / "models" / f"{model}.yaml"


def _specifications() -> dict[str, str]:
    return {model: text.format(project=_PROJECT) for model, text in _SPECIFICATIONS.items()}


def _default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dlc_assets" / "benchmark-lab"


def _scene() -> Scene:
    width, height = PICTURE
    return Scene(SceneSettings(_RENDERED, _WALK_RATE, _SEED, _SUBJECT, width=width, height=height))


def _pictures(frames: int, size: tuple[int, int], first: int) -> Iterator[np.ndarray]:
    """Give *frames* pictures, forth and back through the walk."""
    last = min(_RENDERED, first + frames)
    rendered = []
    for index, (picture, _, _) in enumerate(_scene().frames()):
        if index >= last:
            break
        if index >= first:
            rendered.append(picture if size == PICTURE else np.asarray(Image.fromarray(picture).resize(size)))
    there_and_back = rendered + rendered[-2:0:-1]
    for index in range(frames):
        yield there_and_back[index % len(there_and_back)]


def _write_project(folder: Path) -> None:
    """Write a labeled DeepLabCut project: frames of the scene as its video shows them, and the places of what is visible."""
    name = "walk"
    with atomic_folder(folder) as project:
        images = project / "labeled-data" / name
        images.mkdir(parents=True)
        (project / "videos").mkdir()
        truth = [(points, visible) for _, points, visible in _scene().frames()]
        video = project / "videos" / f"{name}.mp4"
        encode_video(video, _pictures(_RENDERED, PICTURE, 0), _RATE)
        files, labels = [], []
        with av.open(str(video)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index % (_RENDERED // _LABELED) == 0:
                    files.append(f"img{index:04d}.png")
                    frame.to_image().save(images / files[-1])
                    points, visible = truth[index]
                    labels.append(np.where(visible[:, None], points, np.nan))
        video.unlink()
        table = pd.DataFrame(
            np.array(labels).reshape(len(labels), -1),
            index=pd.MultiIndex.from_tuples([("labeled-data", name, file) for file in files]),
            columns=pd.MultiIndex.from_product(
                [[_SCORER], BODYPARTS, ["x", "y"]], names=["scorer", "bodyparts", "coords"]
            ),
        )
        table.to_hdf(images / f"CollectedData_{_SCORER}.h5", key="df_with_missing", mode="w")
        config = {
            "Task": "walker",
            "scorer": _SCORER,
            "date": f"{date(2026, 1, 1):%b}1",
            "multianimalproject": False,
            "identity": None,
            "project_path": str(folder),
            "engine": "pytorch",
            "video_sets": {str(folder / "videos" / video.name): {"crop": f"0, {PICTURE[0]}, 0, {PICTURE[1]}"}},
            "bodyparts": list(BODYPARTS),
            "skeleton": [],
            "pcutoff": 0.6,
            "TrainingFraction": [0.95],
            "iteration": 0,
            "default_net_type": "resnet_50",
            "snapshotindex": -1,
            "batch_size": 8,
            "cropping": False,
        }
        (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, width=1000), encoding="utf-8")
