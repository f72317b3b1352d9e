"""Evaluation: how far one model version is off on labeled frames, by set and body part, with the labels as they are now.

What the network said is kept for every frame (`ESTIMATES`), so that corrected labels are scored anew without running it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.compute import leased_device
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError
from dlc_assets.lab.files import atomic_path, content_hash, read_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.training.benchmark import benchmark_frames, human_errors, seen_frames
from dlc_assets.training.dataset import FRAMES, image_of_frame
from dlc_assets.training.labels import FrameKey
from dlc_assets.training.models import ModelVersion, evaluation_manifest
from dlc_assets.training.scores import (
    SETS,
    SUMMARY_COLUMNS,
    errors_of_frames,
    oks_precision_and_recall,
    scoring_set,
    summarize,
    total_of_set,
)

if TYPE_CHECKING:
    import pandas as pd

    from dlc_assets.engine.estimator import Estimator

ERRORS = "errors.parquet"
SUMMARY = "summary.parquet"
ESTIMATES = "estimates.parquet"
_IMAGES_A_CALL = 32
_PICTURES_FOR_SPEED = 8


@dataclass(frozen=True)
class ScoredFrame:
    """One labeled frame that a version is scored on.

    Attributes
    ----------
    set
        train, validation or benchmark.
    folder, image
        Its name in the project.
    path
        Where a copy lies.
    xy
        (body parts, 2) float64, px; NaN where not labeled.
    """

    set: str
    folder: str
    image: str
    path: Path
    xy: np.ndarray

    @property
    def key(self) -> FrameKey:
        return self.folder, self.image


@dataclass(frozen=True)
class Estimate:
    """What a network said of one frame.

    Attributes
    ----------
    pose
        (body parts, 3) float64: x, y in px, likelihood; NaN where it found nothing.
    known
        (body parts,) bool: False where it is not known what it said. Evaluations of earlier releases kept labeled body parts only.
    """

    pose: np.ndarray
    known: np.ndarray


# --- which frames ---------------------------------------------------------------------------------


def evaluation_inputs(lab: Lab, version: ModelVersion) -> dict[str, str]:
    """Return the hashes that the evaluation of *version* is made from.

    Benchmark frames count with their labels as they are now. Where these are what the dataset of the version holds itself, the
    dataset's hash says it all: so evaluations made before benchmark frames belonged to the project stay up to date.
    """
    return _inputs(version, dataset_frames(lab, version), unseen_benchmark(lab, version))


def _inputs(
    version: ModelVersion, own: Sequence[ScoredFrame], benchmark: Sequence[ScoredFrame] | None
) -> dict[str, str]:
    inputs = {"model": version.version, "dataset": str(version.card.get("dataset", ""))}
    if benchmark is not None:
        now, then = _content(benchmark), _content([frame for frame in own if frame.set == "benchmark"])
        if now != then:
            inputs["benchmark"] = content_hash(now)
    return inputs


def _content(frames: Sequence[ScoredFrame]) -> list[Any]:
    plain = [
        (*frame.key, [[None if np.isnan(v) else v for v in point] for point in frame.xy.tolist()]) for frame in frames
    ]
    return sorted(plain, key=lambda row: row[:2])


def dataset_frames(lab: Lab, version: ModelVersion) -> list[ScoredFrame]:
    """Return the labeled frames of *version*'s training dataset, labels as they were then; none where the dataset is not there."""
    folder = lab.layout.datasets(version.model) / str(version.card.get("dataset", ""))
    try:
        rows = read_json(folder / FRAMES)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        ScoredFrame(row["set"], row["folder"], row["image"], image_of_frame(folder, row), _points(row["xy"]))
        for row in rows
        if row["set"] in SETS
    ]


def _points(xy: Any) -> np.ndarray:
    return np.array(xy, dtype=float).reshape(-1, 2)


