"""Orders to workers and answers back: each order is answered once, whatever dies on the way."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from imdiffusion import __version__
from imdiffusion.errors import ConfigError
from imdiffusion.fleet.order import DONE, FAILED, FOUND, Answer, Order
from imdiffusion.fleet.seam import Engine, Said

log = logging.getLogger(__name__)

UNTRIED = 3  # so many workers in a row may end before they are ready, if none ever was
UNLUCKY = 12  # and so many where some were: a node that goes takes those with it that begin there
PAUSE = 0.1  # seconds before another is begun after such an end; doubled each time, up to 5
PATIENCE = 60.0  # seconds without a ready worker until that is said
DIED = 3  # exit code of an order whose workers died


class Pool:
    """The workers of one engine at the orders of one call.

    retries: how often an order whose worker died is given to another one. An order that was
    answered, be it "failed", is not tried again: the same data would fail the same way.
    """

    def __init__(self, engine: Engine, *, retries: int) -> None:
        self.engine, self.retries = engine, retries
        self._orders: Sequence[Order] = ()
        self._waiting: deque[int] = deque()
        self._deaths: list[int] = []
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, int] = {}  # worker: number of its order
        self._next = self._untried = 0
        self._any_ready, self._not_before = False, 0.0
        self._heard = time.monotonic()

    def work(self, orders: Sequence[Order]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each order, as they come. Raises ConfigError: no worker begins."""
        self._orders, self._waiting = orders, deque(range(len(orders)))
        self._deaths = [0] * len(orders)
        self._heard = time.monotonic()
        while self._waiting or self._busy:
            self._deal()
            said = self.engine.wait(1.0)
            if not said and not self._busy and not self._starting:
                time.sleep(PAUSE)  # between two tries nobody is there to be waited for
            for one in said:
                self._heard = time.monotonic()
                yield from self._heed(one)
            if not said and not self._busy and time.monotonic() - self._heard > PATIENCE:
                log.warning("no worker is ready yet: waiting for room for one")
                self._heard = time.monotonic()

    def _deal(self) -> None:
        """Workers for the orders that wait, and orders for the workers that are ready."""
        while self._idle and self._waiting:
            worker, number = self._idle.pop(), self._waiting.popleft()
            self._busy[worker] = number
            self.engine.hand(worker, self._orders[number].to_json())
        while self._idle:  # what waits no more needs them no more, and others may need the room
            self.engine.stop(self._idle.pop())
        wanted = min(len(self._waiting), self.engine.slots - len(self._busy))
        while len(self._starting) < wanted and time.monotonic() >= self._not_before:
            self._starting.add(self._next)
            self.engine.start(self._next)
            self._next += 1

    def _heed(self, said: Said) -> Iterator[tuple[int, Answer]]:
        if said.ended:
            yield from self._mourn(said)
        elif said.worker in self._starting:
            if said.ready != __version__:
                raise ConfigError(
                    f"a worker has version {said.ready} of imdiffusion, this process {__version__}",
                    remedy="Install the same version everywhere.",
                )
            self._starting.discard(said.worker)
            self._idle.append(said.worker)
            self._any_ready, self._untried = True, 0
        else:
            number = self._busy.pop(said.worker)
            self._idle.append(said.worker)
            found, deaths = Answer.of_json(said.answer), self._deaths[number]
            # Whole, though its worker died before it could say so: that one did it.
            status = DONE if deaths and found.status == FOUND else found.status
            yield number, replace(found, status=status, attempts=1 + deaths)

    def _mourn(self, said: Said) -> Iterator[tuple[int, Answer]]:
        """A worker ended unasked: its order goes to another one, unless that was tried enough."""
        if said.worker in self._starting:
            self._starting.discard(said.worker)
            self._untried += 1
            pause = min(5.0, PAUSE * 2**self._untried)
            self._not_before = time.monotonic() + pause
            if self._untried >= (UNLUCKY if self._any_ready else UNTRIED):
                raise ConfigError(
                    f"{self._untried} workers in a row ended before they could begin: {said.ended}",
                    remedy="Is imdiffusion installed where they are started?",
                )
            return
        number = self._busy.pop(said.worker, None)
        if number is None:  # it had nothing to do; another is begun when there is
            if said.worker in self._idle:
                self._idle.remove(said.worker)
            return
        self._deaths[number] += 1
        tried, entity = self._deaths[number], self._orders[number].entity
        if tried <= self.retries:
            log.warning("the worker of %r ended and is replaced: %s", entity, said.ended)
            self._waiting.appendleft(number)
            return
        times = "once" if tried == 1 else f"{tried} times"
        yield number, Answer(FAILED, f"its worker died {times}: {said.ended}", DIED, attempts=tried)
