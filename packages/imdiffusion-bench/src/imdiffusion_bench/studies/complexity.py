"""Study: what order in time, coupling, noise and season of the data do to detection."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from imdiffusion_bench.columns import bullets
from imdiffusion_bench.generator.config import KINDS
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.plots import Chart, Line, charts_figure
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import Study, dataset, imputing, reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAME = "complexity"
QUESTION = (
    "How does detection depend on the complexity of a series: its order in time, the coupling of "
    "its channels, its noise and its season?"
)

# One dial is turned at a time; the middle level of each is where the others stand.
LEVELS: Mapping[str, tuple[float, float, float]] = {
    "temporal": (0.0, 0.9, 0.98),
    "coupling": (0.4, 0.8, 1.0),
    "noise": (0.02, 0.1, 0.5),
    "seasonality": (0.1, 0.3, 0.7),
}
_MIDDLE = {dial: levels[1] for dial, levels in LEVELS.items()}
_ALWAYS = {"rows_test": 6000, "anomaly_length": 30}
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "all kinds": {"anomaly": "mixed", "coupling_kind": "linear"},
    "across channels alone": {"anomaly": "coupling", "coupling_kind": "nonlinear"},
}
_SHORT = ("spike", "shift", "trend", "variance", "stop", "faster", "coupling")

VARIANTS = (
    Variant("fast", "fast"),
    imputing("under gratings"),
    *(
        Variant(row, row)
        for row in ("mahalanobis_30", "pca_30", "moving_variance", "zscore", "random")
    ),
)
_NETWORKS = ("fast", "under gratings")


def at(family: str, dial: str, level: float) -> str:
    """The data set of a family with one dial at this level."""
    return dataset(**{**_ALWAYS, **_MIDDLE, **FAMILIES[family], dial: level})


def of_kind(kind: str) -> str:
    """The data set with one kind of anomaly, all dials in the middle, linear coupling."""
    return dataset(**_ALWAYS, **_MIDDLE, anomaly=kind, coupling_kind="linear")


DATASETS = tuple(
    dict.fromkeys(
        [
            *(at(f, dial, level) for f in FAMILIES for dial in LEVELS for level in LEVELS[dial]),
            *(of_kind(kind) for kind in KINDS),
        ]
    )
)


def table(records: list[Record]) -> str:
    """AUC-PR (label-free protocol) by dial and level, by kind of anomaly, and what they say."""
    found = _found(records)
    columns = {one.name: one.name for one in VARIANTS}
    parts = [f"# {QUESTION}"]
    for family in FAMILIES:
        rows = {at(family, d, x): f"{d} = {x:g}" for d, levels in LEVELS.items() for x in levels}
        parts.append(f"## AUC-PR, label-free protocol; anomalies: {family}")
        middle = next(name for name in rows if name == at(family, "temporal", 0.9))
        rows[middle] = "all dials in the middle"
        parts.append(reading.grid(found, "dial", rows, columns, turn=False))
    parts.append("## AUC-PR, label-free protocol; one kind of anomaly, all dials in the middle")
    kinds = {of_kind(kind): kind for kind in KINDS}
    parts.append(reading.grid(found, "kind", kinds, columns, turn=False))
    parts += ["## What the numbers say", bullets(_says(found))]
    parts += ["## What they do not say", bullets(_LIMITS)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "One series and one seed a level: differences of a few hundredths are chance.",
    "The row under gratings is a small network that imputes, its errors as they are: the paper's "
    "masks without the paper's network, which learns nothing in minutes, and without what `fast` "
    "does to its errors. Levels compare, absolute values would rise with longer training.",
    "With a weaker season the anomalies of the season are weaker too; the other dials leave the "
    "anomalies as they are.",
)


def _says(found: reading.Cells) -> list[str]:
    lines = []
    for family in FAMILIES:
        for dial, levels in LEVELS.items():
            low, high = at(family, dial, levels[0]), at(family, dial, levels[-1])
            change = ", ".join(
                f"{one.name} {_signed(found, low, high, one.name)}"
                for one in VARIANTS
                if one.detector != "random"
            )
            lines.append(f"{family}, {dial} from {levels[0]:g} to {levels[-1]:g}: {change}")
    for name, title in [(of_kind(kind), kind) for kind in KINDS]:
        means = {one.name: reading.cell(found, name, one.name).mean for one in VARIANTS}
        network = reading.best({key: means[key] for key in _NETWORKS})
        baseline = reading.best({key: means[key] for key in means if key not in _NETWORKS})
        lines.append(
            f"{title}: best network {network} {reading.number(means.get(network, math.nan))}, "
            f"best baseline {baseline} {reading.number(means.get(baseline, math.nan))}"
        )
    return lines


def _signed(found: reading.Cells, low: str, high: str, variant: str) -> str:
    change = reading.cell(found, high, variant).mean - reading.cell(found, low, variant).mean
    return f"{change:+.3f}" if math.isfinite(change) else reading.number(change)


def plot(records: list[Record]) -> Figure:
    """AUC-PR against each dial, left all kinds, right across channels alone; below, by kind."""
    found = _found(records)
    charts = [
        Chart(
            f"{dial}: {family}",
            dial,
            "AUC-PR, label-free protocol",
            _lines(found, {float(n): at(family, dial, x) for n, x in enumerate(levels)}),
            ticks=tuple((float(n), f"{x:g}") for n, x in enumerate(levels)),
        )
        for dial, levels in LEVELS.items()
        for family in FAMILIES
    ]
    charts.append(
        Chart(
            "Kinds of anomaly",
            "",
            "AUC-PR, label-free protocol",
            _lines(found, {float(x): of_kind(kind) for x, kind in enumerate(KINDS)}),
            ticks=tuple((float(x), text) for x, text in enumerate(_SHORT)),
            style="categories",
        )
    )
    return charts_figure(charts, title=QUESTION)


def _lines(found: reading.Cells, at_x: Mapping[float, str]) -> tuple[Line, ...]:
    return tuple(reading.line(found, one.name, one.name, at_x) for one in VARIANTS)


def _found(records: list[Record]) -> reading.Cells:
    return reading.cells(
        reading.chosen(records, DATASETS, NAME), reading.metric("label_free", "auc_pr")
    )


STUDY = Study(NAME, QUESTION, DATASETS, VARIANTS, (0,), table, plot)
