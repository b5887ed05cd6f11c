"""The runner: what of a plan is not measured yet, measured in worker processes, line by line.

Killed at any moment and called again, it goes on: runs that are in the file are not repeated, and
a fit that was cut off continues from its last saved step.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from imdiffusion.bench import kept, record
from imdiffusion.bench.measure import Group, fit_key
from imdiffusion.bench.plan import Plan
from imdiffusion.bench.rows import drawn
from imdiffusion.bench.shift import Shift, State, Watch
from imdiffusion.bench.sources import needs_folder, open_source
from imdiffusion.bench.worker import states_of
from imdiffusion.devices import device_of
from imdiffusion.errors import DataError, UsageError

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
        if first or drawn(variant.row):
            one = plan.resolved(variant, dataset)
            sharing[fit_key(one)].append(one)
    for variants in sharing.values():
        own = seed if drawn(variants[0].row) else UNDRAWN_SEED
        yield Group(plan.name, dataset, entity, own, tuple(variants), leader=variants[0])


def measured(path: Path, *, retry_failed: bool, keep: Path | None = None) -> set[str]:
    """Ids in the file that need no further run: what went well has its scores in `keep`."""
    if not path.exists():
        return set()
    again = {"failed"} if retry_failed else set()
    known = [one for one in record.read([path]) if one["status"] not in again]
    if keep is not None:
        known = [
            one
            for one in known
            if one["status"] == "failed" or kept.kept_path(keep, one["id"]).exists()
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
    keep_scores: folder for the scores of each run (`kept.py`), made where it is not there; a run
    that is in `out` and has none there is measured again.

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
            raise UsageError(f"{name} = {count} is less than one", remedy="For instance 1.")
    if minutes is not None and not minutes > 0:
        raise UsageError(f"minutes = {minutes:g} leave no time", remedy="Give more than 0.")
    device_of(device)
    groups = groups_of(plan, root)[part - 1 :: parts]
    with record.alone(out):
        if keep_scores is not None:
            kept.check_folder(keep_scores)
        known = measured(out, retry_failed=retry_failed, keep=keep_scores)
        state = State(asked=sum(len(group.ids()) for group in groups))
        todo = list(_without(groups, known))
        state.found = state.asked - sum(len(group.variants) for group in todo)
        if todo:
            Shift(
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
