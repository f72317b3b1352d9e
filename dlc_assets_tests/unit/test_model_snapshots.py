"""A model version keeps other snapshots beside its best one, and names them by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dlc_assets.engine.network_training import TrainedNetwork
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.train import _store


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    root = tmp_path / "lab"
    root.mkdir()
    (root / "lab.yaml").write_text("name: Test lab\n")
    return open_lab_folder(root)


def network(folder: Path, best: int, *others: int) -> TrainedNetwork:
    """Write what a training leaves: a file for each epoch that was kept."""
    folder.mkdir(exist_ok=True)
    files = {epoch: folder / f"snapshot-{epoch:03}.pt" for epoch in others}
    files[best] = folder / f"snapshot-best-{best:03}.pt"
    for epoch, file in files.items():
        file.write_text(f"weights of epoch {epoch}")
    (folder / "learning_stats.csv").write_text("step\n")
    return TrainedNetwork(
        snapshot=files[best],
        last_snapshot=files[max(files)],
        epoch=best,
        pytorch_config={"net_type": "resnet_50"},
        pytorch_config_file=folder / "pytorch_config.yaml",
        learning_stats=folder / "learning_stats.csv",
        seconds=1.0,
        other_snapshots={epoch: files[epoch] for epoch in others},
    )


def stored(lab: Lab, trained: TrainedNetwork, **inputs: str) -> ModelVersion:
    details: dict[str, Any] = {"epoch": trained.epoch, "training": {"epochs": 100}}
    manifest = Manifest(asset="trained_model", key="walker", inputs=inputs, data_version="", details=details)
    return _store(lab, manifest, trained)


def test_a_version_keeps_the_others_beside_the_best_as_files_of_its_own(lab: Lab, tmp_path: Path) -> None:
    trained = network(tmp_path / "work", 75, 50, 100)
    version = stored(lab, trained)
    assert sorted(path.relative_to(version.folder).as_posix() for path in version.folder.rglob("*.pt")) == [
        "snapshot.pt",
        "snapshots/snapshot-050.pt",
        "snapshots/snapshot-100.pt",
    ]
    assert version.card["snapshots"] == [
        {
            "epoch": epoch,
            "file": f"snapshots/snapshot-{epoch:03}.pt",
            "sha256": sha256_file(trained.other_snapshots[epoch]),
        }
        for epoch in (50, 100)
    ]
    for path in version.folder.rglob("*.pt"):
        assert path.stat().st_nlink == 1
        assert not path.is_symlink()
    assert {epoch: path.read_text() for epoch, path in version.snapshots.items()} == {
        epoch: f"weights of epoch {epoch}" for epoch in (50, 75, 100)
    }


@pytest.mark.parametrize(
    ("which", "epoch"), [(None, 75), ("best", 75), ("last", 100), (50, 50), ("50", 50), ("75", 75), (100, 100)]
)
def test_a_snapshot_is_chosen_by_word_or_epoch(lab: Lab, tmp_path: Path, which: str | int | None, epoch: int) -> None:
    version = stored(lab, network(tmp_path / "work", 75, 50, 100))
    assert version.snapshot_file(which).read_text() == f"weights of epoch {epoch}"


def test_the_last_epoch_may_be_the_best(lab: Lab, tmp_path: Path) -> None:
    version = stored(lab, network(tmp_path / "work", 100, 50))
    assert version.snapshot_file("last") == version.snapshot


@pytest.mark.parametrize("which", [60, "60", "newest"])
def test_an_epoch_that_is_not_kept_is_answered_with_those_that_are(lab: Lab, tmp_path: Path, which: str | int) -> None:
    version = stored(lab, network(tmp_path / "work", 75, 50, 100))
    with pytest.raises(NotFoundError, match=rf"epoch {which}\. Epochs there are: 50, 75 \(best\), 100\."):
        version.snapshot_file(which)


def test_a_version_of_an_earlier_release_has_its_best_and_says_that_the_last_is_not_kept(
    lab: Lab, tmp_path: Path
) -> None:
    version = stored(lab, network(tmp_path / "work", 75))
    card = read_manifest(version.folder)
    assert card is not None
    del card.details["snapshots"]
    card.write(version.folder)
    earlier = ModelVersion("walker", version.version, version.folder)
    assert earlier.snapshot_file(75) == earlier.snapshot
    with pytest.raises(NotFoundError, match=r"no snapshot of the last epoch \(100\)\. Epochs there are: 75 \(best\)"):
        earlier.snapshot_file("last")


def test_the_same_best_network_is_the_same_version_whatever_else_is_kept(lab: Lab, tmp_path: Path) -> None:
    first = stored(lab, network(tmp_path / "first", 75, 50, 100), labels="a")
    again = stored(lab, network(tmp_path / "again", 75, 100), labels="b")
    assert again.version == first.version
    assert list(again.snapshots) == [50, 75, 100]
    assert again.snapshot_file("last").is_file()
    assert stored(lab, network(tmp_path / "alone", 50)).version != first.version


def test_how_many_are_kept_does_not_put_a_trained_model_behind() -> None:
    few = ModelSpecification.model_validate({"project": "walking", "training": {"max_snapshots": 1}})
    many = ModelSpecification.model_validate({"project": "walking"})
    assert many.training.max_snapshots == 5
    assert few.training.decisive() == many.training.decisive()
    assert few.training.decisive() == {"epochs": 200, "batch_size": 8, "save_epochs": 25, "seed": 42}
