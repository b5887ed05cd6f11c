"""Study: metrics, protocols and votes when anomalies are rare or frequent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from imdiffusion.schema import Value
from imdiffusion_bench.columns import bullets
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.plots import Chart, charts_figure
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import Study, dataset, imputing, reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAME = "imbalance"
QUESTION = (
    "What does the share of anomalous rows, from .1 % to 30 %, do to each protocol, and do votes "
    "over diffusion steps stand it better than a mean?"
)
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

# A random sampler, whose steps differ most (see the study of ensembling), under the masks that rank
# best (see the study of gratings).
_SCORING: Mapping[str, Value] = {
    "mask": "channel",
    "sampler": "ddpm",
    "sampling_steps": 10,
    "ensemble_steps": 10,
}
_WAYS: Mapping[str, Mapping[str, Value]] = {
    "mean of 10 steps": {"ensemble": "mean"},
    "threshold vote": {"ensemble": "threshold"},
    "rank vote": {"ensemble": "rank"},
    "last step": {"ensemble": "mean", "ensemble_steps": 1},
}
VARIANTS = (
    *(imputing(title, **{**_SCORING, **way}) for title, way in _WAYS.items()),
    *(Variant(row, row) for row in ("mahalanobis_30", "zscore", "random")),
)
# (protocol, metric, heading); no table and no chart mixes two of them.
_METRICS = (
    ("label_free", "auc_pr", "AUC-PR, label-free protocol"),
    ("label_free", "f1", "F1 at the label-free threshold, label-free protocol"),
    ("label_free", "alarm_share_normal", "Normal rows in alarm, label-free protocol"),
    ("oracle", "f1", "F1, best threshold by the labels, oracle protocol"),
    ("paper", "f1", "F1, point-adjusted, by the labels, paper protocol"),
)


def of_share(share: float) -> str:
    """The data set with this share of anomalous rows: all kinds in turn, 10 rows each."""
    return dataset(anomaly_share=share, anomaly_length=10, rows_test=6000)


DATASETS = tuple(of_share(share) for share in SHARES)


def table(records: list[Record]) -> str:
    """One table a protocol and metric, variants by shares, and what they say."""
    mine = reading.chosen(records, DATASETS, NAME)
    rows = {one.name: one.name for one in VARIANTS}
    columns = {of_share(share): f"{share:.1%}" for share in SHARES}
    parts = [f"# {QUESTION}"]
    for protocol, metric, heading in _METRICS:
        found = reading.cells(mine, reading.metric(protocol, metric))
        parts.append(f"## {heading}")
        parts.append(reading.grid(found, "variant", rows, columns, turn=True))
    parts += ["## What the numbers say", bullets(_says(mine))]
    parts += ["## What they do not say", bullets(_LIMITS)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "At .1 % there is one anomaly of 6 rows: mean and spread are over seeds of the detector, not "
    "over anomalies.",
    "The rank vote flags about 2 % of the rows whatever their true share: that share is a setting.",
    "The floor of AUC-PR is the share itself: compare within a column, not along a row.",
)


def _says(records: list[Record]) -> list[str]:
    lines = []
    networks = [one.name for one in VARIANTS if one.detector == "fast"]
    for protocol, metric, heading in _METRICS:
        if metric == "alarm_share_normal":
            continue
        found = reading.cells(records, reading.metric(protocol, metric))
        for share in SHARES:
            means = {one: reading.cell(found, of_share(share), one).mean for one in networks}
            noise = reading.cell(found, of_share(share), "random")
            top = reading.best(means)
            lines.append(
                f"{heading}, {share:.1%} anomalous: best {top} "
                f"{reading.cell(found, of_share(share), top)}, random {noise}"
            )
    return lines


def plot(records: list[Record]) -> Figure:
    """A chart a protocol and metric against the share of anomalous rows."""
    mine = reading.chosen(records, DATASETS, NAME)
    at_x = {100 * share: of_share(share) for share in SHARES}
    charts = []
    for protocol, metric, heading in _METRICS:
        found = reading.cells(mine, reading.metric(protocol, metric))
        charts.append(
            Chart(
                heading,
                "anomalous rows (%)",
                heading.partition(",")[0].partition(" at ")[0],
                tuple(reading.line(found, one.name, one.name, at_x) for one in VARIANTS),
                log_x=True,
            )
        )
    return charts_figure(charts, title=QUESTION)


STUDY = Study(NAME, QUESTION, DATASETS, VARIANTS, (0, 1, 2), table, plot)
