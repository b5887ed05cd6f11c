"""Studies of the series: its complexity, the length of its anomalies, their share of the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping

from imdiffusion.schema import Value
from imdiffusion_bench.generator.config import KINDS
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.plots import Chart
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies.cells import (
    AUC_PR,
    F1_LABEL_FREE,
    F1_ORACLE,
    Sections,
    Study,
    auc_pr,
    best,
    cells,
    dataset,
    imputing,
    lines_of,
    metric,
    number,
    short_of,
    titles,
)

# -- complexity: one dial is turned at a time; the middle level of each is where the others stand

LEVELS: Mapping[str, tuple[float, float, float]] = {
    "temporal": (0.0, 0.9, 0.98),
    "coupling": (0.4, 0.8, 1.0),
    "noise": (0.02, 0.1, 0.5),
    "seasonality": (0.1, 0.3, 0.7),
}
FAMILIES: Mapping[str, Mapping[str, str]] = {
    "all kinds": {"anomaly": "mixed", "coupling_kind": "linear"},
    "across channels alone": {"anomaly": "coupling", "coupling_kind": "nonlinear"},
}
_MIDDLE = {
    "rows_test": 6000,
    "anomaly_length": 30,
    **{dial: levels[1] for dial, levels in LEVELS.items()},
}
_SHORT = ("spike", "shift", "trend", "variance", "stop", "faster", "coupling")
_ROWS = ("mahalanobis_30", "pca_30", "moving_variance", "zscore", "random")
_COMPLEXITY = (
    Variant("fast", "fast"),
    imputing("under gratings"),
    *(Variant(row, row) for row in _ROWS),
)


def of_level(family: str, dial: str, level: float) -> str:
    """The data set of a family with one dial at this level."""
    return dataset(**{**_MIDDLE, **FAMILIES[family], dial: level})


def of_kind(kind: str) -> str:
    """The data set with one kind of anomaly, all dials in the middle, linear coupling."""
    return dataset(**_MIDDLE, anomaly=kind, coupling_kind="linear")


def _complexity_tables(records: list[Record]) -> Sections:
    found, columns, sections = auc_pr(records), titles(_COMPLEXITY), {}
    for family in FAMILIES:
        rows = {
            of_level(family, d, x): f"{d} = {x:g}" for d, levels in LEVELS.items() for x in levels
        }
        rows[of_level(family, "temporal", 0.9)] = "all dials in the middle"
        sections[f"{AUC_PR}; anomalies: {family}"] = found.grid("dial", rows, columns, turn=False)
    kinds = {of_kind(kind): kind for kind in KINDS}
    heading = f"{AUC_PR}; one kind of anomaly, all dials in the middle"
    return {**sections, heading: found.grid("kind", kinds, columns, turn=False)}


def _complexity_says(records: list[Record]) -> list[str]:
    found, lines = auc_pr(records), []
    for family in FAMILIES:
        for dial, levels in LEVELS.items():
            low, high = (of_level(family, dial, levels[end]) for end in (0, -1))
            changes = []
            for one in _COMPLEXITY[:-1]:  # without random
                change = found[high, one.name].mean - found[low, one.name].mean
                signed = f"{change:+.3f}" if math.isfinite(change) else number(change)
                changes.append(f"{one.name} {signed}")
            span = f"{dial} from {levels[0]:g} to {levels[-1]:g}"
            lines.append(f"{family}, {span}: {', '.join(changes)}")
    for kind in KINDS:
        best_of = []
        for what, names in (("network", ("fast", "under gratings")), ("baseline", _ROWS)):
            means = found.means(of_kind(kind), names)
            top = best(means)
            best_of.append(f"best {what} {top} {number(means.get(top, math.nan))}")
        lines.append(f"{kind}: {', '.join(best_of)}")
    return lines


def _complexity_charts(records: list[Record]) -> list[Chart]:
    """AUC-PR against each dial, left all kinds, right across channels alone; below, by kind."""
    found = auc_pr(records)
    charts = []
    for dial, levels in LEVELS.items():
        ticks = tuple((float(n), f"{x:g}") for n, x in enumerate(levels))
        for family in FAMILIES:
            at_x = {float(n): of_level(family, dial, x) for n, x in enumerate(levels)}
            lines = lines_of(found, _COMPLEXITY, at_x)
            charts.append(Chart(f"{dial}: {family}", dial, AUC_PR, lines, ticks=ticks))
    lines = lines_of(found, _COMPLEXITY, {float(x): of_kind(kind) for x, kind in enumerate(KINDS)})
    ticks = tuple((float(x), text) for x, text in enumerate(_SHORT))
    last = Chart("Kinds of anomaly", "", AUC_PR, lines, ticks=ticks, style="categories")
    return [*charts, last]


COMPLEXITY = Study(
    "complexity",
    "How does detection depend on the complexity of a series: its order in time, the coupling of "
    "its channels, its noise and its season?",
    tuple(
        dict.fromkeys(
            [
                *(of_level(f, dial, x) for f in FAMILIES for dial in LEVELS for x in LEVELS[dial]),
                *(of_kind(kind) for kind in KINDS),
            ]
        )
    ),
    _COMPLEXITY,
    (0,),
    _complexity_tables,
    _complexity_says,
    (
        "One series and one seed a level: differences of a few hundredths are chance.",
        "The row under gratings is a small network that imputes, its errors as they are: the "
        "paper's masks without the paper's network, which learns nothing in minutes, and without "
        "what `fast` does to its errors. Levels compare, absolute values would rise with longer "
        "training.",
        "With a weaker season the anomalies of the season are weaker too; the other dials leave "
        "the anomalies as they are.",
    ),
    _complexity_charts,
)

# -- gratings: the width of their bands against the length of an anomaly

LENGTHS = (2, 5, 10, 20, 50, 100)  # rows of an anomaly
WIDTHS = (2, 4, 5, 10, 20, 50)  # rows of a band in a window of 100
GRATING_KINDS = ("level_shift", "variance")
_OTHER_MASKS = {
    "random": "random points",
    "block": "blocks of 10 rows",
    "channel": "whole channels",
}
# What a mask shows: with a half two masks complement each other, with less both hide some points,
# with more there are four masks, each of which hides fewer.
_VISIBLE_SHARES = {0.5: "half shown", 0.7: "seven in ten shown"}
# All score one network, trained under all kinds of masks; those that show another share of the
# points were trained with that share too, and stand in the table alone.
_DRAWN = (
    *(imputing(f"bands of {width} rows", bands=100 // width) for width in WIDTHS),
    *(imputing(title, mask=mask) for mask, title in _OTHER_MASKS.items()),
)
_GRATINGS = (
    *_DRAWN,
    *(
        imputing(f"{_OTHER_MASKS[mask]}, {title}", mask=mask, visible_share=share)
        for mask in ("random", "block")
        for share, title in _VISIBLE_SHARES.items()
    ),
)


def of_length(kind: str, length: int) -> str:
    """The data set with anomalies of one kind and length, a tenth of the rows, no season."""
    dials = {"anomaly_share": 0.1, "rows_test": 6000, "seasonality": 0.0}
    return dataset(anomaly=kind, anomaly_length=length, **dials)


def _gratings_tables(records: list[Record]) -> Sections:
    found, sections = auc_pr(records), {}
    for kind in GRATING_KINDS:
        columns = {of_length(kind, length): f"{length} rows" for length in LENGTHS}
        grid = found.grid("mask in scoring", titles(_GRATINGS), columns, turn=True)
        sections[f"{AUC_PR}; anomalies: {kind}"] = grid
    return sections


def _gratings_says(records: list[Record]) -> list[str]:
    found, lines = auc_pr(records), []
    for kind in GRATING_KINDS:
        for length in LENGTHS:
            means = found.means(of_length(kind, length), titles(_GRATINGS))
            top = best(means)
            bands = {w: means[f"bands of {w} rows"] for w in WIDTHS}
            shorter = _finite_mean([bands[w] for w in WIDTHS if w < length])
            longer = _finite_mean([bands[w] for w in WIDTHS if w >= length])
            lines.append(
                f"{kind} of {length} rows: best {top} {number(means.get(top, math.nan))}; bands "
                f"shorter than it {number(shorter)}, as long or longer {number(longer)}"
            )
    return lines


def _finite_mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _gratings_charts(records: list[Record]) -> list[Chart]:
    """AUC-PR against the length of the anomaly, a line for each mask, a chart for each kind."""
    found, x_label = auc_pr(records), "length of an anomaly (rows)"
    charts = []
    for kind in GRATING_KINDS:
        lines = lines_of(found, _DRAWN, {float(n): of_length(kind, n) for n in LENGTHS})
        charts.append(Chart(f"Anomalies: {kind}", x_label, AUC_PR, lines, log_x=True))
    return charts


GRATINGS = Study(
    "gratings",
    "Which anomalies do gratings miss: how wide must a band be for an anomaly of a given length, "
    "and do masks that do not complement each other do as well?",
    tuple(of_length(kind, length) for kind in GRATING_KINDS for length in LENGTHS),
    _GRATINGS,
    (0, 1),
    _gratings_tables,
    _gratings_says,
    (
        "The network was trained under all kinds of masks in turn; one trained under the mask that "
        "it is scored with may do better.",
        "One series a length, two seeds of the network: differences of a few hundredths are "
        "chance.",
        "Errors are neither averaged over time nor rid of what drifts: so in `paper`, not in "
        "`fast`.",
    ),
    _gratings_charts,
)

# -- imbalance: metrics, protocols and votes when anomalies are rare or frequent

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
# A random sampler, whose steps differ most (see the study of ensembling), under the masks that rank
# best (see the study of gratings).
_VOTING: Mapping[str, Value] = {
    "mask": "channel",
    "sampler": "ddpm",
    "sampling_steps": 10,
    "ensemble_steps": 10,
}
_VOTES = (
    imputing("mean of 10 steps", **{**_VOTING, "ensemble": "mean"}),
    imputing("threshold vote", **{**_VOTING, "ensemble": "threshold"}),
    imputing("rank vote", **{**_VOTING, "ensemble": "rank"}),
    imputing("last step", **{**_VOTING, "ensemble": "mean", "ensemble_steps": 1}),
)
_IMBALANCE = (*_VOTES, *(Variant(row, row) for row in ("mahalanobis_30", "zscore", "random")))
_IN_ALARM = "Normal rows in alarm, label-free protocol"
# Heading -> protocol and metric; no table and no chart mixes two of them.
_IMBALANCE_METRICS: Mapping[str, tuple[str, str]] = {
    AUC_PR: ("label_free", "auc_pr"),
    F1_LABEL_FREE: ("label_free", "f1"),
    _IN_ALARM: ("label_free", "alarm_share_normal"),
    F1_ORACLE: ("oracle", "f1"),
    "F1, point-adjusted, by the labels, paper protocol": ("paper", "f1"),
}


def of_share(share: float) -> str:
    """The data set with this share of anomalous rows: all kinds in turn, 10 rows each."""
    return dataset(anomaly_share=share, anomaly_length=10, rows_test=6000)


def _imbalance_tables(records: list[Record]) -> Sections:
    columns = {of_share(share): f"{share:.1%}" for share in SHARES}
    return {
        heading: cells(records, metric(*of)).grid("variant", titles(_IMBALANCE), columns, turn=True)
        for heading, of in _IMBALANCE_METRICS.items()
    }


def _imbalance_says(records: list[Record]) -> list[str]:
    lines = []
    for heading, of in _IMBALANCE_METRICS.items():
        found = cells(records, metric(*of))
        for share in SHARES if heading != _IN_ALARM else ():
            name = of_share(share)
            top = best(found.means(name, titles(_VOTES)))
            lines.append(
                f"{heading}, {share:.1%} anomalous: best {top} {found[name, top]}, random "
                f"{found[name, 'random']}"
            )
    return lines


def _imbalance_charts(records: list[Record]) -> list[Chart]:
    """A chart a protocol and metric against the share of anomalous rows."""
    at_x = {100 * share: of_share(share) for share in SHARES}
    charts = []
    for heading, of in _IMBALANCE_METRICS.items():
        lines = lines_of(cells(records, metric(*of)), _IMBALANCE, at_x)
        charts.append(Chart(heading, "anomalous rows (%)", short_of(heading), lines, log_x=True))
    return charts


IMBALANCE = Study(
    "imbalance",
    "What does the share of anomalous rows, from .1 % to 30 %, do to each protocol, and do votes "
    "over diffusion steps stand it better than a mean?",
    tuple(of_share(share) for share in SHARES),
    _IMBALANCE,
    (0, 1, 2),
    _imbalance_tables,
    _imbalance_says,
    (
        "At .1 % there is one anomaly of 6 rows: mean and spread are over seeds of the detector, "
        "not over anomalies.",
        "The rank vote flags about 2 % of the rows whatever their true share: that share is a "
        "setting.",
        "The floor of AUC-PR is the share itself: compare within a column, not along a row.",
    ),
    _imbalance_charts,
)
