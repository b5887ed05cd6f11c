"""Study: where joining diffusion steps helps, and when the steps are too alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imdiffusion.schema import Value
from imdiffusion_bench import columns
from imdiffusion_bench.plots import Chart, Line, charts_figure
from imdiffusion_bench.protocols import SIZES
from imdiffusion_bench.record import Record
from imdiffusion_bench.studies import Study, dataset, imputing, reading

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NAME = "ensembling"
QUESTION = (
    "Where does a mean over diffusion steps beat the last step alone, and are the steps too alike "
    "to help?"
)
NOISES = (0.0, 0.1, 0.3, 1.0)
VOTING = 27  # the tenth voting step from the last, every third of them

# Steps from half of the noise upwards are 25 at most; from all of it, 50.
_HALF: dict[str, Value] = {"sampling_steps": 20, "ensemble_steps": 20, "sampling_start": 0.5}
_WHOLE: dict[str, Value] = {"sampling_steps": 50, "ensemble_steps": 50}
VARIANTS = (
    imputing("deterministic, from half the noise", **_HALF),
    imputing("random, from half the noise", **_HALF, sampler="ddpm"),
    imputing("random, half the noise, sample", **_HALF, sampler="ddpm", estimate="sample"),
    imputing("random, from all the noise", **_WHOLE, sampler="ddpm"),
    imputing("one deterministic step", sampling_steps=1, ensemble_steps=1),
)
_JOINED = VARIANTS[:-1]  # of one step there is no mean


def of_noise(noise: float) -> str:
    """The data set with this noise, all kinds of anomalies in turn."""
    return dataset(noise=noise)


DATASETS = tuple(of_noise(noise) for noise in NOISES)


def table(records: list[Record]) -> str:
    """AUC-PR by number of steps, and the correlation of the steps; and what they say."""
    mine = reading.chosen(records, DATASETS, NAME)
    alike = reading.cells(mine, reading.aside("step_correlation"))
    curves = {size: reading.cells(mine, reading.last_steps(size)) for size in SIZES}
    voting = reading.cells(mine, reading.aside("ensemble_voting"))
    head = ["noise", "correlation of steps", *(f"last {size}" for size in SIZES)]
    head += ["the ten of the paper"]
    parts = [f"# {QUESTION}"]
    for one in VARIANTS:
        steps = int(one.settings["sampling_steps"])
        rows = [
            [
                f"{noise:g}",
                reading.cell(alike, of_noise(noise), one.name),
                *(
                    # no mean over more steps than the sampler takes
                    reading.cell(curves[size] if size <= steps else {}, of_noise(noise), one.name)
                    for size in SIZES
                ),
                # every third step: with fewer than that takes, the study has no such ten
                reading.cell(voting if steps > VOTING else {}, of_noise(noise), one.name),
            ]
            for noise in NOISES
        ]
        parts.append(f"## AUC-PR of the mean over the last steps, label-free protocol: {one.name}")
        parts.append(columns.markdown(head, rows))
    parts += ["## What the numbers say", columns.bullets(_says(mine))]
    parts += ["## What they do not say", columns.bullets(_LIMITS)]
    return "\n\n".join(parts) + "\n"


_LIMITS = (
    "The best number of steps is picked with the labels in hand: its gain is an upper bound.",
    "AUC-PR ranks rows: what a vote does to a threshold is the matter of the study of imbalance.",
    "A small network with a short training, of conditional means: one that draws samples as varied "
    "as the data are may have steps that differ more.",
)


def _says(records: list[Record]) -> list[str]:
    lines = []
    for name, noise, alike, gain, size in _gains(records):
        if not math.isfinite(gain):
            continue
        lines.append(
            f"{name}, noise {noise:g}: steps correlate {reading.number(alike)}; the best mean is "
            f"over {size}, {gain:+.3f} against the last alone"
        )
    return lines or ["No variant has errors of single steps."]


def _gains(records: list[Record]) -> list[tuple[str, float, float, float, int]]:
    """(variant, noise, correlation of steps, best gain over the last step, steps of the best)."""
    alike = reading.cells(records, reading.aside("step_correlation"))
    curves = {size: reading.cells(records, reading.last_steps(size)) for size in SIZES}
    gains = []
    for one in _JOINED:
        for noise in NOISES:
            where = of_noise(noise), one.name
            means = {str(size): reading.cell(curves[size], *where).mean for size in SIZES}
            top = reading.best(means)
            gain = means[top] - means["1"] if top in means else math.nan
            size = int(top) if top in means else 0
            gains.append((one.name, noise, reading.cell(alike, *where).mean, gain, size))
    return gains


def plot(records: list[Record]) -> Figure:
    """AUC-PR against the number of steps for each variant, and gain against correlation."""
    mine = reading.chosen(records, DATASETS, NAME)
    curves = {size: reading.cells(mine, reading.last_steps(size)) for size in SIZES}
    charts = []
    for one in _JOINED:
        lines = []
        for noise in NOISES:
            found = [(n, reading.cell(curves[n], of_noise(noise), one.name)) for n in SIZES]
            points = tuple((float(n), cell.mean, cell.std) for n, cell in found)
            lines.append(Line(f"noise {noise:g}", points))
        charts.append(Chart(one.name, "last steps in the mean", "AUC-PR", tuple(lines), log_x=True))
    gains = [one for one in _gains(mine) if math.isfinite(one[2]) and math.isfinite(one[3])]
    charts.append(
        Chart(
            "Gain of the best mean",
            "correlation of the last step with the nine before",
            "AUC-PR above the last step",
            tuple(
                Line(
                    one.name,
                    tuple(
                        (alike, gain, math.nan) for n, _, alike, gain, _ in gains if n == one.name
                    ),
                )
                for one in _JOINED
            ),
            ticks=tuple((x / 5, f"{x / 5:g}") for x in range(6)),
            style="points",
        )
    )
    return charts_figure(charts, title=QUESTION)


STUDY = Study(NAME, QUESTION, DATASETS, VARIANTS, (0, 1), table, plot)
