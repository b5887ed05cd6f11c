"""Areas and volumes under curves, against scikit-learn, aeon and the definition written out."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics import auc_pr
from imdiffusion_bench.metrics.range_based import _places, r_auc_pr, surface, vus_pr

RANGES = ("r_auc_pr", "r_auc_roc", "vus_pr", "vus_roc")


@st.composite
def cases(draw: st.DrawFn, *, most: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A label with both kinds of rows, and a score with ties."""
    label = draw(st.lists(st.booleans(), min_size=2, max_size=most))
    label[draw(st.integers(0, len(label) - 1))] = True
    if all(label):
        label[draw(st.integers(0, len(label) - 1))] = False
    score = draw(st.lists(st.integers(-4, 4), min_size=len(label), max_size=len(label)))
    return np.array(label), np.array(score, np.float64)


def series(seed: int, rows: int = 240, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.zeros(rows, bool)
    for start in rng.integers(0, rows - 20, 3):
        label[start : start + rng.integers(1, 20)] = True
    return label, rng.normal(size=rows) + strength * label


@settings(deadline=None)  # the first call imports scikit-learn
@given(cases())
def test_auc_pr_is_that_of_scikit_learn(case: tuple[np.ndarray, np.ndarray]) -> None:
    from sklearn.metrics import average_precision_score

    assert auc_pr(*case) == pytest.approx(average_precision_score(*case), abs=1e-12)


def test_auc_pr_golden() -> None:
    label = np.array([1, 0, 1, 0], bool)
    assert auc_pr(label, np.array([4.0, 3, 2, 1])) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert auc_pr(label, np.array([1.0, 1, 1, 1])) == 0.5  # constant: the share of anomalies
    # a tie of one right and one wrong row above the rest enters at once
    assert auc_pr(label, np.array([2.0, 2, 1, 0])) == pytest.approx(0.5 * 0.5 + 0.5 * 2 / 3)
    # NaN ranks below everything: the anomalous row without a score is found last, at 2 of 4
    assert auc_pr(label, np.array([4.0, 3, np.nan, 1])) == pytest.approx(0.5 + 0.5 * 2 / 4)


@given(cases())
def test_ranking_looks_at_ranks_alone(case: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = case
    assert auc_pr(label, np.exp(score)) == pytest.approx(auc_pr(label, score), abs=1e-12)
    before, after = (surface(label, one, buffer=6) for one in (score, 3.0 + np.exp(score)))
    assert before == after
    assert 0.0 < auc_pr(label, score) <= 1.0
    assert all(0.0 <= before[name] <= 1.0 + 1e-12 for name in RANGES)


def by_definition(label: np.ndarray, score: np.ndarray, buffer: int) -> tuple[float, float]:
    """R-AUC from the formulas, row by row and threshold by threshold; every score a threshold."""
    rows = len(label)
    soft = [float(one) for one in label]
    ends = [t for t in range(rows) if label[t] and (t + 1 == rows or not label[t + 1])]
    starts = [t for t in range(rows) if label[t] and (t == 0 or not label[t - 1])]
    for t in range(rows):
        if buffer > 1:
            soft[t] += sum(math.sqrt(1 - (t - e) / buffer) for e in ends if 0 < t - e < buffer // 2)
            soft[t] += sum(
                math.sqrt(1 - (s - t) / buffer) for s in starts if 0 < s - t <= buffer // 2
            )
        soft[t] = min(soft[t], 1.0)
    groups: list[list[int]] = []
    for t in range(rows):
        if soft[t] > 0:
            if t == 0 or soft[t - 1] == 0:
                groups.append([])
            groups[-1].append(t)
    positives = (sum(label) + sum(soft)) / 2
    curve = [(0.0, 0.0, 1.0)]  # recall, false positive rate, precision
    for level in sorted(set(score.tolist()), reverse=True):
        alarm = [value >= level for value in score.tolist()]
        true = sum(y for y, a in zip(soft, alarm, strict=True) if a)
        met = sum(any(alarm[t] for t in group) for group in groups) / len(groups)
        false = (sum(alarm) - true) / (rows - positives)
        curve.append((min(true / positives, 1) * met, min(false, 1), true / sum(alarm)))
    pairs = list(itertools.pairwise(curve))
    area = sum((b[0] - a[0]) * (a[2] + b[2]) / 2 for a, b in pairs)
    roc = [*pairs, (curve[-1], (1.0, 1.0, 0.0))]
    return area, sum((b[1] - a[1]) * (a[0] + b[0]) / 2 for a, b in roc)


@pytest.mark.parametrize("buffer", [0, 1, 2, 7, 40])
def test_range_areas_are_those_of_the_definition(buffer: int) -> None:
    for seed in range(5):
        label, score = series(seed, rows=200)  # fewer than 250 rows: every score is a threshold
        found = surface(label, score, buffer=buffer)
        ours = found["r_auc_pr"], found["r_auc_roc"]
        assert ours == pytest.approx(by_definition(label, score, buffer), abs=1e-12)


def test_volumes_are_the_mean_over_all_buffers() -> None:
    label, score = series(3)
    areas = np.array([by_definition(label, score, buffer) for buffer in range(13)])
    found = surface(label, score, buffer=12)
    assert found["vus_pr"] == pytest.approx(areas[:, 0].mean(), abs=1e-12)
    assert found["vus_roc"] == pytest.approx(areas[:, 1].mean(), abs=1e-12)
    assert (found["r_auc_pr"], found["r_auc_roc"]) == pytest.approx(areas[-1], abs=1e-12)
    assert vus_pr(label, score, buffer=12) == found["vus_pr"]
    assert r_auc_pr(label, score, buffer=12) == found["r_auc_pr"]


@pytest.mark.parametrize("rows", [20, 240, 900])
def test_range_areas_are_those_of_aeon(rows: int) -> None:
    aeon = pytest.importorskip("aeon.benchmarking.metrics.anomaly_detection", reason="no aeon")
    for seed in range(8):
        label, score = series(seed, rows=max(rows, 21))
        score = np.round(score, seed % 3)  # some with ties
        for buffer in (0, 1, 5, 100):
            found = surface(label, score, buffer=buffer)
            ranks = (len(label) - 1 - _places(label, score, 0)).astype(float)  # ties in our order
            theirs = aeon.range_pr_roc_auc_support(
                label.astype(int), ranks, buffer_size=buffer, skip_check=True
            )
            assert (found["r_auc_pr"], found["r_auc_roc"]) == pytest.approx(theirs, abs=1e-12)


def test_volumes_are_those_of_aeon_where_nothing_ties() -> None:
    aeon = pytest.importorskip("aeon.benchmarking.metrics.anomaly_detection", reason="no aeon")
    label, score = series(5, rows=700)
    found = surface(label, score, buffer=20)
    number = label.astype(int)
    assert found["vus_pr"] == pytest.approx(aeon.range_pr_vus_score(number, score, 20), abs=1e-12)
    assert found["vus_roc"] == pytest.approx(aeon.range_roc_vus_score(number, score, 20), abs=1e-12)


def test_a_constant_score_is_worth_a_random_one_and_so_is_no_score() -> None:
    label = np.zeros(4000, bool)
    label[1000:1200] = True
    for score in (np.ones(4000), np.full(4000, np.nan)):
        areas = surface(label, score, buffer=0)
        assert areas["vus_pr"] == pytest.approx(0.05, abs=0.02)
        assert areas["vus_roc"] == pytest.approx(0.5, abs=0.05)
    one_right = np.zeros(4000)
    one_right[1000] = 1.0  # a trapezoid across the tie would give about one half
    assert surface(label, one_right, buffer=0)["vus_pr"] < 0.12


def test_the_order_of_ties_hangs_on_the_seed_alone() -> None:
    label, score = series(1)
    tied = np.round(score)
    assert surface(label, tied, seed=1) == surface(label, tied, seed=1)
    assert surface(label, tied, seed=1) != surface(label, tied, seed=2)
    assert surface(label, score, seed=1) == surface(label, score, seed=2)


def test_a_perfect_ranking_is_worth_one() -> None:
    label, _ = series(2)
    score = label + np.random.default_rng(0).random(len(label)) / 2
    assert auc_pr(label, score) == 1.0
    areas = surface(label, score, buffer=0)
    assert areas["vus_roc"] == pytest.approx(1.0, abs=0.02)
    assert areas["vus_pr"] == pytest.approx(1.0, abs=0.02)


@settings(max_examples=20)
@given(cases(most=30))
def test_raising_an_anomalous_row_never_lowers_auc_pr(case: tuple[np.ndarray, np.ndarray]) -> None:
    label, score = case
    raised = score.copy()
    raised[np.flatnonzero(label)[0]] = 9.0
    assert auc_pr(label, raised) >= auc_pr(label, score) - 1e-12


@pytest.mark.parametrize("metric", [auc_pr, r_auc_pr, surface])
def test_labels_that_mean_nothing_are_refused(metric: object) -> None:
    with pytest.raises(DataError, match="marks no anomaly"):
        metric(np.zeros(5, bool), np.ones(5))
    with pytest.raises(DataError, match=r"\(5,\).*\(4,\)"):
        metric(np.ones(5, bool), np.ones(4))


def test_a_label_of_anomalies_alone_has_no_roc() -> None:
    with pytest.raises(DataError, match="every row"):
        surface(np.ones(5, bool), np.ones(5))
