"""One source as the engine reads it: retried with patience, held to a few batches, committed."""

from __future__ import annotations

import logging
import queue
import threading

from imdiffusion.connectors.seam import Batch, Source
from imdiffusion.errors import ConfigError, ConnectionLost, SourceEnded
from imdiffusion.stream.clock import Clock, Patience

log = logging.getLogger(__name__)

MOST_BATCHES = 2  # batches that wait to be scored; a source is not read beyond them


class Intake:
    """Reads a source into a short queue. `once` and `commit_asked` belong to one thread.

    away: it could not be read last time. ended: it is read no more, for it came to its end or is
    broken: what no retry can mend.
    """

    def __init__(
        self, name: str, source: Source, *, offset: str | None, clock: Clock, patience: Patience
    ) -> None:
        self.name, self.source = name, source
        self.away, self.ended, self.broken = False, False, ""
        self.lost = 0
        self._offset, self._clock, self._patience = offset, clock, patience
        self._opened = False
        self._batches: queue.Queue[Batch] = queue.Queue(MOST_BATCHES)
        self._asked: str | None = None
        self._lock = threading.Lock()

    @property
    def queued(self) -> int:
        """Batches that wait to be scored."""
        return self._batches.qsize()

    def once(self, timeout: float) -> bool:
        """Read one batch if there is room and the time has come; whether one was read."""
        if self.ended or self._batches.full() or not self._patience.ready(self._clock.steady()):
            return False
        try:
            if not self._opened:
                self.source.open(self._offset)
                self._opened = True
            batch = self.source.read(timeout)
        except SourceEnded:
            self.ended = True
            log.info("source %s has ended", self.name)
            return False
        except ConfigError as error:
            self.ended = True
            self.broken = str(error)
            log.error("source %s is read no more: %s", self.name, error)
            return False
        except ConnectionLost as error:
            self._lost(error)
            return False
        except Exception as error:
            log.debug("source %s", self.name, exc_info=True)
            self._lost(error)
            return False
        if self.away:
            log.warning("source %s is back", self.name)
        self.away = False
        self._patience.worked()
        if batch is None:
            return False
        self._batches.put_nowait(batch)
        return True

    def _lost(self, error: Exception) -> None:
        wait = self._patience.failed(self._clock.steady())
        self.away, self.lost = True, self.lost + 1
        log.warning("source %s is away, next try in %.1f s: %s", self.name, wait, error)

    def next(self) -> Batch | None:
        """The next batch to score; None when there is none."""
        try:
            return self._batches.get_nowait()
        except queue.Empty:
            return None

    def ask_commit(self, offset: str) -> None:
        """Everything up to `offset` is safe; the thread that reads will tell the source."""
        with self._lock:
            self._asked = offset

    def commit_asked(self) -> None:
        """Tell the source what is safe; one that is away is told later."""
        with self._lock:
            offset, self._asked = self._asked, None
        if offset is None or not self._opened:
            return
        try:
            self.source.commit(offset)
        except ConnectionLost as error:
            log.warning("source %s could not be told what is safe: %s", self.name, error)
            with self._lock:
                self._asked = offset if self._asked is None else self._asked

    def close(self) -> None:
        """Tell the source what is safe, and let go of it."""
        self.commit_asked()
        self.source.close()
