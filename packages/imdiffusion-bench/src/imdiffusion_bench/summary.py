"""From runs to the lines of a table: means over entities and seeds, and what is missing from them.

Runs make one line that are alike: of one variant, with the same settings, on the same data.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import ConfigError, DataError
from imdiffusion.schema import nearest
from imdiffusion.settings import Settings
from imdiffusion_bench.columns import HEADLINE, LOWER_IS_BETTER
from imdiffusion_bench.datasets.known import DATASETS
from imdiffusion_bench.detectors import LIMITS, as_recorded
from imdiffusion_bench.record import Record

CAPS = ("max_steps", "max_epochs", "steps", "epochs")  # settings that end a training early


@dataclass(frozen=True, slots=True)
class Measure:
    """One metric of one row.

    mean       over entities of the mean over their seeds; NaN where nothing is defined
    std        over seeds (n - 1) of the mean over entities; NaN below two seeds
    by_entity  mean over seeds, of the entities that have a value
    by_seed    mean over entities, of the seeds that cover every entity in `by_entity`
    undefined  runs that went well and in which the metric has no value
    """

    mean: float
    std: float
    by_entity: Mapping[str, float]
    by_seed: Mapping[int, float]
    undefined: int


@dataclass(frozen=True, slots=True, eq=False)
class VariantSummary:
    """One variant on one data set. Seconds are means a run; NaN where no run went well.

    entities, seeds   with at least one run that went well
    ok, failed        number of runs that went well, and the others
    missing           (entity, seed) that others have and this has not
    rows_per_second   test rows of all runs over the seconds they took to score
    memory_mib        the largest peak of a run
    caps              settings that cap the training, where they are not 0
    """

    variant: str
    detector: str
    measures: Mapping[str, Measure]
    entities: tuple[str, ...]
    seeds: tuple[int, ...]
    ok: int
    failed: tuple[Record, ...]
    missing: tuple[tuple[str, int], ...]
    fit_s: float
    score_s: float
    rows_per_second: float
    memory_mib: float
    caps: Mapping[str, int]

    @property
    def tried(self) -> tuple[int, ...]:
        """The seeds that it was run with, well or not."""
        return tuple(sorted({*self.seeds, *(run["seed"] for run in self.failed)}))

    @property
    def lacking(self) -> tuple[tuple[str, int], ...]:
        """What of `missing` is a gap: a seed that it lacks wholly makes it a row of fewer draws."""
        return tuple((entity, seed) for entity, seed in self.missing if seed in self.tried)


@dataclass(frozen=True, slots=True)
class Block:
    """One data set: its rows, and the entities and seeds that any of them has."""

    dataset: str
    entities: tuple[str, ...]
    seeds: tuple[int, ...]
    rows: tuple[VariantSummary, ...]

    @property
    def size(self) -> int:
        """How many entities the data set has where it is published, here or not."""
        known = DATASETS.get(self.dataset)
        return max(len(self.entities), (known and known.entities) or 0)

    def reference(self, metric: str) -> tuple[str, ...]:
        """The entities on which any row has a value."""
        known = {name for row in self.rows for name in row.measures[metric].by_entity}
        return tuple(name for name in self.entities if name in known)

    def comparable(self, metric: str) -> tuple[VariantSummary, ...]:
        """The rows that have a value on every entity of the reference, best first."""
        whole = set(self.reference(metric))
        rows = [row for row in self.rows if whole and set(row.measures[metric].by_entity) == whole]
        return tuple(sorted(rows, key=lambda row: _badness(row, metric)))

    def ordered(self, metric: str) -> tuple[VariantSummary, ...]:
        """All rows: the comparable ones best first, then the others, best first."""
        ranked = self.comparable(metric)
        others = [row for row in self.rows if row not in ranked]
        return (*ranked, *sorted(others, key=lambda row: _badness(row, metric)))

    def matrix(self, metric: str) -> NDArray[np.float64]:
        """Values (E, V) of the comparable rows, in their order, on the reference."""
        names, rows = self.reference(metric), self.comparable(metric)
        cells = [[row.measures[metric].by_entity[name] for row in rows] for name in names]
        return np.array(cells, np.float64).reshape(len(names), len(rows))

    def common(self, metric: str) -> tuple[tuple[str, ...], dict[str, float]]:
        """The entities that every row with any value has, and each such row's mean on them."""
        rows = [row for row in self.rows if row.measures[metric].by_entity]
        shared = [
            name
            for name in self.reference(metric)
            if all(name in row.measures[metric].by_entity for row in rows)
        ]
        if not shared:
            return (), {}
        means = {
            row.variant: math.fsum(row.measures[metric].by_entity[name] for name in shared)
            / len(shared)
            for row in rows
        }
        return tuple(shared), means

    @property
    def has_random(self) -> bool:
        """Whether a row of random scores stands in the table, with a run that went well."""
        return any(row.detector == "random" and row.ok for row in self.rows)


