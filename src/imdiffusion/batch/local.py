"""The backend `local`: worker processes on this machine, each a fresh interpreter."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from imdiffusion import workers
from imdiffusion.batch.folder import Series, split
from imdiffusion.batch.pool import TaskMessage, WorkerEvent
from imdiffusion.data.layout import FileOptions
from imdiffusion.devices import core_count
from imdiffusion.errors import UsageError
from imdiffusion.workers import WorkerEndedError, WorkerProcess

PROGRAM = ("-m", "imdiffusion.batch.worker")


class LocalBackend:
    """Processes of this machine; `threads` of each are this machine's cores by their number."""

    patience = 0.0  # an interpreter that cannot start here will not a second later
    remedy = f"See what this says: {Path(sys.executable).name} {' '.join(PROGRAM)}"

    def __init__(
        self, where: str, *, jobs: int | None, threads: int | None, gpus: float = 0.0
    ) -> None:
        if where:
            raise UsageError(f"the backend 'local' has no address ({where!r})", remedy="Leave it.")
        if gpus:
            raise UsageError(
                "the backend 'local' assigns no GPUs",
                remedy="Its workers share what there is.",
            )
        cores = core_count()
        self.threads = threads or max(1, cores // jobs if jobs else 1)
        self.slots = jobs or max(1, cores // self.threads)
        self._workers: dict[int, WorkerProcess] = {}
        self._stopped: list[WorkerProcess] = []

    def start(self, worker: int) -> None:
        """Start a process, and ask for its version."""
        self._workers[worker] = WorkerProcess(*PROGRAM, threads=self.threads)
        self._workers[worker].send({})

    def submit(self, worker: int, task: TaskMessage) -> None:
        """Send it as a message."""
        self._workers[worker].send(asdict(task))

    def wait(self, seconds: float) -> Sequence[WorkerEvent]:
        """Answers of the processes, and the ends of those that died."""
        found = workers.wait(self._workers.values(), seconds)
        numbers = [number for number, one in self._workers.items() if one in found]
        return [event for number in numbers for event in self._events(number)]

    def _events(self, number: int) -> Iterator[WorkerEvent]:
        worker = self._workers[number]
        try:
            while (message := worker.receive(0.0)) is not None:
                yield WorkerEvent.from_message(number, message)
        except WorkerEndedError as error:
            self._workers.pop(number).close()
            yield WorkerEvent(number, ended=f"it ended with {error}")

    def stop(self, worker: int) -> None:
        """It ends by itself; `close` waits for that."""
        one = self._workers.pop(worker)
        one.release()
        self._stopped.append(one)

    def close(self) -> None:
        """Interrupt every process, and kill those that take too long to save."""
        for worker in self._workers.values():
            worker.interrupt()
        until = time.monotonic() + workers.GRACE
        for worker in (*self._stopped, *self._workers.values()):
            worker.close(max(0.0, until - time.monotonic()))
        self._stopped.clear()
        self._workers.clear()

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        """In this process."""
        return split(path, into, options)
