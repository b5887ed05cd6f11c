"""Fitted baselines that look at one row alone: Mahalanobis distance, z-score.

Outliers among the rows it is learned from do no harm while they are few: channels are centred on
their median, in units of their median deviation, and cut before anything is learned. Each half of
the rows is scored by what was learned from the other; the logarithms of those scores are taken for
normal, and their median and median deviation say which score stands for 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Protocol, Self

import numpy as np

from imdiffusion import baselines
from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.data.frame import Frame
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.saved_state import State


class FittedBaseline(Protocol):
    """Judges rows by what others have taught. Frames have timestamps, and the entity's channels."""

    @property
    def known(self) -> Flags:
        """Channels (K,) of which anything was learned."""

    def judge(self, held: Floats, frame: Frame, states: Sequence[str]) -> list[ScoredRow]:
        """Judge the next rows (n, K); states: of each. held (m, K): rows as they are held, those
        that are judged last, so that no score depends on how rows were pushed.

        In order of the rows online; what is said offline of earlier rows stands last.
        """

    def read(self, frame: Frame) -> None:
        """Rows that come before the first it judges, the newest of those that are held."""

    def finish(self) -> list[ScoredRow]:
        """The rows to come do not follow those so far: what is left to say offline."""

    def scores(self, frame: Frame) -> Floats:
        """Scores (n,) online of rows of their own, which nothing came before."""

    def to_state(self) -> State:
        """What was learned and where it stands."""


NORMAL = 1.4826  # the standard deviation of a normal law, in median deviations
ROUNDING = 1e-9  # of its value: a channel that moves by less stands still
SMALLEST = 1e-6  # score; the logarithm of none would be infinite
LEAST_SPREAD = 0.1  # of the logarithms of scores: no series is as even as that


def centre_and_scale(rows: Reals) -> tuple[Floats, Floats]:
    """Median and median deviation of each channel of rows (n, K), as of a normal law.

    A channel that hardly moves has its standard deviation instead, or else the size of its value.
    """
    width = rows.shape[1]
    centre, scale = np.full(width, np.nan), np.full(width, np.nan)
    for k in range(width):
        seen = rows[~np.isnan(rows[:, k]), k]
        if not seen.size:
            continue
        centre[k] = np.median(seen)
        size = abs(float(centre[k]))
        for spread in (NORMAL * float(np.median(np.abs(seen - centre[k]))), float(np.std(seen))):
            if spread > ROUNDING * size:
                scale[k] = spread
                break
        else:
            scale[k] = size or 1.0
    return centre, scale


def threshold_of(scores: Floats, alarm_rate: float) -> float:
    """What a score exceeds with probability `alarm_rate` if its logarithm is normal."""
    known = np.log(np.maximum(scores[np.isfinite(scores)], SMALLEST))
    if not known.size:
        return 1.0
    middle = float(np.median(known))
    spread = NORMAL * float(np.median(np.abs(known - middle)))
    return math.exp(middle + NormalDist().inv_cdf(1.0 - alarm_rate) * max(spread, LEAST_SPREAD))


# Baselines that give each channel its part, and see a channel that moves by itself: to principal
# components that is no error.
ROW_BASELINES = ("mahalanobis", "zscore")
SMOOTH = 5  # rows whose scores are joined: the row's own and those before it
LEAST_ROWS = 10
CUT = 5.0  # deviations beyond which a row teaches no more
FARTHEST = 1e4  # deviations; the square of more would say nothing more
KIND = "row baseline"
BAND = 2.576  # deviations between which 99 % of a normal law lie


