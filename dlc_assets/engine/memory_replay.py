"""Memory replay: training on a SuperAnimal's own estimates of the body parts that a project does not label.

DeepLabCut does it. Its release 3.0.2 reads every project as one of several animals for it, which those with one animal are not; and it
keeps the estimates for body parts that the project does not name, while the projects made here name all of the SuperAnimal's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlc_assets.engine.chatter import chatter_logged


@dataclass(frozen=True)
class MemoryReplay:
    """What a network should not forget.

    Parameters
    ----------
    superanimal
        The dataset.
    snapshot, detector
        Its files.
    bodyparts
        All its body parts, in its order; the project has the same ones.
    labeled
        Those of them that people have labeled.
    """

    superanimal: str
    snapshot: Path
    detector: Path
    bodyparts: Sequence[str]
    labeled: Sequence[str]


@contextlib.contextmanager
def remembering(config_file: Path, replay: MemoryReplay | None) -> Iterator[None]:
    """Let DeepLabCut's ``train_network`` do memory replay inside, with the project whose pytorch_config is *config_file*."""
    if replay is None:
        yield
        return
    with chatter_logged():
        from deeplabcut.modelzoo.generalized_data_converter.datasets import SingleDLCPoseDataset
        from deeplabcut.pose_estimation_pytorch.modelzoo import memory_replay

    unlabeled = [index for index, name in enumerate(replay.bodyparts) if name not in set(replay.labeled)]

    class OneAnimal(SingleDLCPoseDataset):
        def _df2generic(self, df: Any, image_id_offset: int = 0) -> Any:
            found = super()._df2generic(df, image_id_offset)
            for annotation in found["annotations"]:
                annotation["keypoints"].reshape(-1, 3)[unlabeled] = -1  # DeepLabCut's sign for "take the estimate"
            return found

    _write_weight_init(config_file, replay)
    original = memory_replay.MaDLCPoseDataset
    memory_replay.MaDLCPoseDataset = OneAnimal
    try:
        yield
    finally:
        memory_replay.MaDLCPoseDataset = original


def _write_weight_init(config_file: Path, replay: MemoryReplay) -> None:
    import numpy as np
    from deeplabcut.core.weight_init import WeightInitialization
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

    config = PoseConfig.from_yaml(config_file)
    config.train_settings.weight_init = WeightInitialization(
        snapshot_path=replay.snapshot,
        detector_snapshot_path=replay.detector,
        dataset=replay.superanimal,
        with_decoder=True,
        memory_replay=True,
        conversion_array=np.arange(len(replay.bodyparts)),
        bodyparts=list(replay.bodyparts),
    )
    config_file.unlink()
    config.to_yaml(config_file)
