"""What joining steps brings, against scikit-learn and a correlation written out."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from imdiffusion_bench.protocols import ensemble_curve


def test_each_size_is_the_mean_of_the_last_steps_and_the_last_ten_are_held_against_the_last():
    rng = np.random.default_rng(0)
    label = rng.random(300) < 0.1
    errors = (rng.random((12, 300)) + label).astype(np.float32)
    errors *= np.arange(1, 13, dtype=np.float32)[:, None]  # a louder step weighs no more
    holed = errors.copy()
    holed[4, :20] = np.nan
    known = slice(20, None)
    found = ensemble_curve(holed, label)
    assert found["ensemble_sizes"] == [1, 2, 3, 5, 10]
    relative = [step / step.mean() for step in errors[:, known].astype(float)]
    expected = [
        average_precision_score(label[known], sum(relative[-size:]))
        for size in found["ensemble_sizes"]
    ]
    assert found["ensemble_auc_pr"] == pytest.approx(expected)
    last = relative[-1]
    alike = [
        np.mean((one - one.mean()) * (last - last.mean())) / (one.std() * last.std())
        for one in relative[-10:-1]
    ]
    assert found["step_correlation"] == pytest.approx(np.mean(alike))


def test_the_ten_steps_that_vote_are_every_third_from_the_last():
    rng = np.random.default_rng(1)
    label = rng.random(200) < 0.1
    errors = (rng.random((30, 200)) + 0.3 * label).astype(np.float32)
    relative = errors / errors.mean(axis=1, keepdims=True)
    expected = average_precision_score(
        label, relative[[29, 26, 23, 20, 17, 14, 11, 8, 5, 2]].sum(0)
    )
    assert ensemble_curve(errors, label)["ensemble_voting"] == pytest.approx(expected)


def test_one_step_and_steps_that_never_move_have_no_correlation():
    label = np.arange(50) < 5
    one = ensemble_curve(np.random.default_rng(0).random((1, 50)).astype(np.float32), label)
    assert (one["ensemble_sizes"], one["step_correlation"]) == ([1], None)
    assert ensemble_curve(np.zeros((3, 50), np.float32), label)["step_correlation"] is None
