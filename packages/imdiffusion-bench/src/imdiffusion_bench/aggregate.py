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
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imdiffusion.errors import DataError
from imdiffusion.schema import one_of
from imdiffusion_bench import columns
from imdiffusion_bench.columns import LOWER_IS_BETTER, NOTHING, Table, bullets, markdown
from imdiffusion_bench.datasets.known import DATASETS
from imdiffusion_bench.plan import KIND_DIALS, KINDS
from imdiffusion_bench.protocols import SIZES
from imdiffusion_bench.record import Record
from imdiffusion_bench.significance import holm, signed_rank_p
from imdiffusion_bench.studies import cells
from imdiffusion_bench.summary import mean_of, summarise
from imdiffusion_bench.tables import p_words

ALIKE = 0.99  # steps that correlate so hold one and the same error


def against_base(
    records: Iterable[Record], *, protocol: str, metric: str, base: str = "base"
) -> str:
    """Each variant beside `base`, a line each, the best first.

    Only runs of an entity and a seed that both have are compared. The units of the test are
    entities, each the mean over its seeds: Wilcoxon's signed ranks, Holm's correction over all
    lines. Raises DataError without a run of the base.
    """
    # variant -> (data set, entity) -> seed -> value
    found: dict[str, dict[tuple[str, str], dict[int, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    read = cells.metric(protocol, metric)
    for run in records:
        if run["status"] == "ok" and (value := read(run)) is not None:
            found[run["variant"]][run["dataset"], run["entity"]][run["seed"]] = value
    if base not in found:
        raise DataError(
            f"no run of the variant {base!r} among these records",
            remedy="Measure it first: the others are compared with it.",
        )
    sign = 1 if metric in LOWER_IS_BETTER else -1
    lines = []
    for name, values in found.items():
        if name != base:
            both = _pairs(values, found[base])
            own, other = (mean_of(both[:, side]) for side in (0, 1))
            better = int((sign * (both[:, 0] - both[:, 1]) < 0).sum())
            p = signed_rank_p(both[:, 0] - both[:, 1])
            lines.append((name, own, other, f"{better} of {len(both)}", p))
    lines.sort(key=lambda line: sign * (line[1] - line[2]))
    corrected = holm([line[-1] for line in lines])
    rows = []
    for (name, own, other, better_of, p), p_holm in zip(lines, corrected, strict=True):
        values_of = [columns.value(metric, number) for number in (other, own)]
        rows.append(
            [name, *values_of, f"{own - other:+.3f}", better_of, p_words(p), p_words(p_holm)]
        )
    head = ["variant", f"{columns.title(metric)} of the {base}", "its own", "change"]
    head += ["entities better", "p", "p (Holm)"]
    return (
        f"### Against the {base}, all data sets together: {columns.heading(metric)}, "
        f"protocol `{protocol}`\n\n{markdown(head, rows)}\n\n"
        f"- Means over the entities that a variant shares with the {base}, each the mean over the "
        "seeds that both have. p: Wilcoxon's signed ranks over entities; corrected by Holm over "
        f"the {len(lines)} lines."
    )


def _pairs(
    values: Mapping[tuple[str, str], Mapping[int, float]],
    base: Mapping[tuple[str, str], Mapping[int, float]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Means over the seeds that both have, (entities that both have, 2)."""
    pairs = []
    for where, own in values.items():
        shared = sorted(set(own) & set(base.get(where, {})))
        if shared:
            pairs.append([mean_of(one[seed] for seed in shared) for one in (own, base[where])])
    return np.array(pairs, np.float64).reshape(-1, 2)


def steps_joined(records: Iterable[Record]) -> str:
    """AUC-PR of the mean over the last n steps, and how alike the steps are, for each variant."""
    of: dict[str, list[Record]] = defaultdict(list)
    for run in records:
        if run["status"] == "ok" and cells.last_steps(2)(run) is not None:
            of[run["variant"]].append(run)
    if not of:
        return ""

    def over(runs: Iterable[Record], read: cells.Reader) -> float:
        return mean_of(value for run in runs if (value := read(run)) is not None)

    every = [run for runs in of.values() for run in runs]
    reads = {f"{size}": cells.last_steps(size) for size in SIZES}
    reads = {size: read for size, read in reads.items() if not math.isnan(over(every, read))}
    reads["correlation"] = cells.aside("step_correlation")
    rows = [
        [name, *(cells.number(over(runs, read)) for read in reads.values())]
        for name, runs in of.items()
    ]
    head = ["AUC-PR of the mean over the last n steps: variant", *reads]
    return (
        f"### One step to all of them\n\n{markdown(head, rows)}\n\n"
        "- Plain AUC-PR, as under `label_free`, mean over all runs of a variant. Correlation: of "
        f"the last step's errors with those of the nine steps before. Above {ALIKE:g} the steps "
        "hold one and the same error: there is nothing to join, and where a vote over them has "
        "another point-adjusted F1, this comes of the further thresholds that the labels chose "
        "from."
    )


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
    found = cells.auc_pr(cells.chosen(records, list(KINDS.values()), "kinds"))

    def over_kinds(row: str) -> float:
        means = [found[name, row].mean for name in KINDS.values()]
        return -1.0 if any(map(math.isnan, means)) else mean_of(means)

    rows = sorted(dict.fromkeys(variant for _, variant in found), key=lambda row: -over_kinds(row))
    if ours not in rows:
        raise DataError(
            f"no run of {ours!r} is among these records", remedy="Measure the plan `kinds` whole."
        )
    shown = [[row, *(found[name, row] for name in KINDS.values())] for row in rows]
    lines = []
    for title, name in KINDS.items():
        means = found.means(name, rows)
        mine = means.pop(ours)
        best = cells.best(means)
        text = f"{title}: {ours} {cells.number(mine)}, the best other row {best}"
        text += f" {cells.number(means[best])}" if best in means else ""
        if title in WANTED and not math.isnan(mine):
            verdict = "reached" if mine >= WANTED[title] else "missed"
            text += f"; wanted {WANTED[title]:.2f}: {verdict}"
        lines.append(f"{text}.")
    table = markdown(["AUC-PR", *KINDS], shown)
    return f"### AUC-PR, protocol `label_free`\n\n{table}\n\n{bullets(lines)}\n"


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
    domains = list(dict.fromkeys(domain for one in values.values() for domain in one))
    for variant, own in values.items():
        absent = [domain for domain in domains if domain not in own]
        if absent:
            raise DataError(
                f"{variant} has no value on the domain {absent[0]!r}",
                remedy="Choose among variants that were measured on every domain.",
            )
    if not values or len(domains) < 2:
        raise DataError(
            f"{len(values)} variants on {len(domains)} domains: none can be left out",
            remedy="Measure at least one variant on data sets of two domains.",
        )
    sign = -1.0 if lower_is_better else 1.0

    def choose(heard: Sequence[str]) -> str:
        return max(values, key=lambda one: sign * mean_of(values[one][name] for name in heard))

    found = []
    for domain in domains:
        others = [name for name in domains if name != domain]
        chosen = [choose(heard) for heard in (others, domains, [domain])]
        three = [fact for one in chosen for fact in (one, values[one][domain])]
        found.append(LeftOut(domain, *three))  # type: ignore[arg-type]
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
    means = {
        block.dataset: {row.variant: row.measures[metric].mean for row in block.comparable(metric)}
        for block in summarise(taken, protocol=protocol, metrics=(metric,)).blocks
    }
    whole = [name for name in among or every if all(name in one for one in means.values())]
    partial = [name for name in among or every if name not in whole]
    if among and partial:
        lacking = [name for name, one in means.items() if partial[0] not in one]
        raise DataError(
            f"{partial[0]} has no value on every entity of {', '.join(lacking)}",
            remedy="Measure it there, or leave it out.",
        )
    sets = {domain: [name for name in means if DOMAIN_OF[name] == domain] for domain in DOMAINS}
    sets = {domain: names for domain, names in sets.items() if names}
    values = {
        variant: {
            domain: mean_of(means[name][variant] for name in names)
            for domain, names in sets.items()
        }
        for variant in whole
    }
    notes = [f"{domain}: {', '.join(names)}." for domain, names in sets.items()]
    if partial:
        notes.append(f"Not to be chosen, for entities are missing: {', '.join(partial)}.")
    foreign = dict.fromkeys(run["dataset"] for run in runs if run["dataset"] not in DOMAIN_OF)
    if foreign:
        notes.append(f"Of no known domain, and not counted: {', '.join(foreign)}.")
    return values, notes


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
    values, notes = values_by_domain(records, protocol=protocol, metric=metric, among=among)
    found = leave_out(values, lower_is_better=metric in LOWER_IS_BETTER)
    heading = f"### {columns.heading(metric)}, protocol `{protocol}`"
    parts = [
        f"{heading}: a domain left out",
        str(_choices(found, metric)),
        f"{heading}: means by domain",
        str(_variants(values, metric, notes)),
    ]
    return "\n\n".join(parts) + "\n"


def _choices(found: Sequence[LeftOut], metric: str) -> Table:
    names = ("value", "value_by_all", "value_best")
    means = {name: mean_of(getattr(one, name) for one in found) for name in names}
    last = LeftOut(
        "mean over domains",
        NOTHING,
        means["value"],
        NOTHING,
        means["value_by_all"],
        NOTHING,
        means["value_best"],
    )
    lines = []
    for one in (*found, last):
        difference = one.value - one.value_by_all
        signed = f"{'−' if difference < 0 else '+'}{columns.value(metric, abs(difference))}"
        own, all_chose, best = (columns.value(metric, getattr(one, name)) for name in names)
        lines.append((one.domain, one.chosen, own, all_chose, signed, one.best, best))
    head = ("domain left out", "chosen on the others", "its value here")
    more = (f"chosen on all: {found[0].by_all}", "difference", "best here", "its value")
    return Table((*head, *more), tuple(lines))


def _variants(values: Values, metric: str, notes: Sequence[str]) -> Table:
    sign = 1.0 if metric in LOWER_IS_BETTER else -1.0
    means = {name: mean_of(one.values()) for name, one in values.items()}
    domains = list(next(iter(values.values())))
    lines = []
    for name in sorted(values, key=lambda one: sign * means[one]):
        numbers = (*(values[name][domain] for domain in domains), means[name])
        lines.append((name, *(columns.value(metric, number) for number in numbers)))
    return Table(("variant", *domains, "mean over domains"), tuple(lines), tuple(notes))
