"""The poses of a span of a recording, stretch by stretch: what drawing needs of them, and no more in memory than that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import PoseTableFile, RowGroup

_FRAMES = 4096  # of a stretch


@dataclass(frozen=True)
class SpanPoses:
    """A pose table and the times of its recording's frames.

    Attributes
    ----------
    times
        (frames,) float64, s on the session's clock.
    tracks
        (individual, body part) of each track, in the file's order.
    """

    file: PoseTableFile
    times: np.ndarray
    tracks: tuple[tuple[str, str], ...]

    @classmethod
    def open(cls, path: Path, frame_count: int) -> SpanPoses:
        """Read the footer and the times of the table at *path*.

        Raises
        ------
        NotFoundError, InputError
            There is no such table, or it is not of a recording of *frame_count* frames.
        """
        file = PoseTableFile.open(path)
        times = file.times()
        if len(times) != frame_count:
            raise InputError(
                f"{path} has poses of {len(times)} frames, but the recording has {frame_count}: they would be drawn onto the wrong "
                "frames. Estimate the poses of this session again, or import those that belong to this video."
            )
        tracks = dict.fromkeys((group.individual, group.bodypart) for group in file.row_groups)
        return cls(file, times, tuple(tracks))

    @property
    def metadata(self) -> PoseMetadata:
        return self.file.metadata

    def stretches(self, first: int, last: int, before: float) -> Iterator[tuple[int, int, np.ndarray]]:
        """Give the poses of the frames *first* up to, not including, *last*, in order.

        Yields
        ------
        tuple
            (start, begin, values): values is (tracks, 3, frames) float32, x, y and likelihood from frame *start* on; those before
            frame *begin* were given before, and come again because they are at most *before* s older than frame *begin*.
        """
        oldest = self._since(first, before)
        kept = np.empty((len(self.tracks), 3, 0), np.float32)
        for block, stop, groups in self._blocks():
            if stop <= oldest:
                continue
            names, values = self.file.values(groups)
            if tuple(names) != self.tracks:
                raise InputError(
                    f"{self.file.path}: its body parts are not the same from frame {block} on. Estimate the poses again."
                )
            start = block - kept.shape[2]
            values = np.concatenate([kept, values], axis=2)
            for begin in range(max(first, block), min(last, stop), _FRAMES):
                since = max(start, self._since(begin, before))
                end = min(begin + _FRAMES, last, stop)
                yield since, begin, values[:, :, since - start : end - start]
            if stop >= last:
                return
            kept = values[:, :, max(start, self._since(stop, before)) - start :].copy()

    def _since(self, frame: int, before: float) -> int:
        """Return the first frame that is at most *before* s older than *frame*."""
        return int(np.searchsorted(self.times, self.times[frame] - before)) if before > 0 else frame

    def _blocks(self) -> Iterator[tuple[int, int, list[RowGroup]]]:
        """Give the first frame, the first one after it, and the row groups, one of each track, of each block of the file."""
        blocks: dict[int, list[RowGroup]] = {}
        for group in self.file.row_groups:
            blocks.setdefault(group.first_frame, []).append(group)
        starts = sorted(blocks)
        for start, stop in zip(starts, [*starts[1:], len(self.times)], strict=True):
            yield start, stop, blocks[start]


def joined_tracks(tracks: Sequence[tuple[str, str]], skeleton: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Return the pairs of tracks that *skeleton*, pairs of body parts, joins: within each individual that has both."""
    place = {track: index for index, track in enumerate(tracks)}
    return [
        (place[individual, one], place[individual, other])
        for individual in dict.fromkeys(individual for individual, _ in tracks)
        for one, other in skeleton
        if (individual, one) in place and (individual, other) in place
    ]
