"""What the baselines do to rows alike: check them, smooth scores over time, score windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError, NotFittedError
from imdiffusion.scoring.smoothing import centred_mean


def checked_rows(x: Floats, *, least: int = 1, channels: int | None = None) -> Floats:
    """x as float64 (T, K).

    Raises DataError unless it has two axes, `least` rows, and the `channels` of the training part.
    """
    rows = np.asarray(x, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(
            f"a baseline got an array of shape {rows.shape}",
            remedy="Pass rows (T, K) with at least one channel.",
        )
    if len(rows) < least:
        raise DataError(
            f"a baseline needs at least {least} rows and got {len(rows)}",
            remedy="Give a longer series, or leave this baseline out for it.",
        )
    if channels is not None and rows.shape[1] != channels:
        raise DataError(
            f"a baseline fitted on {channels} channels got {rows.shape[1]}",
            remedy="Score the channels it was fitted on, in the same order.",
        )
    return rows


def fitted(member: object, attribute: str) -> None:
    """Raise NotFittedError unless `member` has `attribute`."""
    if not hasattr(member, attribute):
        raise NotFittedError(
            f"{type(member).__name__} has not been fitted", remedy="Call fit first."
        )


def scores_of_training(member: Any, x: Floats) -> Floats:
    """Scores (T,) of the rows that `member` was fitted on, as far as it can tell unseen ones."""
    told = getattr(member, "training_scores", member.decision_function)
    return np.asarray(told(x), np.float64)


def mean_observed(values: Floats) -> Floats:
    """Mean over channels (T, K) -> (T,) of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def smoothed(score: Floats, width: int) -> Floats:
    """Mean over the `width` rows around each row of (T,) or (T, K); NaN stays, uncounted."""
    if width == 1:
        return score
    runs = list(centred_mean([score.astype(np.float32)], width))
    return np.concatenate(runs).astype(np.float64) if runs else score


def carried(x: Floats) -> Floats:
    """x (T, K) with every NaN replaced by the last value before it, 0 where there is none."""
    known = ~np.isnan(x)
    place = np.maximum.accumulate(np.where(known, np.arange(len(x))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(x, place, axis=0), nan=0.0)


def unobserved(x: Floats) -> Flags:
    """Which rows (T,) have no observation at all."""
    return np.asarray(np.isnan(x).all(axis=1))


def rows_of_windows(window_score: Floats, length: int) -> Floats:
    """Scores of all windows of `length` rows (N,) -> of rows (N + length - 1,).

    A row's score is the mean over the windows that cover it.
    """
    cover = np.ones(length)
    total = np.convolve(window_score, cover)
    count = np.convolve(np.ones(len(window_score)), cover)
    return total / count
