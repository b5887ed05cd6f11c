"""Child processes that answer messages: the side of the parent, and the child's own.

    parent to child   standard input, one JSON object a line
    child to parent   standard output, one JSON object a line; what a library prints goes to stderr

Each message has one answer, and maybe notes before it. A child ends with its parent, whatever ended
that: the kernel then closes the child's standard input.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import IO, Any

log = logging.getLogger(__name__)

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
STDERR_QUOTED = 400  # characters of stderr that say why a process ended
GRACE = 20.0  # seconds that a process has to save its work and end, until it is killed
INTERRUPTED = 130  # exit code of a process that was interrupted, as a shell has it
STDIN, STDOUT, STDERR = 0, 1, 2

Message = dict[str, Any]


class WorkerEndedError(Exception):
    """A process ended, by its exit code (negative: the signal), and what its stderr ends with."""

    def __init__(self, code: int, stderr: str) -> None:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        super().__init__(how + (f": {stderr}" if stderr else ""))
        self.code = code


class WorkerProcess:
    """A process of this interpreter whose program calls `serve`; started by its first message.

    program: arguments of the interpreter, such as "-m", "MODULE". threads: of the pools of torch
    and of numpy's libraries. nice: how far it steps back behind this process. log: the file that
    gets its stderr, None = a temporary one.

    A process that has ended is started again by the next message. It has a session of its own:
    Ctrl-C in a terminal reaches this process alone, which then interrupts the other.
    """

    def __init__(
        self, *program: str, threads: int = 1, nice: int = 0, log: Path | None = None
    ) -> None:
        self._program, self._threads, self._nice, self._log = program, threads, nice, log
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._lines = _Lines()
        self._messages: deque[Message] = deque()

    @property
    def pid(self) -> int:
        """Of the process that was started last; 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process, unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._stderr = (
            tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
            if self._log is None
            else self._log.open("w+b")
        )
        self._process = subprocess.Popen(
            (sys.executable, *self._program),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **dict.fromkeys(POOLS, str(self._threads))},
            start_new_session=True,
        )
        if self._nice:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self.pid, own + self._nice)

    def send(self, message: Message) -> None:
        """Send a message; if the process has ended meanwhile, `receive` says so."""
        self.start()
        with contextlib.suppress(BrokenPipeError):
            _write(_pipe(self._running().stdin), message)

    def receive(self, seconds: float | None = None) -> Message | None:
        """The next message of the process; None if none came in so many seconds (None = no limit).

        Raises WorkerEndedError once there are no more, because the process has ended. One that has
        only closed its output is killed after GRACE seconds.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while not self._messages:
            if not wait([self], None if until is None else max(0.0, until - time.monotonic())):
                return None
            piece = os.read(self.fileno(), 1 << 16)
            if not piece:
                raise WorkerEndedError(self.end(), self._quoted())
            self._messages.extend(self._lines.feed(piece))
        return self._messages.popleft()

    def fileno(self) -> int:
        """The descriptor that is readable once there is something to receive."""
        return _pipe(self._running().stdout).fileno()

    def interrupt(self) -> None:
        """Have the process save its work and end, at once; `end` waits for that."""
        if self._process is not None:
            self._process.terminate()

    def release(self) -> None:
        """Let a process that has answered everything end by itself: no message will follow."""
        if self._process is not None:
            _close(self._process.stdin)

    def end(self, seconds: float | None = None) -> int:
        """Wait for the end so many seconds (None = GRACE), then kill; the exit code, or minus the
        signal; 0 without a process. May be called while another thread receives.
        """
        if self._process is None:
            return 0
        try:
            return self._process.wait(GRACE if seconds is None else seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def close(self, seconds: float | None = None) -> None:
        """`end`, and let go of the pipes; without a process nothing."""
        if self._process is None:
            return
        self.end(seconds)
        for pipe in (self._process.stdin, self._process.stdout, self._stderr):
            _close(pipe)
        self._process = self._stderr = None
        self._lines = _Lines()
        self._messages.clear()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("no process was started")
        return self._process

    def _quoted(self) -> str:
        """The end of its stderr, on one line."""
        # `pread` leaves the position of the file alone, which the process shares and writes at.
        descriptor = _pipe(self._stderr).fileno()
        start = max(0, os.fstat(descriptor).st_size - 4 * STDERR_QUOTED)
        text = os.pread(descriptor, 4 * STDERR_QUOTED, start).decode(errors="replace")
        return " ".join(text.split())[-STDERR_QUOTED:]


def wait(processes: Iterable[WorkerProcess], seconds: float | None) -> list[WorkerProcess]:
    """Which of these started processes have something to receive, be it their end.

    seconds: to wait for the first one, None = without a limit.
    """
    processes = list(processes)
    if received := [one for one in processes if one._messages]:
        return received
    with selectors.DefaultSelector() as selector:
        for one in processes:
            selector.register(one, selectors.EVENT_READ, one)
        return [key.data for key, _ in selector.select(seconds)]


def serve(answer: Callable[[Message, Callable[[Message], None]], Message]) -> None:
    """The main loop of a child process: answer the messages of its parent until there are no more.

    answer: (message, note) -> answer; `note` sends a message ahead of the answer. When the parent
    interrupts, KeyboardInterrupt is raised in it once, and the process ends with the exit code
    INTERRUPTED. When the parent is gone, the process ends at once, in the middle of an answer too:
    an orphan must not work beside its successor.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    output = os.fdopen(os.dup(STDOUT), "wb")
    os.dup2(STDERR, STDOUT)
    messages: queue.Queue[Message | None] = queue.Queue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    try:
        while (message := messages.get()) is not None:
            found = answer(message, lambda note: _write(output, note))
            messages.task_done()  # before the parent reads the answer, and may close the pipe
            _write(output, found)
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(INTERRUPTED)


def _read(messages: queue.Queue[Message | None]) -> None:
    """Messages of standard input, and the end of the process when that closes before an answer."""
    lines = _Lines()
    # Not `sys.stdin`: a thread that waits in it for a line keeps the interpreter from its end.
    while piece := os.read(STDIN, 1 << 16):
        for message in lines.feed(piece):
            messages.put(message)
    if messages.unfinished_tasks:
        os._exit(1)
    messages.put(None)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for later in (signal.SIGINT, signal.SIGTERM):  # which would cut off what the first one saves
        signal.signal(later, signal.SIG_IGN)
    raise KeyboardInterrupt


class _Lines:
    """Pieces of a pipe as messages. The rest of a line that was cut off at the end is none."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Message]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        messages = []
        for line in lines:
            try:
                messages.append(json.loads(line))
            except ValueError:  # printed before `serve` took hold of standard output
                log.warning("a worker process printed: %s", line.decode(errors="replace"))
        return messages


def _write(pipe: IO[bytes], message: Message) -> None:
    pipe.write(json.dumps(message, default=float).encode() + b"\n")  # float: numpy's numbers
    pipe.flush()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("no process was started")
    return stream


def _close(stream: IO[bytes] | None) -> None:
    with contextlib.suppress(BrokenPipeError):  # the process is gone, and a message with it
        _pipe(stream).close()
