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

from imdiffusion.arrays import Flags, Floats, Ints
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
