"""What every backend of batches keeps: workers that are begun, told, heard, and let go."""

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

PATIENCE = 120.0  # seconds for a worker to begin


def check_engine(name: str) -> None:
    """Two workers of an engine become ready and answer what they are handed, each by itself.

    The work is an entity without a file, which fails: no network is trained. AssertionError says
    what is broken.
    """
    kind = registry.load("engines", name)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(kind("", jobs=2, threads=1, gpus=0.0)) as engine,
    ):
        _require(engine.slots == 2 and engine.threads == 1, "jobs and threads are not kept")
        for worker in (0, 1):
            engine.start(worker)
        for said in _heard(engine, {0, 1}):
            _require(said.ready == __version__, f"worker {said.worker} says {said} first")
        for worker in (0, 1):
            engine.hand(worker, _order(Path(folder), f"e{worker}").to_json())
        for said in _heard(engine, {0, 1}):
            answer = Answer.of_json(said.answer)
            _require(answer.status == FAILED, "a file that is not there was fitted")
            _require(f"e{said.worker}.csv" in answer.reason, "the answer is of another order")
        engine.stop(0)
        engine.hand(1, _order(Path(folder), "again").to_json())
        (last,) = _heard(engine, {1})
        _require("again.csv" in last.answer, "a worker answers one order only")
        engine.stop(1)
        _require(not engine.wait(0.1), "workers that were let go are heard")


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


def _heard(engine: Backend, workers: set[int]) -> list[Said]:
    """One word of each of these workers, and of no other."""
    said: list[Said] = []
    until = time.monotonic() + PATIENCE
    while len(said) < len(workers):
        _require(time.monotonic() < until, f"workers are silent: {workers}")
        said += engine.wait(1.0)
    _require({one.worker for one in said} == workers, f"{said} are not one word of each")
    _require(not any(one.ended for one in said), f"a worker ended: {said}")
    return said


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
