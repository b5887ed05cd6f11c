"""What live detection costs beside scoring: the engine, its checkpoints, its file, its readers.

Entities x 38 channels at one row a minute, scored by a z-score (a scorer that costs next to nothing
and has 30 kB of state, as one of 200 rows), through tracker, live state and a sink of lines.
Goals on 2 cores, 600 entities: under a second of processor a minute, ready in 10 s after a restart,
the lanes of all over a day in 2 s.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import ledger
import numpy as np
import psutil

from imdiffusion import baselines
from imdiffusion.data.frame import Frame
from imdiffusion.live.connection.protocols import Batch, Closing, Sink
from imdiffusion.live.connection.record_json import record_text
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.live.store.inserts import Checkpoint, Told
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.records import ScoreRecord
from imdiffusion.saved_state import State

CHANNELS = tuple(f"c{k}" for k in range(38))
MINUTE = 60 * 1_000_000_000
START = 1_700_000_400 * 1_000_000_000


class Scorer:
    """A z-score of rows that are scaled already; 200 rows of state."""

    detector, model, channels, note = "zscore", "benchmark", CHANNELS, ""
    counts: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        self._baseline = baselines.make("zscore").fit(np.zeros((2, len(CHANNELS))))
        self._rows = np.zeros((200, len(CHANNELS)), np.float32)

    def push(self, frame: Frame) -> list[ScoredRow]:
        found = []
        assert frame.timestamps is not None  # of a live row they are known
        for at, values in zip(frame.timestamps.astype(np.int64), frame.values, strict=True):
            self._rows = np.concatenate([self._rows[1:], values[None].astype(np.float32)])
            score = float(self._baseline.decision_function(values[None])[0]) / 1.2
            cells = (np.abs(values), values, 0 * values, values - 1, values + 1)
            found.append(ScoredRow(int(at), "online", score, *cells))
        return found

    def to_state(self) -> State:
        return State("rows of a benchmark", arrays={"rows": self._rows})

    @classmethod
    def from_state(cls, state: State, like: Scorer) -> Scorer:
        scorer = cls()
        scorer._rows = state.array("rows", np.float32, like._rows.shape)
        return scorer


class Source(Closing):
    """Noise of many entities, `each` rows of all in a batch, as many batches as it is told."""

    def __init__(self, entities: int, channels: tuple[str, ...] = CHANNELS) -> None:
        self.entities, self.channels, self.left, self.each = entities, channels, 0, 1
        self._row, self._generator = 0, np.random.default_rng(0)

    def open(self, offset: str | None) -> None:
        self._row = int(offset or 0)

    def read(self, timeout: float) -> Batch | None:
        if self.left == 0:
            return None
        self.left -= 1
        values = self._generator.normal(size=(self.entities, self.each, len(self.channels)))
        rows = self._row + np.arange(self.each)
        times = (START + rows * MINUTE).astype("datetime64[ns]")
        self._row += self.each
        seen = np.ones(values.shape[1:], bool)
        frames = (
            Frame(one, seen, times, self.channels, f"host{n:04d}") for n, one in enumerate(values)
        )
        return Batch(tuple(frames), str(self._row))

    def commit(self, offset: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines(Closing):
    """Appends records to a file."""

    takes, refused = frozenset({"score", "event"}), 0

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        self.path.touch()

    def send(self, records: Any) -> None:
        with self.path.open("a") as file:
            file.writelines(record_text(record) + "\n" for record in records)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def engine_on(store: Store, source: Source, sinks: Mapping[str, Sink]) -> Engine:
    engine = Engine(
        store,
        sources={"source": source},
        sinks=sinks,
        scorer_for=lambda *_: Scorer(),
        options=EngineOptions(every=1e-9, stale_after=1e12),
    )
    engine.open()
    return engine


def rounds(engine: Engine, source: Source, batches: int) -> dict[str, float]:
    """Seconds of wall and processor a batch, from read to sent."""
    wall, own = time.perf_counter(), time.process_time()
    source.left = batches
    while source.left or engine.once():
        engine.once()
    return {
        "seconds": (time.perf_counter() - wall) / batches,
        "processor seconds": (time.process_time() - own) / batches,
    }


def taken(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fill_day(store: Store, entities: int, rows: int) -> float:
    """Write `rows` scores of every entity in bulk; scores a second."""
    record = ScoreRecord("", 0, "online", 0.5, "ready", "zscore", "benchmark")
    start = time.perf_counter()
    for first in range(0, rows, 20):
        told = [
            Told(replace(record, entity=f"host{n:04d}", timestamp=START - row * MINUTE), CHANNELS)
            for row in range(first + 1, min(first + 20, rows) + 1)
            for n in range(entities)
        ]
        store.write(Checkpoint(told=told), now=START)
    return entities * rows / (time.perf_counter() - start)


def main() -> None:
    small = ledger.small()
    entities, batches, day = (20, 2, 60) if small else (600, 20, 1440)
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder, process = Path(name), psutil.Process()
        before = process.memory_info().rss
        source = Source(entities)
        with Store(folder / "live.db") as store:
            engine = engine_on(store, source, {"lines": Lines(folder / "lines")})
            rounds(engine, source, 2)  # scorers are made, pages allocated
            found.append({"what": "a minute", **rounds(engine, source, batches)})
            source.each = 10
            found.append({"what": "ten minutes at once", **rounds(engine, source, batches // 2)})
            held = (process.memory_info().rss - before) / entities / 1000
            found.append({"what": "memory an entity, scorer included", "kB": held})
            engine.close()
            found.append({"what": "scores in bulk", "a second": fill_day(store, entities, day)})
        source.each, start = 1, time.perf_counter()
        with Store(folder / "live.db") as store, Reader(folder / "live.db") as reader:
            engine = engine_on(store, source, {})  # a sink would have the bulk to catch up with
            rounds(engine, source, 1)
            whole = time.perf_counter() - start
            found.append({"what": "restart until all are scored", "seconds": whole})
            for what, since in (("a day", START - day * MINUTE), ("an hour", START - 60 * MINUTE)):
                lanes = taken(partial(reader.lanes, since, START))
                found.append({"what": f"lanes of all over {what}", "seconds": lanes})
            found.append({"what": "entities", "seconds": taken(reader.entities)})
            found.append({"what": "file", "MB": reader.size() / 1e6})
            engine.close()
    for row in found:
        row["entities"] = entities
    ledger.keep("live_state", found, small=small)


if __name__ == "__main__":
    main()
