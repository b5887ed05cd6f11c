"""The line to one worker process: orders out, answers in, and what is known if it dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imdiffusion_bench.measure import Group
from imdiffusion_bench.record import Record
from imdiffusion_bench.worker import group_to_dict

WORKER = (sys.executable, "-m", "imdiffusion_bench.worker")
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAST_WORDS = 400  # characters of stderr that a failure quotes
GRACE = 20  # seconds an interrupted worker has to save its fit, and one at its end to be gone
SILENT = "the worker ended the group without a word about this run"


class Link:
    """Starts a worker when it is first needed, and a new one after a death."""

    def __init__(
        self, root: Path | None, device: str, threads: int, work: Path, keep: Path | None
    ) -> None:
        self._root, self._keep = (
            None if one is None else str(one.resolve()) for one in (root, keep)
        )
        self._device, self._threads, self._work = device, threads, str(work.resolve())
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.last_words = ""
        self.began = False
        self._stopped = False
        self._starting = threading.Lock()

    def measure(self, group: Group) -> Iterator[Record | str]:
        """Records of a group as they come, and in between how far it is, in words.

        Ends early where the process dies, and at once after `stop`. Then `last_words` says how it
        died, and `began` whether it had taken up the group: if not, nothing was tried.
        """
        process = self._alive()
        self.began, self.last_words = False, SILENT
        if process is None:
            return
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        what = f"{group.dataset} {group.entity} {group.variants[0].name}"
        yield what
        try:
            process.stdin.write(json.dumps(self._order(group)) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._bury(process)
            return
        for line in process.stdout:
            message = _message(line)
            if message is None:
                break
            self.began = True
            if "record" in message:
                yield message["record"]
            elif "progress" in message:
                step = message["progress"]
                far = f" {step['done']:,}/{step['total']:,}" if step["total"] else ""
                yield f"{what}: {step['phase']}{far}"
            else:
                return
        self._bury(process)

    def _order(self, group: Group) -> dict[str, Any]:
        return {
            "group": group_to_dict(group),
            "root": self._root,
            "device": self._device,
            "threads": self._threads,
            "work": self._work,
            "keep": self._keep,
        }

    def stop(self) -> None:
        """Interrupt the process, which saves the fit it is at; its answers end there.

        No process is started from now on.
        """
        with self._starting:
            self._stopped = True
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        _end(process)

    def close(self) -> None:
        """Let go of the pipes; after `stop`, and when nobody reads answers any more."""
        if self._process is not None:
            _close_pipes(self._process)
        self._process = None
        self._errors.close()

    def _alive(self) -> subprocess.Popen[str] | None:
        """The process, a new one where there is none or it died while idle; None after `stop`."""
        if self._process is not None and self._process.poll() is not None:
            self._bury(self._process)
        with self._starting:
            if self._stopped:
                return None
            if self._process is None:
                pools = dict.fromkeys(POOLS, str(self._threads))
                self._process = subprocess.Popen(
                    WORKER,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                    encoding="utf-8",
                    errors="replace",
                    env={**os.environ, **pools},
                    start_new_session=True,  # Ctrl-C reaches it through `stop`, once
                )
            return self._process

    def _bury(self, process: subprocess.Popen[str]) -> None:
        """Wait for the end of a process whose answers are over, and keep its last words."""
        code = _end(process)
        if self._stopped:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        said = self._errors.read()[-LAST_WORDS:].strip()
        self._errors.seek(0)
        self._errors.truncate()
        _close_pipes(process)
        self.last_words = f"the worker ended with {how}" + (f": {said}" if said else "")
        self._process = None


def _message(line: str) -> dict[str, Any] | None:
    """What the worker says in this line; None where a kill cut it, which is its last."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None


def _end(process: subprocess.Popen[str]) -> int:
    """Wait for a process that should end by itself, and make it; its exit code."""
    try:
        return process.wait(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody reads it any more
                pipe.close()
