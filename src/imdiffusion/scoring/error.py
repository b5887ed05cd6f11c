"""From residuals to one error a row: what has drifted is taken away, the rest is measured.

    residual -> less its own slow part -> error -> centred mean -> in units of normal
             -> logarithm -> mean over scales of time -> joined over channels -> largest view

Each arrow can be switched off, and is in `paper`. Arrays have the axes n (rows), V (views: kinds of
unit), W (widths of the slow part), M (widths of the mean), S (diffusion steps), K (channels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Singles
from imdiffusion.scoring.smoothing import KNOTS, CentredMean, RecentQuantile, last_means, reach


@dataclass(frozen=True, slots=True)
class ErrorView:
    """One way to look at the errors: in the units of a rule, at some of the widths.

    widths: positions in `ErrorConfig.detrend`. recent: its unit rises with the rows just before.
    reads: which steps it looks at, "all", all "but_last" or the "last"; of a single step all look
    at it.
    """

    rule: str = "none"
    widths: tuple[int, ...] = (0,)
    recent: bool = False
    reads: str = "all"

    def steps(self, count: int) -> slice:
        """The steps it looks at, of so many."""
        if self.reads == "all" or count == 1:
            return slice(None)
        return slice(0, count - 1) if self.reads == "but_last" else slice(count - 1, count)


@dataclass(frozen=True, slots=True)
class ErrorConfig:
    """How residuals become errors.

    views      what is looked at; the largest counts
    detrend    rows of the centred mean that is taken from the residual first, one or several,
               each scored apart; 0 = none
    smooth     rows of the centred mean over the errors, one or several; 1 = none
    kind       "absolute" (the released code) or "squared"
    log_gain   g of log(1 + g error) of each channel; 0 = the error itself
    reduce     how channels are joined: "sum", "mean", "rms" or "max"
    """

    views: tuple[ErrorView, ...] = (ErrorView(),)
    detrend: tuple[int, ...] = (0,)
    smooth: tuple[int, ...] = (1,)
    kind: str = "absolute"
    log_gain: float = 0.0
    reduce: str = "sum"

    @property
    def power(self) -> int:
        """Of the residual in the error."""
        return 2 if self.kind == "squared" else 1


@dataclass(frozen=True, slots=True)
class NormalScale:
    """What is normal: the size of an error (V, W, M, K), and each view's unit (V,).

    recent (V, KNOTS): evenly spaced quantiles of each view's held-out rows, from which its recent
    unit sets out.
    """

    scale: Singles
    view: Singles
    recent: Singles

    @classmethod
    def neutral(cls, recipe: ErrorConfig, channels: int) -> NormalScale:
        """Units that leave errors as they are."""
        count = len(recipe.views)
        shape = (count, len(recipe.detrend), len(recipe.smooth), channels)
        return cls(
            np.ones(shape, np.float32),
            np.ones(count, np.float32),
            np.zeros((count, KNOTS), np.float32),
        )


def residual_of(seen: Singles, estimate: Singles, target: NDArray[np.bool_]) -> Singles:
    """Seen (n, K) less estimates (n, S, K): (n, S, K), NaN where no target."""
    return np.where(target[:, None], seen[:, None] - estimate, np.float32(np.nan))


def smoothed_errors(residuals: Iterable[Singles], recipe: ErrorConfig) -> Iterator[Singles]:
    """Errors, centred over time, of a series of residuals (n, S, K): runs (n, W, M, S, K).

    Rows come out in order and as late as the longest pair of widths asks.
    """
    paths = [_Path(width, recipe.smooth, recipe.power) for width in recipe.detrend]
    for run in residuals:
        for path in paths:
            path.push(run)
        yield from _ready(paths)
    for path in paths:
        path.flush()
    yield from _ready(paths)


def last_errors(residual: Singles, recipe: ErrorConfig) -> Singles:
    """What `smoothed_errors` says last of a whole series of residuals (n, S, K): (W, M, S, K)."""
    count = min(len(residual), 1 + max(reach(width)[0] for width in recipe.smooth))
    last = []
    for width in recipe.detrend:
        left = residual[len(residual) - count :]
        if width:
            left = left - last_means(residual, width, count)
        error = _size(left, recipe.power)
        last.append([last_means(error, smooth, 1)[0] for smooth in recipe.smooth])
    return np.array(last)


def _size(residual: Singles, power: int) -> Singles:
    return np.abs(residual) if power == 1 else np.square(residual)


class _Path:
    """One slow part and the means over what is left of it; rows wait here for the slowest path."""

    def __init__(self, detrend: int, smooth: Sequence[int], power: int) -> None:
        self.slow = CentredMean(detrend) if detrend else None
        self.means, self.power = [CentredMean(width) for width in smooth], power
        self.waiting: list[Singles] = []  # residuals whose slow part is not known yet
        self.out: list[list[Singles]] = [[] for _ in smooth]

    def push(self, run: Singles) -> None:
        if self.slow is None:
            self._measure(run)
        else:
            self.waiting.append(run)
            self._detrend(self.slow.push(run))

    def flush(self) -> None:
        last = None if self.slow is None else self.slow.flush()
        if last is not None:
            self._detrend(last)
        for mean, out in zip(self.means, self.out, strict=True):
            end = mean.flush()
            if end is not None:
                out.append(end)

    def take(self, rows: int) -> list[Singles]:
        """The next rows of each mean, of those that `ready` counts."""
        return [_take(out, rows) for out in self.out]

    @property
    def ready(self) -> int:
        return min(sum(map(len, out)) for out in self.out)

    def _detrend(self, slow: Singles) -> None:
        if len(slow):
            self._measure(_take(self.waiting, len(slow)) - slow)

    def _measure(self, residual: Singles) -> None:
        error = _size(residual, self.power)
        for mean, out in zip(self.means, self.out, strict=True):
            out.append(mean.push(error))


def _take(held: list[Singles], rows: int) -> Singles:
    """The first rows of a list of runs, which keeps the rest."""
    whole = held[0] if len(held) == 1 else np.concatenate(held)
    held[:] = [whole[rows:]]
    return whole[:rows]


def _ready(paths: list[_Path]) -> Iterator[Singles]:
    rows = min(path.ready for path in paths)
    if rows:
        taken = [each for path in paths for each in path.take(rows)]
        whole = np.stack(taken, axis=1)
        yield whole.reshape(rows, len(paths), -1, *whole.shape[2:])


def evidence(errors: Singles, scale: Singles, view: ErrorView, *, log_gain: float) -> Singles:
    """Errors (n, W, M, S, K) in units of a scale (W, M, K), as parts of the score: (n, S, K).

    The mean over the view's widths of log(1 + g error / scale), or of error / scale where g is 0.
    """
    widths = list(view.widths)
    share = errors[:, widths] / scale[widths, :, None]
    if log_gain:
        share *= np.float32(log_gain)
        np.log1p(share, out=share)
    mean: Singles = share.mean(axis=(1, 2), dtype=np.float32)
    return mean


class RunningLevel(Protocol):
    """What a view that follows the past asks of it: errors (n, S) of the steps it looks at ->
    the unit before each row (n, S).
    """

    def push(self, run: Singles) -> Singles: ...  # noqa: D102


def pasts(units: NormalScale, recipe: ErrorConfig) -> list[RecentQuantile | None]:
    """The past of every view that follows it, before the first row; None for the others."""
    return [
        RecentQuantile(knots) if view.recent else None
        for view, knots in zip(recipe.views, units.recent, strict=True)
    ]


def stood(past: Sequence[RecentQuantile | None], recipe: ErrorConfig, count: int) -> Singles:
    """What stands before the next row, of each view and of so many steps: (V, S).

    NaN where a view does not follow the past, or does not look at the step.
    """
    levels = np.full((len(past), count), np.nan, np.float32)
    for level, view, one in zip(levels, recipe.views, past, strict=True):
        if one is not None:
            level[view.steps(count)] = one.standing(len(level[view.steps(count)]))
    return levels


def scored(
    errors: Iterable[Singles],
    units: NormalScale,
    recipe: ErrorConfig,
    past: Sequence[RunningLevel | None] | None = None,
) -> Iterator[tuple[Singles, Singles]]:
    """Runs of smoothed errors (n, W, M, S, K) -> runs of errors (n, S) and parts (n, S, K).

    Of several views that look at a step the largest counts, each in its own unit. past: of each
    view that follows it, from which the rows go on; None = they are the first.
    """
    recent: Sequence[RunningLevel | None] = pasts(units, recipe) if past is None else past
    for run in errors:
        shape = (len(run), *run.shape[3:])
        joined = np.full(shape[:2], np.nan, np.float32)
        parts = np.full(shape, np.nan, np.float32)
        for place, view in enumerate(recipe.views):
            steps = view.steps(shape[1])
            seen = run[:, :, :, steps]
            part = evidence(seen, units.scale[place], view, log_gain=recipe.log_gain)
            row = reduce_channels(part, kind=recipe.reduce)
            unit = np.full_like(row, units.view[place])
            if (follows := recent[place]) is not None:
                unit = np.maximum(unit, follows.push(row))
            # Rows without a value are NaN in all views alike.
            joined[:, steps] = np.fmax(joined[:, steps], row / unit)
            parts[:, steps] = np.fmax(parts[:, steps], part / unit[:, :, None])
        yield joined, parts


def reduce_channels(error: Singles, *, kind: str) -> Singles:
    """Errors (..., K) -> (...): sum, mean, root mean square or max; NaN where there is none.

    A sum counts a missing channel as the mean of the others: fewer channels are no better news.
    """
    known = ~np.isnan(error)
    count = known.sum(axis=-1)
    none = count == 0
    filled = np.where(known, error, -np.inf if kind == "max" else 0.0)
    if kind == "max":
        joined = filled.max(axis=-1)
    elif kind == "rms":
        joined = np.sqrt(np.square(filled).sum(axis=-1) / np.maximum(count, 1))
    else:
        joined = filled.sum(axis=-1) / np.maximum(count, 1)
        if kind == "sum":
            joined = joined * error.shape[-1]
    return np.where(none, np.nan, joined).astype(np.float32)
