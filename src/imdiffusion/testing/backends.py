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
from imdiffusion.testing.contract import Expect, contract

PATIENCE = 120.0  # seconds for a worker to start


def check_backend(name: str) -> None:
    """Two workers of a backend become ready and answer their tasks, each by itself.

    The work is an entity without a file, which fails: no network is trained.
    """
    kind = registry.load("backends", name)
    with (
        contract(f"backend {name!r}", may_draw=True) as expect,
        tempfile.TemporaryDirectory() as folder,
        closing(kind("", jobs=2, threads=1, gpus=0.0)) as backend,
    ):
        kept = backend.slots, backend.threads
        expect(kept == (2, 1), "2 workers of 1 thread", kept)
        for worker in (0, 1):
            backend.start(worker)
        for event in _events(expect, backend, {0, 1}):
            expect(event.ready == __version__, f"version {__version__} to be ready", event)
        for worker in (0, 1):
            backend.submit(worker, _task(Path(folder), f"e{worker}"))
        for event in _events(expect, backend, {0, 1}):
            answer = _answer(expect, event)
            expect(answer.status == FAILED, "a failure, for a file that is not there", answer)
            own = f"e{event.worker}.csv" in answer.reason
            expect(own, f"an answer about e{event.worker}.csv", answer.reason)
        backend.stop(0)
        backend.submit(1, _task(Path(folder), "again"))
        (last,) = _events(expect, backend, {1})
        reason = _answer(expect, last).reason
        expect("again.csv" in reason, "a second answer of a worker", reason)
        backend.stop(1)
        late = backend.wait(0.1)
        expect(not late, "nothing from workers that were stopped", late)


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


def _events(expect: Expect, backend: Backend, workers: set[int]) -> list[WorkerEvent]:
    """One event of each of these workers, and of no other."""
    events: list[WorkerEvent] = []
    until = time.monotonic() + PATIENCE
    while len(events) < len(workers):
        expect(time.monotonic() < until, f"an event of each of {workers} in {PATIENCE} s", events)
        events += backend.wait(1.0)
    expect({one.worker for one in events} == workers, f"one event of each of {workers}", events)
    expect(not any(one.ended for one in events), "no worker to end", events)
    return events


def _answer(expect: Expect, event: WorkerEvent) -> Answer:
    expect(event.answer is not None, "an answer", event)
    assert event.answer is not None  # noqa: S101  for the type: `expect` has raised
    return event.answer
