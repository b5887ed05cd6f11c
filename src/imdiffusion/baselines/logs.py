"""One-liners joined by a mean of logs, so that no single one can shout."""

from __future__ import annotations

import numpy as np

from imdiffusion import baselines
from imdiffusion.arrays import Floats
from imdiffusion.baselines.rows import checked_rows, fitted, mean_observed, scores_of_training
from imdiffusion.errors import DataError

# The four with the best VUS-PR on the mean of fourteen public sets (docs/benchmark.md).
BEST = ("forecast_s30", "pca_30", "channel_s30", "mahalanobis_30")


class JoinedLogs:
    """Mean of log(1 + score) over `members`, each in units of its own training quantile.

    The unit of a member is the `quantile` of its scores of the training rows; where that is 0 it is
    the smallest score above 0, and 1 where there is none. A member that has no score for a row is
    left out of that row's mean.
    """

    def __init__(self, members: tuple[str, ...] = BEST, quantile: float = 0.99) -> None:
        self.members = members
        self.quantile = quantile

    def fit(self, x: Floats) -> JoinedLogs:
        """Fit the members on rows x (T, K) and learn their units from the same rows.

        Raises DataError where a part is too short for a member, or where one scores no row.
        """
        rows = checked_rows(x, least=2)
        self.members_ = [baselines.make(name).fit(rows) for name in self.members]
        units = []
        for name, member in zip(self.members, self.members_, strict=True):
            score = scores_of_training(member, rows)
            known = score[~np.isnan(score)]
            if not known.size:
                raise DataError(
                    f"{name} has no score for any of {len(rows)} training rows",
                    remedy="Give a training part with observed values.",
                )
            unit = float(np.quantile(known, self.quantile))
            units.append(unit if unit > 0 else _least_above_zero(known))
        self.units_ = np.array(units)
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of rows x (T, K)."""
        fitted(self, "units_")
        scores = np.stack([member.decision_function(x) for member in self.members_], axis=1)
        return mean_observed(np.log1p(np.maximum(scores, 0.0) / self.units_))


def _least_above_zero(score: Floats) -> float:
    above = score[score > 0]
    return float(above.min()) if above.size else 1.0
