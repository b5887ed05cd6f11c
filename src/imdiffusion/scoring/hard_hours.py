"""Times of day at which normal rows are always harder: a nightly batch, the noon peak.

What a calendar expects of an hour is taken away before rows are judged; that the hour is noisier
than others, or that a job never begins at quite the same second, is left. Scores at such times are
divided by how much higher they always are: for each quarter of an hour b of the local day

    factor_b = max(1, .25 quantile over days of the largest score in b
                      / .75 quantile over days and quarters of the largest score)

so that what three days in four do there is no more than what is usual elsewhere; that one or two
days were bad there is no reason to look away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats, Instants
from imdiffusion.data.calendar import Calendar
from imdiffusion.durations import DAY_NS

QUARTERS = 96
LEAST_DAYS = 5  # in a quarter, to say what is always so
ALWAYS, USUAL = 0.25, 0.75
MOST = 4.0


@dataclass(frozen=True, slots=True)
class HardHours:
    """factor (96, S): what each of S kinds of score is divided by, for each quarter of an hour."""

    factor: Floats
    timezone: str

    @classmethod
    def fit(cls, timestamps: Instants, scores: Floats, timezone: str) -> HardHours | None:
        """From scores (T, S) of normal rows at times (T,), NaN = none; None where no time of day is
        harder than others, or there are fewer than `LEAST_DAYS` days.
        """
        day, quarter = _places(timestamps, timezone)
        day -= day.min(initial=0) if len(day) else 0
        days = int(day.max(initial=0)) + 1
        factor = np.ones((QUARTERS, scores.shape[1]))
        for kind in range(scores.shape[1]):
            highest = np.full(days * QUARTERS, -np.inf)
            known = np.isfinite(scores[:, kind])
            np.maximum.at(highest, (day * QUARTERS + quarter)[known], scores[known, kind])
            table = np.where(np.isfinite(highest), highest, np.nan).reshape(days, QUARTERS)
            often = (~np.isnan(table)).sum(axis=0) >= LEAST_DAYS
            if not often.any():
                continue
            usual = float(np.nanquantile(table[:, often], USUAL))
            if usual > 0:
                always = np.nanquantile(table[:, often], ALWAYS, axis=0)
                factor[often, kind] = np.clip(always / usual, 1.0, MOST)
        return cls(factor, timezone) if (factor > 1.0).any() else None

    def at(self, timestamps: Instants) -> Floats:
        """The factors (n, S) at times (n,)."""
        return np.asarray(self.factor[_places(timestamps, self.timezone)[1]])

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts."""
        return {"factor": self.factor, "timezone": self.timezone}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> HardHours:
        """What `to_dict` gave."""
        return cls(np.asarray(facts["factor"], np.float64), str(facts["timezone"]))


def _places(timestamps: Instants, timezone: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The local day of each time (n,), and which quarter of an hour of it."""
    day, time = Calendar(timezone).days(timestamps)
    return np.asarray(day, np.int64), np.asarray(time // (DAY_NS // QUARTERS), np.int64)