@dataclass(frozen=True, slots=True)
class Summary:
    """All data sets under one protocol; `metrics[0]` sorts and ranks."""

    protocol: str
    metrics: tuple[str, ...]
    blocks: tuple[Block, ...]


def protocols(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Every protocol in these runs with its metrics, in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for record in records:
        for protocol, metrics in (record.get("metrics") or {}).items():
            found.setdefault(protocol, {}).update(dict.fromkeys(metrics))
    return {protocol: tuple(metrics) for protocol, metrics in found.items()}


def headline(records: Iterable[Record]) -> dict[str, tuple[str, ...]]:
    """Every protocol with the metrics its tables show; the known protocols first, in order."""
    known = protocols(records)
    names = [name for name in HEADLINE if name in known]
    return {
        name: tuple(one for one in HEADLINE.get(name, ()) if one in known[name]) or known[name][:6]
        for name in [*names, *sorted(set(known) - set(names))]
    }


def summarise(records: Iterable[Record], *, protocol: str, metrics: Sequence[str]) -> Summary:
    """Summarise runs under one protocol, a block a data set, a row a variant.

    Expected of each variant is every (entity, seed) that any variant of the data set has. A value
    of null is not defined: counted, never averaged. Raises ConfigError for a protocol or metric
    that no run has; DataError where there is no run, two runs of one variant differ in settings or
    repeat each other, or runs of one entity are of different data.
    """
    records = list(records)
    if not records:
        raise DataError("no runs to summarise", remedy="Run `imdiffusion bench run` first.")
    if not metrics:
        raise ConfigError("no metric to summarise", remedy="Name at least one.")
    _check_known(protocols(records), protocol, metrics)
    datasets: dict[str, list[Record]] = {}
    for record in records:
        datasets.setdefault(record["dataset"], []).append(record)
    blocks = (_block(name, runs, protocol, metrics) for name, runs in datasets.items())
    return Summary(protocol, tuple(metrics), tuple(blocks))


def _check_known(known: dict[str, tuple[str, ...]], protocol: str, metrics: Sequence[str]) -> None:
    if not known:
        return  # no run went well: what there is to show is the failures
    if protocol not in known:
        raise ConfigError(f"no run has the protocol {protocol!r}", remedy=nearest(protocol, known))
    for metric in metrics:
        if metric not in known[protocol]:
            others = [name for name, has in known.items() if metric in has]
            where = f"it belongs to {' and '.join(others)}; protocols are never mixed. "
            raise ConfigError(
                f"the protocol {protocol!r} has no metric {metric!r}",
                remedy=(where if others else "") + nearest(metric, known[protocol]),
            )


def _block(dataset: str, runs: list[Record], protocol: str, metrics: Sequence[str]) -> Block:
    check_same_data(runs)
    every = expected_of_all(runs)
    variants: dict[str, list[Record]] = {}
    for run in runs:
        variants.setdefault(run["variant"], []).append(run)
    rows = (_row(own, every, protocol, metrics) for own in variants.values())
    entities = tuple(dict.fromkeys(entity for entity, _ in every))
    return Block(dataset, entities, tuple(sorted({seed for _, seed in every})), tuple(rows))


def _row(
    runs: list[Record], every: list[tuple[str, int]], protocol: str, metrics: Sequence[str]
) -> VariantSummary:
    check_alike(runs)
    good = [run for run in runs if run["status"] == "ok"]
    has = {(run["entity"], run["seed"]) for run in runs}
    order = dict.fromkeys(entity for entity, _ in every)
    entities = {run["entity"] for run in good}
    score_s = [float(run["seconds"]["score"]) for run in good]
    rows = math.fsum(float(run["rows"]["test"]) for run in good)
    settings = runs[0].get("settings") or {}
    return VariantSummary(
        variant=runs[0]["variant"],
        detector=runs[0]["detector"],
        measures={metric: _measure(good, protocol, metric) for metric in metrics},
        entities=tuple(name for name in order if name in entities),
        seeds=tuple(sorted({run["seed"] for run in good})),
        ok=len(good),
        failed=tuple(run for run in runs if run["status"] != "ok"),
        missing=tuple(pair for pair in expected(runs, every) if pair not in has),
        fit_s=mean_of(float(run["seconds"]["fit"]) for run in good),
        score_s=mean_of(score_s),
        rows_per_second=rows / math.fsum(score_s) if math.fsum(score_s) > 0 else math.nan,
        memory_mib=max((float(run["memory_mib"]) for run in good), default=math.nan),
        caps={key: int(settings[key]) for key in CAPS if settings.get(key)},
    )


def _measure(good: list[Record], protocol: str, metric: str) -> Measure:
    cells: dict[str, dict[int, float]] = {}
    undefined = 0
    for run in good:
        value = _value(run["metrics"].get(protocol, {}), metric)
        if value is None or not math.isfinite(value):
            undefined += 1
        else:
            cells.setdefault(run["entity"], {})[run["seed"]] = float(value)
    by_entity = {entity: mean_of(seeds.values()) for entity, seeds in cells.items()}
    whole = sorted(set.intersection(*(set(seeds) for seeds in cells.values())) if cells else ())
    by_seed = {seed: mean_of(seeds[seed] for seeds in cells.values()) for seed in whole}
    std = float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else math.nan
    return Measure(mean_of(by_entity.values()), std, by_entity, by_seed, undefined)


def _value(metrics: Record, metric: str) -> float | None:
    """What a run says of a metric. Of before 2026-11-30 it says no `f1_threshold`: where no steps
    voted (`protocols.paper`), its `f1` is just that.
    """
    if metric == "f1_threshold" and metric not in metrics and metrics.get("xi") is None:
        metric = "f1"
    value: float | None = metrics.get(metric)
    return value


def _badness(row: VariantSummary, metric: str) -> float:
    mean = row.measures[metric].mean
    if math.isnan(mean):
        return math.inf
    return mean if metric in LOWER_IS_BETTER else -mean


def mean_of(values: Iterable[float]) -> float:
    """The mean; NaN of nothing."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan


DEFAULT = as_recorded(Settings().to_dict())  # of a setting that a run does not know


def expected_of_all(runs: list[Record]) -> list[tuple[str, int]]:
    """Every (entity, seed) that belongs to a table, in order of appearance.

    What no seed changes has no seed of its own: beside other runs it adds entities alone.
    """
    drawn = [run for run in runs if run.get("drawn", True)]
    seeds = dict.fromkeys(run["seed"] for run in drawn)
    seen = {run["entity"] for run in drawn}
    every: dict[tuple[str, int], None] = {}
    for run in runs:
        whole = seeds and not run.get("drawn", True)
        if not whole:
            every[run["entity"], run["seed"]] = None
        elif run["entity"] not in seen:
            every |= dict.fromkeys((run["entity"], seed) for seed in seeds)
    return list(every)


def expected(runs: list[Record], every: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What this variant owes: all of them, or one seed where seeds change nothing."""
    if runs[0].get("drawn", True):
        return every
    only = runs[0]["seed"]
    return [(entity, only) for entity in dict.fromkeys(entity for entity, _ in every)]


def check_alike(runs: list[Record]) -> None:
    """DataError where runs of one variant have different settings, or answer one question twice."""
    first = runs[0]
    seen: set[tuple[str, int]] = set()
    for run in runs:
        where = f"the variant {run['variant']!r} on {run['dataset']}"
        unlike = [key for key in first["settings"] | run["settings"] if not _agree(key, first, run)]
        if unlike or run["detector"] != first["detector"]:
            raise DataError(
                f"{where} has runs of different {', '.join(unlike) or 'detectors'}",
                remedy="Give them different names, or leave one of the files out.",
            )
        if (run["entity"], run["seed"]) in seen:
            raise DataError(
                f"{where} has two runs of entity {run['entity']} with seed {run['seed']}",
                remedy="Leave one of the files out.",
            )
        seen.add((run["entity"], run["seed"]))


def check_same_data(runs: list[Record]) -> None:
    """DataError where runs of one entity were made of different values or labels.

    Runs that do not say (of before 2026-11-30, or failed) agree with all.
    """
    digests: dict[str, str] = {}
    for run in runs:
        digits = run.get("data")
        if digits is not None and digests.setdefault(run["entity"], digits) != digits:
            raise DataError(
                f"{run['dataset']} {run['entity']}: runs of different data ({run['id']} is of "
                f"{digits}, others are of {digests[run['entity']]})",
                remedy="Check the data folder (`imdiffusion bench check`), and measure again what "
                "was made of the wrong one.",
            )


def _agree(key: str, *runs: Record) -> bool:
    """Whether runs have the same value of a setting that asks for something. One that a run does
    not know came later, and was at its default then.
    """
    if key in LIMITS:
        return True
    found = {run["settings"].get(key, DEFAULT.get(key)) for run in runs} - {None}
    # Settings that came to take lists are text since: a width of 1 is "1".
    return len({str(value) for value in found}) < 2
