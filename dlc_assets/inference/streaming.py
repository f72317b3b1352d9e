"""The poses of one recording, frame by frame: decoding, network and writing work at the same time, memory stays as it is."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from dlc_assets.inference.chunks import PoseChunks
from dlc_assets.lab.errors import InputError

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import PoseStream
    from dlc_assets.video.decode import Crop

T = TypeVar("T")

# What a kill costs at most: so much time, or so many frames.
_CHUNK_SECONDS = 20.0
_CHUNK_FRAMES = 8192
# Decoded pictures that wait for the network, in bytes and batches.
_AHEAD_BYTES = 64 << 20
_AHEAD_BATCHES = (2, 32)
_POLL = 0.1


@dataclass(frozen=True)
class VideoPart:
    """One file of a recording, and how many of its frames decode, counted when it was probed."""

    path: Path
    frames: int


@dataclass
class Stages:
    """Seconds that each stage was busy; they overlap.

    Attributes
    ----------
    waiting
        Of the network: for pictures.
    """

    total: float = 0.0
    decoding: float = 0.0
    network: float = 0.0
    waiting: float = 0.0
    writing: float = 0.0

    def shares(self) -> dict[str, float]:
        """Return what share of the time each stage was busy, 0 to 1."""
        whole = self.total or 1.0
        return {name: round(getattr(self, name) / whole, 3) for name in ("decoding", "network", "writing")}


def stream_poses(
    stream: PoseStream,
    parts: Sequence[VideoPart],
    chunks: PoseChunks,
    *,
    crop: Crop | None,
    on_frames: Callable[[int], None],
    frames: int | None = None,
) -> Stages:
    """Estimate the frames of *parts* that *chunks* does not have yet, and add them.

    Parameters
    ----------
    crop
        The part of the upright frame that the network sees; the poses are in px of the full frame.
    on_frames
        Called with the number of frames that are estimated, those of an earlier attempt included. An exception that it raises
        ends the work and comes out here; chunks that are finished stay.
    frames
        So many frames at most, from the first on; whether the files have as many as was counted is not seen then.

    Raises
    ------
    InputError
        A file gives another number of frames than was counted, or pictures of another size than the ones before.
    """
    stages = Stages()
    begun = time.perf_counter()
    offset = np.array((crop[0], crop[2], 0) if crop else (0, 0, 0), dtype=np.float32)
    done = chunks.frames
    decoded = Ahead(_batches(stream, parts, crop, done, frames), _depth(stream))
    with decoded, _ChunkWriter(chunks) as writer:
        for poses in stream.run(decoded):
            flat = poses.reshape(len(poses), -1, 3)
            writer.put(flat + offset if crop else flat)
            done += len(poses)
            on_frames(done)
        writer.finish()
    stages.total = time.perf_counter() - begun
    stages.decoding, stages.waiting = decoded.busy, decoded.waited
    stages.writing = writer.busy
    stages.network = stages.total - decoded.waited - writer.waited
    return stages


def _batches(
    stream: PoseStream, parts: Sequence[VideoPart], crop: Crop | None, skipped: int, most: int | None
) -> Iterator[np.ndarray]:
    """Give the pictures of *parts* after the first *skipped* frames, up to *most* frames in all, in batches that never reach over
    two files."""
    from dlc_assets.video.decode import decode_video

    shape: tuple[int, ...] | None = None
    before = 0
    for part in parts:
        first = min(skipped, part.frames)
        skipped -= first
        last = (
            None if most is None or most - before >= part.frames else most - before
        )  # None: to the file's end, and no less
        before += part.frames
        if first == part.frames or (last is not None and last <= first):
            continue
        count = first
        wanted = islice(decode_video(part.path, crop=crop, first=first), None if last is None else last - first)
        for batch in stream.batches(wanted):
            if shape is not None and batch.shape[1:] != shape:
                raise InputError(
                    f"{part.path} has pictures of {batch.shape[2]}x{batch.shape[1]} px, the files before it of "
                    f"{shape[1]}x{shape[0]} px: they cannot be parts of one recording. Correct the recording template."
                )
            shape = batch.shape[1:]
            count += len(batch)
            yield batch
        if count not in {part.frames, last}:
            raise InputError(
                f"{part.path} had {part.frames} frames when it was probed, but {count} were decoded now. Is the disk well? "
                "Materialize session_recordings for this session again, then this."
            )


def _depth(stream: PoseStream) -> int:
    """Return how many batches may wait, by the size of ordinary pictures (640x480)."""
    fewest, most = _AHEAD_BATCHES
    return min(most, max(fewest, _AHEAD_BYTES // (stream.group * 640 * 480 * 3)))


class Ahead(Generic[T]):
    """An iterable worked on by a thread of its own, at most *depth* items ahead of who takes them.

    To be used in a ``with``, whose end ends the thread. What the source raises comes out where its items are taken.

    Attributes
    ----------
    busy, waited
        Seconds that the source worked, and that its taker waited for it.
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._source = iter(source)
        self._items: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="decoding", daemon=True)
        self.busy = self.waited = 0.0

    def __enter__(self) -> Ahead[T]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def __iter__(self) -> Iterator[T]:
        while True:
            begun = time.perf_counter()
            item = self._items.get()
            self.waited += time.perf_counter() - begun
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item[0]

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                begun = time.perf_counter()
                item = next(self._source, _END)
                self.busy += time.perf_counter() - begun
                self._put(None if item is _END else (item,))  # type: ignore[arg-type]  # the sentinel is no T
                if item is _END:
                    return
        except BaseException as error:  # noqa: BLE001 - it comes out in the other thread
            self._put(error)

    def _put(self, item: tuple[T] | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=_POLL)
            except queue.Full:
                continue
            return


