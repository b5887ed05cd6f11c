"""A process that measures groups: JSON lines in, JSON lines out. `runner.py` talks to it.

    in   {"group": {...}, "root": "...", "device": "cpu", "threads": 1, "work": "..."}
    out  {"record": {...}}, {"progress": {...}}, and {"end": true} after each group

It has a process to itself so that one run's memory is its own and its death is only its own.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from imdiffusion.bench.measure import Group, measure
from imdiffusion.bench.plan import Variant
from imdiffusion.bench.split import Split
from imdiffusion.course import Progress

TELL_EVERY = 0.5  # seconds between two lines of progress


def group_to_dict(group: Group) -> dict[str, Any]:
    """A group as JSON facts."""
    return {
        "plan": group.plan,
        "dataset": group.dataset,
        "entity": group.entity,
        "seed": group.seed,
        "variants": [
            {"name": one.name, "row": one.row, "settings": dict(one.settings)}
            for one in group.variants
        ],
    }


def group_from_dict(facts: dict[str, Any]) -> Group:
    """The group that `group_to_dict` described."""
    variants = tuple(Variant(**one) for one in facts["variants"])
    return Group(**{**facts, "variants": variants})


def main() -> None:
    """Serve until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    held: dict[tuple[str, str, str], Split] = {}
    for line in sys.stdin:
        order = json.loads(line)
        _serve(order, answers, held)
        _say(answers, {"end": True})


def _serve(order: dict[str, Any], answers: TextIO, held: dict[tuple[str, str, str], Split]) -> None:
    from imdiffusion.bench.sources import open_source

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

    work = None if order["work"] is None else Path(order["work"]) / place[1] / place[2]
    for record in measure(
        group,
        load,
        device=order["device"],
        threads=threads,
        work=None if work is None else work / str(group.seed),
        on_progress=show,
    ):
        _say(answers, {"record": record})


def _end_with_parent() -> None:
    """An orphan would measure on for hours, and nobody would write it down."""
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
