"""Tables over all data sets at once: variants against a base, and what joining steps brings.

Three entities a data set are too few for a test; those of all data sets together are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np

from imdiffusion.errors import DataError
from imdiffusion_bench import columns
from imdiffusion_bench.ensembles import SIZES
from imdiffusion_bench.notes import p_words
from imdiffusion_bench.record import Record
from imdiffusion_bench.significance import holm, signed_rank_p
from imdiffusion_bench.studies import reading

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
            columns.value(metric, line.base),
            columns.value(metric, line.own),
            f"{line.change:+.3f}",
            f"{line.below if less else line.above} of {line.entities}",
            p_words(line.p),
            p_words(p),
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


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