_END = object()


class _ChunkWriter:
    """Collects poses and writes them in chunks, in a thread of its own; what it raises comes out at the next `put`."""

    def __init__(self, chunks: PoseChunks) -> None:
        self._chunks = chunks
        self._poses: queue.Queue[np.ndarray | None] = queue.Queue(256)
        self._thread = threading.Thread(target=self._work, name="writing", daemon=True)
        self._error: BaseException | None = None
        self.busy = self.waited = 0.0

    def __enter__(self) -> _ChunkWriter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Write what was put, also where the work was interrupted: no frame is estimated twice."""
        if self._thread.is_alive():
            self._poses.put(None)
        self._thread.join()

    def put(self, poses: np.ndarray) -> None:
        """Take poses (n, tracks, 3)."""
        begun = time.perf_counter()
        while True:
            if self._error is not None:
                raise self._error
            try:
                self._poses.put(poses, timeout=_POLL)
            except queue.Full:
                continue
            break
        self.waited += time.perf_counter() - begun

    def finish(self) -> None:
        """Write the rest; return when it is on the disk."""
        begun = time.perf_counter()
        self._poses.put(None)
        self._thread.join()
        self.waited += time.perf_counter() - begun
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        waiting: list[np.ndarray] = []
        count, since = 0, 0.0
        try:
            while True:
                poses = self._next(since if waiting else None)
                ended = poses is None
                if isinstance(poses, np.ndarray):
                    since = since if waiting else time.monotonic()
                    waiting.append(poses)
                    count += len(poses)
                if waiting and (ended or count >= _CHUNK_FRAMES or time.monotonic() - since >= _CHUNK_SECONDS):
                    begun = time.perf_counter()
                    self._chunks.append(np.concatenate(waiting))
                    self.busy += time.perf_counter() - begun
                    waiting, count = [], 0
                if ended:
                    return
        except BaseException as error:  # noqa: BLE001 - it comes out in the other thread
            self._error = error
            while self._poses.get() is not None:
                pass  # whoever puts has not seen the error yet

    def _next(self, since: float | None) -> np.ndarray | str | None:
        """Return the next poses, None at the end; with *since* no later than a chunk begun then must be written."""
        try:
            patience = None if since is None else max(0.01, _CHUNK_SECONDS - (time.monotonic() - since))
            return self._poses.get(timeout=patience)
        except queue.Empty:
            return "time"
