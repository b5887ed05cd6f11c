"""Study: how much results differ from seed to seed, and what makes them differ less."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imdiffusion.schema import Value
from imdiffusion_bench import columns
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.plots import Chart, Line, charts_figure
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import IMPUTING, Study, dataset, imputing, reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAME = "variance"
QUESTION = (
    "How much do F1 and VUS-PR vary from seed to seed, and what lowers it: more steps in the mean, "
    "a deterministic sampler, more training, several networks?"
)
SEEDS = (0, 1, 2, 3, 4)

_RANDOM: dict[str, Value] = {"sampler": "ddpm", "sampling_steps": 20}
_FIVE: dict[str, Value] = {**_RANDOM, "ensemble_steps": 5}
# The first one is what the others are held against.
VARIANTS = (
    imputing("last step", **_RANDOM, ensemble_steps=1),
    imputing("mean of 5 steps", **_FIVE),
    imputing("mean of 20 steps", **_RANDOM, ensemble_steps=20),
    imputing("deterministic, 5 steps", **{**_FIVE, "sampler": "ddim"}),
    imputing("four times the training, 5 steps", **{**_FIVE, "max_steps": 1600}),
    Variant("mean of 4 networks, 5 steps", "seeds4:fast", {**IMPUTING, **_FIVE}),
    Variant("fast", "fast"),
)
_SETS = {
    dataset(): "all kinds of anomalies, linear coupling",
    dataset(
        anomaly="coupling", coupling_kind="nonlinear", coupling=1.0, anomaly_length=50
    ): "anomalies across channels alone",
}
DATASETS = tuple(_SETS)
_METRICS = (
    ("label_free", "vus_pr", "VUS-PR, label-free protocol"),
    ("label_free", "f1", "F1 at the label-free threshold, label-free protocol"),
    ("oracle", "f1", "F1, best threshold by the labels, oracle protocol"),
)


def table(records: list[Record]) -> str:
    """Mean, spread and range over seeds of each metric, and what they say."""
    mine = reading.chosen(records, DATASETS, NAME)
    head = ["variant", "mean ± std over seeds", "std", "std / first row's", "lowest", "highest"]
    parts = [f"# {QUESTION}"]
    for name, title in _SETS.items():
        for protocol, metric, heading in _METRICS:
            found = reading.cells(mine, reading.metric(protocol, metric))
            first = reading.cell(found, name, VARIANTS[0].name).std
            rows = []
            for one in VARIANTS:
                cell = reading.cell(found, name, one.name)
                ends = (min(cell.values), max(cell.values)) if cell.values else (math.nan,) * 2
                rows.append(
                    [
                        one.name,
                        cell,
                        reading.number(cell.std),
                        reading.number(_ratio(cell.std, first), 2),
                        *map(reading.number, ends),
                    ]
                )
            parts.append(f"## {heading}; {title}")
            parts.append(columns.markdown(head, rows))
    parts += ["## What the numbers say", columns.bullets(_says(mine))]
    parts += ["## What they do not say", columns.bullets(_LIMITS)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    f"A standard deviation over {len(SEEDS)} seeds is itself uncertain by about "
    f"{1 / math.sqrt(2 * (len(SEEDS) - 1)):.0%}: halves and doubles count, not less.",
    "The seed changes first weights, batches, masks and noise together, on the same series.",
    "The four variants that share a fit differ in their scoring alone: what training spreads stays "
    "in all of them.",
)


def _ratio(value: float, first: float) -> float:
    return value / first if first > 0 else math.nan


def _says(records: list[Record]) -> list[str]:
    lines = []
    for protocol, metric, heading in _METRICS:
        found = reading.cells(records, reading.metric(protocol, metric))
        for name, title in _SETS.items():
            spreads = {one.name: reading.cell(found, name, one.name).std for one in VARIANTS}
            calmest = reading.best({key: -value for key, value in spreads.items()})
            lines.append(
                f"{heading}; {title}: least spread {calmest} "
                f"({reading.number(spreads.get(calmest, math.nan))}), {VARIANTS[0].name} "
                f"{reading.number(spreads[VARIANTS[0].name])}"
            )
    return lines


def plot(records: list[Record]) -> Figure:
    """Mean with a bar of one standard deviation, for each metric and data set."""
    mine = reading.chosen(records, DATASETS, NAME)
    charts = []
    for protocol, metric, heading in _METRICS:
        found = reading.cells(mine, reading.metric(protocol, metric))
        lines = []
        for one in VARIANTS:
            cells = [reading.cell(found, name, one.name) for name in _SETS]
            points = tuple((float(x), cell.mean, cell.std) for x, cell in enumerate(cells))
            lines.append(Line(one.name, points))
        charts.append(
            Chart(
                heading,
                "bar: one standard deviation over seeds",
                heading.partition(",")[0].partition(" at ")[0],
                tuple(lines),
                ticks=((0.0, "all kinds"), (1.0, "across channels alone")),
                style="categories",
            )
        )
    return charts_figure(charts, title=QUESTION)


STUDY = Study(NAME, QUESTION, DATASETS, VARIANTS, SEEDS, table, plot)
