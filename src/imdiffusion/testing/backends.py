"""What every backend of batches keeps: workers that start, answer tasks, and stop."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from imdiffusion import __version__, registry
from imdiffusion.batch.pool import FAILED, Answer, Backend, TaskMessage, WorkerEvent
from imdiffusion.data.layout import FileOptions

PATIENCE = 120.0  # seconds for a worker to start


def check_backend(name: str) -> None:
    """Two workers of a backend become ready and answer their tasks, each by itself.

    The work is an entity without a file, which fails: no network is trained. AssertionError says
    what is broken.
    """
    kind = registry.load("backends", name)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(kind("", jobs=2, threads=1, gpus=0.0)) as backend,
    ):
        _require(backend.slots == 2 and backend.threads == 1, "jobs and threads are not kept")
        for worker in (0, 1):
            backend.start(worker)
        for event in _events(backend, {0, 1}):
            _require(event.ready == __version__, f"{event} is the first of its worker")
        for worker in (0, 1):
            backend.submit(worker, _task(Path(folder), f"e{worker}"))
        for event in _events(backend, {0, 1}):
            answer = _answer(event)
            _require(answer.status == FAILED, "a file that is not there was fitted")
            _require(f"e{event.worker}.csv" in answer.reason, "the answer is of another task")
        backend.stop(0)
        backend.submit(1, _task(Path(folder), "again"))
        (last,) = _events(backend, {1})
        _require("again.csv" in _answer(last).reason, "a worker answers one task only")
        backend.stop(1)
        _require(not backend.wait(0.1), "workers that were stopped have events")


def _task(folder: Path, entity: str) -> TaskMessage:
    return TaskMessage(
        "fit",
        entity,
        str(folder / f"{entity}.csv"),
        str(folder / entity),
        str(folder / f"{entity}.json"),
        state=str(folder / "state"),
        reading=asdict(FileOptions()),
        keywords={"preset": "fast", "seed": 0, "device": "cpu"},
    )


def _events(backend: Backend, workers: set[int]) -> list[WorkerEvent]:
    """One event of each of these workers, and of no other."""
    events: list[WorkerEvent] = []
    until = time.monotonic() + PATIENCE
    while len(events) < len(workers):
        _require(time.monotonic() < until, f"workers are silent: {workers}")
        events += backend.wait(1.0)
    _require({one.worker for one in events} == workers, f"{events} are not one of each worker")
    _require(not any(one.ended for one in events), f"a worker ended: {events}")
    return events


def _answer(event: WorkerEvent) -> Answer:
    if event.answer is None:
        raise AssertionError(f"{event} is no answer")
    return event.answer


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(what)
