"""The pool over workers that do not start: tried again as long as the backend has patience."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from imdiffusion import __version__
from imdiffusion.batch import pool
from imdiffusion.batch.folder import Series, split
from imdiffusion.batch.pool import FAILED, Pool, TaskMessage, WorkerEvent
from imdiffusion.batch.worker import answer
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import ConfigError


class Threads:
    """A backend of threads; those in `fail`, counted as they are started, end at once."""

    threads = 1
    remedy = "Look into the thread pool."

    def __init__(self, fail: range | set[int], *, slots: int = 2, patience: float = 60.0) -> None:
        self.fail, self.slots, self.patience = fail, slots, patience
        self.started: list[int] = []
        self.most = 0  # workers that started at the same time
        self._starting = 0
        self._events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self._tasks: dict[int, queue.SimpleQueue[TaskMessage | None]] = {}

    def start(self, worker: int) -> None:
        self.started.append(worker)
        self._starting += 1
        self.most = max(self.most, self._starting)
        if worker in self.fail:
            self._events.put(WorkerEvent(worker, ended="it was cancelled before it began"))
            return
        self._tasks[worker] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def _serve(self, worker: int) -> None:
        self._events.put(WorkerEvent(worker, ready=__version__))
        while (task := self._tasks[worker].get()) is not None:
            self._events.put(WorkerEvent(worker, answer=answer(task)))

    def submit(self, worker: int, task: TaskMessage) -> None:
        self._tasks[worker].put(task)

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        try:
            event = self._events.get(timeout=seconds)
        except queue.Empty:
            return []
        self._starting -= bool(event.ready or event.ended)
        return [event]

    def stop(self, worker: int) -> None:
        self._tasks.pop(worker).put(None)

    def close(self) -> None:
        for worker in list(self._tasks):
            self.stop(worker)

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        return split(path, into, options)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses as long as a test can wait for them."""
    monkeypatch.setattr(pool, "PAUSE", 0.001)
    monkeypatch.setattr(pool, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def tasks(tmp_path) -> list[TaskMessage]:
    """Entities without a file, which are answered at once."""
    return [
        TaskMessage(
            "fit",
            f"e{number}",
            str(tmp_path / f"e{number}.csv"),
            str(tmp_path / "out"),
            str(tmp_path / "receipt"),
            reading=asdict(FileOptions()),
            keywords={"preset": "fast"},
        )
        for number in range(4)
    ]


def test_workers_that_end_before_they_start_are_started_again(tasks):
    backend = Threads(range(9))
    found = dict(Pool(backend, retries=0).work(tasks))
    assert sorted(found) == [0, 1, 2, 3]
    assert {one.status for one in found.values()} == {FAILED}
    assert all("e" in one.reason and one.attempts == 1 for one in found.values())
    assert backend.started[:10] == list(range(10))


def test_where_none_starts_the_call_ends_with_the_last_reason(tasks):
    backend = Threads(range(10_000), patience=0.3)
    with pytest.raises(ConfigError, match=r"workers in a row .* cancelled before .* thread pool"):
        list(Pool(backend, retries=0).work(tasks))
    assert len(backend.started) > 10  # with patience


def test_a_backend_without_patience_tries_three(tasks):
    backend = Threads(range(10_000), patience=0.0)
    with pytest.raises(ConfigError, match="3 workers in a row"):
        list(Pool(backend, retries=0).work(tasks))
    assert len(backend.started) == 3


def test_while_they_end_one_is_started_at_a_time(tasks):
    backend = Threads(range(4), slots=4)
    assert len(list(Pool(backend, retries=0).work(tasks))) == 4
    # The first four together, then one alone until one is ready, then as many as are wanted.
    assert backend.most == 4
    assert backend.started[4] == 4


def test_where_some_started_patience_is_that_of_a_node_that_goes(tasks):
    # Without a backend's own: the second worker and the nine after it end at once.
    backend = Threads(range(1, 11), patience=0.0)
    assert len(list(Pool(backend, retries=0).work(tasks))) == 4
