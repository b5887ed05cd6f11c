"""Worker processes that measure groups: what one does, and the handle that the runner has of it.

    in   {"group": {...}, "root": "...", "device": "cpu", "threads": 1, "work": "...",
         "keep": null}
    out  {"progress": {...}}, at once and as it goes on; {"record": {...}}; and {"end": true}
         after each group

Variants are measured in their order: if it dies, the first one without a record was in progress.
It has a process to itself so that one run's memory is its own and its death is only its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from imdiffusion.progress import Progress
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.record import Record
from imdiffusion_bench.split import Split

WORKER = (sys.executable, "-m", "imdiffusion_bench.workers")
POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
LAST_WORDS = 400  # characters of stderr that a failure quotes
GRACE = 20  # seconds an interrupted worker has to save its fit, and one at its end to be gone
SILENT = "the worker ended the group without an answer for this run"


class WorkerProcess:
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
        """Let go of the pipes; after `stop`, and when the reader of answers is gone."""
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
            with contextlib.suppress(BrokenPipeError):  # its reader is gone
                pipe.close()


TELL_EVERY = 0.5  # seconds between two lines of progress


def group_to_dict(group: Group) -> dict[str, Any]:
    """A group as JSON facts."""
    return {
        "plan": group.plan,
        "dataset": group.dataset,
        "entity": group.entity,
        "seed": group.seed,
        "variants": [_variant_to_dict(one) for one in group.variants],
        "leader": _variant_to_dict(group.fitted_as),
    }


def _variant_to_dict(variant: Variant) -> dict[str, Any]:
    return {"name": variant.name, "detector": variant.detector, "settings": dict(variant.settings)}


def group_from_dict(facts: dict[str, Any]) -> Group:
    """The group that `group_to_dict` described."""
    variants = tuple(Variant(**one) for one in facts["variants"])
    return Group(**{**facts, "variants": variants, "leader": Variant(**facts["leader"])})


def states_of(work: Path, group: Group) -> Path:
    """The folder of the states of this group's fit, among those of other variants."""
    return work / group.dataset / group.entity / str(group.seed)


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    held: dict[tuple[str, str, str], Split] = {}
    for line in sys.stdin:
        order = json.loads(line)
        # The runner must know whether a group was begun: what died before has tried nothing.
        _say(answers, {"progress": {"phase": "load", "done": 0, "total": 0}})
        _serve(order, answers, held)
        _say(answers, {"end": True})


def _serve(order: dict[str, Any], answers: TextIO, held: dict[tuple[str, str, str], Split]) -> None:
    from imdiffusion_bench.datasets import open_source

    group, threads = group_from_dict(order["group"]), int(order["threads"])
    _set_threads(threads)
    place = (order["root"], group.dataset, group.entity)

    def load() -> Split:
        if place not in held:
            held.clear()
            root = None if order["root"] is None else Path(order["root"])
            held[place] = open_source(group.dataset, root).load(group.entity)
        return held[place]

    last = 0.0

    def show(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > TELL_EVERY:
            last = time.monotonic()
            _say(
                answers, {"progress": {"phase": step.phase, "done": step.done, "total": step.total}}
            )

    work, keep = (None if order[name] is None else Path(order[name]) for name in ("work", "keep"))
    states = None if work is None else states_of(work, group)
    for record in measure(
        group,
        load,
        device=order["device"],
        threads=threads,
        work=states,
        keep=keep,
        on_progress=show,
    ):
        _say(answers, {"record": record})


def _end_with_parent() -> None:
    """An orphan would measure on for hours, and nothing would record it."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _set_threads(threads: int) -> None:
    """Threads of torch; those of numpy's libraries were set by the environment at the start."""
    import torch

    torch.set_num_threads(threads)


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message, default=float) + "\n")
    answers.flush()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # the runner asked it to stop; its fit is saved
        sys.exit(130)
