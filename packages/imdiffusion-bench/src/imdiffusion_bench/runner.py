"""The runner: what of a plan is not measured yet, measured in worker processes, line by line.

Killed at any moment and called again, it goes on: runs that are in the file are not repeated, and
a fit that was cut off continues from its last saved step. `gaps` says in words what a plan asks for
and no run answers yet.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from imdiffusion.devices import core_count, device_of
from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench import record
from imdiffusion_bench.columns import numbers
from imdiffusion_bench.datasets import needs_folder, open_source
from imdiffusion_bench.detectors import drawn
from imdiffusion_bench.measure import Group, failure, fit_key, question_id
from imdiffusion_bench.plan import Plan
from imdiffusion_bench.record import Record
from imdiffusion_bench.workers import GroupWorker, states_of

UNDRAWN_SEED = 0  # of what no seed changes: one question has one id, whatever seeds a call has


def groups_of(plan: Plan, root: Path | None) -> list[Group]:
    """Every group of a plan in a fixed order; data sets that are not there are an error.

    Raises DataError, ConfigError; UsageError where an entity is asked for that no set has.
    """
    chosen = [
        (dataset, entity)
        for dataset in dict.fromkeys(plan.datasets)
        for entity in _entities(plan, dataset, root)
    ]
    # Seeds outermost: a run that is cut off has whole tables of its first seeds.
    return [
        group
        for place, seed in enumerate(dict.fromkeys(plan.seeds))
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
    return list(dict.fromkeys(wanted or known))


def _by_fit(plan: Plan, dataset: str, entity: str, seed: int, *, first: bool) -> Iterator[Group]:
    """Groups of one entity and seed; what no seed changes comes once, beside the first seed."""
    sharing = defaultdict(list)
    for variant in plan.variants:
        if first or drawn(variant.detector):
            one = plan.resolved(variant, dataset)
            sharing[fit_key(one)].append(one)
    for variants in sharing.values():
        own = seed if drawn(variants[0].detector) else UNDRAWN_SEED
        yield Group(plan.name, dataset, entity, own, tuple(variants), leader=variants[0])


def measured(path: Path, *, retry_failed: bool, keep: Path | None = None) -> set[str]:
    """Ids in the file that need no further run: what went well has its scores in `keep`."""
    if not record.there(path):
        return set()
    again = {"failed"} if retry_failed else set()
    known = [one for one in record.read([path]) if one["status"] not in again]
    if keep is not None:
        known = [
            one
            for one in known
            if one["status"] == "failed" or record.scores_path(keep, one["id"]).exists()
        ]
    return {one["id"] for one in known}


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
    keep_scores: Path | None = None,
    watch: Watch | None = None,
) -> State:
    """Measure what is left of a plan and append one line a run to `out`; how it ended.

    root: folder of the data sets. shard: (i, n), the i-th of n parts of the groups, from 1.
    jobs: worker processes, several also on one GPU. threads: of one worker, None = cores / jobs.
    minutes: stop in order after so long; the next call continues. retry_failed: failed runs too.
    keep_scores: folder for the scores of each run (`record.py`), made where it is not
    there; a run that is in `out` and has none there is measured again.

    Before anything is measured it raises UsageError, also where another call writes to `out`;
    OutputError where `out` or `keep_scores` cannot be written; DataError for data that is not
    there or an `out` that holds something else; ConfigError for an unknown row or setting, or a
    device that is not here.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise UsageError(f"shard {part}/{parts} is no part", remedy="Write i/n with 1 <= i <= n.")
    for name, count in (("jobs", jobs), ("threads", threads)):
        if count is not None and count < 1:
            raise UsageError(f"{name} = {count} is below one", remedy="For instance 1.")
    if minutes is not None and not minutes > 0:
        raise UsageError(f"minutes = {minutes:g} leave no time", remedy="Give more than 0.")
    device_of(device)
    groups = groups_of(plan, root)[part - 1 :: parts]
    with record.alone(out):
        if keep_scores is not None:
            record.check_scores_folder(keep_scores)
        known = measured(out, retry_failed=retry_failed, keep=keep_scores)
        state = State(asked=sum(len(group.ids()) for group in groups))
        todo = list(_without(groups, known))
        state.found = state.asked - sum(len(group.variants) for group in todo)
        if todo:
            WorkerPool(
                todo,
                out,
                state,
                work=work_folder(out),
                keep=keep_scores,
                root=root,
                device=device,
                jobs=jobs,
                threads=threads,
                watch=watch,
            ).work(minutes)
        if state.left == 0:
            _forget(work_folder(out), groups)
    return state


