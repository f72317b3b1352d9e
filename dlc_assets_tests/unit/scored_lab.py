"""A lab whose models were trained and evaluated on paper: labels, images, datasets and versions are real files, networks are functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dlc_assets.lab.files import content_hash, sha256_file, write_json
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.records import append_record
from dlc_assets.training import evaluation
from dlc_assets.training.evaluation import Estimate, ScoredFrame
from dlc_assets.training.frozen import ASSIGNMENT
from dlc_assets.training.models import ModelVersion, set_current

PARTS = ("snout", "tailbase")
# Says of a frame where the body parts are: (folder, image, true xy) -> (body parts, 3), x, y in px and likelihood.
Network = Callable[[str, str, np.ndarray], np.ndarray]


def off_by(pixels: float, likelihood: float = 0.9) -> Network:
    """Return a network that is always off by so many px to the right."""
    return lambda _folder, _image, xy: np.column_stack([xy + np.array([pixels, 0.0]), np.full(len(xy), likelihood)])


@dataclass
class ScoredLab:
    """The lab at `root`, with what its networks would say and how often they were asked."""

    root: Path
    networks: dict[str, Network] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def lab(self) -> Lab:
        """The lab, opened anew."""
        return open_lab_folder(self.root)

    def project(self, name: str, videos: Mapping[str, int], parts: Sequence[str] = PARTS) -> None:
        """Write a labeled project: *videos* are folders and their numbers of frames."""
        place = self.root / "projects" / name
        config: dict[str, Any] = {
            "Task": name,
            "scorer": "Ann",
            "date": "Jan1",
            "bodyparts": list(parts),
            "pcutoff": 0.6,
        }
        for number, (folder, count) in enumerate(videos.items()):
            labeled = place / "labeled-data" / folder
            labeled.mkdir(parents=True)
            for at in range(count):
                Image.new("RGB", (64, 48), (number, at, len(name))).save(labeled / f"img{at:03}.png")
        (place / "config.yaml").write_text(yaml.safe_dump(config))
        for folder, count in videos.items():
            self.label(name, folder, {f"img{at:03}.png": true_xy(at, len(parts)) for at in range(count)}, parts=parts)

    def label(
        self, project: str, folder: str, xy: Mapping[str, np.ndarray], scorer: str = "Ann", parts: Sequence[str] = PARTS
    ) -> None:
        """Write the label file of one folder anew, as DeepLabCut's tool does."""
        head = [
            ["scorer", *[scorer] * 2 * len(parts)],
            ["bodyparts", *(part for part in parts for _ in "xy")],
            ["coords", *["x", "y"] * len(parts)],
        ]
        rows = [
            [
                f"labeled-data/{folder}/{image}",
                *("" if np.isnan(value) else repr(float(value)) for value in points.ravel()),
            ]
            for image, points in xy.items()
        ]
        place = self.root / "projects" / project / "labeled-data" / folder / f"CollectedData_{scorer}.csv"
        place.write_text("\n".join(",".join(row) for row in (*head, *rows)) + "\n")

    def freeze(self, project: str, *folders: str) -> None:
        """Set whole videos aside as benchmark frames, as the first dataset of the project does."""
        place = self.root / "projects" / project
        frames = [
            {"folder": folder, "image": path.name, "sha256": sha256_file(path), "by": "video"}
            for folder in folders
            for path in sorted((place / "labeled-data" / folder).glob("*.png"))
        ]
        append_record(
            self.lab.layout,
            "benchmark_frames",
            {"project": project, "root": f"projects/{project}", "frames": frames, "gaps": []},
        )

    def train(
        self,
        model: str,
        project: str,
        learned: Mapping[str, Sequence[int]],
        network: Network,
        *,
        version: str = "",
        parts: Sequence[str] = PARTS,
        made: str = "2026-05-01T10:00:00+00:00",
    ) -> ModelVersion:
        """Store a version that learned from frames (numbers by folder), and what its network will say."""
        name = version or content_hash([model, project, len(self.networks)])[:12]
        specification = self.root / "models" / f"{model}.yaml"
        specification.parent.mkdir(exist_ok=True)
        specification.write_text(f"project: {project}\ndescription: a mouse from above\n")
        layout = self.lab.layout
        dataset = f"d-{name}"
        folder = layout.datasets(model) / dataset
        frames = [
            {
                "folder": video,
                "image": f"img{at:03}.png",
                "scorer": "Ann",
                "set": "train" if at % 2 == 0 else "validation",
                "xy": true_xy(at, len(parts)).tolist(),
            }
            for video, numbers in learned.items()
            for at in numbers
        ]
        folder.mkdir(parents=True)
        write_json(folder / "frames.json", frames)
        for frame in frames:
            image = folder / "project" / "labeled-data" / frame["folder"] / frame["image"]
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(self.image(project, frame["folder"], frame["image"]).read_bytes())
        details = {
            "project": project,
            "config_path": str(self.root / "projects" / project / "config.yaml"),
            "folder": dataset,
            "sets": {"train": len(frames)},
            "split": {"how": "video", "note": "Whole videos were kept together."},
            "labels_of_bodyparts": dict.fromkeys(parts, len(frames)),
            "counts": [
                {"folder": video, "scorer": "Ann", "found": len(n), "used": len(n), "reasons": ""}
                for video, n in learned.items()
            ],
        }
        inputs = {"labels": "l", ASSIGNMENT: "a"}
        Manifest(asset="training_dataset", key=model, inputs=inputs, data_version="d", details=details).write(folder)
        trained = ModelVersion(model, name, layout.version(model, name))
        trained.folder.mkdir(parents=True)
        trained.snapshot.write_bytes(name.encode())
        trained.pytorch_config.write_text("net_type: resnet_50\n")
        card = {
            "project": project,
            "project_name": project,
            "bodyparts": list(parts),
            "skeleton": [],
            "individuals": [],
            "pcutoff": 0.6,
            "net_type": "resnet_50",
            "scorers": ["Ann"],
            "scorer": f"{model}_{name}",
            "dataset": dataset,
            "label_hash": "l1",
            "epoch": 40,
            "training": {"epochs": 50, "seed": 42},
            "weights": "random",
            "specification": {"project": project, "description": "a mouse from above", "weights": "random"},
            "training_seconds": 1.0,
            "software": {"deeplabcut": "3.0.2"},
        }
        Manifest(
            asset="trained_model", key=model, inputs={"weights": "random"}, data_version=name, details=card, made=made
        ).write(trained.folder)
        set_current(layout, trained)
        self.networks[str(trained)] = network
        return trained

    def image(self, project: str, folder: str, image: str) -> Path:
        """Return a labeled image of a project."""
        return self.root / "projects" / project / "labeled-data" / folder / image

    def evaluate(self, *versions: ModelVersion, recompute: bool = False) -> list[Manifest]:
        """Evaluate *versions*, their networks being asked as far as that is needed."""
        return [
            evaluation.evaluate_model(self.lab, version, run_id="", log=lambda _: None, recompute=recompute)
            for version in versions
        ]

    def remember(self, *versions: ModelVersion) -> None:
        """Keep what *versions* say of their frames, as an evaluation does, and leave the rest of it away."""
        for version in versions:
            said, _ = self.run_network(version, evaluation.scored_frames(self.lab, version), None)
            place = self.lab.layout.evaluation(version.model, version.version)
            place.mkdir()
            evaluation._write_estimates(place, version.card["bodyparts"], said)

    def run_network(
        self, version: ModelVersion, frames: Sequence[ScoredFrame], _log: Any
    ) -> tuple[dict[tuple[str, str], Estimate], dict[str, Any]]:
        """Stand in for the network of *version*."""
        said = {}
        for frame in frames:
            self.asked.append((str(version), *frame.key))
            number = int(frame.image.removeprefix("img").removesuffix(".png"))
            pose = self.networks[str(version)](*frame.key, true_xy(number, len(version.card["bodyparts"])))
            said[frame.key] = Estimate(pose, np.ones(len(pose), dtype=bool))
        speed = {"frames_per_second": 50.0, "device": "cpu", "device_name": "cpu", "width": 64, "height": 48}
        return said, {"speed": speed, "parameters": 1_000_000}


def true_xy(at: int, parts: int = 2) -> np.ndarray:
    """Return where the body parts are in frame *at*: in a row, 20 px apart."""
    return np.array([[10.0 + 20 * part, 10.0 + at % 30] for part in range(parts)])


def empty_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredLab:
    """Return a lab to be filled, whose networks are functions."""
    root = tmp_path / "lab"
    root.mkdir()
    (root / "lab.yaml").write_text("name: Test lab\ndevices: {top: {}}\nsubjects: {m01: {species: Mus musculus}}\n")
    lab = ScoredLab(root)
    monkeypatch.setattr(evaluation, "_run_network", lab.run_network)
    return lab
