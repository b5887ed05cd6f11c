"""Precision, recall and F1 of rows: plain, point-adjusted and between, against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, f1_score, precision_recall_fscore_support

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics.points import (
    adjust,
    best_f1,
    best_point_adjusted_f1,
    pa_k,
    pa_k_auc,
    point,
    point_adjusted,
)

NAN = float("nan")


def bits(text: str) -> np.ndarray:
    return np.array([one == "1" for one in text])


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    label = draw(st.lists(st.booleans(), min_size=1, max_size=30))
    label[draw(st.integers(0, len(label) - 1))] = True
    values = st.integers(-3, 3).map(float) | st.just(NAN)
    score = draw(st.lists(values, min_size=len(label), max_size=len(label)))
    return np.array(label), np.array(score)


def adjust_row_by_row(label: np.ndarray, alarm: np.ndarray, k: float = 0.0) -> np.ndarray:
    """A walk outwards from each anomalous row to its segment; no runs, no sums."""
    out = alarm.copy()
    for t in np.flatnonzero(label):
        first = last = t
        while first > 0 and label[first - 1]:
            first -= 1
        while last + 1 < len(label) and label[last + 1]:
            last += 1
        share = sum(bool(alarm[u]) for u in range(first, last + 1)) / (last + 1 - first)
        if share > k / 100:
            out[t] = True
    return out


@given(scored(), st.integers(-3, 3))
def test_points_are_those_of_scikit_learn(
    case: tuple[np.ndarray, np.ndarray], level: float
) -> None:
    label, score = case
    alarm = score > level
    for ours, flags in (
        (point(label, alarm), alarm),
        (point_adjusted(label, alarm), adjust_row_by_row(label, alarm)),
        (pa_k(label, alarm), adjust_row_by_row(label, alarm, 20)),
    ):
        expected = precision_recall_fscore_support(
            label, flags, average="binary", zero_division=np.nan
        )[:3]
        assert ours[:2] == pytest.approx(expected[:2], nan_ok=True)
        assert ours.f1 == pytest.approx(expected[2])


def test_golden() -> None:
    label, alarm = bits("0011110000"), bits("1010000000")
    assert point(label, alarm) == (0.5, 0.25, pytest.approx(1 / 3))
    assert adjust(label, alarm).tolist() == bits("1011110000").tolist()
    assert point_adjusted(label, alarm) == (0.8, 1.0, pytest.approx(8 / 9))
    # a quarter of the segment is in alarm: adjusted above 24 %, not at 25 %
    assert pa_k(label, alarm, k=24).f1 == pytest.approx(8 / 9)
    assert pa_k(label, alarm, k=25).f1 == pytest.approx(1 / 3)
    # F1 is 8/9 at k = 0 ... 24 and 1/3 at 25 ... 100: 24 full steps, one half, 75 low ones
    area = (24 * 8 / 9 + (8 / 9 + 1 / 3) / 2 + 75 / 3) / 100
    assert pa_k_auc(label, alarm) == pytest.approx(area)


def test_no_alarm_has_no_precision_and_f1_zero() -> None:
    precision, recall, f1 = point(bits("0110"), bits("0000"))
    assert np.isnan(precision)
    assert (recall, f1) == (0.0, 0.0)


@settings(max_examples=20, deadline=None)
@given(scored())
def test_the_area_of_pa_k_is_that_of_its_curve(case: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = case
    curve = [
        f1_score(label, adjust_row_by_row(label, score > 0, k), zero_division=0) for k in range(101)
    ]
    assert pa_k_auc(label, score > 0) == pytest.approx(auc(np.arange(101) / 100, curve))


@given(scored())
def test_best_thresholds_are_those_of_trying_all(case: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = case
    levels = sorted({one for one in score.tolist() if not np.isnan(one)}, reverse=True)
    for best, adjusted in ((best_f1, point), (best_point_adjusted_f1, point_adjusted)):
        found = best(label, score)
        tried = [adjusted(label, score >= level).f1 for level in levels]
        assert found.f1 == pytest.approx(max(tried, default=0.0))
        at = adjusted(label, score >= found.threshold)
        assert found[:2] == pytest.approx(at[:2], nan_ok=True)
        assert found.f1 == pytest.approx(at.f1)
        if levels:
            assert found.threshold in levels


@given(scored())
def test_orders_of_generosity(case: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = case
    alarm = score > 0
    assert pa_k(label, alarm, k=100) == pytest.approx(point(label, alarm), nan_ok=True)
    assert pa_k(label, alarm, k=0) == pytest.approx(point_adjusted(label, alarm), nan_ok=True)
    plain, area, kind = (
        point(label, alarm).f1,
        pa_k_auc(label, alarm),
        point_adjusted(label, alarm).f1,
    )
    assert 0.0 <= plain <= area + 1e-12 <= kind + 2e-12 <= 1.0 + 3e-12
    assert best_f1(label, score).f1 >= plain - 1e-12
    ranks = best_point_adjusted_f1(label, np.exp(score))
    assert ranks[:3] == pytest.approx(best_point_adjusted_f1(label, score)[:3], nan_ok=True)
    assert point(label, label) == (1.0, 1.0, 1.0)


def test_point_adjustment_rewards_noise() -> None:
    rng = np.random.default_rng(0)
    label = np.zeros(20_000, bool)
    label[5_000:6_500] = label[12_000:13_000] = True
    score = rng.random(20_000)
    assert best_point_adjusted_f1(label, score).f1 > 0.95
    assert best_f1(label, score).f1 < 0.25  # an alarm everywhere: 2 x .125 / 1.125


def test_shapes_must_agree() -> None:
    with pytest.raises(DataError, match=r"shape \(3,\).*\(4,\)"):
        point(bits("010"), bits("0101"))
    with pytest.raises(DataError, match="no anomaly"):
        best_f1(bits("000"), np.ones(3))