def work_folder(out: Path) -> Path:
    """Where the states of fits that were cut off lie."""
    return out.with_name(out.name + ".work")


def _without(groups: Iterable[Group], known: set[str]) -> Iterator[Group]:
    """The groups less the runs that are known."""
    for group in groups:
        left = tuple(one for id_, one in group.ids().items() if id_ not in known)
        if left:
            yield replace(group, variants=left)


def _forget(work: Path, groups: Iterable[Group]) -> None:
    """Remove the states of these groups' fits; those of other plans and shards stay."""
    for group in groups if work.is_dir() else ():
        folder = states_of(work, group)
        for key in {fit_key(variant) for variant in group.variants}:
            shutil.rmtree(folder / key, ignore_errors=True)
        while folder.is_relative_to(work):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
            folder = folder.parent


def check_root(root: Path | None, plan: Plan) -> None:
    """DataError where the plan needs a folder of data sets, and `root` is named and is none."""
    needed = any(needs_folder(dataset) for dataset in plan.datasets)
    if needed and root is not None and not root.is_dir():
        raise DataError(
            f"the data folder {root} does not exist",
            remedy="Name the folder that holds SMD, GCP, ... with --data or IMDIFFUSION_DATA.",
        )


UNTRIED_DEATHS = 2  # so often in a row a worker may die before it takes up a group


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


class WorkerPool:
    """Workers at their groups.

    todo: the groups in order. out: where runs are written down. work: the folder of the states of
    fits. keep: the folder for scores, None = they are not kept. state is kept up to date, and
    handed to `watch` with each message. jobs, threads: workers at most, threads of each; None =
    cores / jobs.
    """

    def __init__(
        self,
        todo: Sequence[Group],
        out: Path,
        state: State,
        *,
        work: Path,
        keep: Path | None,
        root: Path | None,
        device: str,
        jobs: int,
        threads: int | None,
        watch: Watch | None,
    ) -> None:
        self.out, self.state, self.watch = out, state, watch
        self.device, self.jobs = device, min(jobs, len(todo))
        self.threads = threads or max(1, core_count() // self.jobs)
        # With each group, how many workers in a row died before they took it up.
        self.waiting = deque((group, 0) for group in todo)
        self.told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self.links = [GroupWorker(root, device, self.threads, work, keep) for _ in range(self.jobs)]
        self.stopping = False

    def work(self, minutes: float | None) -> None:
        """Until all is done, or so many minutes have passed: what was begun then stops in order.

        What ends it otherwise, such as KeyboardInterrupt out of `watch`, is raised after the same
        order. Whatever was measured by then is written down.
        """
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
            error = self._keep_the_rest()
        if error is not None:
            raise error

    def _keep_the_rest(self) -> BaseException | None:
        """Write down what was measured while the shift ended; the error that ended a thread."""
        error = None
        while not self.told.empty():
            _, what = self.told.get()
            if isinstance(what, BaseException):
                error = error or what
            elif isinstance(what, dict):
                self._keep(what)
        return error

    def _heed(self, number: int, what: Any) -> int:
        """Take one message; 1 where a worker has nothing left to do."""
        kept = None
        if what is None:
            self.state.doing.pop(number, None)
            return 1
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, str):
            self.state.doing[number] = what
        else:
            self._keep(what)
            kept = what
        if self.watch is not None:
            self.watch(self.state, kept)
        return 0

    def _keep(self, run: Record) -> None:
        record.append(self.out, run)
        if run["status"] == "ok":
            self.state.done += 1
        else:
            self.state.failed += 1

    def _serve(self, number: int) -> None:
        """One thread: hand groups to one worker process and pass on what it answers."""
        try:
            while not self.stopping:
                try:
                    group, deaths = self.waiting.popleft()
                except IndexError:
                    break
                self._measure(number, group, deaths)
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            self.told.put((number, error))
            return
        self.told.put((number, None))

    def _measure(self, number: int, group: Group, deaths: int) -> None:
        """One group by one worker. If that dies, one run has failed at most; the rest waits."""
        link, left = self.links[number], group.ids()
        for message in link.measure(group):
            if not isinstance(message, str):
                left.pop(message["id"], None)
            self.told.put((number, message))
        if not left or self.stopping:
            return
        rest = tuple(left.values())
        deaths = 0 if link.began else deaths + 1
        if link.began or deaths == UNTRIED_DEATHS:
            died = failure(
                group, rest[0], "process", link.death, device=self.device, threads=self.threads
            )
            self.told.put((number, died))
            rest, deaths = rest[1:], 0
        if rest:
            self.waiting.appendleft((replace(group, variants=rest), deaths))


