"""What a normal error is: one size for each channel and pair of widths, from normal rows alone.

A rule's `size` is a function `(errors, split, floor) -> (W, M, K)` of smoothed errors
(n, W, M, S, K), NaN where nothing was measured; rows from `split` on were held out from training.
What it gives is at least `floor(1)`, the error of a residual too small to matter: dividing by a
vanishing error would turn rounding into anomalies. `floor(x)` is the error of a residual x times
as large.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imdiffusion import registry
from imdiffusion.arrays import Floats, Singles
from imdiffusion.scoring.error import ErrorConfig, ErrorView, NormalScale, evidence, reduce_channels
from imdiffusion.scoring.smoothing import KNOTS
from imdiffusion.settings import Settings

Floor = Callable[[float], float]

# Less evidence than this in normal rows is rounding: where nothing ever moved, all that moves later
# is as far beyond it as a float32 can still tell.
LEAST_EVIDENCE = 1e-6
ERROR_FLOOR = 0.05  # residuals in standard deviations: what is smaller is not trusted


@dataclass(frozen=True, slots=True)
class Rule:
    """How errors are measured: `size` as above; which rows and which widths it looks at.

    quantile: of held-out rows, which a view calls high. trained: it needs rows that were trained
    on. level: it looks at the residual as it is, slow part and all, and its unit follows the
    recent past, for a level may drift without a fault. last: it looks at the last step alone,
    which the other rules then leave to it, and its quantile is of all rows. quiet: its unit is that
    many times its quantile.
    """

    size: Callable[[Singles, int, Floor], Floats]
    quantile: float = 0.9
    trained: bool = False
    level: bool = False
    last: bool = False
    quiet: float = 1.0


def _one(errors: Singles, split: int, floor: Floor) -> Floats:
    return np.ones((*errors.shape[1:3], errors.shape[4]))


def _holdout(errors: Singles, split: int, floor: Floor) -> Floats:
    return _filled(_mean(errors[split:]), floor(1.0))


def _spread(errors: Singles, split: int, floor: Floor) -> Floats:
    """The floor is higher here: a channel that the others all but determine says little more
    when it is off by a tenth of its own spread than when it is off by a hundredth.
    """
    trained, held = _mean(errors[:split]), _mean(errors[split:])
    trained = np.where(np.isnan(trained), held, trained)
    return _filled((trained + np.where(np.isnan(held), trained, held)) / 2, floor(4.0))


def _peak(errors: Singles, split: int, floor: Floor) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a channel without any value: NaN
        largest = np.nanmax(errors, axis=(0, 3)).astype(np.float64)
    return _filled(largest, floor(1.0))


# Errors as they are.
none = Rule(_one)
# The mean held-out error.
holdout = Rule(_holdout)
# The mean error, of trained and held-out rows in equal parts.
spread = Rule(_spread, trained=True)
# The largest error of any normal row: for channels that are silent and then violent.
peak = Rule(_peak, quantile=0.99, trained=True)
# As `spread`, of the residual with its slow part: for faults that last.
level = Rule(_spread, trained=True, level=True)
# As `spread`, of the last step: for ties between channels that break. It rises where an error
# is above two thirds of the largest normal one, or every usual hour would have its say.
tie = Rule(_spread, quantile=1.0, trained=True, last=True, quiet=1 / 1.5)


def recipe_of(settings: Settings) -> ErrorConfig:
    """The recipe that the settings ask for; ConfigError for a rule that is not known."""
    rules = {name: registry.load("error_scales", name) for name in settings.error_scale}
    own = settings.detrend
    more = (0,) if any(rule.level for rule in rules.values()) and 0 not in own else ()
    widths = (*own, *more)
    moving = tuple(range(len(own)))
    apart = len({rule.last for rule in rules.values()}) > 1
    views = tuple(
        ErrorView(
            name,
            (widths.index(0),) if rule.level else moving,
            recent=rule.level,
            reads=("last" if rule.last else "but_last") if apart else "all",
        )
        for name, rule in rules.items()
    )
    return ErrorConfig(
        views=views,
        detrend=widths,
        smooth=settings.smooth,
        kind=settings.error,
        log_gain=settings.log_gain,
        reduce=settings.reduce,
    )


def fit_units(errors: Singles, split: int, recipe: ErrorConfig, *, unit: float) -> NormalScale:
    """The sizes by the rules of the views, and each view's unit and past from held-out rows.

    errors (n, W, M, S, K) of normal rows, those from `split` on held out. unit: scaled
    value of one standard deviation. A single view keeps unit 1 unless it follows the past.
    """

    def floor(times: float) -> float:
        return float((times * ERROR_FLOOR * unit) ** recipe.power)

    neutral = NormalScale.neutral(recipe, errors.shape[-1])
    scale, high, recent = neutral.scale, neutral.view, neutral.recent
    for place, view in enumerate(recipe.views):
        rule = registry.load("error_scales", view.rule)
        seen = errors[:, :, :, view.steps(errors.shape[3])]
        scale[place] = rule.size(seen, split, floor)
        if len(recipe.views) == 1 and not view.recent:
            continue
        last = seen[0 if rule.last else split :, :, :, -1:]
        part = evidence(last, scale[place], view, log_gain=recipe.log_gain)
        row = reduce_channels(part, kind=recipe.reduce)
        known = row[np.isfinite(row)]
        if known.size:
            loud = rule.quiet * float(np.quantile(known, rule.quantile))
            high[place] = max(loud, LEAST_EVIDENCE)
            recent[place] = np.quantile(known, np.linspace(0, 1, KNOTS))
    return NormalScale(scale, high, recent)


def needs_trained_rows(recipe: ErrorConfig) -> bool:
    """Whether any of the views looks at rows the network was trained on."""
    return any(registry.load("error_scales", view.rule).trained for view in recipe.views)


def _mean(errors: Singles) -> Floats:
    """Over rows and steps, without NaN, which stays where there is nothing else."""
    known = ~np.isnan(errors)
    total = np.where(known, errors, 0.0).sum(axis=(0, 3), dtype=np.float64)
    count = known.sum(axis=(0, 3))
    mean: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean


def _filled(sizes: Floats, floor: float) -> Floats:
    """At least the floor; a channel that nothing is known of has the size of the usual one."""
    known = np.isfinite(sizes)
    usual = float(np.median(sizes[known])) if known.any() else 1.0
    filled: Floats = np.maximum(np.where(known, sizes, usual), floor)
    return filled
