"""Detectors of several seeds as one"""

from __future__ import annotations

import numpy as np
import pytest

from imdiffusion.errors import ConfigError
from imdiffusion_bench.detectors import SeedMean, mean_of
from imdiffusion_bench.generator import generate
from imdiffusion_bench.split import Scores


class Constant:
    """A member that scores every row with its seed."""

    def __init__(self, seed):
        self.seed, self.fitted = seed, 0

    def fit(self, train):
        self.fitted = len(train)

    def score(self, test):
        assert self.fitted
        score = np.full(len(test), float(self.seed))
        score[0] = np.nan if self.seed == 3 else 1.0
        return Scores(score, np.full((2, len(test)), self.seed, np.float32), None)


def test_a_mean_over_seeds_is_the_mean_of_members_that_no_other_has():
    split = generate(rows_train=60, rows_test=50, anomaly="spike", anomaly_length=2)
    detector = SeedMean(Constant, count=3, seed=1).fit(split.train)
    assert [member.seed for member in detector.members_] == [3, 4, 5]
    scores = detector.score(split.test)
    assert np.isnan(scores.score[0])
    assert (scores.score[1:] == 4.0).all()
    assert (scores.step_errors == 4.0).all()
    assert scores.step_errors.shape == (2, 50)
    assert scores.channel_scores is None
    mixed = mean_of([Scores(np.ones(2), np.ones((1, 2), np.float32)), Scores(np.zeros(2))])
    assert mixed.score.tolist() == [0.5, 0.5]
    assert mixed.step_errors is None
    with pytest.raises(ConfigError, match="two seeds"):
        SeedMean(Constant, count=1, seed=0)
