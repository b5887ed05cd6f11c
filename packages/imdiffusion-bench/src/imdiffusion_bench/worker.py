"""A process that measures groups: JSON lines in, JSON lines out. `link.py` talks to it.

    in   {"group": {...}, "root": "...", "device": "cpu", "threads": 1, "work": "...",
         "keep": null}
    out  {"progress": {...}}, at once and as it goes on; {"record": {...}}; and {"end": true}
         after each group

Variants are measured in their order: if it dies, the first one without a record was in progress.
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

from imdiffusion.course import Progress
from imdiffusion_bench.measure import Group, measure
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.split import Split

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
    return {"name": variant.name, "row": variant.row, "settings": dict(variant.settings)}


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
    from imdiffusion_bench.sources import open_source

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
