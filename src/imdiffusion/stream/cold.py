"""A scorer for an entity that no network has been fitted on yet: a baseline that learns as it goes.

It learns from the last rows it has seen, again whenever there are half as many more, and speaks
once it has ten minutes of them. Outliers among those rows do no harm while they are few: channels
are centred on their median, in units of their median deviation, and cut before anything is
learned. The threshold is label-free and honest about how little has been seen: each half of the
rows is scored by what was learned from the other, and the logarithms of those scores are taken
for normal, with their median and median deviation.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion import baselines, registry
from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError, ModelError
from imdiffusion.stream.held import moved, places_of
from imdiffusion.stream.judged import Judged
from imdiffusion.stream.matching import checked_times
from imdiffusion.stream.packing import Arrays, pack, unpack
from imdiffusion.stream.robust import Floats, Rows, centre_and_scale, threshold_of
from imdiffusion.stream.trust import DEGRADED, READY, WARMING, degraded

KIND = "cold scorer"
# Baselines that look at one row alone, give each channel its part, and see a channel that moves by
# itself: to principal components that is no error.
ROW_BASELINES = ("mahalanobis", "zscore")
SMOOTH = 5  # rows whose scores are joined: the row's own and those before it
SECONDS = 600.0  # of rows before it speaks
LEAST_ROWS = 10  # however long the period is
MOST_ROWS = 1_000  # it learns from the last so many
GROWTH = 1.5  # it learns again when it has seen so many times the rows
CUT = 5.0  # deviations beyond which a row teaches no more
FARTHEST = 1e4  # deviations; the square of more would say nothing more
LEARNT = "learnt."
BAND = 2.576  # deviations between which 99 % of a normal law lie


@dataclass(frozen=True, slots=True)
class _Lesson:
    """What rows taught: centre and scale (K,), NaN for a channel that none of them had."""

    centre: Floats
    scale: Floats
    baseline: baselines.Baseline

    @classmethod
    def of(cls, rows: Rows, name: str) -> _Lesson:
        """Learn from rows (n, K), NaN = not observed."""
        centre, scale = centre_and_scale(rows)
        z = np.clip((rows - centre) / scale, -CUT, CUT)
        return cls(centre, scale, baselines.make(name).fit(z))

    def scores(self, before: Rows, rows: Rows) -> tuple[Floats, Floats]:
        """Scores (n,) and each channel's part (n, K) of rows (n, K), NaN where nothing is.

        before (m, K): the rows before them. A score is the mean of log(1 + the baseline's) over
        the last SMOOTH rows.
        """
        joint = np.concatenate([before[max(0, len(before) - SMOOTH + 1) :], rows]).astype(
            np.float64
        )
        z = np.clip((joint - self.centre) / self.scale, -FARTHEST, FARTHEST)
        parts = _trailing(self.baseline.channel_scores(z))  # type: ignore[attr-defined]
        score = _trailing(np.log1p(self.baseline.decision_function(z))[:, None])[:, 0]
        new = len(joint) - len(rows)
        return score[new:], parts[new:]


def _trailing(values: Floats) -> Floats:
    """The mean of the last SMOOTH values of each column of (n, K); NaN is left out and stays."""
    known = ~np.isnan(values)
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    for back in range(min(SMOOTH, len(values))):
        stop = len(values) - back
        total[back:] += np.where(known, values, 0.0)[:stop]
        count[back:] += known[:stop]
    return np.where(known, total / np.maximum(count, 1), np.nan)


class ColdScorer:
    """Keeps `stream.judged.Scorer` without anything fitted beforehand.

    channels: the entity's. period: nanoseconds between rows. baseline: of ROW_BASELINES.
    alarm_rate: the share of normal rows above 1 that is aimed at. It never judges in hindsight.
    Memory: MOST_ROWS rows. Raises ConfigError.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        period: int,
        baseline: str = "mahalanobis",
        alarm_rate: float = 0.001,
    ) -> None:
        if baseline not in ROW_BASELINES:
            raise ConfigError(
                f"baseline {baseline!r} cannot score rows as they come",
                remedy=registry.nearest(baseline, ROW_BASELINES),
            )
        if period <= 0 or not 0 < alarm_rate < 1:
            raise ConfigError(
                f"period = {period} ns with alarm_rate = {alarm_rate}",
                remedy="The period must be positive, the rate between 0 and 1.",
            )
        self.period, self.alarm_rate = period, alarm_rate
        self.detector = baseline
        self._name(channels)
        self.needed = max(LEAST_ROWS, math.ceil(SECONDS * 1e9 / period))
        self._begin()

    def _name(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        words = (KIND, self.detector, self.period, self.alarm_rate, *self.channels)
        self.model = hashlib.sha256("\x1f".join(map(str, words)).encode()).hexdigest()[:16]

    def _begin(self) -> None:
        width = len(self.channels)
        self._rows: Rows = np.empty((0, width), np.float32)  # the last of them, NaN = not observed
        self._count = self._taught = 0  # rows seen; rows seen when it learned last
        self._asked: int | None = None  # rows seen when it is to learn of new channels
        self._last: int | None = None
        self._lesson: _Lesson | None = None
        self._threshold = math.nan

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return sum(array.nbytes for array in self._arrays().values())

    # -- rows

    def push(self, frame: Frame) -> list[Judged]:
        """Take the next rows: each is judged by what the rows before it have taught.

        Raises DataError for a channel that is not the entity's, and for rows without timestamps or
        not after the last.
        """
        times = checked_times(frame, self.channels, self._last)
        own = frame.select(self.channels)
        seen = np.where(own.observed & np.isfinite(own.values), own.values, np.nan)
        judged: list[Judged] = []
        start = 0
        while start < len(seen):
            stop = min(len(seen), start + self._due - self._count)
            judged += self._judge(times[start:stop], seen[start:stop].astype(np.float64))
            start = stop
        return judged

    def finish(self) -> list[Judged]:
        """The stream has ended or starts afresh: nothing is left to say, what was learned stays."""
        self._last = None
        return []

    def rechannel(self, channels: Sequence[str]) -> None:
        """Go on under other channels. One that is new counts once so many rows more have come as it
        takes to speak at all; what the others have taught stands.
        """
        self._rows = moved(self._rows, places_of(channels, self.channels)).astype(np.float32)
        self._name(channels)
        self._asked = self._count + self.needed
        if self._lesson is not None:
            self._lesson = None  # were there too few rows to learn from, it would be of others
            self._learn()

    @property
    def _due(self) -> int:
        """How many rows there are when it learns again."""
        if not self._taught:
            return self.needed
        usual = min(math.ceil(GROWTH * self._taught), self._taught + MOST_ROWS // 2)
        return usual if self._asked is None else min(usual, self._asked)

    def _judge(self, times: NDArray[np.int64], seen: Floats) -> list[Judged]:
        """Rows that are all judged by one lesson, after which the next may be due."""
        known = np.ones(len(self.channels), np.bool_)
        rows = seen.astype(np.float32)  # as they are held, so that no score hangs on the pushes
        if self._lesson is None:
            score, parts = np.full(len(seen), np.nan), np.full(seen.shape, np.nan)
            expected = lower = upper = np.full(len(self.channels), np.nan)
        else:
            score, parts = self._lesson.scores(self._rows, rows)
            expected, spread = self._lesson.centre, BAND * self._lesson.scale
            lower, upper = expected - spread, expected + spread
            known = ~np.isnan(expected)
        low = degraded(~np.isnan(self._rows), ~np.isnan(seen), known=known, window=self.needed)
        ready = [DEGRADED if poor else READY for poor in low.tolist()]
        states = [WARMING] * len(seen) if self._lesson is None else ready
        self._rows = np.concatenate([self._rows, rows])[-MOST_ROWS:].copy()
        self._count += len(seen)
        self._last = int(times[-1])
        judged = [
            Judged(
                timestamp=int(times[row]),
                moment="arrival",
                score=float(score[row] / self._threshold),
                parts=parts[row],
                seen=seen[row],
                expected=expected,
                lower=lower,
                upper=upper,
                state=states[row],
            )
            for row in range(len(seen))
        ]
        if self._count == self._due:
            self._learn()
        return judged

    def _learn(self) -> None:
        """Learn from the rows that are held, unless nothing in them was ever observed."""
        self._taught = self._count
        if self._asked is not None and self._count >= self._asked:
            self._asked = None
        rows = self._rows[~np.isnan(self._rows).all(axis=1)].astype(np.float64)
        if len(rows) < LEAST_ROWS:
            return  # still warming: the rows so far were empty
        half = len(rows) // 2
        parts = (rows[:half], rows[half:]), (rows[half:], rows[:half])
        apart = [_Lesson.of(one, self.detector).scores(other[:0], other)[0] for one, other in parts]
        self._threshold = threshold_of(np.concatenate(apart), self.alarm_rate)
        self._lesson = _Lesson.of(rows, self.detector)

    # -- over a restart

    def dump(self) -> bytes:
        """The state between two rows, without pickle."""
        facts = {
            "model": self.model,
            "count": self._count,
            "taught": self._taught,
            "asked": self._asked,
            "last": self._last,
            "threshold": None if self._lesson is None else self._threshold,
        }
        return pack(KIND, facts, self._arrays())

    def restore(self, state: bytes) -> None:
        """Go on as the scorer that was dumped would; ModelError if it was set up otherwise."""
        facts, arrays = unpack(KIND, state)
        if facts["model"] != self.model:
            raise ModelError(
                "the saved state is of a cold scorer with other channels or options",
                remedy="Leave it out: the stream then starts afresh.",
            )
        self._begin()
        self._count, self._taught, self._last = (facts[n] for n in ("count", "taught", "last"))
        self._asked = facts.get("asked")  # states from before it have none
        self._rows = arrays["rows"]
        if facts["threshold"] is not None:
            baseline = baselines.make(self.detector)
            for name, array in arrays.items():
                if name.startswith(LEARNT):
                    learnt = array if array.ndim else array.item()
                    setattr(baseline, name.removeprefix(LEARNT), learnt)
            self._lesson = _Lesson(arrays["centre"], arrays["scale"], baseline)
            self._threshold = facts["threshold"]

    def _arrays(self) -> Arrays:
        arrays: Arrays = {"rows": self._rows}
        if self._lesson is not None:
            arrays |= {"centre": self._lesson.centre, "scale": self._lesson.scale}
            for name, value in vars(self._lesson.baseline).items():
                if name.endswith("_"):  # what was learned, in every baseline
                    arrays[LEARNT + name] = np.asarray(value)
        return arrays
