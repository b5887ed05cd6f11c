"""Orders to workers and answers back: each order is answered once, whatever dies on the way."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from imdiffusion import __version__
from imdiffusion.batch.backend import Backend, Said
from imdiffusion.batch.messages import DONE, FAILED, FOUND, Answer, Order
from imdiffusion.errors import ConfigError

log = logging.getLogger(__name__)

UNTRIED = 3  # so many workers in a row may end before they are ready, however long that takes
UNLUCKY = 30.0  # seconds of such ends, where some were ready: who begins on a node goes with it
PAUSE, LONGEST = 0.2, 5.0  # seconds before another is begun after such an end; doubled each time
PATIENCE = 60.0  # seconds without a ready worker until that is said
DIED = 3  # exit code of an order whose workers died


class Pool:
    """The workers of one engine at the orders of one call.

    retries: how often an order whose worker died is given to another one. An order that was
    answered, be it "failed", is not tried again: the same data would fail the same way.
    """

    def __init__(self, engine: Backend, *, retries: int) -> None:
        self.engine, self.retries = engine, retries
        self._orders: Sequence[Order] = ()
        self._waiting: deque[int] = deque()
        self._deaths: list[int] = []
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, int] = {}  # worker: number of its order
        self._next = self._untried = 0  # ends in a row of workers that were not ready yet
        self._untried_since = self._not_before = 0.0
        self._pause, self._any_ready = PAUSE, False
        self._heard = time.monotonic()

    def work(self, orders: Sequence[Order]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each order, as they come. Raises ConfigError: no worker begins."""
        self._orders, self._waiting = orders, deque(range(len(orders)))
        self._deaths = [0] * len(orders)
        self._heard = time.monotonic()
        while self._waiting or self._busy:
            self._deal()
            held = max(0.0, self._not_before - time.monotonic())
            said: Sequence[Said] = []
            if self._busy or self._starting:
                said = self.engine.wait(min(1.0, held or 1.0))
            else:  # between two tries no worker is waited for
                time.sleep(held)
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
        if self._untried:  # one is enough to see whether they begin now
            wanted = min(wanted, 1)
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
            self._any_ready, self._untried, self._pause = True, 0, PAUSE
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
            self._begin_again(said.ended)
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

    def _begin_again(self, ended: str) -> None:
        """A worker ended before it was ready: another one, later. Raises ConfigError: too many."""
        now = time.monotonic()
        if not self._untried:
            self._untried_since = now
        self._untried += 1
        patience = max(self.engine.patience, UNLUCKY if self._any_ready else 0.0)
        if self._untried >= UNTRIED and now - self._untried_since >= patience:
            raise ConfigError(
                f"{self._untried} workers in a row ended before they could begin: {ended}",
                remedy=self.engine.remedy,
            )
        log.info("a worker ended before it was ready, another is begun: %s", ended)
        if now >= self._not_before:  # several that end at once are one reason to wait
            self._not_before, self._pause = now + self._pause, min(LONGEST, 2 * self._pause)
