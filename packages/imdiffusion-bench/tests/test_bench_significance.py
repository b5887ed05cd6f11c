"""Tests between variants, against published values, scipy and every sign counted one by one."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from imdiffusion.errors import DataError
from imdiffusion_bench.significance import (
    compare,
    critical_difference,
    fewest_entities,
    friedman,
    holm,
    signed_rank_p,
)

# Demšar 2006, table 5 (a): two-tailed Nemenyi test at 5 %, by number of classifiers.
DEMSAR_Q = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 10: 3.164}
# Demšar 2006, table 6: AUC of C4.5 with m = 0, cf = 0, cf and m, on 14 data sets.
DEMSAR_AUC = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
DEMSAR_NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]


@pytest.mark.parametrize(("variants", "q"), DEMSAR_Q.items())
def test_the_critical_difference_has_the_published_q(variants, q):
    entities = 10
    found = critical_difference(variants, entities)
    assert found == pytest.approx(q * (variants * (variants + 1) / 60) ** 0.5, abs=2e-3)


def test_four_variants_on_fourteen_sets_have_demsars_critical_difference():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_demsars_example_gives_his_ranks_and_statistic():
    found = compare(DEMSAR_NAMES, DEMSAR_AUC)
    ranks = [found.mean_ranks[name] for name in DEMSAR_NAMES]
    assert ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # his chi-square, 9.28, is not corrected for ties; ours is, by 1 - sum(t^3 - t) / N(k^3 - k)
    tied = 1 - (60 + 6 * 3) / (14 * 60)
    assert found.friedman[0] * tied == pytest.approx(9.28, abs=0.01)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


def by_all_signs(differences):
    """P of a rank sum at least as far from its middle, over every choice of signs."""
    kept = differences[differences != 0]
    sizes = stats.rankdata(np.abs(kept))
    sums = [sum(c) for c in itertools.product(*((0.0, r) for r in sizes))]
    middle = sizes.sum() / 2
    seen = abs(sizes[kept > 0].sum() - middle)
    return np.mean([abs(one - middle) >= seen - 1e-9 for one in sums])


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_signed_rank_p_is_exact_with_ties_and_zeros(differences):
    array = np.array(differences, float)
    expected = by_all_signs(array) if array.any() else 1.0
    assert signed_rank_p(array) == pytest.approx(expected)


@given(st.integers(0, 2**31), st.integers(6, 40), st.floats(-1, 1))
def test_the_signed_rank_p_is_scipys_where_nothing_ties(seed, size, shift):
    array = np.random.default_rng(seed).normal(shift, 1, size)
    assert signed_rank_p(array) == pytest.approx(stats.wilcoxon(array, method="exact").pvalue)


def test_six_entities_of_one_sign_are_the_fewest_that_reach_five_per_cent():
    assert signed_rank_p(np.arange(1.0, 6)) == pytest.approx(2 / 2**5)
    assert signed_rank_p(np.arange(1.0, 7)) == pytest.approx(2 / 2**6)


def test_holm_by_hand():
    # sorted: .01 x 4, .02 x 3, .03 x 2, .04 x 1, none below the one before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_lies_between_p_and_bonferroni(p):
    for plain, corrected in zip(p, holm(p), strict=True):
        assert plain <= corrected <= min(1, len(p) * plain) + 1e-12


def test_too_few_entities_have_ranks_and_no_p():
    found = compare(["a", "b", "c"], np.array([[0.9, 0.5, 0.5]] * 5))
    assert found.mean_ranks == {"a": 1.0, "b": 2.5, "c": 2.5}
    assert "too few entities" in found.note
    assert "5" in found.note
    assert (found.friedman, found.critical_difference, found.pairs) == (None, None, ())


def test_a_clear_best_differs_from_all_and_equals_do_not():
    noise = np.random.default_rng(3).normal(0, 1e-3, 12)
    values = np.stack([0.9 + noise, 0.5 - noise, 0.5 + noise], 1)
    found = compare(["best", "one", "two"], values)
    assert found.like("best") == frozenset()
    assert found.like("one") == {"two"}
    p = {(pair.first, pair.second): pair.p for pair in found.pairs}
    assert p["best", "one"] == pytest.approx(2 / 2**12)


def test_what_differs_is_judged_after_holm():
    # of 7: a beats b on all, 2 / 2^7, times 3; c lies between them with ranks 1 to 3 against it
    values = np.arange(7)[:, None] + np.array([[9.0, 0.0, 4.0]] * 7)
    values[:3, 2] = values[:3, 0] + [0.1, 0.2, 0.3]
    found = compare(["a", "b", "c"], values)
    p = {(pair.first, pair.second): (pair.p, pair.p_holm) for pair in found.pairs}
    assert p["a", "b"] == (2 / 2**7, 6 / 2**7)
    assert p["a", "c"] == (p["a", "c"][0],) * 2
    assert p["a", "c"][0] > 0.05
    assert found.like("a") == {"c"}


@pytest.mark.parametrize("variants", [2, 3, 6, 12])
def test_a_test_needs_as_many_entities_as_its_smallest_p_asks(variants):
    least = fewest_entities(variants)
    pairs = variants * (variants - 1) / 2
    assert pairs * 2 / 2**least < 0.05 <= pairs * 2 / 2 ** (least - 1)
    names = [f"v{number}" for number in range(variants)]
    clear = np.arange(least)[:, None] / 100 + np.arange(variants)[None]
    assert compare(names, clear).like("v0") == frozenset()
    assert f"at least {least}" in compare(names, clear[1:]).note


def test_lower_is_better_turns_ranks_around():
    values = np.array([[1.0, 2.0]] * 6)
    assert compare(["a", "b"], values).mean_ranks == {"a": 2.0, "b": 1.0}
    assert compare(["a", "b"], values, lower_is_better=True).mean_ranks == {"a": 1.0, "b": 2.0}


def test_variants_that_always_tie_do_not_differ():
    found = compare(["a", "b", "c"], np.ones((8, 3)))
    assert found.friedman == (0.0, 1.0)
    assert {pair.p_holm for pair in found.pairs} == {1.0}
    assert friedman(np.tile([1.0, 2.0, 3.0], (8, 1)))[0] == pytest.approx(16.0)


def test_one_variant_is_compared_with_nothing():
    assert "nothing to compare" in compare(["a"], np.ones((8, 1))).note
    assert compare([], np.ones((0, 0))).note


def test_missing_values_are_refused():
    with pytest.raises(DataError, match="missing"):
        compare(["a", "b"], np.array([[1.0, np.nan]] * 6))
