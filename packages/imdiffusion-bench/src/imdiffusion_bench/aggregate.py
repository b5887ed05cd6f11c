"""Tables over several data sets at once: against a base, steps joined, kinds, domains left out.

Three entities a data set are too few for a test; those of all data sets together are not. And a
variant that is chosen on the sets it is then praised on looks better than it will be on a
stranger's data: so each domain is left out in turn, the variant with the best mean over the other
domains is chosen, and its value on the domain that had no say stands beside the value there of the
variant that all domains choose. A domain's value is the mean over its data sets, a set's the mean
over its entities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from imdiffusion.errors import DataError
from imdiffusion.schema import one_of
from imdiffusion_bench import columns
from imdiffusion_bench.columns import LOWER_IS_BETTER, NOTHING
from imdiffusion_bench.datasets.known import DATASETS
from imdiffusion_bench.plan import KIND_DIALS, KINDS
from imdiffusion_bench.protocols import SIZES
from imdiffusion_bench.record import Record
from imdiffusion_bench.significance import holm, signed_rank_p
from imdiffusion_bench.studies import reading
from imdiffusion_bench.summary import Block, summarise
from imdiffusion_bench.tables import Table, p_words, text_of

ALIKE = 0.99  # steps that correlate so hold one and the same error

# (data set, entity) -> seed -> value
_Values = Mapping[tuple[str, str], Mapping[int, float]]


def against_base(
    records: Iterable[Record], *, protocol: str, metric: str, base: str = "base"
) -> str:
    """Each variant beside `base`, a line each, the best first.

    Only runs of an entity and a seed that both have are compared. The units of the test are
    entities, each the mean over its seeds: Wilcoxon's signed ranks, Holm's correction over all
    lines. Raises DataError without a run of the base.
    """
    found: dict[str, dict[tuple[str, str], dict[int, float]]] = {}
    read = reading.metric(protocol, metric)
    for run in records:
        if run["status"] == "ok" and (value := read(run)) is not None:
            of = found.setdefault(run["variant"], {})
            of.setdefault((run["dataset"], run["entity"]), {})[run["seed"]] = value
    if base not in found:
        raise DataError(
            f"no run of the variant {base!r} among these records",
            remedy="Measure it first: the others are compared with it.",
        )
    lines = [_Line(name, values, found[base]) for name, values in found.items() if name != base]
    less = metric in columns.LOWER_IS_BETTER
    lines.sort(key=lambda line: line.change if less else -line.change)
    corrected = holm([line.p for line in lines])
    rows = [
        [
            line.name,
            *(columns.value(metric, number) for number in (line.base, line.own)),
            f"{line.change:+.3f}",
            f"{line.below if less else line.above} of {line.entities}",
            *map(p_words, (line.p, p)),
        ]
        for line, p in zip(lines, corrected, strict=True)
    ]
    title = columns.title(metric)
    head = ["variant", f"{title} of the {base}", "its own", "change", "entities better", "p"]
    return (
        f"### Against the {base}, all data sets together: {columns.heading(metric)}, "
        f"protocol `{protocol}`\n\n{columns.markdown([*head, 'p (Holm)'], rows)}\n\n"
        f"- Means over the entities that a variant shares with the {base}, each the mean over the "
        "seeds that both have. p: Wilcoxon's signed ranks over entities; corrected by Holm over "
        f"the {len(lines)} lines."
    )


def steps_joined(records: Iterable[Record]) -> str:
    """AUC-PR of the mean over the last n steps, and how alike the steps are, for each variant."""
    of: dict[str, list[Record]] = {}
    for run in records:
        if run["status"] == "ok" and reading.last_steps(2)(run) is not None:
            of.setdefault(run["variant"], []).append(run)
    if not of:
        return ""
    curve = {size: reading.last_steps(size) for size in SIZES}
    every = list(chain.from_iterable(of.values()))
    shown = [size for size, read in curve.items() if not math.isnan(_over(every, read))]
    reads = [*(curve[size] for size in shown), reading.aside("step_correlation")]
    rows = [
        [name, *(reading.number(_over(runs, read)) for read in reads)] for name, runs in of.items()
    ]
    head = ["AUC-PR of the mean over the last n steps: variant", *map(str, shown), "correlation"]
    return (
        f"### One step to all of them\n\n{columns.markdown(head, rows)}\n\n"
        "- Plain AUC-PR, as under `label_free`, mean over all runs of a variant. Correlation: of "
        f"the last step's errors with those of the nine steps before. Above {ALIKE:g} the steps "
        "hold one and the same error: there is nothing to join, and where a vote over them has "
        "another point-adjusted F1, this comes of the further thresholds that the labels chose "
        "from."
    )


class _Line:
    """A variant beside the base, on the runs that both have."""

    def __init__(self, name: str, values: _Values, base: _Values) -> None:
        self.name = name
        pairs: list[tuple[float, float]] = []
        for where, own in values.items():
            shared = sorted(set(own) & set(base.get(where, {})))
            if shared:
                pairs.append(
                    (_mean([own[s] for s in shared]), _mean([base[where][s] for s in shared]))
                )
        both = np.array(pairs, np.float64).reshape(-1, 2)
        self.own, self.base = (_mean(list(both[:, side])) for side in (0, 1))
        self.change = self.own - self.base
        differences = both[:, 0] - both[:, 1]
        self.entities, self.above = len(pairs), int((differences > 0).sum())
        self.below = int((differences < 0).sum())
        self.p = signed_rank_p(differences)


def _over(runs: list[Record], read: reading.Reader) -> float:
    """The mean of what is read over the runs that have it."""
    return _mean([value for run in runs if (value := read(run)) is not None])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


# What is asked of `fast`: nothing where a one-liner with a covariance sees the ties too.
WANTED = {
    title: 0.80 if dials.get("coupling_kind") else 0.90
    for title, dials in KIND_DIALS.items()
    if dials.get("coupling_kind") != "linear"
}


def kinds_table(records: Sequence[Record], *, ours: str = "fast") -> str:
    """AUC-PR, protocol `label_free`: a line a detector, best mean first, a column a kind.

    Below it, for each kind, whether `ours` is where it should be, and what comes next.
    Raises DataError where none of the runs is of these data sets.
    """
    found = reading.cells(
        reading.chosen(records, list(KINDS.values()), "kinds"),
        reading.metric("label_free", "auc_pr"),
    )
    rows = sorted(
        dict.fromkeys(variant for _, variant in found),
        key=lambda row: -_mean_over_kinds(found, row),
    )
    if ours not in rows:
        raise DataError(
            f"no run of {ours!r} is among these records", remedy="Measure the plan `kinds` whole."
        )
    table = columns.markdown(
        ["AUC-PR", *KINDS],
        [[row, *(reading.cell(found, name, row) for name in KINDS.values())] for row in rows],
    )
    told = [_told(found, title, rows, ours) for title in KINDS]
    return f"### AUC-PR, protocol `label_free`\n\n{table}\n\n{columns.bullets(told)}\n"


def _mean_over_kinds(found: reading.Cells, row: str) -> float:
    """The mean over the kinds; below every number where one is missing."""
    means = [reading.cell(found, name, row).mean for name in KINDS.values()]
    return -1.0 if any(map(math.isnan, means)) else math.fsum(means) / len(means)


def _told(found: reading.Cells, title: str, rows: Sequence[str], ours: str) -> str:
    means = {row: reading.cell(found, KINDS[title], row).mean for row in rows}
    mine = means.pop(ours)
    best = reading.best(means)
    text = f"{title}: {ours} {reading.number(mine)}, the best other row {best}"
    if best in means:
        text += f" {reading.number(means[best])}"
    if title not in WANTED or math.isnan(mine):
        return f"{text}."
    verdict = "reached" if mine >= WANTED[title] else "missed"
    return f"{text}; wanted {WANTED[title]:.2f}: {verdict}."


# Data set -> domain; `datasets.known` says it beside each set's home.
DOMAIN_OF: Mapping[str, str] = {name: one.domain for name, one in DATASETS.items() if one.domain}
DOMAINS: tuple[str, ...] = tuple(dict.fromkeys(DOMAIN_OF.values()))

Values = Mapping[str, Mapping[str, float]]  # variant -> domain -> value


@dataclass(frozen=True, slots=True)
class LeftOut:
    """One domain that had no say.

    chosen  the variant that the other domains choose, and `value`, its value on this domain
    by_all  the variant that all domains choose, and `value_by_all`, its value on this domain
    best    the variant that this domain would choose itself, and `value_best`
    """

    domain: str
    chosen: str
    value: float
    by_all: str
    value_by_all: float
    best: str
    value_best: float


def leave_out(values: Values, *, lower_is_better: bool = False) -> list[LeftOut]:
    """Each domain left out in turn; of equal variants the first one is chosen.

    Raises DataError without a variant, with fewer than two domains, and where a variant lacks a
    domain that another one has.
    """
    variants = list(values)
    domains = list(dict.fromkeys(domain for one in values.values() for domain in one))
    for variant in variants:
        absent = [domain for domain in domains if domain not in values[variant]]
        if absent:
            raise DataError(
                f"{variant} has no value on the domain {absent[0]!r}",
                remedy="Choose among variants that were measured on every domain.",
            )
    if not variants or len(domains) < 2:
        raise DataError(
            f"{len(variants)} variants on {len(domains)} domains: none can be left out",
            remedy="Measure at least one variant on data sets of two domains.",
        )
    sign = -1.0 if lower_is_better else 1.0

    def choose(heard: Sequence[str]) -> str:
        return max(variants, key=lambda one: sign * _mean([values[one][name] for name in heard]))

    by_all = choose(domains)
    found = []
    for domain in domains:
        chosen, best = choose([name for name in domains if name != domain]), choose([domain])
        three = (chosen, values[chosen][domain], by_all, values[by_all][domain])
        found.append(LeftOut(domain, *three, best, values[best][domain]))
    return found


def values_by_domain(
    records: Iterable[Record], *, protocol: str, metric: str, among: Sequence[str] = ()
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """(variant -> domain -> value, what was left out and why).

    among: the variants that may be chosen; none = all that have a value on every entity of every
    data set. Data sets without a domain do not count. Raises ConfigError for a name in `among` that
    no run has; DataError where one of them lacks an entity, and as `summarise`.
    """
    runs = list(records)
    placed = [run for run in runs if run["dataset"] in DOMAIN_OF]
    if not placed:
        raise DataError(
            "no run is of a data set whose domain is known",
            remedy=f"Measure some of {', '.join(DOMAIN_OF)}.",
        )
    every = tuple(dict.fromkeys(run["variant"] for run in placed))
    for name in among:
        one_of("variant", name, every)
    taken = [run for run in placed if not among or run["variant"] in among]
    blocks = summarise(taken, protocol=protocol, metrics=(metric,)).blocks
    means = {block.dataset: _means_of(block, metric) for block in blocks}
    whole = [name for name in among or every if all(name in one for one in means.values())]
    partial = [name for name in among or every if name not in whole]
    if among and partial:
        lacking = [name for name, one in means.items() if partial[0] not in one]
        raise DataError(
            f"{partial[0]} has no value on every entity of {', '.join(lacking)}",
            remedy="Measure it there, or leave it out.",
        )
    sets = {
        domain: [name for name in means if DOMAIN_OF[name] == domain]
        for domain in DOMAINS
        if any(DOMAIN_OF[name] == domain for name in means)
    }
    values = {
        variant: {
            domain: _mean([means[name][variant] for name in names])
            for domain, names in sets.items()
        }
        for variant in whole
    }
    told = [f"{domain}: {', '.join(names)}." for domain, names in sets.items()]
    if partial:
        told.append(f"Not to be chosen, for entities are missing: {', '.join(partial)}.")
    foreign = dict.fromkeys(run["dataset"] for run in runs if run["dataset"] not in DOMAIN_OF)
    if foreign:
        told.append(f"Of no known domain, and not counted: {', '.join(foreign)}.")
    return values, told


def domains_table(
    records: Iterable[Record],
    *,
    protocol: str = "label_free",
    metric: str = "vus_pr",
    among: Sequence[str] = (),
) -> str:
    """Markdown: a line a domain left out, the means over domains last; then every variant.

    Raises as `values_by_domain` and `leave_out`.
    """
    values, told = values_by_domain(records, protocol=protocol, metric=metric, among=among)
    found = leave_out(values, lower_is_better=metric in LOWER_IS_BETTER)
    parts = [
        f"### {columns.heading(metric)}, protocol `{protocol}`: a domain left out",
        text_of(_choices(found, metric)),
        f"### {columns.heading(metric)}, protocol `{protocol}`: means by domain",
        text_of(_variants(values, metric, told)),
    ]
    return "\n\n".join(parts) + "\n"


def _choices(found: Sequence[LeftOut], metric: str) -> Table:
    by_all = f"chosen on all: {found[0].by_all}"
    head = ("domain left out", "chosen on the others", "its value here")
    columns_of = (*head, by_all, "difference", "best here", "its value")
    lines = [
        (
            one.domain,
            one.chosen,
            columns.value(metric, one.value),
            columns.value(metric, one.value_by_all),
            _signed(metric, one.value - one.value_by_all),
            one.best,
            columns.value(metric, one.value_best),
        )
        for one in found
    ]
    value, all_chose, best = (
        _mean([getattr(one, name) for one in found])
        for name in ("value", "value_by_all", "value_best")
    )
    shown = [columns.value(metric, number) for number in (value, all_chose, best)]
    middle = (shown[0], shown[1], _signed(metric, value - all_chose))
    lines.append(("mean over domains", NOTHING, *middle, NOTHING, shown[2]))
    return Table(columns_of, tuple(lines))


def _variants(values: Values, metric: str, told: Sequence[str]) -> Table:
    domains = list(next(iter(values.values())))
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    means = {name: _mean(list(one.values())) for name, one in values.items()}
    lines = []
    for name in sorted(values, key=lambda one: sign * means[one]):
        cells = [columns.value(metric, values[name][domain]) for domain in domains]
        lines.append((name, *cells, columns.value(metric, means[name])))
    return Table(("variant", *domains, "mean over domains"), tuple(lines), tuple(told))


def _means_of(block: Block, metric: str) -> dict[str, float]:
    """The mean over entities of every variant that has a value on all of them."""
    return {row.variant: row.measures[metric].mean for row in block.comparable(metric)}


def _signed(metric: str, number: float) -> str:
    text = columns.value(metric, abs(number))
    return f"−{text}" if number < 0 else f"+{text}"