def unseen_benchmark(lab: Lab, version: ModelVersion) -> list[ScoredFrame] | None:
    """Return the project's benchmark frames that *version* has not seen, labels as they are now.

    None where the project has no benchmark frames, or nobody knows which the version has seen (its dataset is gone).
    """
    frames = benchmark_frames(lab, version.model, version.card["bodyparts"])
    try:
        seen = seen_frames(lab, version) if frames else set()
    except NotFoundError:
        return None
    unseen = [frame for frame in frames if (frame.folder, frame.image) not in seen]
    return [ScoredFrame("benchmark", f.folder, f.image, f.path, f.xy) for f in unseen] if frames else None


def scored_frames(lab: Lab, version: ModelVersion) -> list[ScoredFrame]:
    """Return the frames that *version* is scored on: train and validation of its dataset, and the project's benchmark frames.

    Where the project has none, those of the version's dataset count.
    """
    return _together(dataset_frames(lab, version), unseen_benchmark(lab, version))


def _together(own: Sequence[ScoredFrame], benchmark: Sequence[ScoredFrame] | None) -> list[ScoredFrame]:
    if benchmark is None:
        return list(own)
    return [*(frame for frame in own if frame.set != "benchmark"), *benchmark]


# --- what the network said ------------------------------------------------------------------------


