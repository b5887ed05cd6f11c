"""The engine `local`: worker processes on this machine, each a fresh interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from imdiffusion.batch import split
from imdiffusion.batch.backend import Said
from imdiffusion.batch.folder import Series
from imdiffusion.data.layout import FileOptions
from imdiffusion.devices import core_count
from imdiffusion.errors import UsageError

MODULE = "imdiffusion.batch.worker"
COMMAND = (sys.executable, "-m", MODULE)
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAST_WORDS = 400  # characters of stderr that a death quotes
GRACE = 20.0  # seconds that interrupted workers have to save their fits


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    heard: bytearray = field(default_factory=bytearray)
    ready: bool = False


class LocalBackend:
    """Processes of this machine; `threads` of each are this machine's cores by their number."""

    patience = 0.0  # an interpreter that cannot begin here will not a second later
    remedy = f"See the output of: {Path(sys.executable).name} -m {MODULE}"

    def __init__(
        self, where: str, *, jobs: int | None, threads: int | None, gpus: float = 0.0
    ) -> None:
        if where:
            raise UsageError(f"the engine 'local' has no address ({where!r})", remedy="Leave it.")
        if gpus:
            raise UsageError(
                "the engine 'local' hands out no GPUs", remedy="Its workers share what there is."
            )
        cores = core_count()
        self.threads = threads or max(1, cores // jobs if jobs else 1)
        self.slots = jobs or max(1, cores // self.threads)
        self._workers: dict[int, _Worker] = {}
        self._leaving: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def start(self, worker: int) -> None:
        """Begin a process."""
        errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed in `_see_off`
        process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **dict.fromkeys(POOLS, str(self.threads))},
            start_new_session=True,  # Ctrl-C reaches it through `close`, once
        )
        self._workers[worker] = _Worker(process, errors)
        self._selector.register(_pipe(process.stdout), selectors.EVENT_READ, worker)

    def hand(self, worker: int, order: str) -> None:
        """One line to its standard input."""
        pipe = _pipe(self._workers[worker].process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it has died: `wait` tells
            pipe.write(order.encode() + b"\n")
            pipe.flush()

    def wait(self, seconds: float) -> Sequence[Said]:
        """Whole lines of their standard outputs, and the ends of those that died."""
        said: list[Said] = []
        if not self._workers:
            return said
        for key, _ in self._selector.select(seconds):
            number, worker = key.data, self._workers[key.data]
            piece = os.read(key.fd, 1 << 16)
            if not piece:
                said.append(Said(number, ended=self._bury(number)))
                continue
            worker.heard += piece
            while b"\n" in worker.heard:
                line, _, worker.heard = worker.heard.partition(b"\n")
                said.append(self._told(number, line.decode()))
        return said

    def _told(self, number: int, line: str) -> Said:
        worker = self._workers[number]
        if worker.ready:
            return Said(number, answer=line)
        worker.ready = True
        return Said(number, ready=json.loads(line)["ready"])

    def stop(self, worker: int) -> None:
        """It ends by itself when it finds no more orders; `close` sees it off."""
        one = self._workers.pop(worker)
        self._selector.unregister(_pipe(one.process.stdout))
        _shut(one.process.stdin)
        self._leaving.append(one)

    def close(self) -> None:
        """Interrupt every process, and end those that take too long to save."""
        for worker in self._workers.values():
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGINT)
        self._selector.close()
        until = time.monotonic() + GRACE
        for worker in (*self._leaving, *self._workers.values()):
            _see_off(worker, max(0.0, until - time.monotonic()))
        self._leaving.clear()
        self._workers.clear()

    def split(self, path: Path, into: Path, options: FileOptions) -> list[Series]:
        """In this process."""
        return split.split(path, into, options)

    def _bury(self, number: int) -> str:
        """How a process ended whose output has ended, in words."""
        worker = self._workers.pop(number)
        self._selector.unregister(_pipe(worker.process.stdout))
        return _see_off(worker, GRACE)


def _see_off(worker: _Worker, seconds: float) -> str:
    """Wait for a process that should end by itself, make it, and say how it ended."""
    process = worker.process
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    worker.errors.seek(0)
    words = " ".join(worker.errors.read().decode(errors="replace").split())[-LAST_WORDS:]
    worker.errors.close()
    _shut(process.stdin)
    _shut(process.stdout)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"it ended with {how}" + (f": {words}" if words else "")


def _shut(pipe: IO[bytes] | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # its reader is gone
        _pipe(pipe).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("the worker has no pipes")
    return stream
