"""The runner: what of a plan is not measured yet, measured in worker processes, line by line.

Killed at any moment and called again, it goes on: runs that are in the file are not repeated, and
a fit that was cut off continues from its last saved step.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imdiffusion.bench import record
from imdiffusion.bench.link import Link
from imdiffusion.bench.measure import Group, failure, fit_key
from imdiffusion.bench.plan import Plan
from imdiffusion.bench.record import Record
from imdiffusion.bench.rows import drawn
from imdiffusion.bench.sources import open_source
from imdiffusion.errors import DataError, UsageError


@dataclass(slots=True)
class State:
    """How far a call is: runs asked for, found done, done now, failed now; seconds so far."""

    asked: int = 0
    found: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    doing: dict[int, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Runs still to do."""
        return self.asked - self.found - self.done - self.failed

    @property
    def seconds_left(self) -> float | None:
        """At the speed so far; None before the first run."""
        now = self.done + self.failed
        return self.seconds / now * self.left if now else None


Watch = Callable[[State, Record | None], None]


def groups_of(plan: Plan, root: Path | None) -> list[Group]:
    """Every group of a plan in a fixed order; data sets that are not there are an error.

    Raises DataError, ConfigError; UsageError where an entity is asked for that no set has.
    """
    chosen = [
        (dataset, entity) for dataset in plan.datasets for entity in _entities(plan, dataset, root)
    ]
    # Seeds outermost: a run that is cut off has whole tables of its first seeds.
    return [
        group
        for place, seed in enumerate(plan.seeds)
        for dataset, entity in chosen
        for group in _by_fit(plan, dataset, entity, seed, first=place == 0)
    ]


def _entities(plan: Plan, dataset: str, root: Path | None) -> Sequence[str]:
    known = open_source(dataset, root).entities()
    wanted = plan.entities.get(dataset, ())
    for entity in wanted:
        if entity not in known:
            raise UsageError(
                f"{dataset} has no entity {entity!r}",
                remedy=f"It has {len(known)}, from {known[0]} to {known[-1]}.",
            )
    return wanted or known


def _by_fit(plan: Plan, dataset: str, entity: str, seed: int, *, first: bool) -> Iterator[Group]:
    """Groups of one entity and seed; what no seed changes is measured with the first alone."""
    sharing = defaultdict(list)
    for variant in plan.variants:
        if not first and not drawn(variant.row):
            continue
        one = plan.resolved(variant, dataset)
        sharing[fit_key(one)].append(one)
    for variants in sharing.values():
        yield Group(plan.name, dataset, entity, seed, tuple(variants))


def measured(path: Path, *, retry_failed: bool) -> set[str]:
    """Ids in the file that need no further run."""
    if not path.exists():
        return set()
    again = {"failed"} if retry_failed else set()
    return {one["id"] for one in record.read([path]) if one["status"] not in again}


