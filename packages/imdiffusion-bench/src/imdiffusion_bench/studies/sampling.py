"""Studies of the sampling: where joining diffusion steps helps, and what seeds change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from imdiffusion.schema import Value
from imdiffusion_bench.columns import markdown
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.plots import Chart, Line
from imdiffusion_bench.protocols import SIZES
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies.cells import (
    F1_LABEL_FREE,
    F1_ORACLE,
    IMPUTING,
    Cells,
    Sections,
    Study,
    aside,
    best,
    cells,
    dataset,
    imputing,
    last_steps,
    lines_of,
    metric,
    number,
    short_of,
)

# -- ensembling: where joining diffusion steps helps, and when the steps are too alike

NOISES = (0.0, 0.1, 0.3, 1.0)
_TENTH = 27  # the tenth voting step from the last, every third of them
# Steps from half of the noise upwards are 25 at most; from all of it, 50.
_HALF: dict[str, Value] = {"sampling_steps": 20, "ensemble_steps": 20, "sampling_start": 0.5}
_WHOLE: dict[str, Value] = {"sampling_steps": 50, "ensemble_steps": 50}
_JOINED = (
    imputing("deterministic, from half the noise", **_HALF),
    imputing("random, from half the noise", **_HALF, sampler="ddpm"),
    imputing("random, half the noise, sample", **_HALF, sampler="ddpm", estimate="sample"),
    imputing("random, from all the noise", **_WHOLE, sampler="ddpm"),
)
_ENSEMBLING = (*_JOINED, imputing("one deterministic step", sampling_steps=1, ensemble_steps=1))


def of_noise(noise: float) -> str:
    """The data set with this noise, all kinds of anomalies in turn."""
    return dataset(noise=noise)


def _curves(records: list[Record]) -> dict[int, Cells]:
    """Number of last steps -> AUC-PR of their mean."""
    return {size: cells(records, last_steps(size)) for size in SIZES}


def _ensembling_tables(records: list[Record]) -> Sections:
    alike, curves = cells(records, aside("step_correlation")), _curves(records)
    voting, none = cells(records, aside("ensemble_voting")), Cells()
    head = ["noise", "correlation of steps", *(f"last {size}" for size in SIZES)]
    sections = {}
    for one in _ENSEMBLING:
        steps = int(one.settings["sampling_steps"])
        # No mean over more steps than the sampler takes, and no ten of every third of fewer.
        columns = [alike, *(curves[size] if size <= steps else none for size in SIZES)]
        columns.append(voting if steps > _TENTH else none)
        rows = [[f"{x:g}", *(each[of_noise(x), one.name] for each in columns)] for x in NOISES]
        heading = f"AUC-PR of the mean over the last steps, label-free protocol: {one.name}"
        sections[heading] = markdown([*head, "the ten of the paper"], rows)
    return sections


def _gains(records: list[Record]) -> list[tuple[str, float, float, float, int]]:
    """(variant, noise, correlation of steps, best gain over the last step, steps of the best)."""
    alike, curves = cells(records, aside("step_correlation")), _curves(records)
    gains = []
    for one in _JOINED:
        for noise in NOISES:
            where = of_noise(noise), one.name
            means = {str(size): found[where].mean for size, found in curves.items()}
            top = best(means)
            gain = means[top] - means["1"] if top in means else math.nan
            if math.isfinite(gain):
                gains.append((one.name, noise, alike[where].mean, gain, int(top)))
    return gains


def _ensembling_says(records: list[Record]) -> list[str]:
    lines = [
        f"{name}, noise {noise:g}: steps correlate {number(alike)}; the best mean is over {size}, "
        f"{gain:+.3f} against the last alone"
        for name, noise, alike, gain, size in _gains(records)
    ]
    return lines or ["No variant has errors of single steps."]


def _ensembling_charts(records: list[Record]) -> list[Chart]:
    """AUC-PR against the number of steps for each variant, and gain against correlation."""
    curves, charts = _curves(records), []
    for one in _JOINED:
        lines = []
        for noise in NOISES:
            found = [(n, each[of_noise(noise), one.name]) for n, each in curves.items()]
            points = tuple((float(n), cell.mean, cell.std) for n, cell in found)
            lines.append(Line(f"noise {noise:g}", points))
        charts.append(Chart(one.name, "last steps in the mean", "AUC-PR", tuple(lines), log_x=True))
    gains = [one for one in _gains(records) if math.isfinite(one[2])]
    last = Chart(
        "Gain of the best mean",
        "correlation of the last step with the nine before",
        "AUC-PR above the last step",
        tuple(
            Line(v.name, tuple((x, y, math.nan) for name, _, x, y, _ in gains if name == v.name))
            for v in _JOINED
        ),
        ticks=tuple((x / 5, f"{x / 5:g}") for x in range(6)),
        style="points",
    )
    return [*charts, last]


ENSEMBLING = Study(
    "ensembling",
    "Where does a mean over diffusion steps beat the last step alone, and are the steps too alike "
    "to help?",
    tuple(of_noise(noise) for noise in NOISES),
    _ENSEMBLING,
    (0, 1),
    _ensembling_tables,
    _ensembling_says,
    (
        "The best number of steps is picked with the labels in hand: its gain is an upper bound.",
        "AUC-PR ranks rows: what a vote does to a threshold is the matter of the study of "
        "imbalance.",
        "A small network with a short training, of conditional means: one that draws samples as "
        "varied as the data are may have steps that differ more.",
    ),
    _ensembling_charts,
)

# -- variance: how much results differ from seed to seed, and what makes them differ less

_RANDOM: dict[str, Value] = {"sampler": "ddpm", "sampling_steps": 20}
_FIVE: dict[str, Value] = {**_RANDOM, "ensemble_steps": 5}
# The first one is what the others are held against.
_VARIANCE = (
    imputing("last step", **_RANDOM, ensemble_steps=1),
    imputing("mean of 5 steps", **_FIVE),
    imputing("mean of 20 steps", **_RANDOM, ensemble_steps=20),
    imputing("deterministic, 5 steps", **{**_FIVE, "sampler": "ddim"}),
    imputing("four times the training, 5 steps", **{**_FIVE, "max_steps": 1600}),
    Variant("mean of 4 networks, 5 steps", "seeds4:fast", {**IMPUTING, **_FIVE}),
    Variant("fast", "fast"),
)
_TIED = {"coupling_kind": "nonlinear", "coupling": 1.0, "anomaly_length": 50}
_VARIANCE_SETS = {
    dataset(): "all kinds of anomalies, linear coupling",
    dataset(anomaly="coupling", **_TIED): "anomalies across channels alone",
}
_VARIANCE_SEEDS = (0, 1, 2, 3, 4)
_VARIANCE_METRICS: Mapping[str, tuple[str, str]] = {
    "VUS-PR, label-free protocol": ("label_free", "vus_pr"),
    F1_LABEL_FREE: ("label_free", "f1"),
    F1_ORACLE: ("oracle", "f1"),
}


def _variance_tables(records: list[Record]) -> Sections:
    head = ["variant", "mean ± std over seeds", "std", "std / first row's", "lowest", "highest"]
    sections = {}
    for name, title in _VARIANCE_SETS.items():
        for heading, of in _VARIANCE_METRICS.items():
            found = cells(records, metric(*of))
            first, rows = found[name, _VARIANCE[0].name].std, []
            for one in _VARIANCE:
                cell = found[name, one.name]
                ratio = cell.std / first if first > 0 else math.nan
                ends = (min(cell.values), max(cell.values)) if cell.values else (math.nan,) * 2
                shown = [number(cell.std), number(ratio, 2), *map(number, ends)]
                rows.append([one.name, cell, *shown])
            sections[f"{heading}; {title}"] = markdown(head, rows)
    return sections


def _variance_says(records: list[Record]) -> list[str]:
    lines = []
    for heading, of in _VARIANCE_METRICS.items():
        found = cells(records, metric(*of))
        for name, title in _VARIANCE_SETS.items():
            spreads = {one.name: found[name, one.name].std for one in _VARIANCE}
            calmest = best({key: -value for key, value in spreads.items()})
            lines.append(
                f"{heading}; {title}: least spread {calmest} "
                f"({number(spreads.get(calmest, math.nan))}), {_VARIANCE[0].name} "
                f"{number(spreads[_VARIANCE[0].name])}"
            )
    return lines


def _variance_charts(records: list[Record]) -> list[Chart]:
    """Mean with a bar of one standard deviation, for each metric and data set."""
    at_x = {float(x): name for x, name in enumerate(_VARIANCE_SETS)}
    ticks = ((0.0, "all kinds"), (1.0, "across channels alone"))
    label, charts = "bar: one standard deviation over seeds", []
    for heading, of in _VARIANCE_METRICS.items():
        lines = lines_of(cells(records, metric(*of)), _VARIANCE, at_x)
        look: dict[str, Any] = {"ticks": ticks, "style": "categories"}
        charts.append(Chart(heading, label, short_of(heading), lines, **look))
    return charts


VARIANCE = Study(
    "variance",
    "How much do F1 and VUS-PR vary from seed to seed, and what lowers it: more steps in the mean, "
    "a deterministic sampler, more training, several networks?",
    tuple(_VARIANCE_SETS),
    _VARIANCE,
    _VARIANCE_SEEDS,
    _variance_tables,
    _variance_says,
    (
        f"A standard deviation over {len(_VARIANCE_SEEDS)} seeds is itself uncertain by about "
        f"{1 / math.sqrt(2 * (len(_VARIANCE_SEEDS) - 1)):.0%}: halves and doubles count, not less.",
        "The seed changes first weights, batches, masks and noise together, on the same series.",
        "The four variants that share a fit differ in their scoring alone: what training spreads "
        "stays in all of them.",
    ),
    _variance_charts,
)
