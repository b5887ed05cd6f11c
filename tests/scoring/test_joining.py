"""Channels and views as one score: what is heard, what cannot shout, what a promise comes to"""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.scoring import joining
from imdiffusion.scoring.joining import RATES, Join, PromiseTable, dense, sparse

quick = settings(max_examples=40, deadline=None)
RULE = "quantile"


def normal(seed, rows=4000, views=2):
    """Scores of views and sparse evidence as normal rows have them."""
    rng = np.random.default_rng(seed)
    return rng.exponential(size=(rows, views)), rng.exponential(size=rows)


def fitted(weight=(1.0, 1.0, 0.25), seed=0, **more):
    return Join.fit(*normal(seed, views=len(weight) - 1, **more), np.array(weight), rule=RULE)


# -- channels


def test_golden_joins_over_channels():
    rows = np.array([[1.0, 1.0, 4.0], [0.0, 0.0, 3.0]], np.float32)
    assert dense(rows).tolist() == pytest.approx([2.0, 1.0])
    # (1 + 1 + 4^8) / 3 = 65538 / 3 = 21846, whose eighth root is 3.486755.
    assert sparse(rows).tolist() == pytest.approx([3.486755, 3.0 / 3 ** (1 / 8)], rel=1e-5)
    assert dense(rows).dtype == sparse(rows).dtype == np.float64
    assert dense(rows[None]).shape == (1, 2)


@quick
@given(st.integers(1, 700), st.floats(1e-3, 40), st.integers(0, 99))
def test_sparse_lies_between_the_mean_and_the_largest(channels, size, seed):
    row = np.random.default_rng(seed).exponential(size=channels)
    row[0] = size
    assert dense(row) <= sparse(row) * (1 + 1e-9)
    assert sparse(row) <= row.max() * (1 + 1e-9)
    # However many there are, one channel keeps this much of what it says.
    assert sparse(row) >= row.max() / channels ** (1 / 8) * (1 - 1e-9)


@pytest.mark.parametrize("channels", [3, 30, 600])
def test_what_clean_rows_score_does_not_grow_with_channels(channels):
    rng = np.random.default_rng(0)
    normal_rows, fresh = rng.exponential(size=(2, 3000, channels))
    # Bounded, whatever the number: E[e^8] = 8! of an exponential, and 8!^(1/8) = 3.764.
    assert np.median(sparse(fresh)) < 3.8
    join = Join.fit(dense(normal_rows)[:, None], sparse(normal_rows), np.ones(2), rule=RULE)
    faulty = fresh[:40].copy()
    faulty[:, -1] = 25.0
    clean, lifted = (
        join.score(dense(rows)[:, None], sparse(rows), 0.02) for rows in (fresh, faulty)
    )
    assert 0.004 < (clean > 1).mean() < 0.02
    assert clean.max() < 1.4
    assert (lifted > 1).all()


def test_a_channel_without_a_value_pulls_neither_way():
    assert dense(np.ones(5)) == sparse(np.ones(5)) == 1.0


# -- promises


def test_a_promise_table_is_exact_at_quantiles():
    scores = np.random.default_rng(0).permutation(np.arange(1.0, 10_001.0))
    table = PromiseTable.fit(scores, RULE)
    assert table.thresholds.shape == RATES.shape
    for place in (0, 3, 10, 20):
        assert table.at(RATES[place]) == np.quantile(scores, 1 - RATES[place], method="higher")
    for rate in (0.3, 0.05, 0.011, 0.002):
        assert (scores > table.at(rate)).mean() == pytest.approx(rate, rel=0.05)
    assert table.at(1e-12) == table.at(1e-9) == 10_000.0
    assert table.at(0.9) == table.at(0.5)


@quick
@given(
    st.lists(st.one_of(st.floats(0, 1e6), st.just(np.nan)), min_size=1, max_size=80),
    st.floats(1e-10, 0.9),
    st.floats(1, 100),
    st.sampled_from(["quantile", "pot"]),
)
def test_a_rarer_promise_has_no_lower_threshold(scores, rate, rarer, rule):
    scores = np.array([*scores, 1.0])
    table = PromiseTable.fit(scores, rule)
    assert (np.diff(table.thresholds) >= 0).all()
    assert table.at(rate / rarer) >= table.at(rate)


# -- views


def test_the_join_by_hand():
    neutral = PromiseTable(np.ones(len(RATES)))
    join = Join(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 0.5]), neutral, neutral)
    views, evidence = np.array([[1.0, 6.0]]), np.array([12.0])
    logs = np.log([2.0, 4.0, 4.0])
    assert join.join(views, evidence)[0] == pytest.approx(logs @ [1, 2, 0.5] / 3.5)
    assert join.shares(views, evidence)[0].tolist() == pytest.approx(logs * [1, 2, 0.5] / 3.5)
    # Less than nothing is nothing.
    assert join.join(np.array([[-5.0, 0.0]]), np.array([-1.0]))[0] == 0.0


