"""The source `http`: rows that were pushed to the API, in a bounded queue until the engine reads.

Its rows have no far side that could say them again: what was answered with 202 and not yet written
down is lost with a kill. Who cannot bear that sends the last minutes again: rows that are there
already change nothing.
"""

from __future__ import annotations

import queue
import threading

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.protocols import Batch, Closing

MOST_FRAMES = 2_000  # in one batch


class PushedSource(Closing):
    """Keeps the seam of a source. `push` may be called from any thread.

    most: values that may wait; beyond them `push` raises queue.Full, which the API answers with
    429.
    """

    def __init__(self, *, most: int = 2_000_000) -> None:
        if most < 1:
            raise ConfigError(f"most = {most} is not above 0", remedy="Write a positive number.")
        self._most, self._waiting, self._closed = most, 0, False
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._count, self._lock = 0, threading.Lock()

    @property
    def waiting(self) -> int:
        """Values that wait to be read."""
        return self._waiting

    def push(self, frame: Frame) -> None:
        """Take a frame; queue.Full: too much waits already, try again later."""
        with self._lock:
            # A single frame above the bound passes when nothing waits, or it never could.
            if self._closed or (self._waiting and self._waiting + frame.values.size > self._most):
                raise queue.Full
            self._waiting += frame.values.size
        self._frames.put(frame)

    def open(self, offset: str | None) -> None:
        """Nothing to go on from: rows come when they come."""

    def read(self, timeout: float) -> Batch | None:
        """What was pushed, waiting at most `timeout` seconds for the first frame."""
        frames: list[Frame] = []
        try:
            frames.append(self._frames.get(timeout > 0, timeout if timeout > 0 else None))
            while len(frames) < MOST_FRAMES:
                frames.append(self._frames.get_nowait())
        except queue.Empty:
            if not frames:
                return None
        with self._lock:
            self._waiting -= sum(frame.values.size for frame in frames)
        self._count += len(frames)
        return Batch(tuple(frames), str(self._count))

    def commit(self, offset: str) -> None:
        """No receiver waits for it."""

    def close(self) -> None:
        """Take nothing more. May be called twice."""
        self._closed = True
