"""What an entity costs, live, from 10 to 10,000 of them, and what a queue says of more.

Entities of 38 channels share one network of the default size, each with its own scaler, thresholds
and full buffers; every minute brings one row of each, through engine, state and a sink of lines.
Measured: processor, memory, disk and the bytes that cross a network. Then a queue is simulated: the
rows of a minute come at once to one worker, and service times are drawn from what a small fleet
took. Where it foretells the larger ones it may be believed beyond them (docs/scale.md).
"""

from __future__ import annotations

import heapq
import json
import sqlite3
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import ledger
import numpy as np
import psutil
import torch
from live_state import CHANNELS, MINUTE, START, Lines, Source, rounds

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.saved_state import State
from imdiffusion.shared_model import fallback_entity

HELD = 250  # rows before the first measured one: more than a context, so that buffers are full
PERIOD = 60.0


def member() -> Entity:
    """A member of a fleet whose network has the default's size: scoring costs what it does."""
    noise = np.random.default_rng(0)
    data = {f"h{n}": noise.normal(size=(500, len(CHANNELS))) for n in range(2)}
    detector = ImDiffusion(scope="shared", max_steps=2, validate_every=2).fit(data)
    return detector.entity(detector.entities_[0])


def full_state(like: Entity) -> State:
    """The state of a scorer that has seen `HELD` rows, the last a minute before `START`."""
    rows = np.random.default_rng(1).normal(size=(HELD, len(CHANNELS)))
    times = (START + (np.arange(HELD) - HELD) * MINUTE).astype("datetime64[ns]")
    scorer = EntityScorer(fallback_entity([like], "host"))
    scorer.push(Frame(rows, np.ones(rows.shape, bool), times, like.channels, "host"))
    return scorer.to_state()


class Whole(EntityScorer):
    """A scorer whose rows come whole and in order: there is nothing to count."""

    counts: ClassVar[dict[str, int]] = {}


def scorer_at(like: Entity, state: State) -> Whole:
    """The scorer of one more entity, which goes on from a state."""
    return Whole.from_state(state, Whole(fallback_entity([like], "host")))


def services(like: Entity, state: State, rows: int) -> list[float]:
    """Seconds that single rows take, one entity after another."""
    found = []
    for row in range(rows):
        scorer = scorer_at(like, state)
        values = np.random.default_rng(row).normal(size=(1, len(CHANNELS)))
        times = np.array([START]).astype("datetime64[ns]")
        frame = Frame(values, np.ones(values.shape, bool), times, like.channels, "host")
        start = time.perf_counter()
        scorer.push(frame)
        found.append(time.perf_counter() - start)
    return found


def measure(
    like: Entity, state: State, entities: int, batches: int, apart: int = 1
) -> dict[str, float]:
    """Costs of so many entities over some minutes, a row an entity and minute.

    apart: minutes from one checkpoint to the next; `batches` is a multiple of it.
    """

    process = psutil.Process()
    before = process.memory_info().rss
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), Source(entities, like.channels)
        with Store(folder / "live.db") as store:
            lines = Lines(folder / "lines")
            options = EngineOptions(every=1e9, rows=10**9, stale_after=1e12, most_entities=entities)
            engine = Engine(
                store,
                sources={"source": source},
                sinks={"lines": lines},
                scorer_for=lambda *_: scorer_at(like, state),
                options=options,
            )
            engine.open()
            rounds(engine, source, 1)  # scorers are made, pages allocated
            engine.advance(write=True)
            kept, sent = _pages(folder / "live.db"), lines.path.stat().st_size
            wrote = process.io_counters().write_bytes
            wall, own = time.perf_counter(), time.process_time()
            for _ in range(batches // apart):
                rounds(engine, source, apart)
                engine.advance(write=True)
                engine.once()  # what was written goes to the sink
            wall, own = time.perf_counter() - wall, time.process_time() - own
            per_row = entities * batches
            held = process.memory_info().rss - before
            kept_row = (_pages(folder / "live.db") - kept) / per_row
            wrote_row = (process.io_counters().write_bytes - wrote) / per_row
            sent_row = (lines.path.stat().st_size - sent) / per_row
            engine.close()
    return {
        "minute_s": wall / batches,
        "processor_ms_a_row": 1e3 * own / per_row,
        "memory_kB_an_entity": held / entities / 1e3,
        "bytes_kept_a_row": kept_row,
        "bytes_written_a_row": wrote_row,
        "bytes_in_a_row": len(json.dumps(dict.fromkeys(like.channels, 0.123456))),
        "bytes_out_a_row": sent_row,
    }


def _pages(path: Path) -> int:
    """Bytes of a database, what its log holds included."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        count, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size")
        )
    return int(count) * int(size)


def simulate(entities: int, service: list[float], *, workers: int, minutes: int = 5) -> float:
    """Seconds from the minute's rows to the last score of the last minute: a queue of first come.

    All rows of a minute come at once, as a scrape brings them; each takes a drawn service time of
    the first worker that is free.
    """
    generator, free = np.random.default_rng(2), [0.0] * workers
    for minute in range(minutes):
        came = minute * PERIOD
        for took in generator.choice(service, entities):
            start = max(came, heapq.heappop(free))
            heapq.heappush(free, start + float(took))
    return max(free) - (minutes - 1) * PERIOD


def main() -> None:
    """Measure each size, simulate it and more, and keep the rows."""
    small = ledger.small()
    torch.set_num_threads(1)  # more would be busy without being quicker; processes share a machine
    sizes = (5, 20) if small else (10, 100, 1_000, 10_000)
    found: list[dict[str, object]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noise does not converge
        like = member()
        state = full_state(like)
        for entities in sizes:
            costs = measure(like, state, entities, 1 if entities > 1_000 else 3)
            found.append({"what": "measured", "entities": entities, **costs})
            print(found[-1], flush=True)
        costs = measure(like, state, sizes[1], 5, apart=5)
        rare = {"what": "measured, a checkpoint in 5 minutes", "entities": sizes[1], **costs}
        print(rare, flush=True)
        # What a row takes within the engine, spread as rows alone are spread.
        alone = np.array(services(like, state, 5 if small else 200))
    each = float(str(found[1]["minute_s"])) / sizes[1]
    service = list(alone / alone.mean() * each)
    found.append(rare)
    for entities in (*sizes, *(() if small else (6_000, 20_000))):
        last = simulate(entities, service, workers=1)
        found.append({"what": "simulated, 1 worker", "entities": entities, "minute_s": last})
    ledger.keep("scale", found, small=small)


if __name__ == "__main__":
    main()
