"""Scaling, fitted on training rows alone, and compression of far values.

`Scaler` takes caller's units to the units of the method and back. `compress` is what the network
is shown of values far outside the usual range; errors are always measured on uncompressed ones.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Reals, Singles
from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataWarning

MOST = 0.005  # share of a channel's values that may be absurd; more of them are its habit
LEAST = 1  # value at least, however few there are
DWARFS = 20.0  # times as far from the median as the farthest of the others
SHOWN = 3


def absurd_values(values: Reals, observed: Flags) -> Flags:
    """Which values (T, K) lie `DWARFS` times as far from their channel's median as all others.

    Of a channel whose other values are all alike none is: that it moves at all may be its event.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.sin(np.arange(300.0))[:, None]
    >>> x[100] = -9999.0
    >>> np.argwhere(absurd_values(x, np.ones(x.shape, bool))).tolist()
    [[100, 0]]
    """
    found = np.zeros(observed.shape, bool)
    for channel in range(observed.shape[1]):
        rows = np.flatnonzero(observed[:, channel])
        if len(rows) < 3:
            continue
        column = values[rows, channel].astype(np.float64)
        far = np.abs(column - np.median(column))
        most = min(max(LEAST, int(MOST * len(rows))), len(rows) - 2)
        # The farthest few, nearest first, and before them the farthest of the others.
        order = np.argpartition(far, len(rows) - most - 1)[len(rows) - most - 1 :]
        order = order[np.argsort(far[order], kind="stable")]
        apart = far[order[1:]] > DWARFS * far[order[:-1]]
        apart &= far[order[:-1]] > 0
        if apart.any():
            found[rows[order[1 + int(np.argmax(apart)) :]], channel] = True
    return found


def note_absurd(frame: Frame, absurd: Flags) -> None:
    """Say with a DataWarning which values of a frame were left out of the fit."""
    places = np.argwhere(absurd)
    named = [
        f"{float(frame.values[row, channel]):g} of {frame.channels[channel]!r} in row {row}"
        for row, channel in places[:SHOWN]
    ]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    where = f" of entity {frame.entity!r}" if frame.entity else ""
    warnings.warn(
        f"{len(places)} values of the training data{where} far exceed all others of their "
        f"channel and are left out: {', '.join(named)}{more}",
        DataWarning,
        stacklevel=4,
    )


FARTHEST = 1e9
USUAL = (0.001, 0.999)  # quantiles of the training rows
SMALLEST = 1e-100  # a smaller range is rounding; its square would underflow


@dataclass(frozen=True, slots=True)
class Scaler:
    """x -> (x - centre) / scale * factor, per channel; centre and scale are float64 (K,).

    known (K,): whether the channel had any value to fit on.
    """

    centre: Floats
    scale: Floats
    known: Flags
    factor: float = 1.0

    @classmethod
    def fit(cls, values: Reals, observed: Flags, *, kind: str, factor: float = 1.0) -> Scaler:
        """Fit on rows (T, K), kind = "minmax", "zscore" or "robust"; only observed values count.

        "robust" is "zscore" of values cut to the usual range, `USUAL`, wherever that is one: a few
        absurd values then move neither centre nor scale.

        A channel that never moves has no range of its own: it gets the size of its value (1 for
        zero), so that a later change is seen in proportion. A channel without any value gets 0, 1.
        """
        channels = values.shape[1]
        centre, scale = np.zeros(channels), np.ones(channels)
        for k in range(channels):  # a channel at a time: no float64 copy of the whole
            seen = values[observed[:, k], k].astype(np.float64)
            if seen.size == 0:
                continue
            low, high = float(seen.min()), float(seen.max())
            if high - low <= max(1e-9 * max(abs(low), abs(high)), SMALLEST):
                centre[k], scale[k] = low, abs(low) if abs(low) > SMALLEST else 1.0
            elif kind == "minmax":
                centre[k], scale[k] = low, high - low
            else:
                if kind == "robust":
                    usual = np.quantile(seen, USUAL)
                    if usual[1] - usual[0] > max(1e-9 * float(np.abs(usual).max()), SMALLEST):
                        seen = np.clip(seen, *usual)
                        low, high = float(usual[0]), float(usual[1])
                unit = (seen - low) / (high - low)  # the square of a huge value would overflow
                centre[k], scale[k] = float(seen.mean()), float(unit.std()) * (high - low)
        return cls(centre, scale, np.asarray(observed.any(axis=0)), factor)

    def forward(self, values: Reals) -> Singles:
        """Caller's units (T, K) -> scaled float32 (T, K); NaN stays NaN.

        Beyond +-FARTHEST it is cut: as anomalous as can be, and its square still a float32.
        """
        scaled = (values - self.centre) * (self.factor / self.scale)
        return np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)

    def backward(self, scaled: Reals) -> Floats:
        """Scaled (..., K) -> caller's units, float64."""
        return np.asarray(scaled, np.float64) * (self.scale / self.factor) + self.centre


def compress(values: Singles, limit: float) -> Singles:
    """Values beyond +-limit grow only logarithmically from there on; limit = 0 changes nothing.

    |z| -> limit + log(1 + |z| - limit): continuous, with a continuous slope.
    """
    if limit == 0:
        return values
    size = np.abs(values)
    far = limit + np.log1p(np.maximum(size - limit, 0))
    return np.where(size <= limit, values, np.copysign(far, values)).astype(np.float32)


def expand(values: Singles, limit: float, ceiling: Singles | float) -> Singles:
    """The inverse of `compress`; compressed magnitudes above `ceiling` count as `ceiling`.

    The ceiling (one number or (K,)) is the largest magnitude in training plus a margin: an
    exponential must not blow up what the network merely overshot.
    """
    if limit == 0:
        return values
    size = np.minimum(np.abs(values), np.maximum(ceiling, limit))
    far = limit + np.expm1(np.maximum(size - limit, 0))
    expanded: Singles = np.copysign(np.where(size <= limit, size, far), values)
    return expanded.astype(np.float32)
