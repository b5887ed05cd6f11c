"""One sink as the engine feeds it: from its cursor on, retried with patience, one apart from all.

What lies behind the cursor is the outbox, in the live state: a sink that is away costs no memory.
The cursor moves only after `flush`. After a kill in between the same records are sent again, and
they are the very same, for they come from what was written down. A sink whose far side has to be
reminded of ongoing events is told of them after a start, and whenever it says that it is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from imdiffusion.errors import ConfigError, OutputError
from imdiffusion.live.connection.protocols import Recalling, Sink, Ticking
from imdiffusion.live.engine.clock import Backoff, Clock
from imdiffusion.live.store.live_state import Store
from imdiffusion.records import Record

log = logging.getLogger(__name__)


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
