"""Worker processes that measure groups: what one does, and the handle that the runner has of it.

    in   {"group": {...}, "root": "...", "device": "cpu", "threads": 1, "work": "...",
         "keep": null}
    out  {"progress": {...}}, at once and as it goes on; {"record": {...}}; and {"end": true}
         after each group

Variants are measured in their order: if it dies, the first one without a record was in progress.
It has a process to itself so that one run's memory is its own and its death is only its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from imdiffusion.progress import Progress
from imdiffusion.workers import Message, WorkerEndedError, WorkerProcess, serve
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.record import Record
from imdiffusion_bench.split import Split

PROGRAM = ("-m", "imdiffusion_bench.workers")
SILENT = "the worker ended the group without a word about this run"
PROGRESS_EVERY = 0.5  # seconds between two notes of progress


class GroupWorker:
    """Measures groups in a worker process, which a new one follows after a death."""

    def __init__(
        self, root: Path | None, device: str, threads: int, work: Path, keep: Path | None
    ) -> None:
        self._root, self._keep = (
            None if one is None else str(one.resolve()) for one in (root, keep)
        )
        self._device, self._threads, self._work = device, threads, str(work.resolve())
        self._process = WorkerProcess(*PROGRAM, threads=threads)
        self.death = ""
        self.began = False
        self._stopped = False
        self._starting = threading.Lock()

    def measure(self, group: Group) -> Iterator[Record | str]:
        """Records of a group as they come, and in between how far it is, in words.

        Ends early where the process dies, and at once after `stop`. Then `death` says how it
        died, and `began` whether it had taken up the group: if not, nothing was tried.
        """
        self.began, self.death = False, SILENT
        what = f"{group.dataset} {group.entity} {group.variants[0].name}"
        with self._starting:
            if self._stopped:
                return
            self._process.send(self._message(group))
        yield what
        try:
            while (message := self._process.receive()) is not None and "end" not in message:
                self.began = True
                if "record" in message:
                    yield message["record"]
                else:
                    step = message["progress"]
                    far = f" {step['done']:,}/{step['total']:,}" if step["total"] else ""
                    yield f"{what}: {step['phase']}{far}"
        except WorkerEndedError as error:
            self.death = f"the worker ended with {error}"

    def _message(self, group: Group) -> Message:
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
        self._process.interrupt()
        self._process.end()

    def close(self) -> None:
        """Let go of the pipes; after `stop`, and once no thread reads answers."""
        self._process.close()


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
    """Serve the runner; the rows of the last entity are kept for the next group."""
    held: dict[tuple[str, str, str], Split] = {}
    serve(lambda message, note: _answer(message, note, held))


def _answer(
    message: Message,
    note: Callable[[Message], None],
    held: dict[tuple[str, str, str], Split],
) -> Message:
    from imdiffusion_bench.datasets import open_source

    # The runner must know whether a group was begun: what died before has tried nothing.
    note({"progress": {"phase": "load", "done": 0, "total": 0}})
    group, threads = group_from_dict(message["group"]), int(message["threads"])
    _set_threads(threads)
    place = (message["root"], group.dataset, group.entity)

    def load() -> Split:
        if place not in held:
            held.clear()
            root = None if message["root"] is None else Path(message["root"])
            held[place] = open_source(group.dataset, root).load(group.entity)
        return held[place]

    last = 0.0

    def show(step: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_EVERY:
            last = time.monotonic()
            note({"progress": {"phase": step.phase, "done": step.done, "total": step.total}})

    keep = None if message["keep"] is None else Path(message["keep"])
    for record in measure(
        group,
        load,
        device=message["device"],
        threads=threads,
        work=states_of(Path(message["work"]), group),
        keep=keep,
        on_progress=show,
    ):
        note({"record": record})
    return {"end": True}


def _set_threads(threads: int) -> None:
    """Threads of torch; those of numpy's libraries were set by the environment at the start."""
    import torch

    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
