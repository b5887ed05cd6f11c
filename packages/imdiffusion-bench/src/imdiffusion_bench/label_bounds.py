"""How high a metric can go on a data set: what its labels allow, what all rows together reach."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from imdiffusion.arrays import Flags
from imdiffusion_bench.datasets import DataSet
from imdiffusion_bench.metrics import auc_pr
from imdiffusion_bench.metrics.events import event
from imdiffusion_bench.metrics.range_based import vus_pr
from imdiffusion_bench.record import Record

METRICS = ("vus_pr", "auc_pr", "event_f1")
HOPELESS = 0.2  # VUS-PR: where the best of all rows has less, no row sees what is labelled


def late(label: Flags, rows: int) -> Flags:
    """The label (T,) so many rows later; what would end after the last row is cut off there."""
    moved = np.zeros_like(label)
    moved[rows:] = label[: len(label) - rows]
    return moved


def wider(label: Flags, rows: int) -> Flags:
    """The label (T,) with so many rows more at both ends of each event."""
    reach = np.convolve(label, np.ones(2 * rows + 1), mode="full")[rows : rows + len(label)]
    return np.asarray(reach > 0.5)


# A detector that knows each event, and is no more wrong about it than this.
SLIPS: dict[str, Callable[[Flags], Flags]] = {
    "the label, 10 rows late": lambda label: late(label, 10),
    "the label, 30 rows late": lambda label: late(label, 30),
    "the label, 10 rows wider at both ends": lambda label: wider(label, 10),
    "the label, 30 rows wider at both ends": lambda label: wider(label, 30),
    "the label, 100 rows wider at both ends": lambda label: wider(label, 100),
}


def slipped(source: DataSet, entities: Sequence[str]) -> dict[str, dict[str, float]]:
    """SLIPS -> metric -> mean over entities of what the slipped label is worth as a score.

    An entity without a row left in alarm counts as 0. Raises what loading the labels raises.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for entity in entities:
        label = np.asarray(source.load(entity).truth.label(), bool)
        for name, slip in SLIPS.items():
            alarm = slip(label)
            score = alarm.astype(np.float64)
            found[name]["vus_pr"].append(vus_pr(label, score))
            found[name]["auc_pr"].append(auc_pr(label, score))
            found[name]["event_f1"].append(event(label, alarm).f1 if alarm.any() else 0.0)
    return {
        name: {metric: float(np.mean(values)) for metric, values in each.items()}
        for name, each in found.items()
    }


def best_rows(
    records: Iterable[Record], metric: str, *, without: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Data set -> entity -> the best mean over seeds of any row, protocol `label_free`.

    Runs in which the metric is not defined are left out, and the rows in `without`.
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in records:
        if run["status"] != "ok" or run["detector"] in without:
            continue
        value = run["metrics"].get("label_free", {}).get(metric)
        if value is not None and math.isfinite(value):
            values[run["dataset"], run["entity"]][run["variant"]].append(float(value))
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for (dataset, entity), rows in values.items():
        found[dataset][entity] = max(math.fsum(each) / len(each) for each in rows.values())
    return dict(found)


def hopeless(best: Mapping[str, float]) -> list[str]:
    """The entities on which no row reaches HOPELESS, lowest first."""
    return sorted((name for name, value in best.items() if value < HOPELESS), key=best.__getitem__)