def read_estimates(lab: Lab, version: ModelVersion) -> dict[FrameKey, Estimate]:
    """Return what *version* is known to have said of labeled frames, by (folder, image); empty where it was never evaluated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = lab.layout.evaluation(version.model, version.version)
    for name, columns in (
        (ESTIMATES, ("x", "y", "likelihood")),
        (ERRORS, ("x_estimated", "y_estimated", "likelihood")),
    ):
        try:
            table = pq.read_table(place / name, columns=["folder", "image", "bodypart", *columns])
        except (OSError, pa.ArrowException):
            continue
        return _estimates(table.to_pydict(), columns, version.card["bodyparts"])
    return {}


def _estimates(
    table: dict[str, list[Any]], columns: Sequence[str], bodyparts: Sequence[str]
) -> dict[FrameKey, Estimate]:
    place = {name: at for at, name in enumerate(bodyparts)}
    found: dict[FrameKey, Estimate] = {}
    for folder, image, part, *pose in zip(
        *(table[name] for name in ("folder", "image", "bodypart", *columns)), strict=True
    ):
        at = place.get(part)
        if at is None:
            continue
        if (folder, image) not in found:
            found[folder, image] = Estimate(np.full((len(bodyparts), 3), np.nan), np.zeros(len(bodyparts), dtype=bool))
        estimate = found[folder, image]
        estimate.pose[at] = [np.nan if value is None else value for value in pose]
        estimate.known[at] = True
    return found


def _write_estimates(place: Path, bodyparts: Sequence[str], estimates: dict[FrameKey, Estimate]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        (folder, image, bodyparts[int(part)], *estimate.pose[part].tolist())
        for (folder, image), estimate in sorted(estimates.items(), key=lambda item: item[0])
        for part in np.flatnonzero(estimate.known)
    ]
    columns = list(zip(*rows, strict=True)) or [()] * 6
    texts = [pa.array(column, pa.string()) for column in columns[:3]]
    numbers = [pa.array(column, pa.float32()) for column in columns[3:]]
    table = pa.table([*texts, *numbers], names=["folder", "image", "bodypart", "x", "y", "likelihood"])
    with atomic_path(place / ESTIMATES) as partial:
        pq.write_table(table, partial, compression="zstd")


def _lacking(frames: Sequence[ScoredFrame], known: dict[FrameKey, Estimate]) -> list[ScoredFrame]:
    """Return the frames of which something labeled has no estimate."""
    return [
        frame
        for frame in frames
        if frame.key not in known or (~np.isnan(frame.xy).any(axis=1) & ~known[frame.key].known).any()
    ]


def read_summary(lab: Lab, version: ModelVersion) -> pd.DataFrame:
    """Return the summary of an evaluation; what one of an earlier release lacks is NaN."""
    import pandas as pd

    table = pd.read_parquet(lab.layout.evaluation(version.model, version.version) / SUMMARY)
    return table.reindex(columns=["set", "bodypart", *(name for name, _, _ in SUMMARY_COLUMNS)])


def to_be_scored(lab: Lab, version: ModelVersion) -> bool:
    """Say whether *version* is not evaluated, its evaluation is behind, or an earlier release made it, which kept less."""
    manifest = evaluation_manifest(version, lab.layout)
    return manifest is None or "speed" not in manifest.details or manifest.inputs != evaluation_inputs(lab, version)


# --- the evaluation -------------------------------------------------------------------------------


def evaluate_model(
    lab: Lab, version: ModelVersion, *, run_id: str, log: Callable[[str], None], recompute: bool = False
) -> Manifest:
    """Score *version* on `scored_frames`, and store each error, their summary, and what the network said.

    The network is run for frames of which it is not known yet what it says, with a GPU held meanwhile where there is one; where
    only labels have changed, it is not run at all.

    Parameters
    ----------
    recompute
        Run the network on every frame, whatever is known.

    Raises
    ------
    InputError
        The labels cannot be read, or the network cannot be loaded.
    NotFoundError
        The version's training dataset is no longer in the store.
    """
    layout = lab.layout
    place = layout.evaluation(version.model, version.version)
    with hold(layout.lock("evaluate", version.model), f"evaluating {version}", log=log):
        own, benchmark = dataset_frames(lab, version), unseen_benchmark(lab, version)
        inputs, frames = _inputs(version, own, benchmark), _together(own, benchmark)
        if not frames:
            raise NotFoundError(
                f"{version} has no frames to be scored on: its training dataset is no longer in the store. Restore "
                f"{layout.datasets(version.model)} from a backup, or train the model again."
            )
        before = evaluation_manifest(version, layout)
        estimates = {} if recompute else read_estimates(lab, version)
        lacking = _lacking(frames, estimates)
        facts = {name: before.details.get(name) for name in ("speed", "parameters")} if before else {}
        place.mkdir(parents=True, exist_ok=True)
        bodyparts = version.card["bodyparts"]
        if lacking:
            with leased_device(layout, f"evaluating {version}", log, gpus=lab.settings.gpus):
                new, facts = _run_network(version, lacking, log)
            estimates |= new
            _write_estimates(place, bodyparts, estimates)
        else:
            log(
                f"{version}: {len(frames)} labeled frames are scored from what the network is known to say of them; it is not run"
            )
            facts["parameters"] = facts.get("parameters") or _parameters(version)
        return _store(lab, version, frames, estimates, inputs, facts, run_id)


def _run_network(
    version: ModelVersion, frames: Sequence[ScoredFrame], log: Callable[[str], None]
) -> tuple[dict[FrameKey, Estimate], dict[str, Any]]:
    """Return what the network says of *frames*, its speed and its number of parameters."""
    from dlc_assets.engine.network_speed import measured_speed, read_pictures

    log(f"evaluating {version} on {len(frames)} labeled frames")
    estimator = _estimator(version)
    progress = LoggedProgress(log, f"evaluating {version}", "frames")
    found: dict[FrameKey, Estimate] = {}
    for start in range(0, len(frames), _IMAGES_A_CALL):
        batch = frames[start : start + _IMAGES_A_CALL]
        for frame, pose in zip(batch, estimator.estimate_images([frame.path for frame in batch])[:, 0], strict=True):
            found[frame.key] = Estimate(pose.astype(float), np.ones(len(pose), dtype=bool))
        progress(len(found), len(frames))
    speed = measured_speed(estimator, read_pictures(_pictures_of_commonest_size([frame.path for frame in frames])))
    log(
        f"{version}: {speed['frames_per_second']} frames/s at {speed['width']}x{speed['height']} px on {speed['device_name']}"
    )
    return found, {"speed": speed, "parameters": _parameters(version)}


def _parameters(version: ModelVersion) -> int | None:
    """Return how many numbers the network of *version* learned, a detector's included, None where its file cannot be read."""
    from dlc_assets.engine.network_speed import parameter_count

    try:
        return parameter_count([version.snapshot, *([version.detector] if version.detector else [])])
    except InputError:
        return None


