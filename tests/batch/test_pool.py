"""The pool over workers that do not begin: tried again as long as the engine has patience."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from imdiffusion import __version__
from imdiffusion.batch import pool
from imdiffusion.batch.backend import Said
from imdiffusion.batch.folder import Series
from imdiffusion.batch.messages import FAILED, Order
from imdiffusion.batch.pool import Pool
from imdiffusion.batch.split import split
from imdiffusion.batch.task import answer
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import ConfigError


class Threads:
    """An engine of threads; those in `fail`, counted as they are begun, end at once."""

    threads = 1
    remedy = "Look into the engine room."

    def __init__(self, fail: range | set[int], *, slots: int = 2, patience: float = 60.0) -> None:
        self.fail, self.slots, self.patience = fail, slots, patience
        self.begun: list[int] = []
        self.most = 0  # workers that began at the same time
        self._beginning = 0
        self._said: queue.SimpleQueue[Said] = queue.SimpleQueue()
        self._orders: dict[int, queue.SimpleQueue[str | None]] = {}

    def start(self, worker: int) -> None:
        self.begun.append(worker)
        self._beginning += 1
        self.most = max(self.most, self._beginning)
        if worker in self.fail:
            self._said.put(Said(worker, ended="it was cancelled before it began"))
            return
        self._orders[worker] = queue.SimpleQueue()
        threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def _serve(self, worker: int) -> None:
        self._said.put(Said(worker, ready=__version__))
        while (order := self._orders[worker].get()) is not None:
            self._said.put(Said(worker, answer=answer(Order.of_json(order)).to_json()))

    def hand(self, worker: int, order: str) -> None:
        self._orders[worker].put(order)

    def wait(self, seconds: float) -> Sequence[Said]:
        try:
            said = self._said.get(timeout=seconds)
        except queue.Empty:
            return []
        self._beginning -= bool(said.ready or said.ended)
        return [said]

    def stop(self, worker: int) -> None:
        self._orders.pop(worker).put(None)

    def close(self) -> None:
        for worker in list(self._orders):
            self.stop(worker)

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        return split(path, into, options)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Pauses as long as a test can wait for them."""
    monkeypatch.setattr(pool, "PAUSE", 0.001)
    monkeypatch.setattr(pool, "LONGEST", 0.01)


@pytest.fixture
def orders(tmp_path) -> list[Order]:
    """Entities without a file, which are answered at once."""
    return [
        Order(
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


def test_workers_that_end_before_they_begin_are_begun_again(orders):
    engine = Threads(range(9))
    found = dict(Pool(engine, retries=0).work(orders))
    assert sorted(found) == [0, 1, 2, 3]
    assert {one.status for one in found.values()} == {FAILED}
    assert all("e" in one.reason and one.attempts == 1 for one in found.values())
    assert engine.begun[:10] == list(range(10))


def test_where_none_begins_the_call_ends_with_what_was_said(orders):
    engine = Threads(range(10_000), patience=0.3)
    with pytest.raises(ConfigError, match=r"workers in a row .* cancelled before .* engine room"):
        list(Pool(engine, retries=0).work(orders))
    assert len(engine.begun) > 10  # with patience


def test_an_engine_without_patience_tries_three(orders):
    engine = Threads(range(10_000), patience=0.0)
    with pytest.raises(ConfigError, match="3 workers in a row"):
        list(Pool(engine, retries=0).work(orders))
    assert len(engine.begun) == 3


def test_while_they_end_one_is_begun_at_a_time(orders):
    engine = Threads(range(4), slots=4)
    assert len(list(Pool(engine, retries=0).work(orders))) == 4
    # The first four together, then one alone until one begins, then as many as are wanted.
    assert engine.most == 4
    assert engine.begun[4] == 4


def test_where_some_began_patience_is_that_of_a_node_that_goes(orders):
    # Without an engine's own: the second worker and the nine after it end at once.
    engine = Threads(range(1, 11), patience=0.0)
    assert len(list(Pool(engine, retries=0).work(orders))) == 4
