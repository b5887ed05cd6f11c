"""The engine: sources, scorers, events, live state and sinks, joined.

A checkpoint writes scores, updates of events, states of scorers and trackers, and the offsets of
sources in one transaction. Sinks are fed from what was written; only when they have flushed, or
are away and their records wait in the live state, is the offset committed at a source. So a
kill anywhere loses nothing, and what a sink has seen is never decided again: rows that come again
after a kill are rows without any record sent.

`once` does one round of everything in the caller's thread; `run` gives each source and each sink a
thread, so that a slow one delays no other. What waits is bounded: a few batches a source (it
is not read beyond them, or the oldest are shed), `rows` scores between checkpoints, and the feed in
the live state.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from imdiffusion.errors import OutputError
from imdiffusion.live.connection.protocols import Sink, Source
from imdiffusion.live.engine.entity_pool import EntityPool
from imdiffusion.live.engine.entity_state import (
    Backoff,
    CheckpointBuilder,
    Clock,
    EngineOptions,
    ScorerFor,
    SystemClock,
)
from imdiffusion.live.engine.source_reader import SinkWriter, SourceReader
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.scorers.fitted import EngineScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.retention import PeerStates

log = logging.getLogger(__name__)

MOST_DUE = 100  # checkpoints not yet committed at the sources
THIN_EVERY = 5.0  # seconds between steps of retention


class Engine:
    """Watches every entity of its sources, until it is stopped.

    scorer_for: makes the scorer of an entity from its first frame. clock and generator are given
    by tests; the generator draws the jitter of retries. The store is the caller's to close.
    peers: what other processes of a group have left of entities that come to this one.
    """

    def __init__(
        self,
        store: Store,
        *,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        scorer_for: ScorerFor,
        rules: EventRules | None = None,
        options: EngineOptions | None = None,
        clock: Clock | None = None,
        generator: np.random.Generator | None = None,
        peers: PeerStates | None = None,
    ) -> None:
        self.store, self.options = store, options or EngineOptions()
        self.clock = clock or SystemClock()
        self._generator = generator or np.random.default_rng()
        self._watch = EntityPool(
            store, scorer_for, rules or EventRules(), self.options, clock=self.clock, peers=peers
        )
        self._pending = CheckpointBuilder()
        self._due: deque[tuple[int, dict[str, str]]] = deque()
        self._written = self._thinned = self.clock.steady()
        self._since_thin = 0
        self._patience = self._new_patience()
        self._stuck: OutputError | None = None
        self._torn = False
        self.readers = {
            name: SourceReader(
                name, source, offset=store.offset(name), clock=self.clock,
                patience=self._new_patience(), most_rows=self.options.most_rows,
            )
            for name, source in sources.items()
        }  # fmt: skip
        store.leave(known=sinks)
        self.writers = {
            name: SinkWriter(
                name, sink, store=store, clock=self.clock, patience=self._new_patience(),
                batch=self.options.batch,
            )
            for name, sink in sinks.items()
        }  # fmt: skip

    def _new_patience(self) -> Backoff:
        return Backoff(self._generator.spawn(1)[0], first=self.options.retry)

    # -- from outside

    def open(self) -> None:
        """Check the sinks' options; ConfigError where one is wrong."""
        for writer in self.writers.values():
            writer.open()

    def succeed(self, entity: str, scorer: EngineScorer) -> None:
        """From the next round on this scorer is the entity's active one. From any thread."""
        self._watch.successors.append((entity, scorer))

    def source_of(self, entity: str) -> str:
        """The id of the source that had rows of an entity last; empty = none has."""
        watched = self._watch.entities.get(entity)
        return "" if watched is None else watched.source

    def health(self) -> dict[str, Any]:
        """How sources, sinks and the live state fare, as plain facts."""
        return {
            "stuck": "" if self._stuck is None else str(self._stuck),
            "entities": len(self._watch.entities),
            "pending": self._pending.rows,
            "sources": {
                name: {
                    "away": one.away, "ended": one.ended, "broken": one.broken,
                    "queued": one.queued, "rows": one.rows, "lost": one.lost,
                }
                for name, one in self.readers.items()
            },
            "sinks": {
                name: {"away": one.away, "cursor": one.cursor}
                for name, one in self.writers.items()
            },
        }  # fmt: skip

    # -- one round

    def once(self, timeout: float = 0.0) -> bool:
        """Read, score, write, send and commit once, in this thread; whether anything was done."""
        read = [reader.once(timeout) for reader in self.readers.values()]
        done = self.advance()
        sent = [writer.once() for writer in self.writers.values()]
        self.tell_sources()
        for reader in self.readers.values():
            reader.commit_asked()
        return done or any(read) or any(sent)

    def advance(self, *, write: bool = False) -> bool:
        """Score what was read and write what is due; whether anything was done.

        write: a checkpoint now, due or not. While one cannot be written nothing more is scored:
        sources wait.
        """
        worked = False
        self._watch.succeed(self._pending)
        self._watch.hear(self._pending)
        for name, reader in self.readers.items():
            if self._stuck is None and (batch := reader.next()) is not None:
                self._torn = True  # till all of it is taken: its offset comes last
                for reason, count in reader.newly_passed_over().items():
                    self._pending.count(reason, name, count)  # with an offset that covers it
                self._watch.take(name, batch, self._pending)
                self._torn, worked = False, True
        late = self.clock.steady() - self._written >= self.options.every
        if self._pending and (write or late or self._pending.rows >= self.options.rows):
            worked = self._checkpoint(now_or_never=write) or worked
        behind = {name for name, reader in self.readers.items() if reader.queued}
        if not self._pending and self._watch.look_for_silence(behind, self._pending):
            # By the clock, not by rows: written down before anybody is told, for no replay would
            # decide it the same way again.
            worked = self._checkpoint() or worked
        return worked

    def _checkpoint(self, *, now_or_never: bool = False) -> bool:
        """Write what is pending; False where that failed, and it waits for the next try."""
        if not now_or_never and not self._patience.ready(self.clock.steady()):
            return False
        now, rows = self.clock.wall(), self._pending.rows
        try:
            last = self.store.write(self._pending.checkpoint(self._watch.entities), now=now)
        except OutputError as error:
            wait = self._patience.failed(self.clock.steady())
            log.error("nothing can be written, next try in %.1f s: %s", wait, error)
            self._stuck = error
            return False
        self._patience.worked()
        self._stuck, self._written = None, self.clock.steady()
        if self._pending.offsets:
            # Of very many that wait for a slow sink the newest are joined: memory is bounded.
            joined = self._due.pop()[1] if len(self._due) >= MOST_DUE else {}
            self._due.append((last, joined | self._pending.offsets))
        self._pending = CheckpointBuilder()
        self._thin(rows)
        return True

    def _thin(self, rows: int) -> None:
        """A step of retention every few seconds, larger when more was written."""
        self._since_thin += rows
        now = self.clock.steady()
        if now - self._thinned < THIN_EVERY:
            return
        try:
            self.store.thin(now=self.clock.wall(), rows=max(2_000, 2 * self._since_thin))
        except OutputError as error:  # what is old goes with a later step
            log.warning("old rows could not be deleted: %s", error)
        self._thinned, self._since_thin = now, 0

    def tell_sources(self) -> None:
        """Ask for the commit of what every sink that is there has flushed."""
        there = [one.cursor for one in self.writers.values() if not one.away]
        safe: dict[str, str] = {}
        while self._due and all(cursor >= self._due[0][0] for cursor in there):
            safe |= self._due.popleft()[1]
        for name, offset in safe.items():
            self.readers[name].ask_commit(offset)

    # -- the end

    def close(self) -> None:
        """Write what is pending, send once more, commit at the sources, and let go of all.

        After an interruption in the midst of a batch nothing is written: its rows will come again.
        OutputError: the last checkpoint could not be written; its rows will come again as well.
        """
        if self._torn:
            self._pending = CheckpointBuilder()
        while (
            not self._torn
            and self._stuck is None
            and any(reader.queued for reader in self.readers.values())
        ):
            self.advance()
        if not self._torn:
            self.advance(write=True)
        for writer in self.writers.values():
            while writer.once():
                pass
            writer.close()
        self.tell_sources()
        for reader in self.readers.values():
            reader.close()
        if self._pending and self._stuck is not None:
            raise self._stuck

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# -- the engine in threads: one for each source, one for each sink, one that scores and writes
#
# A stop is graceful: what was read is scored, written and sent first.

