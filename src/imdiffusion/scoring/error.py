"""From estimates to one error a row: the error of a point, its scale, its sum over channels.

Also the centred mean over time, for series that arrive in runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def point_error(
    seen: Floats, estimate: Floats, target: NDArray[np.bool_], scale: Floats, *, kind: str
) -> Floats:
    """Error (..., K) of estimates (..., K), divided by `scale` (K,); NaN where not a target.

    kind = "absolute" (the released code) or "squared" (of the scaled error).
    """
    error = np.abs(estimate - seen) / scale
    if kind == "squared":
        error = np.square(error)
    return np.where(target, error, np.float32(np.nan)).astype(np.float32)


def reduce_channels(error: Floats, *, kind: str) -> Floats:
    """Errors (..., K) -> (...): sum, mean or max over channels; NaN where no channel has one.

    A sum counts a missing channel as the mean of the others: fewer channels are no better news.
    """
    known = ~np.isnan(error)
    count = known.sum(axis=-1)
    none = count == 0
    filled = np.where(known, error, -np.inf if kind == "max" else 0.0)
    if kind == "max":
        joined = filled.max(axis=-1)
    else:
        joined = filled.sum(axis=-1) / np.maximum(count, 1)
        if kind == "sum":
            joined = joined * error.shape[-1]
    return np.where(none, np.nan, joined).astype(np.float32)


def centred_mean(runs: Iterable[Floats], width: int) -> Iterator[Floats]:
    """Mean of each value over the `width` rows around it, along axis 0; NaN is left out.

    Takes a series (T, ...) as consecutive runs and yields runs of the same total length, `width`
    rows late at most. At the two ends the mean is over the rows that exist. A row that is NaN
    stays NaN: nothing was observed there.
    """
    if width == 1:
        yield from runs
        return
    before, after = width // 2, width - 1 - width // 2
    held: Floats | None = None
    done = 0  # held rows that are already out; at most `before` of them are kept as context
    for run in runs:
        held = run if held is None else np.concatenate([held, run])
        ready = len(held) - after
        if ready > done:
            yield _means(held, before, after, done, ready)
            cut = max(0, ready - before)
            held, done = held[cut:], ready - cut
    if held is not None and len(held) > done:
        yield _means(held, before, after, done, len(held))


def _means(held: Floats, before: int, after: int, start: int, stop: int) -> Floats:
    """Means for rows start to stop of `held`.

    Each is a sum of its own: a running sum would carry the rounding of one huge value to all
    rows after it.
    """
    known = ~np.isnan(held)
    width = before + 1 + after
    margin = ((before, after), *[(0, 0)] * (held.ndim - 1))
    values = np.pad(np.where(known, held, 0.0).astype(np.float64), margin)
    counts = np.pad(known.astype(np.float64), margin)
    total = sum(values[start + d : stop + d] for d in range(width))
    count = sum(counts[start + d : stop + d] for d in range(width))
    mean = total / np.maximum(count, 1)
    return np.where(known[start:stop], mean, np.nan).astype(np.float32)
