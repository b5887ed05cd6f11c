"""A baseline joined from three: the mean of their standardised scores."""

from __future__ import annotations

import numpy as np

from imdiffusion import baselines
from imdiffusion.arrays import Floats
from imdiffusion.baselines.rows import checked_rows, fitted
from imdiffusion.errors import DataError


class StandardisedMean:
    """Mean of the scores of `members`, each less its mean and over its standard deviation.

    Members learn from the first rows; mean and deviation come from the last `holdout` of them,
    which no member has seen.
    """

    def __init__(
        self,
        members: tuple[str, ...] = ("moving_variance", "kmeans", "mahalanobis_30"),
        holdout: float = 0.2,
        seed: int = 0,
    ) -> None:
        self.members = members
        self.holdout = holdout
        self.seed = seed

    def fit(self, x: Floats) -> StandardisedMean:
        """Fit the members on the first rows of x (T, K) and standardise on the last.

        Raises DataError where a part is too short for a member, or nothing in it is observed.
        """
        rows = checked_rows(x, least=2)
        cut = round(len(rows) * (1 - self.holdout))
        self.members_ = [
            baselines.make(name, seed=self.seed).fit(rows[:cut]) for name in self.members
        ]
        held_out = [member.decision_function(rows[cut:]) for member in self.members_]
        if any(np.isnan(score).all() for score in held_out):
            raise DataError(
                f"the last {len(rows) - cut} training rows have no observation",
                remedy="Give a training part whose last fifth has observed values.",
            )
        self.mean_ = np.array([np.nanmean(score) for score in held_out])
        spread = np.array([np.nanstd(score) for score in held_out])
        self.spread_ = np.where(spread > 0, spread, 1.0)  # one that never moves keeps its unit
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K)."""
        fitted(self, "members_")
        scores = np.stack([member.decision_function(x) for member in self.members_], axis=1)
        return np.asarray(((scores - self.mean_) / self.spread_).mean(axis=1))
