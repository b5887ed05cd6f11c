"""The contract of what computes batches: workers that are started, handed work, heard, stopped."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from imdiffusion import __version__, registry
from imdiffusion.batch.backend import Backend, Said
from imdiffusion.batch.messages import FAILED, Answer, Order
from imdiffusion.data.layout import FileOptions
from imdiffusion.testing.contract import Expect, contract

PATIENCE = 120.0  # seconds for a worker to begin


def check_engine(name: str) -> None:
    """Two workers become ready and answer what they are handed, each by itself.

    The work is an entity without a file, which fails: no network is trained.
    """
    kind = registry.load("engines", name)
    with (
        contract(f"engine {name!r}", may_draw=True) as expect,
        tempfile.TemporaryDirectory() as folder,
        closing(kind("", jobs=2, threads=1, gpus=0.0)) as engine,
    ):
        kept = engine.slots, engine.threads
        expect(kept == (2, 1), "2 workers of 1 thread", kept)
        for worker in (0, 1):
            engine.start(worker)
        for said in _heard(expect, engine, {0, 1}):
            expect(said.ready == __version__, f"version {__version__} to be ready", said)
        for worker in (0, 1):
            engine.hand(worker, _order(Path(folder), f"e{worker}").to_json())
        for said in _heard(expect, engine, {0, 1}):
            answer = Answer.of_json(said.answer)
            expect(answer.status == FAILED, "a failure, for a file that is not there", answer)
            own = f"e{said.worker}.csv" in answer.reason
            expect(own, f"an answer about e{said.worker}.csv", answer.reason)
        engine.stop(0)
        engine.hand(1, _order(Path(folder), "again").to_json())
        (last,) = _heard(expect, engine, {1})
        expect("again.csv" in last.answer, "a second answer of a worker", last)
        engine.stop(1)
        late = engine.wait(0.1)
        expect(not late, "nothing from workers that were stopped", late)


def _order(folder: Path, entity: str) -> Order:
    return Order(
        "fit",
        entity,
        str(folder / f"{entity}.csv"),
        str(folder / entity),
        str(folder / f"{entity}.json"),
        state=str(folder / "state"),
        reading=asdict(FileOptions()),
        keywords={"preset": "fast", "seed": 0, "device": "cpu"},
    )


def _heard(expect: Expect, engine: Backend, workers: set[int]) -> list[Said]:
    """One word of each of these workers, and of no other."""
    said: list[Said] = []
    until = time.monotonic() + PATIENCE
    while len(said) < len(workers):
        expect(time.monotonic() < until, f"a word of each of {workers} in {PATIENCE} s", said)
        said += engine.wait(1.0)
    expect({one.worker for one in said} == workers, f"one word of each of {workers}", said)
    expect(not any(one.ended for one in said), "no worker to end", said)
    return said
