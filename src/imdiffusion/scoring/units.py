"""What a normal error is: one size for each channel and pair of widths, from normal rows alone.

A rule is a function `(errors, split, floor) -> (W, M, K)` of smoothed errors (n, W, M, S, K),
NaN where nothing was measured; rows from `split` on were held out from training. What it gives is
at least `floor(1)`, the error of a residual too small to matter: dividing by a vanishing error
would turn rounding into anomalies. `floor(x)` is the error of a residual x times as large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.scoring.error import Floats, Recipe, Units, evidence, reduce_channels

Sizes = NDArray[np.float64]

Floor = Callable[[float], float]

ERROR_FLOOR = 0.05  # residuals in standard deviations: what is smaller is not trusted
VIEW_QUANTILE = 0.9  # of the held-out rows: what a view calls high, where there are several


def none(errors: Floats, split: int, floor: Floor) -> Sizes:
    """Errors as they are."""
    return np.ones((*errors.shape[1:3], errors.shape[4]))


def holdout(errors: Floats, split: int, floor: Floor) -> Sizes:
    """The mean held-out error."""
    return _filled(_mean(errors[split:]), floor(1.0))


def spread(errors: Floats, split: int, floor: Floor) -> Sizes:
    """The mean error, of trained and held-out rows in equal parts.

    The floor is four times as high: a channel that the others all but determine says little more
    when it is off by a tenth of its own spread than when it is off by a hundredth.
    """
    trained, held = _mean(errors[:split]), _mean(errors[split:])
    both = np.where(
        np.isnan(trained), held, np.where(np.isnan(held), trained, trained / 2 + held / 2)
    )
    return _filled(both, floor(4.0))


def peak(errors: Floats, split: int, floor: Floor) -> Sizes:
    """The largest error of any trained or held-out row: for channels that are rare and violent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel without any value: NaN
        largest = np.nanmax(errors, axis=(0, 3)).astype(np.float64)
    return _filled(largest, floor(1.0))


def fit_units(
    errors: Floats, split: int, recipe: Recipe, *, rules: tuple[str, ...], unit: float
) -> Units:
    """The sizes by these rules, and the unit of each view: its .9 quantile of held-out rows.

    errors (n, W, M, S, K) of normal rows, those from `split` on held out. unit: scaled
    value of one standard deviation. A single view keeps unit 1.
    """

    def floor(times: float) -> float:
        return float((times * ERROR_FLOOR * unit) ** recipe.power)

    views = [registry.load("error_scales", rule)(errors, split, floor) for rule in rules]
    scale = np.stack(views).astype(np.float32)
    high = np.ones(len(views), np.float32)
    if len(views) > 1:
        for view, sizes in enumerate(scale):
            part = evidence(errors[split:, :, :, -1:], sizes, recipe)
            row = reduce_channels(part, kind=recipe.reduce)
            level = np.nanquantile(row, VIEW_QUANTILE) if np.isfinite(row).any() else 1.0
            high[view] = max(float(level), float(np.finfo(np.float32).tiny))
    return Units(scale, high)


def needs_trained_rows(rules: tuple[str, ...]) -> bool:
    """Whether any of the rules looks at rows the network was trained on."""
    return bool({"spread", "peak"} & set(rules))


def _mean(errors: Floats) -> Sizes:
    """Over rows and steps, without NaN, which stays where there is nothing else."""
    known = ~np.isnan(errors)
    total = np.where(known, errors, 0.0).sum(axis=(0, 3), dtype=np.float64)
    count = known.sum(axis=(0, 3))
    mean: Sizes = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _filled(sizes: Sizes, floor: float) -> Sizes:
    """At least the floor; a channel that nothing is known of has the size of the usual one."""
    known = np.isfinite(sizes)
    usual = float(np.median(sizes[known])) if known.any() else 1.0
    filled: Sizes = np.maximum(np.where(known, sizes, usual), floor)
    return filled