def _estimator(version: ModelVersion) -> Estimator:
    from dlc_assets.engine.estimator import Estimator

    return Estimator(version.pytorch_config, version.snapshot_file("best"))


def _pictures_of_commonest_size(paths: Sequence[Path]) -> list[Path]:
    from PIL import Image

    sizes = {}
    for path in paths:
        with Image.open(path) as image:
            sizes[path] = image.size
    commonest = Counter(sizes.values()).most_common(1)[0][0]
    return [path for path, size in sizes.items() if size == commonest][:_PICTURES_FOR_SPEED]


def _store(
    lab: Lab,
    version: ModelVersion,
    frames: Sequence[ScoredFrame],
    estimates: dict[FrameKey, Estimate],
    inputs: dict[str, str],
    facts: dict[str, Any],
    run_id: str,
) -> Manifest:
    bodyparts, pcutoff = version.card["bodyparts"], version.card["pcutoff"]
    poses = np.array([estimates[frame.key].pose for frame in frames]).reshape(len(frames), len(bodyparts), 3)
    rows = [{"set": f.set, "folder": f.folder, "image": f.image, "xy": f.xy} for f in frames]
    errors = errors_of_frames(rows, bodyparts, poses)
    summary = summarize(errors, pcutoff, _average_precision(frames, estimates, poses))
    place = lab.layout.evaluation(version.model, version.version)
    for name, table in ((ERRORS, errors), (SUMMARY, summary)):
        with atomic_path(place / name) as partial:
            table.to_parquet(partial, index=False)
    manifest = Manifest(
        asset="model_evaluation",
        key=version.model,
        inputs=inputs,
        data_version=content_hash(summary.round(6).to_json(orient="records", double_precision=6)),
        details={
            "version": version.version,
            "pcutoff": pcutoff,
            "scoring_set": scoring_set(summary),
            **{name: total_of_set(summary, name) for name in SETS},
            **human_error(lab, version),
            "speed": facts.get("speed"),
            "parameters": facts.get("parameters"),
        },
        run_id=run_id,
    )
    manifest.write(place)
    return manifest


def _average_precision(
    frames: Sequence[ScoredFrame], estimates: dict[FrameKey, Estimate], poses: np.ndarray
) -> dict[str, tuple[float, float] | None]:
    """Return (mAP, mAR) by set; nothing where it is not known what the network said of unlabeled body parts, which count too."""
    found = {}
    for name in SETS:
        of_set = [at for at, frame in enumerate(frames) if frame.set == name]
        if of_set and all(estimates[frames[at].key].known.all() for at in of_set):
            found[name] = oks_precision_and_recall(np.stack([frames[at].xy for at in of_set]), poses[of_set])
    return found


def human_error(lab: Lab, version: ModelVersion) -> dict[str, Any]:
    """Return how far two people who labeled the same frames are apart: ``human_error`` (mean, px; None where no two did).

    With it come ``human_error_median`` (px) and ``human_error_labels``, the number of labels that two people placed.
    """
    table = people_apart(lab, version)
    if table is None:
        return {"human_error": None, "human_error_median": None, "human_error_labels": 0}
    return {
        "human_error": round(float(table["distance"].mean()), 3),
        "human_error_median": round(float(table["distance"].median()), 3),
        "human_error_labels": len(table),
    }


def people_apart(lab: Lab, version: ModelVersion) -> pd.DataFrame | None:
    """Return bodypart and distance (px) of each label that two people placed in the project, None where there is none."""
    try:
        table = human_errors(lab, version.model, version.card["bodyparts"]).dropna(subset=["distance"])
    except DlcAssetsError:  # a project that cannot be read now: the version's own frames are scored all the same
        return None
    return table if len(table) else None
