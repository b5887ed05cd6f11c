"""Study: what gratings can see, by the width of their bands and the length of an anomaly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imdiffusion_bench.columns import bullets
from imdiffusion_bench.plots import Chart, charts_figure
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import Study, dataset, imputing, reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAME = "gratings"
QUESTION = (
    "Which anomalies do gratings miss: how wide must a band be for an anomaly of a given length, "
    "and do masks that do not complement each other do as well?"
)
LENGTHS = (2, 5, 10, 20, 50, 100)  # rows of an anomaly
WIDTHS = (2, 4, 5, 10, 20, 50)  # rows of a band in a window of 100
KINDS = ("level_shift", "variance")

_OTHERS = {"random": "random points", "block": "blocks of 10 rows", "channel": "whole channels"}
# What a mask shows: with a half two masks complement each other, with less both hide some points,
# with more there are four masks, each of which hides fewer.
_SHARES = {0.5: "half shown", 0.7: "seven in ten shown"}
# All score one network, trained under all kinds of masks; those that show another share of the
# points were trained with that share too.
VARIANTS = (
    *(imputing(f"bands of {width} rows", bands=100 // width) for width in WIDTHS),
    *(imputing(title, mask=mask) for mask, title in _OTHERS.items()),
    *(
        imputing(f"{_OTHERS[mask]}, {title}", mask=mask, visible_share=share)
        for mask in ("random", "block")
        for share, title in _SHARES.items()
    ),
)
_DRAWN = VARIANTS[: len(WIDTHS) + len(_OTHERS)]  # more lines cannot be told apart


def of_length(kind: str, length: int) -> str:
    """The data set with anomalies of one kind and length, a tenth of the rows, no season."""
    return dataset(
        anomaly=kind,
        anomaly_length=length,
        anomaly_share=0.1,
        rows_test=6000,
        seasonality=0.0,
    )


DATASETS = tuple(of_length(kind, length) for kind in KINDS for length in LENGTHS)


def table(records: list[Record]) -> str:
    """AUC-PR (label-free protocol) by mask and length of the anomaly, and what it says."""
    found = _found(records)
    rows = {one.name: one.name for one in VARIANTS}
    parts = [f"# {QUESTION}"]
    for kind in KINDS:
        columns = {of_length(kind, length): f"{length} rows" for length in LENGTHS}
        parts.append(f"## AUC-PR, label-free protocol; anomalies: {kind}")
        parts.append(reading.grid(found, "mask in scoring", rows, columns, turn=True))
    parts += ["## What the numbers say", bullets(_says(found))]
    parts += ["## What they do not say", bullets(_LIMITS)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "The network was trained under all kinds of masks in turn; one trained under the mask that it "
    "is scored with may do better.",
    "One series a length, two seeds of the network: differences of a few hundredths are chance.",
    "Errors are neither averaged over time nor rid of what drifts: so in `paper`, not in `fast`.",
)


def _says(found: reading.Cells) -> list[str]:
    lines = []
    for kind in KINDS:
        for length in LENGTHS:
            name = of_length(kind, length)
            means = {one.name: reading.cell(found, name, one.name).mean for one in VARIANTS}
            top = reading.best(means)
            shorter = [means[f"bands of {w} rows"] for w in WIDTHS if w < length]
            longer = [means[f"bands of {w} rows"] for w in WIDTHS if w >= length]
            lines.append(
                f"{kind} of {length} rows: best {top} "
                f"{reading.number(means.get(top, math.nan))}; bands shorter than it "
                f"{_mean(shorter)}, as long or longer {_mean(longer)}"
            )
    return lines


def _mean(values: list[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return reading.number(sum(finite) / len(finite) if finite else math.nan)


def plot(records: list[Record]) -> Figure:
    """AUC-PR against the length of the anomaly, a line for each mask, a chart for each kind.

    Masks that show another share of the points stand in the table alone.
    """
    found = _found(records)
    return charts_figure(
        [
            Chart(
                f"Anomalies: {kind}",
                "length of an anomaly (rows)",
                "AUC-PR, label-free protocol",
                tuple(
                    reading.line(
                        found, one.name, one.name, {float(n): of_length(kind, n) for n in LENGTHS}
                    )
                    for one in _DRAWN
                ),
                log_x=True,
            )
            for kind in KINDS
        ],
        title=QUESTION,
    )


def _found(records: list[Record]) -> reading.Cells:
    return reading.cells(
        reading.chosen(records, DATASETS, NAME), reading.metric("label_free", "auc_pr")
    )


STUDY = Study(NAME, QUESTION, DATASETS, VARIANTS, (0, 1), table, plot)
