"""One shift: worker processes at groups of runs, until all are done, time is up, or Ctrl-C."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imdiffusion_bench import record
from imdiffusion_bench.link import Link
from imdiffusion_bench.measure import Group, failure
from imdiffusion_bench.record import Record

UNTRIED_DEATHS = 2  # so often in a row a worker may die before it takes up a group


@dataclass(slots=True)
class State:
    """How far a call is: runs asked for, found done, done now, failed now; seconds so far."""

    asked: int = 0
    found: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    doing: dict[int, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Runs still to do."""
        return self.asked - self.found - self.done - self.failed

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before the first run."""
        now = self.done + self.failed
        return self.seconds / now * self.left if now else None


Watch = Callable[[State, Record | None], None]


class Shift:
    """Workers at their groups.

    todo: the groups in order. out: where runs are written down. work: the folder of the states of
    fits. keep: the folder for scores, None = they are not kept. state is kept up to date, and
    handed to `watch` with each message. jobs, threads: workers at most, threads of each; None =
    cores / jobs.
    """

    def __init__(
        self,
        todo: Sequence[Group],
        out: Path,
        state: State,
        *,
        work: Path,
        keep: Path | None,
        root: Path | None,
        device: str,
        jobs: int,
        threads: int | None,
        watch: Watch | None,
    ) -> None:
        self.out, self.state, self.watch = out, state, watch
        self.device, self.jobs = device, min(jobs, len(todo))
        self.threads = threads or max(1, _cores() // self.jobs)
        # With each group, how many workers in a row died before they took it up.
        self.waiting = deque((group, 0) for group in todo)
        self.told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.links = [Link(root, device, self.threads, work, keep) for _ in range(self.jobs)]
        self.stopping = False

    def work(self, minutes: float | None) -> None:
        """Until all is done, or so many minutes have passed: what was begun then stops in order.

        What ends it otherwise, such as KeyboardInterrupt out of `watch`, is raised after the same
        order. Whatever was measured by then is written down.
        """
        began = time.monotonic()
        deadline = None if minutes is None else began + 60 * minutes
        crew = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(self.jobs)
        ]
        for thread in crew:
            thread.start()
        busy = self.jobs
        try:
            while busy:
                if deadline is not None and time.monotonic() > deadline:
                    break
                try:
                    number, what = self.told.get(timeout=0.2)
                except queue.Empty:
                    continue
                self.state.seconds = time.monotonic() - began
                busy -= self._heed(number, what)
        finally:
            self.stopping = True
            for link in self.links:
                link.stop()
            for thread in crew:
                thread.join()
            for link in self.links:
                link.close()
            error = self._keep_the_rest()
        if error is not None:
            raise error

    def _keep_the_rest(self) -> BaseException | None:
        """Write down what was measured while the shift ended; the error that ended a thread."""
        error = None
        while not self.told.empty():
            _, what = self.told.get()
            if isinstance(what, BaseException):
                error = error or what
            elif isinstance(what, dict):
                self._keep(what)
        return error

    def _heed(self, number: int, what: Any) -> int:
        """Take one message; 1 where a worker has nothing left to do."""
        kept = None
        if what is None:
            self.state.doing.pop(number, None)
            return 1
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, str):
            self.state.doing[number] = what
        else:
            self._keep(what)
            kept = what
        if self.watch is not None:
            self.watch(self.state, kept)
        return 0

    def _keep(self, run: Record) -> None:
        record.append(self.out, run)
        if run["status"] == "ok":
            self.state.done += 1
        else:
            self.state.failed += 1

    def _serve(self, number: int) -> None:
        """One thread: hand groups to one worker process and pass on what it answers."""
        try:
            while not self.stopping:
                try:
                    group, deaths = self.waiting.popleft()
                except IndexError:
                    break
                self._measure(number, group, deaths)
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            self.told.put((number, error))
            return
        self.told.put((number, None))

    def _measure(self, number: int, group: Group, deaths: int) -> None:
        """One group by one worker. If that dies, one run has failed at most; the rest waits."""
        link, left = self.links[number], group.ids()
        for message in link.measure(group):
            if not isinstance(message, str):
                left.pop(message["id"], None)
            self.told.put((number, message))
        if not left or self.stopping:
            return
        rest = tuple(left.values())
        deaths = 0 if link.began else deaths + 1
        if link.began or deaths == UNTRIED_DEATHS:
            died = failure(
                group, rest[0], "process", link.last_words, device=self.device, threads=self.threads
            )
            self.told.put((number, died))
            rest, deaths = rest[1:], 0
        if rest:
            self.waiting.appendleft((replace(group, variants=rest), deaths))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
