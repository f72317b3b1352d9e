"""What DeepLabCut's name of a network says: the project, the shuffle and the snapshot, in the forms of its releases.

``DeepCut_resnet50_walkNov1shuffle1_100000`` (1), ``DLC_resnet50_walkNov1shuffle1_100000`` (2),
``DLC_Resnet50_walkNov1shuffle1_snapshot_best-120`` (3), with a detector ``DLC_..shuffle1_detector_best-40_snapshot_best-120`` (3).
No form says the iteration or the training fraction.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dlc_assets.adoption.network_folders import Engine, NetworkFolder, SnapshotFile

_FORM = re.compile(
    r"(?P<program>DLC|DeepCut|DeepLabCut)_?(?P<net>[^_]+(?:_[^_]+)*?)_(?P<project>[^_].*?)shuffle(?P<shuffle>\d+)"
    r"(?:_detector_(?P<detector>(?:best-)?\d+))?(?:_(?P<pytorch>snapshot)_?(?P<epoch>(?:best-)?\d+)|_(?P<steps>\d+))"
)


@dataclass(frozen=True)
class ScorerName:
    """The parts of a scorer's name.

    Parameters
    ----------
    before_shuffle
        Network, project and date, which no sign keeps apart; it ends with the project's task and date.
    snapshot
        Its number: epochs of PyTorch, iterations of TensorFlow.
    """

    engine: Engine
    before_shuffle: str
    shuffle: int
    snapshot: int
    best: bool

    def is_of(self, task: str, date: str) -> bool:
        """Say whether the network can be one of the project with this task and date."""
        return bool(task) and self.before_shuffle.endswith(f"_{task}{date}")


def scorer_name(scorer: str) -> ScorerName | None:
    """Return what *scorer* says, None where it is no name of DeepLabCut's."""
    found = _FORM.fullmatch(scorer)
    if found is None:
        return None
    number = found["epoch"] or found["steps"]
    return ScorerName(
        engine="pytorch" if found["pytorch"] else "tensorflow",
        before_shuffle=scorer[: scorer.rindex(f"shuffle{found['shuffle']}")],
        shuffle=int(found["shuffle"]),
        snapshot=int(number.removeprefix("best-")),
        best=number.startswith("best-"),
    )


def networks_of(name: ScorerName, networks: Sequence[NetworkFolder]) -> list[tuple[NetworkFolder, SnapshotFile | None]]:
    """Return the networks of a project that *name* can mean, each with the snapshot, None where that is no longer there.

    Where any has the snapshot, only those that have it are returned.
    """
    fitting = [
        (network, _snapshot(name, network))
        for network in networks
        if (network.engine, network.shuffle) == (name.engine, name.shuffle)
    ]
    with_snapshot = [(network, snapshot) for network, snapshot in fitting if snapshot is not None]
    return list(with_snapshot) or fitting


def _snapshot(name: ScorerName, network: NetworkFolder) -> SnapshotFile | None:
    exact = [
        snapshot for snapshot in network.snapshots if (snapshot.number, snapshot.best) == (name.snapshot, name.best)
    ]
    # DeepLabCut takes the mark of the best away once another one is better.
    numbered = [snapshot for snapshot in network.snapshots if snapshot.number == name.snapshot]
    return next(iter([*exact, *numbered]), None)
