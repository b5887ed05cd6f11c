"""The tasks of a batch and its workers: each task is answered once, whichever workers die.

Where the workers are is the matter of a `Backend`. Who gets a task, how often it is tried and what
is lost is decided here, for all backends. Messages are plain JSON: rows, models and scores are read
and written under paths that all workers share.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, Self

from imdiffusion import __version__
from imdiffusion.batch.folder import Series
from imdiffusion.data.layout import FileOptions
from imdiffusion.errors import ConfigError
from imdiffusion.workers import Message

log = logging.getLogger(__name__)

DONE, FOUND, FAILED = "done", "found", "failed"
FAILED_STARTS = 3  # workers in a row that may end before they are ready, however long it takes
NODE_PATIENCE = 30.0  # seconds of such ends, where some were ready: a lost node ends all its own
PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds until the next start after such an end; doubled each time
SILENCE = 60.0  # seconds without a ready worker until a warning says so
DIED = 3  # exit code of a task whose workers died


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """What a worker is to do for one entity.

    verb: "fit" or "detect". series: the file of its rows. target: the folder that is to appear.
    receipt: the file that says of what the target was made. state: folder of a fit that was cut
    off. model: the model folder to score with ("" for fit). reading: `FileOptions` as a dict.
    keywords: of `ImDiffusion` (fit), or device and ignore_extra (detect). exclude: spans that a
    fit leaves out. threads: of one tensor operation. same_threads: make a result again that was
    made with another number.
    """

    verb: str
    entity: str
    series: str
    target: str
    receipt: str
    state: str = ""
    model: str = ""
    reading: dict[str, Any] = field(default_factory=dict)
    keywords: dict[str, Any] = field(default_factory=dict)
    exclude: list[list[Any]] = field(default_factory=list)
    threads: int = 1
    same_threads: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """How a task ended.

    status: "done", "found" (it was whole already) or "failed". reason: why it failed, and code:
    the exit code of such an error. facts: rows, events and the like. warnings: the library's.
    seconds: what the work took (of a "found" one: when it was done). attempts: how many workers
    had it.
    """

    status: str
    reason: str = ""
    code: int = 0
    facts: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """What became of a worker: it is ready (with its version), has an answer, or ended (how)."""

    worker: int
    ready: str = ""
    answer: Answer | None = None
    ended: str = ""

    @classmethod
    def from_message(cls, worker: int, message: Message) -> Self:
        """The event behind an answer of `worker.py:reply`."""
        if "ready" in message:
            return cls(worker, ready=message["ready"])
        return cls(worker, answer=Answer(**message))


class Backend(Protocol):
    """Workers somewhere. Built as `(where, *, jobs, threads, gpus)`, and named in `registry.py`.

    where: what follows the backend's name, for instance an address. jobs: workers at most, None =
    as many as there is room for. threads: of each, None = its share. gpus: of each, may be a
    fraction. Raises ConfigError or UsageError for what it cannot do.

    patience: seconds for which workers that end before they are ready are started again, where none
    ever was: 0 where what fails once will fail again. remedy: what to look at when none starts.
    """

    slots: int
    threads: int
    patience: float
    remedy: str

    def start(self, worker: int) -> None:
        """Start a worker; an event of `wait` says when it is ready."""

    def submit(self, worker: int, task: TaskMessage) -> None:
        """Send a task to a worker that has none."""

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        """Events since the last call; at most so many seconds pass until the first."""

    def stop(self, worker: int) -> None:
        """End a worker that has no task; it has no more events."""

    def close(self) -> None:
        """End all workers at once: fits save their state where that is possible."""

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        """Split a file of several entities into the empty folder `into`."""


class Pool:
    """The workers of one backend at the tasks of one call.

    retries: how often a task whose worker died is given to another one. A task that was answered,
    be it "failed", is not tried again: the same data would fail the same way.
    """

    def __init__(self, backend: Backend, *, retries: int) -> None:
        self.backend, self.retries = backend, retries
        self._tasks: Sequence[TaskMessage] = ()
        self._waiting: deque[int] = deque()
        self._deaths: list[int] = []
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, int] = {}  # worker: number of its task
        self._next = self._failed_starts = 0  # the latter in a row
        self._failing_since = self._not_before = 0.0
        self._pause, self._any_ready = PAUSE, False
        self._last_event = time.monotonic()

    def work(self, tasks: Sequence[TaskMessage]) -> Iterator[tuple[int, Answer]]:
        """Number and answer of each task, as they come. Raises ConfigError: no worker starts."""
        self._tasks, self._waiting = tasks, deque(range(len(tasks)))
        self._deaths = [0] * len(tasks)
        self._last_event = time.monotonic()
        while self._waiting or self._busy:
            self._assign()
            pause = max(0.0, self._not_before - time.monotonic())
            events: Sequence[WorkerEvent] = []
            if self._busy or self._starting:
                events = self.backend.wait(min(1.0, pause or 1.0))
            else:  # between two starts there is no worker to wait for
                time.sleep(pause)
            for event in events:
                self._last_event = time.monotonic()
                yield from self._handle(event)
            if not events and not self._busy and time.monotonic() - self._last_event > SILENCE:
                log.warning("no worker is ready yet: waiting for room for one")
                self._last_event = time.monotonic()

    def _assign(self) -> None:
        """Workers for the tasks that wait, and tasks for the workers that are ready."""
        while self._idle and self._waiting:
            worker, number = self._idle.pop(), self._waiting.popleft()
            self._busy[worker] = number
            self.backend.submit(worker, self._tasks[number])
        while self._idle:  # no task waits for them, and others may need the room
            self.backend.stop(self._idle.pop())
        wanted = min(len(self._waiting), self.backend.slots - len(self._busy))
        if self._failed_starts:  # one is enough to see whether they start now
            wanted = min(wanted, 1)
        while len(self._starting) < wanted and time.monotonic() >= self._not_before:
            self._starting.add(self._next)
            self.backend.start(self._next)
            self._next += 1

    def _handle(self, event: WorkerEvent) -> Iterator[tuple[int, Answer]]:
        if event.ended:
            yield from self._replace(event)
        elif event.answer is None:
            if event.ready != __version__:
                raise ConfigError(
                    f"a worker has imdiffusion {event.ready}, this process {__version__}",
                    remedy="Install the same version everywhere.",
                )
            self._starting.discard(event.worker)
            self._idle.append(event.worker)
            self._any_ready, self._failed_starts, self._pause = True, 0, PAUSE
        else:
            number = self._busy.pop(event.worker)
            self._idle.append(event.worker)
            found, deaths = event.answer, self._deaths[number]
            # Whole, though its worker died before it could say so: that one did it.
            status = DONE if deaths and found.status == FOUND else found.status
            yield number, replace(found, status=status, attempts=1 + deaths)

    def _replace(self, event: WorkerEvent) -> Iterator[tuple[int, Answer]]:
        """A worker ended unasked: its task goes to another one, unless that was tried enough."""
        if event.worker in self._starting:
            self._starting.discard(event.worker)
            self._start_again(event.ended)
            return
        number = self._busy.pop(event.worker, None)
        if number is None:  # it had nothing to do; another is started when there is
            if event.worker in self._idle:
                self._idle.remove(event.worker)
            return
        self._deaths[number] += 1
        tried, entity = self._deaths[number], self._tasks[number].entity
        if tried <= self.retries:
            log.warning("the worker of %r ended and is replaced: %s", entity, event.ended)
            self._waiting.appendleft(number)
            return
        times = "once" if tried == 1 else f"{tried} times"
        reason = f"its worker died {times}: {event.ended}"
        yield number, Answer(FAILED, reason, DIED, attempts=tried)

    def _start_again(self, ended: str) -> None:
        """A worker ended before it was ready: another one, later. Raises ConfigError: too many."""
        now = time.monotonic()
        if not self._failed_starts:
            self._failing_since = now
        self._failed_starts += 1
        patience = max(self.backend.patience, NODE_PATIENCE if self._any_ready else 0.0)
        if self._failed_starts >= FAILED_STARTS and now - self._failing_since >= patience:
            raise ConfigError(
                f"{self._failed_starts} workers in a row ended before they were ready: {ended}",
                remedy=self.backend.remedy,
            )
        log.info("a worker ended before it was ready, another is started: %s", ended)
        if now >= self._not_before:  # several that end at once are one reason to wait
            self._not_before = now + self._pause
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)