def test_units_are_what_one_in_a_hundred_normal_rows_exceeds():
    views, evidence = normal(3)
    views[:7] = np.nan
    join = Join.fit(views, evidence, np.array([1, 1, 0.5]), rule=RULE)
    wanted = [np.quantile(views[7:, 0], 0.99), np.quantile(views[7:, 1], 0.99),
              np.quantile(evidence, 0.99)]  # fmt: skip
    assert join.unit.tolist() == pytest.approx(wanted)
    blank = Join.fit(np.full((9, 1), np.nan), np.ones(9), np.ones(2), rule=RULE)
    assert blank.unit.tolist() == [1.0, 1.0]
    still = Join.fit(np.zeros((9, 1)), np.ones(9), np.ones(2), rule=RULE)
    assert (still.unit > 0).all()


@quick
@given(st.floats(1, 1e12), st.floats(1, 1e3))
def test_a_view_that_shouts_alone_moves_the_join_by_its_log_only(loud, more):
    join = fitted()
    quiet = np.array([[0.0, 0.0]])
    shout = np.array([[loud * join.unit[0], 0.0]])
    louder = shout * more
    none = np.zeros(1)
    one, two = join.join(shout, none)[0], join.join(louder, none)[0]
    assert join.join(quiet, none)[0] == 0.0
    assert one == pytest.approx(np.log1p(loud) / 2.25)
    assert two - one <= np.log(more) / 2.25 + 1e-9


def test_a_view_without_a_score_has_no_say():
    join = fitted()
    views = np.array([[3.0, np.nan], [np.nan, np.nan]])
    evidence = np.array([2.0, np.nan])
    found = join.join(views, evidence)
    same = np.array([3.0, 2.0]) / join.unit[[0, 2]]
    assert found[0] == pytest.approx(np.log1p(same) @ [1, 0.25] / 1.25)
    assert found[1] == 0.0
    assert join.shares(views, evidence)[0, 1] == 0.0
    assert np.isfinite(join.score(views, evidence, 0.01)).all()


@quick
@given(st.integers(0, 99), st.integers(0, 2), st.floats(0, 50))
def test_more_evidence_never_lowers_a_score(seed, which, more):
    join = fitted()
    views, evidence = normal(seed, rows=20)
    before = join.score(views, evidence, 0.01)
    if which < 2:
        views[:, which] += more
    else:
        evidence = evidence + more
    assert (join.score(views, evidence, 0.01) >= before - 1e-12).all()


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.002])
def test_normal_rows_exceed_one_no_more_often_than_promised(rate):
    join = Join.fit(*normal(0, rows=20_000), np.array([1, 1, 0.25]), rule=RULE)
    score = join.score(*normal(1, rows=50_000), rate)
    high = (score > 1).mean()
    least = joining.JOINED * rate
    assert 0.8 * least < high < 1.25 * (joining.JOINED + joining.SURE) * rate


def test_the_sparse_test_lifts_a_score_only_where_it_is_sure():
    join = fitted()
    rate = 0.01
    limit = join.alone.at(rate * joining.SURE)
    views = np.zeros((3, 2))
    evidence = limit * np.array([0.999, 1.001, np.e**2])
    score = join.score(views, evidence, rate)
    plain = join.join(views, evidence) / join.threshold(rate)
    assert score[0] == plain[0] < 1
    assert 1 < score[1] < 1.001
    assert score[2] == pytest.approx(max(1 + 2 * joining.LIFT, plain[2]))
    # What is loud already is not lowered to it.
    loud = np.full((1, 2), 1e6)
    assert join.score(loud, evidence[2:], rate)[0] > 2
    assert np.isnan(join.score(loud, np.array([np.nan]), rate)).sum() == 0


def test_scaled_moves_the_thresholds_of_the_join_alone():
    join = fitted()
    twice = join.scaled(2.0)
    assert twice.threshold(0.01) == 2 * join.threshold(0.01)
    assert twice.alone is join.alone
    views, evidence = normal(5, rows=30)
    assert np.array_equal(twice.join(views, evidence), join.join(views, evidence))


def test_saved_and_read_it_is_the_same_to_the_last_bit():
    join = fitted(seed=4)
    stream = io.BytesIO()
    np.savez(stream, **join.to_dict("join_online"))
    stream.seek(0)
    with np.load(stream) as facts:
        same = Join.from_dict(facts, "join_online")
    views, evidence = normal(6, rows=500)
    for rate in (0.1, 1e-3, 1e-7):
        assert np.array_equal(join.score(views, evidence, rate), same.score(views, evidence, rate))
    assert set(join.to_dict("a")) == {"a_unit", "a_weight", "a_joined", "a_alone"}