Asked = tuple[str, str, str, int]  # data set, entity, variant, seed


def owed(plan: Plan, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Asked]]:
    """(id, what) of every run of a plan; `known` has the entities of whole data sets."""
    for dataset in plan.datasets:
        for entity in plan.entities.get(dataset) or known.get(dataset, ()):
            for variant in plan.variants:
                one = plan.resolved(variant, dataset)
                seeds = dict.fromkeys(plan.seeds) if drawn(one.detector) else (UNDRAWN_SEED,)
                for seed in seeds:
                    yield question_id(dataset, entity, one, seed), (dataset, entity, one.name, seed)


def gaps(plan: Plan, records: Iterable[Record], known: Mapping[str, Sequence[str]]) -> str:
    """How much of a plan these records answer, in one or two sentences.

    known: data set -> its entities, for the sets of which a plan takes all. A run under settings
    that the plan no longer has is no answer, and is counted apart; one that failed is one, and is
    counted too.
    """
    asked = dict(owed(plan, known))
    strange = [name for name in plan.datasets if not plan.entities.get(name) and name not in known]
    runs = list(records)
    there = {run["id"] for run in runs}
    places = set(asked.values())
    old = sum(
        run["id"] not in asked
        and (run["dataset"], run["entity"], run["variant"], run["seed"]) in places
        for run in runs
    )
    left = [what for id_, what in asked.items() if id_ not in there]
    failed = sum(run["id"] in asked and run["status"] != "ok" for run in runs)
    ended = f", {failed:,} of which failed." if failed else "."
    if not left and not strange:
        return f"`{plan.name}`: all {len(asked):,} runs are there{ended}"
    text = f"`{plan.name}`: {len(asked) - len(left):,} of {len(asked):,} runs are there{ended}"
    if left:
        text += f" Missing: {'; '.join(_by_set(left, asked.values()))}."
    if old:
        text += f" {old:,} runs were made under settings that are no longer the plan's."
    if strange:
        text += f" Of unknown size: {', '.join(strange)}."
    return text


def _by_set(left: Sequence[Asked], asked: Iterable[Asked]) -> Iterator[str]:
    """ "SMD 40 of 57 (seeds 1-2)" for each data set that lacks something."""
    whole: dict[str, int] = defaultdict(int)
    for dataset, *_ in asked:
        whole[dataset] += 1
    found: dict[str, list[Asked]] = defaultdict(list)
    for what in left:
        found[what[0]].append(what)
    for dataset, missing in found.items():
        seeds = sorted({seed for *_, seed in missing})
        said = "seed" if len(seeds) == 1 else "seeds"
        yield f"{dataset} {len(missing):,} of {whole[dataset]:,} ({said} {numbers(seeds)})"
