"""Ensembles over diffusion steps: errors (S, T) -> score (T,), above 1 = anomalous.

An ensemble is a class with
    fit(errors, *, rule, alarm_rate, xi, anomaly_share) -> ensemble   from held-out errors (S, n)
    score(errors) -> (T,)                                             rows are in order of steps
    thresholds -> list[float]                                         all of its fitted state
    join(values, *, axis) -> values                                   steps along an axis as one:
                                                                      parts of channels, errors
The last row of `errors` is the last step of the reverse process. NaN marks a row that has nothing
observed; it stays NaN.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Reals

Rule = Callable[..., float]

PIECE = 1 << 20  # rows that are joined at once
_TIE = 0.49  # ties are ordered by mean error within less than half a vote


@dataclass(frozen=True, slots=True)
class _JoinedSteps(ABC):
    """The steps' errors as one, divided by one threshold; how they are joined, a subclass says."""

    thresholds: list[float]
    xi: float = 0.5
    anomaly_share: float = 0.02

    @staticmethod
    @abstractmethod
    def join(values: Reals, *, axis: int) -> Reals:
        """Values of the steps, which lie along an axis, as one."""

    @classmethod
    def fit(
        cls, errors: Reals, *, rule: Rule, alarm_rate: float, xi: float, anomaly_share: float
    ) -> Self:
        """The threshold that a held-out joined error exceeds at `alarm_rate`."""
        return cls([rule(cls.join(errors, axis=0), alarm_rate=alarm_rate)], xi, anomaly_share)

    def score(self, errors: Reals) -> NDArray[np.float64]:
        """Errors (S, T) -> joined error / threshold (T,)."""
        score = np.empty(errors.shape[1], np.float64)
        for first in range(0, len(score), PIECE):  # a copy of all in float64 would be large
            piece = slice(first, first + PIECE)
            score[piece] = self.join(errors[:, piece].astype(np.float64), axis=0)
        score /= self.thresholds[0]
        return score


class MeanEnsemble(_JoinedSteps):
    """Mean error over the steps, divided by one threshold."""

    __slots__ = ()

    @staticmethod
    def join(values: Reals, *, axis: int) -> Reals:
        """The mean of the steps."""
        return mean_of_steps(values, axis=axis)


class LargestEnsemble(_JoinedSteps):
    """Largest error over the steps, divided by one threshold: for steps that see other faults."""

    __slots__ = ()

    @staticmethod
    def join(values: Reals, *, axis: int) -> Reals:
        """The largest of the steps."""
        largest: Reals = values.max(axis)
        return largest


@dataclass(frozen=True, slots=True)
class ThresholdVote:
    """Each step votes against its own held-out threshold; score = votes / (xi S + .5).

    A row is anomalous when more than xi S steps vote for it. Equal votes are ordered by the mean
    of error / threshold.
    """

    thresholds: list[float]
    xi: float = 0.5
    anomaly_share: float = 0.02

    @staticmethod
    def join(values: Reals, *, axis: int) -> Reals:
        """The mean of the steps: votes have no parts of channels."""
        return mean_of_steps(values, axis=axis)

    @classmethod
    def fit(
        cls, errors: Reals, *, rule: Rule, alarm_rate: float, xi: float, anomaly_share: float
    ) -> ThresholdVote:
        """One threshold a step, each exceeded at `alarm_rate` by held-out errors (S, n)."""
        thresholds = [rule(step, alarm_rate=alarm_rate) for step in errors]
        return cls(thresholds, xi, anomaly_share)

    def score(self, errors: Reals) -> NDArray[np.float64]:
        """Errors (S, T) -> score (T,); above 1 where more than xi S steps vote."""
        ratio = errors.astype(np.float64) / np.array(self.thresholds)[:, None]
        return _votes_to_score(ratio > 1.0, ratio.mean(axis=0), self.xi)


@dataclass(frozen=True, slots=True)
class RankVote:
    """The released code's rule: steps flag a share of *the series being scored*.

    The last step flags `anomaly_share` of the rows; step s flags that share times (mean squared
    error of the last step / that of step s). It needs the whole series and cannot run live.
    """

    thresholds: list[float]
    xi: float = 0.5
    anomaly_share: float = 0.02

    @staticmethod
    def join(values: Reals, *, axis: int) -> Reals:
        """The mean of the steps: votes have no parts of channels."""
        return mean_of_steps(values, axis=axis)

    @classmethod
    def fit(
        cls, errors: Reals, *, rule: Rule, alarm_rate: float, xi: float, anomaly_share: float
    ) -> RankVote:
        """Nothing is fitted: this rule looks at the scored series alone."""
        return cls([], xi, anomaly_share)

    def score(self, errors: Reals) -> NDArray[np.float64]:
        """Errors (S, T) of a whole series -> score (T,)."""
        known = ~np.isnan(errors).any(axis=0)
        seen = errors[:, known].astype(np.float64)
        score = np.full(errors.shape[1], np.nan)
        if seen.shape[1] == 0:
            return score
        power = np.square(seen).mean(axis=1)
        share = self.anomaly_share * power[-1] / np.maximum(power, np.finfo(np.float64).tiny)
        level = np.array(
            [np.quantile(step, 1.0 - min(s, 1.0)) for step, s in zip(seen, share, strict=True)]
        )
        ratio = seen / np.maximum(level, np.finfo(np.float32).tiny)[:, None]
        score[known] = _votes_to_score(seen > level[:, None], ratio.mean(axis=0), self.xi)
        return score


def mean_of_steps(values: Reals, *, axis: int) -> Reals:
    """The mean along the axis of the steps."""
    mean: Reals = values.mean(axis)
    return mean


def _votes_to_score(flags: NDArray[np.bool_], mean: Reals, xi: float) -> NDArray[np.float64]:
    """Flags (S, T) and mean ratios (T,) -> score (T,), above 1 where votes exceed xi S."""
    votes = flags.sum(axis=0) + _TIE * mean / (1.0 + mean)
    needed = np.floor(xi * len(flags) + 1e-9) + 0.5
    return np.where(np.isnan(mean), np.nan, votes / needed)
