"""The line to one worker process: orders out, answers in, and what is known if it dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imdiffusion.bench.measure import Group
from imdiffusion.bench.record import Record
from imdiffusion.bench.worker import group_to_dict

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAST_WORDS = 400  # characters of stderr that a failure quotes
GRACE = 20  # seconds an interrupted worker has to save its fit


class Link:
    """Starts a worker when it is first needed, and a new one after a death."""

    def __init__(self, root: Path | None, device: str, threads: int, work: Path) -> None:
        self._root = None if root is None else str(root.resolve())
        self._device, self._threads, self._work = device, threads, str(work.resolve())
        self._process: subprocess.Popen[str] | None = None
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.last_words = ""
        self._stopped = False

    def measure(self, group: Group) -> Iterator[Record | str]:
        """Records of a group as they come, and in between how far it is, in words.

        Ends early where the process dies; `last_words` then says how.
        """
        process = self._alive()
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        order = {
            "group": group_to_dict(group),
            "root": self._root,
            "device": self._device,
            "threads": self._threads,
            "work": self._work,
        }
        yield f"{group.dataset} {group.entity} {group.variants[0].name}"
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._bury(process)
            return
        for line in process.stdout:
            message: dict[str, Any] = json.loads(line)
            if "record" in message:
                yield message["record"]
            elif "progress" in message:
                step = message["progress"]
                yield (
                    f"{group.dataset} {group.entity} {group.variants[0].name}: "
                    f"{step['phase']} {step['done']:,}/{step['total']:,}"
                )
            else:
                return
        self._bury(process)

    def stop(self) -> None:
        """Interrupt the process, which saves the fit it is at; its answers end there."""
        self._stopped = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Let go of the pipes; after `stop`, and when nobody reads answers any more."""
        process = self._process
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):  # nobody reads it any more
                        pipe.close()
        self._process = None
        self._errors.close()

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None:
            pools = dict.fromkeys(POOLS, str(self._threads))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "imdiffusion.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, **pools},
                start_new_session=True,  # Ctrl-C reaches it through `stop`, once
            )
        return self._process

    def _bury(self, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        if self._stopped:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self._errors.seek(0)
        said = self._errors.read()[-LAST_WORDS:].strip()
        self._errors.seek(0)
        self._errors.truncate()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self.last_words = f"the worker ended with {how}" + (f": {said}" if said else "")
        self._process = None
