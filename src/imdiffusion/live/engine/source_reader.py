"""One source as the engine reads it: retried with patience, held to a bound, committed.

What comes faster than it is scored waits at the source, which is read no further; or, where that is
chosen, the source is read on, and of what waits the oldest is shed and counted.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from imdiffusion.errors import ConfigError, ConnectionLost, OutputError, SourceEnded
from imdiffusion.live.connection.protocols import Batch, Recalling, Sink, Source, Ticking
from imdiffusion.live.engine.entity_state import Backoff, Clock
from imdiffusion.live.store.live_state import Store
from imdiffusion.records import Record

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


# -- one sink as the engine feeds it: from its cursor on, retried with growing pauses
#
# What lies behind the cursor is the outbox, in the live state: a sink that is away costs no memory.
# The cursor moves only after `flush`. After a kill in between the same records are sent again, and
# they are the very same, for they come from what was written down. A sink whose far side has to be
# reminded of ongoing events is told of them after a start, and whenever it says that it is due.


class SinkWriter:
    """Sends records to a sink; `once` belongs to one thread. away: it failed last time."""

    def __init__(
        self, name: str, sink: Sink, *, store: Store, clock: Clock, patience: Backoff, batch: int
    ) -> None:
        self.name, self.sink = name, sink
        self.away = False
        self._store, self._clock, self._patience, self._batch = store, clock, patience, batch
        self._opened, self._refused = False, 0
        self._recalling = sink if isinstance(sink, Recalling) else None  # until it was told
        self._ticking = sink if isinstance(sink, Ticking) else None
        store.join(name, sink.takes)
        self.cursor = store.cursor(name)

    def open(self) -> None:
        """Check the sink's options (ConfigError); one that is away is opened later."""
        try:
            self.sink.open()
            self._opened = True
        except ConfigError:
            raise
        except Exception as error:  # a fault of one sink must not stop the others
            log.debug("sink %s", self.name, exc_info=True)
            self._lost(error)

    def once(self) -> bool:
        """Send the next records if the time has come; whether there may be more at once."""
        if not self._patience.ready(self._clock.steady()):
            return False
        try:
            if not self._reminded():
                return False
            newest = self._store.last()
            if self.cursor >= newest:
                return False
            behind = self._store.behind(self.name, limit=self._batch)
            records = [record for _, record in behind]
            if not self._tried(partial(self._send, records) if records else None):
                return False
            # Nothing of its kinds may be left although the feed is longer: it is at the end.
            cursor = behind[-1][0] if behind else newest
            refused = self.sink.refused - self._refused
            counts = {("sent", self.name): len(behind), ("refused", self.name): refused}
            self._store.advance(self.name, cursor, counts=counts)
        except OutputError as error:  # of the live state: what was sent is sent again
            wait = self._patience.failed(self._clock.steady())
            log.error("sink %s waits %.1f s: %s", self.name, wait, error)
            return False
        self._refused += refused
        self.cursor = cursor
        self._patience.worked()
        return bool(behind)

    def _reminded(self) -> bool:
        """Remind the sink of ongoing events, if it has to be; False where it is away."""
        if self._recalling is not None:
            if not self._tried(partial(self._recalling.recall, self._store.ongoing())):
                return False
            self._recalling = None
        if self._ticking is not None and self._ticking.due <= 0:
            return self._tried(self._ticking.tick)
        return True

    def _send(self, records: list[Record]) -> None:
        self.sink.send(records)
        self.sink.flush()

    def _tried(self, work: Callable[[], None] | None) -> bool:
        """Open the sink if it is not, and do this with it; False where it is away."""
        try:
            if not self._opened:
                self.sink.open()
                self._opened = True
            if work is not None:
                work()
        except Exception as error:  # a fault of one sink must not stop the others
            log.debug("sink %s", self.name, exc_info=True)
            self._lost(error)
            return False
        if self.away and work is not None:
            log.warning("sink %s is back", self.name)
            self.away = False
        return True

    def _lost(self, error: Exception) -> None:
        wait = self._patience.failed(self._clock.steady())
        self.away = True
        log.warning(
            "sink %s cannot be reached, its records wait, next try in %.1f s: %s",
            self.name,
            wait,
            error,
        )

    def close(self) -> None:
        """Let go of the sink."""
        self.sink.close()
