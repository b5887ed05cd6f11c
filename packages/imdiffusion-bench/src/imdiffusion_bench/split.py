"""What the benchmark passes around: a series in two parts, its truth behind a door, and scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataError


@dataclass(frozen=True, slots=True)
class Cause:
    """The channels (positions from 0) that caused the anomaly in rows start to end (exclusive)."""

    start: int
    end: int
    channels: frozenset[int]


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels that are not read until they are needed: reading happens inside the call.

    A detector is handed frames, never this. So a truth whose `label` raises still fits and scores.
    """

    label: Callable[[], NDArray[np.bool_]]
    causes: Callable[[], list[Cause]] | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """One entity: `train` and `test` share channels; truth is about the rows of `test`.

    period_s: seconds between rows, None where the source does not say. tsb_ad_window: the largest
    buffer of VUS where the series is judged as TSB-AD judges it too; None elsewhere.
    """

    dataset: str
    entity: str
    train: Frame
    test: Frame
    truth: Truth
    period_s: float | None = None
    tsb_ad_window: int | None = None


def digest_of(split: Split, label: NDArray[np.bool_]) -> str:
    """16 hex digits of the channels' names, all values and labels: the same data, the same digits.

    label: (T,) of the test part, as `split.truth` gave it.
    """
    hashed = hashlib.sha256("\0".join(split.train.channels).encode())
    for values in (split.train.values, split.test.values, label):
        plain = np.array(values, "<f8", order="C")
        plain[np.isnan(plain)] = np.nan  # one of the many NaNs
        hashed.update(f"{plain.shape}".encode() + plain.tobytes())
    return hashed.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a detector says about T rows.

    score           float64 (T,), above 1 = alarm at its label-free threshold, NaN = no score
    step_errors     float32 (S, T), one error for each diffusion step, the last step last; or None
    channel_scores  float32 (T, K), each channel's part of the error; or None
    expected        float32 (T, K), the values that were imputed, in the data's units; or None
    """

    score: NDArray[np.float64]
    step_errors: NDArray[np.float32] | None = None
    channel_scores: NDArray[np.float32] | None = None
    expected: NDArray[np.float32] | None = None


def check_label(label: NDArray[np.generic], rows: int, where: str) -> NDArray[np.bool_]:
    """The label as bool (T,); DataError unless it has `rows` values, all 0 or 1, not all alike 0.

    where: "SMD machine-1-1", for the message.
    """
    found = check_label_values(label, rows, where)
    if not found.any():
        raise DataError(
            f"the label of {where} marks no anomaly: no metric of ranking is defined",
            remedy="Leave this entity out, or give its labels.",
        )
    if found.all():
        raise DataError(
            f"the label of {where} marks every row as an anomaly: no metric is defined",
            remedy="Leave this entity out, or give its labels.",
        )
    return found


def check_label_values(label: NDArray[np.generic], rows: int, where: str) -> NDArray[np.bool_]:
    """The label as bool (T,); DataError unless it has `rows` values, all 0 or 1."""
    if label.shape != (rows,):
        raise DataError(
            f"the label of {where} has shape {label.shape}, the test part has {rows} rows",
            remedy="Give one label a test row.",
        )
    numbers = np.asarray(label, np.float64)
    other = numbers[(numbers != 0) & (numbers != 1)]
    if other.size:
        raise DataError(
            f"the label of {where} has the value {other[0]:g}",
            remedy="Labels are 0 (normal) or 1 (anomalous).",
        )
    return numbers.astype(bool)