def bench(
    plan: Plan,
    out: Path,
    *,
    root: Path | None = None,
    shard: tuple[int, int] = (1, 1),
    device: str = "auto",
    jobs: int = 1,
    threads: int | None = None,
    minutes: float | None = None,
    retry_failed: bool = False,
    watch: Watch | None = None,
) -> State:
    """Measure what is left of a plan and append one line a run to `out`; how it ended.

    root: folder of the data sets. shard: (i, n), the i-th of n parts of the groups, from 1.
    jobs: worker processes, several also on one GPU. threads: of one worker, None = cores / jobs.
    minutes: stop in order after so long; the next call continues. retry_failed: failed runs too.
    Raises UsageError, DataError, ConfigError before anything is measured.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise UsageError(f"shard {part}/{parts} is no part", remedy="Write i/n with 1 <= i <= n.")
    if jobs < 1:
        raise UsageError(f"jobs = {jobs} is less than one", remedy="For instance 1.")
    groups = groups_of(plan, root)[part - 1 :: parts]
    known = measured(out, retry_failed=retry_failed)
    state = State(asked=sum(len(group.variants) for group in groups))
    todo = list(_without(groups, known))
    state.found = state.asked - sum(len(group.variants) for group in todo)
    if todo:
        _Shift(todo, out, state, watch, root, device, jobs, threads).work(minutes)
    if state.left == 0:
        shutil.rmtree(work_folder(out), ignore_errors=True)
    return state


def work_folder(out: Path) -> Path:
    """Where the states of fits that were cut off lie."""
    return out.with_name(out.name + ".work")


def _without(groups: Iterable[Group], known: set[str]) -> Iterator[Group]:
    """The groups less the runs that are known."""
    for group in groups:
        left = tuple(one for id_, one in group.ids().items() if id_ not in known)
        if left:
            yield Group(group.plan, group.dataset, group.entity, group.seed, left)


class _Shift:
    """Workers at their groups until all are done, time is up, or Ctrl-C."""

    def __init__(
        self,
        todo: list[Group],
        out: Path,
        state: State,
        watch: Watch | None,
        root: Path | None,
        device: str,
        jobs: int,
        threads: int | None,
    ) -> None:
        self.out, self.state, self.watch = out, state, watch
        self.device, self.jobs = device, min(jobs, len(todo))
        self.threads = threads or max(1, _cores() // self.jobs)
        self.waiting: queue.SimpleQueue[Group] = queue.SimpleQueue()
        for group in todo:
            self.waiting.put(group)
        self.told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.links = [Link(root, device, self.threads, work_folder(out)) for _ in range(self.jobs)]
        self.stopping = False

    def work(self, minutes: float | None) -> None:
        began = time.monotonic()
        deadline = None if minutes is None else began + 60 * minutes
        crew = [
            threading.Thread(target=self._serve, args=(number,), daemon=True)
            for number in range(self.jobs)
        ]
        for thread in crew:
            thread.start()
        busy = self.jobs
        try:
            while busy:
                if deadline is not None and time.monotonic() > deadline:
                    break
                try:
                    number, what = self.told.get(timeout=0.2)
                except queue.Empty:
                    continue
                self.state.seconds = time.monotonic() - began
                busy -= self._heed(number, what)
        finally:
            self.stopping = True
            for link in self.links:
                link.stop()
            for thread in crew:
                thread.join()
            for link in self.links:
                link.close()

    def _heed(self, number: int, what: Any) -> int:
        """Take one message; 1 where a worker has nothing left to do."""
        state, kept = self.state, None
        if what is None:
            state.doing.pop(number, None)
            return 1
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, str):
            state.doing[number] = what
        else:
            record.append(self.out, what)
            kept = what
            if what["status"] == "ok":
                state.done += 1
            else:
                state.failed += 1
        if self.watch is not None:
            self.watch(state, kept)
        return 0

    def _serve(self, number: int) -> None:
        """One thread: hand groups to one worker process and pass on what it answers."""
        link = self.links[number]
        try:
            while not self.stopping:
                try:
                    group = self.waiting.get_nowait()
                except queue.Empty:
                    break
                left = group.ids()
                for message in link.measure(group):
                    if isinstance(message, str):
                        self.told.put((number, message))
                    else:
                        left.pop(message["id"], None)
                        self.told.put((number, message))
                for variant in left.values() if not self.stopping else ():
                    self.told.put((number, self._died(group, variant, link.last_words)))
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            self.told.put((number, error))
            return
        self.told.put((number, None))

    def _died(self, group: Group, variant: Any, why: str) -> Record:
        return failure(group, variant, "process", why, device=self.device, threads=self.threads)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def check_root(root: Path | None) -> None:
    """DataError unless root is a folder, or none is needed."""
    if root is not None and not root.is_dir():
        raise DataError(
            f"the data folder {root} does not exist",
            remedy="Name the folder that holds SMD, GCP, ... with --data or IMDIFFUSION_DATA.",
        )