@dataclass(frozen=True, slots=True)
class RowBaseline:
    """What rows taught: centre and scale (K,), NaN for a channel that none of them had.

    threshold: the score that stands for 1.
    """

    centre: Floats
    scale: Floats
    baseline: baselines.Baseline
    threshold: float

    @classmethod
    def of(cls, frame: Frame, name: str, rate: float) -> Self | None:
        """Learn from rows, so that `rate` of normal rows are above 1; None = too few."""
        rows = values_of(frame)
        rows = rows[~np.isnan(rows).all(axis=1)]
        if len(rows) < LEAST_ROWS:
            return None
        half = len(rows) // 2
        parts = (rows[:half], rows[half:]), (rows[half:], rows[:half])
        apart = [cls._learned(one, name).judged(other[:0], other)[0] for one, other in parts]
        whole = cls._learned(rows, name)
        return replace(whole, threshold=threshold_of(np.concatenate(apart), rate))

    @classmethod
    def _learned(cls, rows: Floats, name: str) -> Self:
        centre, scale = centre_and_scale(rows)
        z = np.clip((rows - centre) / scale, -CUT, CUT)
        return cls(centre, scale, baselines.make(name).fit(z), 1.0)

    def judged(self, before: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Scores (n,) and each channel's part (n, K) of rows (n, K), NaN where nothing is.

        before (m, K): the rows before them. A score is the mean of log(1 + the baseline's) over
        the last SMOOTH rows.
        """
        joint = np.concatenate([before[max(0, len(before) - SMOOTH + 1) :], rows])
        z = np.clip((joint - self.centre) / self.scale, -FARTHEST, FARTHEST)
        parts = _trailing(self.baseline.channel_scores(z))  # type: ignore[attr-defined]
        score = _trailing(np.log1p(self.baseline.decision_function(z))[:, None])[:, 0]
        new = len(joint) - len(rows)
        return score[new:] / self.threshold, parts[new:]

    # -- as a FittedBaseline

    @property
    def known(self) -> Flags:
        """Channels that some row had."""
        return np.asarray(~np.isnan(self.centre))

    def judge(self, held: Floats, frame: Frame, states: Sequence[str]) -> list[ScoredRow]:
        """Each row as it arrives."""
        assert frame.timestamps is not None  # noqa: S101  live rows have them
        rows, new = values_of(frame), len(held) - len(frame)
        score, parts = self.judged(held[:new], held[new:])
        spread = BAND * self.scale
        return [
            ScoredRow(
                timestamp=int(time),
                mode="online",
                score=float(score[row]),
                parts=parts[row],
                seen=rows[row],
                expected=self.centre,
                lower=self.centre - spread,
                upper=self.centre + spread,
                state=states[row],
            )
            for row, time in enumerate(frame.timestamps.view(np.int64))
        ]

    def read(self, frame: Frame) -> None:
        """It looks at rows alone: the ones before are given with each."""

    def finish(self) -> list[ScoredRow]:
        """It never judges offline."""
        return []

    def scores(self, frame: Frame) -> Floats:
        """Scores of rows of their own."""
        rows = values_of(frame)
        return self.judged(rows[:0], rows)[0]

    def to_state(self) -> State:
        """All of it."""
        arrays = {"centre": self.centre, "scale": self.scale}
        own = vars(self.baseline).items()
        learned = {name: np.asarray(one) for name, one in own if name.endswith("_")}
        parts = {"baseline": State("fitted baseline", arrays=learned)}
        return State(KIND, {"threshold": self.threshold}, arrays, parts)

    @classmethod
    def from_state(cls, state: State, name: str) -> Self:
        """What `to_state` of a baseline of that name gave. Raises ModelError."""
        baseline = baselines.make(name)
        centre, scale = (state.check(KIND).array(n, np.float64) for n in ("centre", "scale"))
        for key, array in state.part("baseline").check("fitted baseline").arrays.items():
            setattr(baseline, key, array.copy() if array.ndim else array.item())
        return cls(centre, scale, baseline, state.fact("threshold"))


def values_of(frame: Frame) -> Floats:
    """Values (n, K) of a frame, NaN where not observed."""
    return np.where(frame.observed, frame.values, np.nan).astype(np.float64)


def _trailing(values: Floats) -> Floats:
    """The mean of the last SMOOTH values of each column of (n, K); NaN is left out and stays."""
    known = ~np.isnan(values)
    total, count = np.zeros(values.shape), np.zeros(values.shape)
    for back in range(min(SMOOTH, len(values))):
        stop = len(values) - back
        total[back:] += np.where(known, values, 0.0)[:stop]
        count[back:] += known[:stop]
    return np.where(known, total / np.maximum(count, 1), np.nan)
