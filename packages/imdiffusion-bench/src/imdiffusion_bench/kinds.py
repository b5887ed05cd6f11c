"""Each kind of anomaly on a generated set of its own: what finds which, as one table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from imdiffusion.errors import DataError
from imdiffusion_bench import columns
from imdiffusion_bench.generator import Dials, Generated
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import reading

# Long enough that ten anomalies of 50 rows are in each test part.
ALWAYS: dict[str, Any] = {"anomaly_length": 50, "rows_train": 10_000, "rows_test": 10_000}
# Nothing but ties between channels makes the signal beside the season, so that a tie can break.
TIED: dict[str, Any] = {"anomaly": "coupling", "coupling": 1.0}
DIALS: dict[str, dict[str, Any]] = {
    "spike": {"anomaly": "spike"},
    "level shift": {"anomaly": "level_shift"},
    "trend": {"anomaly": "trend"},
    "variance": {"anomaly": "variance"},
    "missing season, .3 of the variance": {"anomaly": "missing_season"},
    "missing season, .7 of the variance": {"anomaly": "missing_season", "seasonality": 0.7},
    "linear ties broken": {**TIED, "coupling_kind": "linear"},
    "non-linear ties broken": {**TIED, "coupling_kind": "nonlinear"},
    # The set that the relay was chosen on: a third of the rows in either part.
    "the same, 3,000 rows": {
        **TIED,
        "coupling_kind": "nonlinear",
        "rows_train": 3000,
        "rows_test": 3000,
    },
}
# Title -> the data set, whose name says all its dials.
KINDS = {title: Generated(Dials(**{**ALWAYS, **dials})).name for title, dials in DIALS.items()}
# What is asked of `fast`: nothing where a one-liner with a covariance sees the ties too.
WANTED = {
    title: 0.80 if dials.get("coupling_kind") else 0.90
    for title, dials in DIALS.items()
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
