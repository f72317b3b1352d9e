"""The proof of a reduced precision: its limits, that it is made once, and that nothing is said where little was seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dlc_assets.inference.precision import PrecisionProof, proof_file, proof_of, read_proof
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.graph.small_lab import BODYPARTS, as_if_trained, write_small_lab

LABELED, CLIP = 8, 60  # of twelve labeled frames, four lie in the gaps between the sets


class Tracks:
    """Stands in for an estimator: a snout that walks through a clip, found *off* px away in x, and with *jitter* px in y."""

    bodyparts = tuple(BODYPARTS)
    description: ClassVar = {"device_name": "a test"}

    def __init__(self, off: float = 0.0, jitter: float = 0.0, likelihood: float = 0.9, jumps: int = 0) -> None:
        self.calls, self._jumps = 0, jumps
        self._off, self._jitter, self._likelihood = off, jitter, likelihood

    def estimate_pictures(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        self.calls += 1
        count = len(list(pictures))
        poses = np.zeros((count, 1, len(BODYPARTS), 3), np.float32)
        steps = np.arange(count)[:, None]
        poses[:, 0, :, 0] = 15 + 3.0 * (steps % 7) + self._off
        poses[:, 0, :, 1] = 20 + self._jitter * (steps % 2)
        poses[..., 2] = self._likelihood
        if self._jumps and count == CLIP:
            poses[-self._jumps :, 0, 0, 1] += 1.0
        yield poses


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    write_small_lab(tmp_path)
    return open_lab_folder(tmp_path)


@pytest.fixture
def version(lab: Lab) -> ModelVersion:
    dataset = make_dataset(lab, "walker", run_id="", log=lambda _: None)
    trained = as_if_trained(lab)
    card = {**trained.manifest.details, "dataset": dataset.details["folder"]}
    trained.manifest.model_copy(update={"details": card}).write(trained.folder)
    return ModelVersion(trained.model, trained.version, trained.folder)


def compared(lab: Lab, version: ModelVersion, exact: Tracks, reduced: Tracks) -> PrecisionProof | None:
    clip = [np.zeros((48, 64, 3), np.uint8)] * CLIP
    estimators: list[Any] = [exact, reduced]
    return proof_of(lab, version, *estimators, "bfloat16", lambda count: [clip[:count]], lambda _: None)


def test_what_hardly_differs_is_proven_with_its_figures(lab: Lab, version: ModelVersion) -> None:
    proof = compared(lab, version, Tracks(), Tracks(off=0.02))
    assert proof is not None
    assert proof.proven
    assert (proof.labeled_frames, proof.clip_frames, proof.poses) == (LABELED, CLIP, (LABELED + CLIP) * len(BODYPARTS))
    assert proof.bias == pytest.approx(0.02, abs=1e-5)
    assert (proof.jitter_share < 1e-5, proof.jumps) == (True, 0)
    assert 0 < proof.error_change < 0.05
    assert "bfloat16 is proven" in proof.sentence()


@pytest.mark.parametrize(
    ("reduced", "why"),
    [
        (Tracks(off=0.06), lambda proof: proof.bias > 0.05),
        (Tracks(jitter=2.0), lambda proof: proof.jitter_share > 0.02),
        (Tracks(off=3.0), lambda proof: proof.error_change > 0.1),
        (Tracks(jumps=2), lambda proof: proof.jumps > 0.01 and proof.bias < 0.05),
    ],
    ids=["bias", "jitter", "error", "jumps"],
)
def test_what_differs_more_is_refused(lab: Lab, version: ModelVersion, reduced: Tracks, why: Any) -> None:
    proof = compared(lab, version, Tracks(), reduced)
    assert proof is not None
    assert not proof.proven
    assert why(proof)
    assert "bfloat16 is refused" in proof.sentence()


def test_a_proof_is_made_once_and_kept_with_the_version(lab: Lab, version: ModelVersion) -> None:
    first = compared(lab, version, Tracks(), Tracks(off=0.02))
    exact, reduced = Tracks(), Tracks(off=5.0)
    assert compared(lab, version, exact, reduced) == first == read_proof(version, "bfloat16")
    assert (exact.calls, reduced.calls) == (0, 0)
    assert read_proof(version, "float16") is None


def test_where_the_animal_is_hardly_seen_nothing_is_said_and_nothing_kept(lab: Lab, version: ModelVersion) -> None:
    assert compared(lab, version, Tracks(likelihood=0.1), Tracks(likelihood=0.1)) is None
    assert not proof_file(version, "bfloat16").exists()


def test_a_proof_that_cannot_be_read_is_made_again(lab: Lab, version: ModelVersion) -> None:
    proof_file(version, "bfloat16").write_text("{")
    assert compared(lab, version, Tracks(), Tracks()) is not None
    assert read_proof(version, "bfloat16") is not None
