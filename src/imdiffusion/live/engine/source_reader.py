"""One source as the engine reads it: retried with patience, held to a bound, committed.

What comes faster than it is scored waits at the source, which is read no further; or, where that is
chosen, the source is read on, and of what waits the oldest is shed and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque

from imdiffusion.errors import ConfigError, ConnectionLost, SourceEnded
from imdiffusion.live.connection.protocols import Batch, Source
from imdiffusion.live.engine.clock import Backoff, Clock

log = logging.getLogger(__name__)

MOST_BATCHES = 2  # batches that wait to be scored; a source is not read beyond them


class SourceReader:
    """Reads a source into a short queue. `once` and `commit_asked` belong to one thread.

    most_rows: None = it is read while fewer than MOST_BATCHES wait; else it is always read, and of
    the batches that wait the oldest are shed until at most so many rows wait, or one batch.

    away: it could not be read last time. ended: it is read no more, for it came to its end or is
    broken: what no retry can mend.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        offset: str | None,
        clock: Clock,
        patience: Backoff,
        most_rows: int | None = None,
    ) -> None:
        self.name, self.source, self.most_rows = name, source, most_rows
        self.away, self.ended, self.broken = False, False, ""
        self.lost = 0
        self._offset, self._clock, self._patience = offset, clock, patience
        self._opened = False
        self._batches: deque[Batch] = deque()
        self._rows = 0  # of the batches that wait
        self._passed_over: Counter[str] = Counter()
        self._shedding = False  # since rows were shed it has not caught up
        self._asked: str | None = None
        self._lock = threading.Lock()

    @property
    def queued(self) -> int:
        """Batches that wait to be scored."""
        return len(self._batches)

    @property
    def rows(self) -> int:
        """Rows that wait to be scored."""
        return self._rows

    @property
    def _full(self) -> bool:
        return self.most_rows is None and len(self._batches) >= MOST_BATCHES

    def once(self, timeout: float) -> bool:
        """Read one batch if there is room and the time has come; whether one was read."""
        if self.ended or self._full or not self._patience.ready(self._clock.steady()):
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
        self._put(batch)
        return True

    def _put(self, batch: Batch) -> None:
        """Let a batch wait, and shed the oldest if too much does: the offset of those after it
        stands for it as well.
        """
        shed = []
        with self._lock:
            self._batches.append(batch)
            self._rows += rows_of(batch)
            while self.most_rows is not None and self._rows > self.most_rows and self.queued > 1:
                shed.append(self._batches.popleft())
                rows = rows_of(shed[-1])
                self._rows -= rows
                self._passed_over.update(rows_shed=rows, rejected=len(shed[-1].rejected))
        if shed and not self._shedding:
            self._shedding = True
            log.warning("source %s: rows come faster than scored, the oldest are shed", self.name)
        for sentence in (each for one in shed for each in one.rejected):
            log.warning("source %s: %s", self.name, sentence)

    def _lost(self, error: Exception) -> None:
        wait = self._patience.failed(self._clock.steady())
        self.away, self.lost = True, self.lost + 1
        log.warning("source %s cannot be reached, next try in %.1f s: %s", self.name, wait, error)

    def next(self) -> Batch | None:
        """The next batch to score; None when there is none."""
        with self._lock:
            if not self._batches:
                return None
            batch = self._batches.popleft()
            self._rows -= rows_of(batch)
            caught_up = self._shedding and not self._batches
            self._shedding = self._shedding and not caught_up
        if caught_up:
            log.warning("source %s: nothing more is shed", self.name)
        return batch

    def newly_passed_over(self) -> dict[str, int]:
        """What was shed since the last call: rows, and pieces that could not be used anyway."""
        with self._lock:
            found, self._passed_over = self._passed_over, Counter()
        return {reason: count for reason, count in found.items() if count}

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
            log.warning("source %s did not take the committed offset: %s", self.name, error)
            with self._lock:
                self._asked = offset if self._asked is None else self._asked

    def close(self) -> None:
        """Tell the source what is safe, and let go of it."""
        self.commit_asked()
        self.source.close()


def rows_of(batch: Batch) -> int:
    """Rows of all entities in a batch."""
    return sum(len(frame) for frame in batch.frames)