IDLE = 0.05  # seconds a thread rests when it had nothing to do


def run(engine: Engine, stop: threading.Event) -> None:
    """Run an open engine until `stop` is set or every source has ended, then close it.

    OutputError: the last checkpoint could not be written. What fails in a thread, and is no
    trouble of a source or a sink, stops all and is raised here.
    """
    failed: list[BaseException] = []
    inner = threading.Event()

    def guarded(work: Callable[[], bool], rest: float) -> None:
        try:
            while not inner.is_set():
                if not work():
                    inner.wait(rest)
        except BaseException as error:  # noqa: BLE001  a thread's failure is raised by `run`
            failed.append(error)
            inner.set()

    threads = [
        *(_thread(f"source {name}", guarded, _reading(engine, one), IDLE)
          for name, one in engine.readers.items()),
        *(_thread(f"sink {name}", guarded, _sending(one), 2 * IDLE)
          for name, one in engine.writers.items()),
    ]  # fmt: skip
    try:
        for thread in threads:
            thread.start()
        while not stop.is_set() and not inner.is_set():
            worked = engine.advance()
            engine.tell_sources()
            over = all(one.ended and not one.queued for one in engine.readers.values())
            if over and not worked:
                break
            if not worked:
                stop.wait(IDLE)
    finally:
        inner.set()
        for thread in threads:
            thread.join()
        engine.close()
    if failed:
        raise failed[0]


def _thread(
    name: str, guarded: Callable[[Callable[[], bool], float], None], work: Callable[[], bool],
    rest: float,
) -> threading.Thread:  # fmt: skip
    return threading.Thread(target=guarded, args=(work, rest), name=name, daemon=True)


def _reading(engine: Engine, reader: SourceReader) -> Callable[[], bool]:
    def work() -> bool:
        reader.commit_asked()
        return reader.once(engine.options.poll)

    return work


def _sending(writer: SinkWriter) -> Callable[[], bool]:
    return writer.once


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Within, SIGTERM and SIGINT set `stop`; a second one kills as usual. Main thread only."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, ask)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
