"""What a plan asks for and no run answers yet, in words: no table looks whole that is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from imdiffusion_bench.columns import numbers
from imdiffusion_bench.detectors import drawn
from imdiffusion_bench.measure import asked_id
from imdiffusion_bench.plan import Plan
from imdiffusion_bench.record import Record
from imdiffusion_bench.runner import UNDRAWN_SEED

Asked = tuple[str, str, str, int]  # data set, entity, variant, seed


def owed(plan: Plan, known: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Asked]]:
    """(id, what) of every run of a plan; `known` has the entities of whole data sets."""
    for dataset in plan.datasets:
        for entity in plan.entities.get(dataset) or known.get(dataset, ()):
            for variant in plan.variants:
                one = plan.resolved(variant, dataset)
                seeds = dict.fromkeys(plan.seeds) if drawn(one.row) else (UNDRAWN_SEED,)
                for seed in seeds:
                    yield asked_id(dataset, entity, one, seed), (dataset, entity, one.name, seed)


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
