"""Whether an hour is unusual for its time: the test that the calendar profile makes possible.

    c(t) = root mean square over channels of (mean over the last w rows of (x - expected) / spread)

w spans about an hour, so that a load that is merely noisy averages out and a noon peak, a Saturday
or a nightly batch that did not come does not. How high c is on usual days follows a Gumbel law of
its daily maxima, from days that the profile had not seen; a promise p of rows in alarm is its
return level mu + beta log(w / (rows of a day * p)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Instants, Ints
from imdiffusion.data.calendar import Calendar
from imdiffusion.durations import DAY_NS, HOUR_NS
from imdiffusion.saved_state import State
from imdiffusion.scoring.profile import CalendarProfile
from imdiffusion.scoring.scan import trailing_means

LEAST_DAYS = 5  # whose maxima say how they are spread
EULER = 0.5772156649015329
LEAST_SPREAD = 0.05
NAMED = 1.0  # units that a channel is off by, on the mean of an hour, to be named


@dataclass(frozen=True, slots=True)
class HourTest:
    """The fitted test: profile, rows w of a mean, rows of a day, and the law of daily maxima."""

    profile: CalendarProfile
    width: int
    day: float
    location: float
    scale: float

    @classmethod
    def fit(
        cls, times: Ints, values: Floats, observed: Flags, *, timezone: str, country: str | None
    ) -> tuple[HourTest | None, str, Floats]:
        """The test, or None and why there is none; and what is usual at the time of each row
        (T, K) as days other than its own say, NaN where not observed or off.

        times (T,): nanoseconds since 1970, ascending; values (T, K) standardised. Raises what
        `CalendarProfile.fit` does.
        """
        stamps = times.view("datetime64[ns]")
        profile, residual = CalendarProfile.fit_cross_fitted(
            stamps, values, observed, timezone=timezone, country=country
        )
        if not profile.on.any():
            return None, profile.reason, residual
        drawn = profile.course(stamps) - profile.expected(stamps)  # lines where slots meet
        usual = values - residual * profile.spread(stamps) + drawn
        period = float(np.median(np.diff(times)))
        width = 1 << max(0, round(np.log2(HOUR_NS / period)))
        draft = cls(profile, width, DAY_NS / period, 0.0, 1.0)
        means = trailing_means(np.nan_to_num(residual), (width,))[:, 0]
        size = draft.size(means)
        days = times // DAY_NS
        maxima = np.array(
            [np.nanmax(size[days == day]) for day in np.unique(days)
             if np.isfinite(size[days == day]).any()]
        )  # fmt: skip
        if len(maxima) < LEAST_DAYS:
            why = f"{len(maxima)} days are too few to say how far usual days differ"
            return None, why, np.full_like(usual, np.nan)
        scale = max(float(maxima.std(ddof=1)) * np.sqrt(6.0) / np.pi, LEAST_SPREAD)
        location = float(maxima.mean()) - EULER * scale
        return cls(profile, width, draft.day, location, scale), "", usual

    def size(self, means: Floats) -> Floats:
        """Mean residuals (n, K) -> c (n,); NaN before there are w rows."""
        own = means[:, self.profile.on]
        return np.asarray(np.sqrt(np.square(own).mean(axis=1)))

    def level(self, rate: float) -> float:
        """The c that usual rows exceed at this rate."""
        share = min(rate * self.day / self.width, 1.0)  # of days whose maximum is above it
        return self.location - self.scale * float(np.log(share))

    # -- saved

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts, under names that begin with `hours_`."""
        facts = {f"hours_{name}": value for name, value in self.profile.to_dict().items()}
        own = ("width", "day", "location", "scale")
        return facts | {f"hours_test_{name}": getattr(self, name) for name in own}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> HourTest:
        """The test that `to_dict` describes."""
        prefix = "hours_"
        own = {n.removeprefix(prefix): v for n, v in facts.items() if n.startswith(prefix)}
        law = {n: own.pop(f"test_{n}") for n in ("width", "day", "location", "scale")}
        return cls(CalendarProfile.from_dict(own), **law)


class HourStream:
    """The test over one series that is pushed in pieces."""

    def __init__(self, test: HourTest) -> None:
        self.test = test
        self._held = np.empty((0, len(test.profile.level)))  # residuals of the last w - 1 rows

    def push(self, times: Ints, values: Floats, observed: Flags) -> tuple[Floats, Flags]:
        """The next rows: c (n,), NaN where there is none yet, and which channels (n, K) are off."""
        profile = self.test.profile
        residual = np.nan_to_num(profile.residual(times.view("datetime64[ns]"), values, observed))
        before = len(self._held)
        held = np.concatenate([self._held, residual])
        means = trailing_means(held, (self.test.width,))[before:, 0]
        self._held = held[max(0, len(held) - self.test.width + 1) :].copy()
        size = self.test.size(means)
        far = np.abs(means) >= np.maximum(NAMED, 0.5 * np.abs(means).max(axis=1, keepdims=True))
        return size, np.asarray(far & profile.on)

    def to_state(self) -> State:
        """The residuals of the last rows."""
        return State("hours", arrays={"held": self._held})

    @classmethod
    def from_state(cls, state: State, like: HourStream) -> HourStream:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        stream = cls(like.test)
        stream._held = state.check("hours").array("held", np.float64)
        return stream


# -- times of day at which normal rows are always harder: a nightly batch, the noon peak
#
# What a calendar expects of an hour is taken away before rows are judged; that the hour is noisier
# than others, or that a job never begins at quite the same second, is left. Scores at such times
# are divided by how much higher they always are: for each quarter of an hour b of the local day
#
#     factor_b = max(1, .25 quantile over days of the largest score in b
#                       / .75 quantile over days and quarters of the largest score)
#
# so that what three days in four do there is no more than what is usual elsewhere; that one or two
# days were bad there is no reason to look away.

QUARTERS = 96
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
