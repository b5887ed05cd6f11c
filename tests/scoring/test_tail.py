"""Evidence: minus the logarithm of a tail probability, alike for every channel"""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.scoring.tail import EMPIRICAL, KNOTS, LEVELS, TailLaws

KINDS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "uniform": lambda rng, n: rng.uniform(-1, 1, size=n),
}


def fitted(columns, least=0.01):
    return TailLaws.fit(np.stack(columns, axis=1).astype(np.float32), least=least)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("size", [0.1, 30.0])
def test_of_fresh_normal_rows_the_mean_is_one(kind, size):
    rng = np.random.default_rng(0)
    laws = fitted([size * KINDS[kind](rng, 20_000)], least=0.001)
    evidence = laws.evidence((size * KINDS[kind](rng, 20_000)).astype(np.float32)[:, None])
    assert evidence.mean() == pytest.approx(1.0, abs=0.05)
    # And not the mean alone: e^-1 and e^-3 of all rows lie beyond 1 and 3.
    assert (evidence > 1).mean() == pytest.approx(np.exp(-1), abs=0.015)
    assert (evidence > 3).mean() == pytest.approx(np.exp(-3), abs=0.01)


def test_golden_numbers():
    """Residuals 0.001 to 1, all alike often: |r| = q has the evidence -log(1 - q)."""
    column = np.arange(1, 100_001) / 100_000
    laws = fitted([column * np.where(np.arange(100_000) % 2, 1, -1)], least=1e-4)
    asked = np.array([0.0, 0.5, -0.5, 0.9, 0.98], np.float32)[:, None]
    found = laws.evidence(asked)[:, 0]
    wanted = [0.0, np.log(2), np.log(2), np.log(10), np.log(50)]
    assert found.tolist() == pytest.approx(wanted, abs=0.005)
    # The tail beyond .98 is on average .01 longer than that: 1 more for each .01.
    assert laws.excess[0] == pytest.approx(0.01, rel=0.01)
    far = laws.evidence(np.array([[1.0], [1.18]], np.float32))[:, 0]
    assert far.tolist() == pytest.approx([np.log(50) + 2, np.log(50) + 20], rel=0.01)
    assert laws.size.shape == (KNOTS, 1)
    assert LEVELS[-1] == pytest.approx(-np.log(1 - EMPIRICAL))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60),
    st.lists(st.floats(0, 1e5, width=32), min_size=2, max_size=20),
)
def test_larger_residuals_are_never_less_evidence(seen, asked):
    laws = fitted([np.array(seen)])
    sizes = np.sort(np.array(asked, np.float32))
    found = laws.evidence(sizes[:, None])[:, 0]
    assert (np.diff(found) >= 0).all()
    assert (found >= 0).all()
    assert np.array_equal(found, laws.evidence(-sizes[:, None])[:, 0])


def test_residuals_that_are_often_exactly_alike_are_no_evidence():
    rng = np.random.default_rng(0)
    column = np.where(rng.random(5000) < 0.7, 0.0, rng.normal(size=5000))
    laws = fitted([column])
    found = laws.evidence(np.array([[0.0], [1e-4], [0.5], [4.0]], np.float32))[:, 0]
    assert found[0] == 0.0
    # Beyond what 70 % of the rows are, a residual has the evidence of the other 30 %.
    assert found[2] == pytest.approx(-np.log(0.3 * 0.617), abs=0.1)  # 2 P(N > .5) = .617
    assert found[3] > 6
    evidence = laws.evidence(column.astype(np.float32)[:, None])
    assert evidence.mean() < 1


def test_a_channel_whose_residuals_are_all_zero_speaks_in_units_of_the_least():
    laws = fitted([np.zeros(500)], least=0.05)
    found = laws.evidence(np.array([[0.0], [0.05 * 0.3], [1.0]], np.float32))[:, 0]
    assert found[0] == 0.0
    assert np.isfinite(found).all()
    assert found[1] < 6 < found[2]


def test_missing_values_stay_missing_and_teach_nothing():
    rng = np.random.default_rng(0)
    column = rng.normal(size=999)
    gaps = np.insert(column, 500, np.full(300, np.nan))
    one, two = fitted([column]), fitted([gaps])
    assert np.array_equal(one.size, two.size)
    assert np.array_equal(one.excess, two.excess)
    found = one.evidence(np.array([[np.nan], [1.0]], np.float32))[:, 0]
    assert np.isnan(found[0])
    assert found[1] > 0


def test_without_any_residual_the_least_is_the_unit_of_all():
    laws = fitted([np.full(9, np.nan), np.arange(9.0)], least=0.2)
    found = laws.evidence(np.array([[0.2, 0.0], [1.0, 0.0], [40.0, 0.0]], np.float32))[:, 0]
    assert found.tolist() == pytest.approx([1.0, 5.0, 200.0], rel=1e-4)
    assert TailLaws.fit(np.empty((0, 2), np.float32), least=0.2).size.shape == (KNOTS, 2)


def test_no_tail_is_shorter_than_a_residual_that_does_not_matter():
    laws = fitted([np.full(400, 3.0)], least=0.05)
    assert laws.excess[0] == pytest.approx(0.3 * 0.05)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.98, 0.995, 0.9999])
def test_evidence_is_that_of_the_share_of_normal_rows_below(share):
    """By the laws themselves: a normal residual is below 1.6449 in 90 % of rows, and so on."""
    rng = np.random.default_rng(1)
    laws = fitted([rng.normal(size=200_000), 5 * rng.laplace(size=200_000)])
    size = [NormalDist().inv_cdf((1 + share) / 2), -5 * np.log1p(-share)]
    found = laws.evidence(np.array([size], np.float32))[0]
    # Beyond the last knot the tail is exponential: of a normal law, whose tail is shorter, it says
    # less than the law does, never more.
    wanted = -np.log1p(-share)
    assert found[1] == pytest.approx(wanted, rel=0.03, abs=0.01)
    if share <= EMPIRICAL:
        assert found[0] == pytest.approx(wanted, rel=0.03, abs=0.01)
    else:
        assert LEVELS[-1] < found[0] < wanted


def test_channels_do_not_know_of_one_another():
    rng = np.random.default_rng(2)
    columns = [rng.normal(size=300), rng.exponential(size=300)]
    both = fitted(columns)
    for place, column in enumerate(columns):
        alone = fitted([column])
        assert np.array_equal(alone.size[:, 0], both.size[:, place])
        assert alone.excess[0] == both.excess[place]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=60),
    st.lists(st.floats(-2e3, 2e3, width=32) | st.just(float("nan")), min_size=9, max_size=30),
    st.booleans(),
)
def test_a_row_alone_is_told_what_it_is_told_among_many(seen, asked, at_knots):
    laws = fitted([np.array(seen), np.arange(len(seen)) % 3])
    rows = np.repeat(np.array(asked, np.float32)[:, None], 2, axis=1)
    if at_knots:
        rows = np.concatenate([laws.size, rows])
    whole = laws.evidence(rows)
    alone = np.concatenate([laws.evidence(row[None]) for row in rows])
    assert np.array_equal(whole, alone, equal_nan=True)
