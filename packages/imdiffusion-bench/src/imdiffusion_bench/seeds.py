"""Several networks of one kind, fitted from different seeds, as one detector: their mean score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion_bench.split import Scores


class Member(Protocol):
    """A detector of the benchmark, as the rows of its tables are."""

    def fit(self, train: Frame) -> object:
        """Fit on normal rows."""

    def score(self, test: Frame) -> Scores:
        """Score the rows of another frame."""


class SeedMean:
    """Fits `count` members and joins what they say.

    make: seed -> member. Member i of the detector with seed s has seed count x s + i, so that
    detectors of different seeds have no member in common. Raises ConfigError for count < 2.
    """

    def __init__(self, make: Callable[[int], Member], *, count: int, seed: int) -> None:
        if count < 2:
            raise ConfigError(
                f"a mean over {count} seeds is none", remedy="Take two seeds or more."
            )
        self.make, self.count, self.seed = make, count, seed

    def fit(self, train: Frame) -> Self:
        """Fit all members on the same rows, one after another."""
        seeds = range(self.count * self.seed, self.count * (self.seed + 1))
        self.members_ = [self.make(seed) for seed in seeds]
        for member in self.members_:
            member.fit(train)
        return self

    def score(self, test: Frame) -> Scores:
        """The mean of the members' scores."""
        return mean_of([member.score(test) for member in self.members_])


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Means over detectors; NaN where any has no score, None where any has no such part.

    Each score is in units of its own label-free threshold, so the mean is above 1 where they
    agree on average: alarms become rarer than each one's alarm rate says, never more frequent on
    rows where no member alarms.
    """
    steps = [one.step_errors for one in scores if one.step_errors is not None]
    parts = [one.channel_scores for one in scores if one.channel_scores is not None]
    return Scores(
        np.mean([one.score for one in scores], axis=0),
        np.mean(steps, axis=0, dtype=np.float32) if len(steps) == len(scores) else None,
        np.mean(parts, axis=0, dtype=np.float32) if len(parts) == len(scores) else None,
    )
