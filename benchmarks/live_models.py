"""What live detection with fitted models costs: lag, processor, restart, memory, rows over HTTP.

`imdiffusion serve` is a process of its own, with a model of the default preset for every entity;
rows of 38 channels come through its API, all of a minute at once, are scored at their coming,
written to SQLite and told to a sink of lines. Once all entities speak through one model folder,
whose weights are then in memory once, and once each has a folder of its own. A score costs the same
whatever the weights are, so the model is one that was hardly trained. Goals on 2 cores with 600
entities: lag under a minute, at most half of the processor, ready 10 s after a restart, 200 kB an
entity beside weights, 100,000 values a second through the API.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ledger
import numpy as np
from serving import (
    CHANNELS,
    MINUTE,
    Service,
    Told,
    bodies,
    lines,
    names,
    serving,
    values,
    wait_for,
)  # fmt: skip

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConvergenceWarning, SourceEnded
from imdiffusion.live.config.parser import parse
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.live.store.inserts import Checkpoint
from imdiffusion.live.store.live_state import Store

WARM = 300  # rows that every entity has behind it
CLIENTS, BLOCK = 4, (50, 20)  # that send at once; entities and rows of one of their requests


def frame(rows: int, start: int, entity: str) -> Frame:
    times = (start + np.arange(rows) * MINUTE).astype("datetime64[ns]")
    cells = np.stack([values(row, 0) for row in range(rows)])
    return Frame(cells, np.ones(cells.shape, bool), times, CHANNELS, entity)


class Once(Closing):
    """A source of one frame."""

    def __init__(self, frame: Frame) -> None:
        self.frames = [frame]

    def open(self, offset: str | None) -> None:
        pass

    def read(self, timeout: float) -> Batch:
        if not self.frames:
            raise SourceEnded("all of it was read")
        return Batch((self.frames.pop(),), "1")

    def commit(self, offset: str) -> None:
        pass

    def close(self) -> None:
        pass


def prepare(
    folder: Path, detector: ImDiffusion, entities: Sequence[str], start: int, *, own: bool
) -> int:
    """A state in which all entities have a live model, and the last rows of the first behind them;
    bytes of state of one of them.
    """
    places = Places(folder / "state")
    places.make()
    detector.save(places.folder / "models" / "shared")
    fitted = detector.entity()
    digest = EntityScorer(fitted).model
    with Store(places.live) as store:
        now = time.time_ns()
        for name in entities:
            path = f"models/{name}/{digest}" if own else "models/shared"
            if own:
                shutil.copytree(places.folder / "models" / "shared", places.folder / path)
            store.add_model(name, digest, detector="fast", path=path, now=now)
            store.promote(name, digest, reason="benchmark", now=now)
        made = parse('[detector]\ndevice = "cpu"\n[stream]\ninterval = 60\n[serve]\n')
        router = ModelRouter(store, places, made)
        engine = Engine(
            store,
            sources={"first": Once(frame(WARM, start, entities[0]))},
            sinks={},
            scorer_for=router.scorer_for,
            options=EngineOptions(every=1e-9),
        )
        while engine.once():
            pass
        engine.close()
        router.close()
        state = store.state(entities[0], "scorer")
        if state is None:
            sys.exit("the first entity was not scored")
        states = {(name, "scorer"): state for name in entities[1:]}
        store.write(Checkpoint(states=states), now=time.time_ns())
    return len(state.to_bytes())


class Minutes:
    """Minute after minute of all entities, each pushed at once and awaited at the sink."""

    def __init__(self, service: Service, start: int) -> None:
        self.service, self.start = service, start
        self.told = Told(service.folder)

    def pass_one(self, entities: Sequence[str], row: int) -> tuple[float, float]:
        """Seconds from the first request to the last record at the sink, and of processor."""
        requests = bodies(entities, [row], self.start)
        busy, began, left = self.service.busy, time.perf_counter(), [len(entities)]
        for body in requests:
            self.service.push(body)

        def all_told() -> bool:
            left[0] -= self.told.scores(self.start + row * MINUTE)
            return left[0] <= 0

        wait_for(all_told, self.service.process)
        return time.perf_counter() - began, self.service.busy - busy


def lag_and_memory(
    service: Service, entities: Sequence[str], start: int, rounds: int, rest: float
) -> dict[str, Any]:
    """A few entities first, whose memory is what the program itself needs; then all of them."""
    minutes = Minutes(service, start)
    few = entities[: max(2, len(entities) // 30)]
    minutes.pass_one(few, WARM)
    before = service.resident
    minutes.pass_one(entities[len(few) :], WARM)
    minutes.pass_one(entities, WARM + 1)
    held = (service.resident - before) / (len(entities) - len(few)) / 1000
    found = [minutes.pass_one(entities, WARM + 2 + number) for number in range(rounds)]
    lag, busy = np.array(found).T
    idle = service.busy
    time.sleep(rest)
    idle = (service.busy - idle) / rest
    minute = float(np.mean(busy)) + idle * max(0.0, 60 - float(np.mean(lag)))
    cores = ledger.machine()["cores"] or 1
    return {
        "lag_median_s": round(float(np.median(lag)), 2),
        "lag_worst_s": round(float(lag.max()), 2),
        "processor_s_a_minute": round(minute, 2),
        "processor_share": round(minute / 60 / cores, 4),
        "memory_kb_an_entity": round(held, 1),
        "resident_mb": round(service.resident / 1e6),
    }


def started_again(
    service: Service, entities: Sequence[str], start: int, row: int
) -> dict[str, Any]:
    """Seconds from the start of the process until it is ready, and until all are scored again."""
    wait_for(lambda: service.get("/readyz") == 200, service.process)
    ready = time.perf_counter() - service.began
    Minutes(service, start).pass_one(entities, row)
    return {
        "restart_ready_s": round(ready, 2),
        "restart_all_scored_s": round(time.perf_counter() - service.began, 2),
    }


def ingest(
    service: Service, entities: Sequence[str], start: int, row: int, blocks: int
) -> dict[str, Any]:
    """Values a second that several clients get taken while the service scores what it can."""
    width, deep = BLOCK
    groups = [entities[at : at + width] for at in range(0, len(entities), width)]
    work = [
        lines(groups[n % len(groups)], range(first := row + n // len(groups) * deep, first + deep),
              start)
        for n in range(blocks)
    ]  # fmt: skip
    taken: list[int] = []

    def send() -> None:
        connection = service.connect()
        while work:
            try:
                body = work.pop()
            except IndexError:  # another client has taken the last one
                break
            taken.append(service.push(body, connection))
        connection.close()

    clients = [threading.Thread(target=send) for _ in range(CLIENTS)]
    work.reverse()
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    seconds = time.perf_counter() - began
    return {"values": sum(taken), "values_a_second": round(sum(taken) / seconds)}


def main() -> None:
    """Measure with shared weights and with own, and keep the rows."""
    small = ledger.small()
    count, rounds, rest, blocks = (6, 1, 0.2, 2) if small else (600, 15, 20.0, 40)
    entities, found = names(count), []
    start = time.time_ns() // MINUTE * MINUTE - (WARM + 500) * MINUTE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        detector = ImDiffusion(max_steps=5, validate_every=5, device="cpu")
        detector.fit(frame(400 if small else 2_000, start, "host-0"))
    for own in (False, True):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            state = prepare(folder, detector, entities, start, own=own)
            weights = (folder / "state" / "models" / "shared" / "weights.safetensors").stat()
            facts = {
                "models": "a folder each" if own else "one folder for all",
                "entities": count,
                "state_kb_an_entity": round(state / 1000, 1),
                "weights_kb_a_model": round(weights.st_size / 1000, 1),
            }
            with serving(folder) as service:
                facts |= lag_and_memory(service, entities, start, rounds, rest)
            row = WARM + 2 + rounds  # the next one
            with serving(folder) as service:
                facts |= started_again(service, entities, start, row)
                if not own:
                    took = ingest(service, entities, start, row + 1, blocks)
                    found.append({"models": "rows over HTTP, while they are scored", **took})
            found.append(facts)
    ledger.keep("live_models", found, small=small)


if __name__ == "__main__":
    main()
