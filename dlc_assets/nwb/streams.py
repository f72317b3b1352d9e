"""Arrays that are written to HDF5 block by block, compressed, so that memory does not grow with the number of frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dlc_assets.nwb.description import TrackLike
from dlc_assets.nwb.frame_times import FrameTimes, Timing

# Half a MiB of float32 a chunk: a viewer that shows a minute does not load an hour.
CHUNK_FRAMES = 131_072

# Of gzip. Shuffled positions are noise and what compresses at once: the default, 4, takes a tenth longer and saves less than 0.5 %.
_LEVEL = 2


def positions(track: TrackLike) -> Any:
    """Return the positions of *track*, (frames, 2) float32, for pynwb to write."""
    return _streamed(lambda: (block[:2].T for block in track.blocks()), (track.frame_count, 2), np.float32)


def likelihoods(track: TrackLike) -> Any:
    """Return the likelihoods of *track*, (frames,) float32, for pynwb to write."""
    return _streamed(lambda: (block[2] for block in track.blocks()), (track.frame_count,), np.float32)


def timestamps(times: FrameTimes, timing: Timing) -> Any:
    """Return the times of the frames of *timing*, (frames,) float64, for pynwb to write."""
    frames = timing.last - timing.first
    return _streamed(lambda: times.between(timing.first, timing.last), (frames,), np.float64)


def _streamed(blocks: Callable[[], Iterator[npt.NDArray[Any]]], shape: tuple[int, ...], dtype: Any) -> Any:
    from hdmf.data_utils import AbstractDataChunkIterator, DataChunk
    from pynwb import H5DataIO

    class Blocks(AbstractDataChunkIterator):  # defined here: its base takes seconds to import
        """The blocks as hdmf asks for them: each with the place where it goes."""

        def __init__(self) -> None:
            self._blocks = _filled(blocks(), min(CHUNK_FRAMES, shape[0]))
            self._at = 0

        def __iter__(self) -> Blocks:
            return self

        def __next__(self) -> DataChunk:
            block = next(self._blocks)
            place = (slice(self._at, self._at + len(block)), *(slice(0, size) for size in block.shape[1:]))
            self._at += len(block)
            return DataChunk(data=block, selection=place)

        def recommended_chunk_shape(self) -> None:
            return None

        def recommended_data_shape(self) -> tuple[int, ...]:
            return shape

        @property
        def dtype(self) -> np.dtype[Any]:
            return np.dtype(dtype)

        @property
        def maxshape(self) -> tuple[int, ...]:
            return shape

    # x and y in chunks of their own: side by side, their highest bytes would compress less well
    chunks = (min(CHUNK_FRAMES, shape[0]), *(1 for _ in shape[1:]))
    return H5DataIO(Blocks(), compression="gzip", compression_opts=_LEVEL, shuffle=True, chunks=chunks)


def _filled(blocks: Iterator[npt.NDArray[Any]], rows: int) -> Iterator[npt.NDArray[Any]]:
    """Yield the same values in blocks of *rows*, the last one shorter: each chunk of the file is compressed once."""
    held: list[npt.NDArray[Any]] = []
    waiting = 0
    for block in blocks:
        held.append(block)
        waiting += len(block)
        while waiting >= rows:
            joined = held[0] if len(held) == 1 else np.concatenate(held)
            yield joined[:rows]
            held, waiting = [joined[rows:]], waiting - rows
    if waiting:
        yield np.concatenate(held)
