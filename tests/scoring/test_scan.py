"""Scans over windows against loops that follow the definition"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.scoring.scan import ScanUnits, largest_ahead, trailing_means

quick = settings(max_examples=40, deadline=None)
WIDTHS = (1, 2, 4, 8)


def means_by_loops(rows, widths):
    found = np.full((len(rows), len(widths), *rows.shape[1:]), np.nan)
    for t in range(len(rows)):
        for place, width in enumerate(widths):
            if t >= width - 1:
                found[t, place] = rows[t - width + 1 : t + 1].sum(axis=0) / width
    return found


def units(seed, widths, channels):
    rng = np.random.default_rng(seed)
    shape = (len(widths), channels)
    return ScanUnits(widths, rng.normal(size=shape), *(rng.uniform(0.5, 2, (2, *shape))))


@quick
@given(st.integers(0, 30), st.sampled_from([(1,), (1, 2, 4, 8), (4,), (2, 16)]), st.integers(0, 99))
def test_trailing_means_are_those_of_loops(total, widths, seed):
    rows = np.random.default_rng(seed).normal(size=(total, 2))
    found = trailing_means(rows, widths)
    assert found.shape == (total, len(widths), 2)
    assert np.allclose(found, means_by_loops(rows, widths), equal_nan=True)


@quick
@given(
    st.lists(st.one_of(st.floats(-9, 9), st.just(np.nan)), max_size=30),
    st.sampled_from([1, 2, 4, 8, 16]),
)
def test_largest_ahead_is_that_of_loops(values, width):
    rows = np.array(values, float)
    wanted = [max((v for v in values[t : t + width] if v == v), default=np.nan)
              for t in range(len(values))]  # fmt: skip
    assert np.array_equal(largest_ahead(rows, width), np.array(wanted, float), equal_nan=True)


@quick
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 99))
def test_offline_is_the_largest_over_all_windows_that_contain_a_row(total, asked, seed):
    asked = min(asked, total)
    scan = units(seed, WIDTHS, 2)
    rows = np.random.default_rng(seed).normal(size=(total, 2))
    found = scan.offline_scores(trailing_means(rows, WIDTHS), asked)
    assert found.shape == (asked, 2)
    for t in range(asked):
        best = np.full(2, -np.inf)
        for place, width in enumerate(WIDTHS):
            for end in range(max(t, width - 1), min(t + width, total)):
                mean = rows[end - width + 1 : end + 1].sum(axis=0) / width
                unit = (mean - scan.median[place]) / scan.offline[place]
                best = np.maximum(best, unit)
        assert np.allclose(found[t], best)


@quick
@given(st.integers(1, 40), st.integers(0, 99))
def test_online_it_is_the_largest_over_the_windows_that_end_with_a_row(total, seed):
    scan = units(seed, WIDTHS, 2)
    rows = np.random.default_rng(seed).normal(size=(total, 2))
    found = scan.online_scores(trailing_means(rows, WIDTHS))
    by_loops = (means_by_loops(rows, WIDTHS) - scan.median) / scan.online
    assert np.allclose(found, np.nanmax(by_loops, axis=1))


@quick
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(0, 99))
def test_pieces_are_the_whole_to_the_last_bit(sizes, seed):
    """Each piece with the widest window less one row of what came before it."""
    total, back = sum(sizes), max(WIDTHS) - 1
    rows = np.random.default_rng(seed).normal(size=(total, 3)).astype(np.float32)
    whole, done, pieces = trailing_means(rows, WIDTHS), 0, []
    for size in sizes:
        start = max(0, done - back)
        pieces.append(trailing_means(rows[start : done + size], WIDTHS)[done - start :])
        done += size
    # A row is told by windows that it has the rows for, in a piece as in the whole.
    assert np.array_equal(np.concatenate(pieces), whole, equal_nan=True)


def test_units_are_the_median_and_what_few_normal_rows_exceed():
    rng = np.random.default_rng(0)
    rows = rng.exponential(size=(3000, 2)) * [1.0, 10.0]
    means = trailing_means(rows, WIDTHS)
    scan = ScanUnits.fit(means, WIDTHS)
    for place, width in enumerate(WIDTHS):
        known = means[width - 1 :, place]
        ahead = np.stack([means[max(t, width - 1) : t + width, place].max(axis=0)
                          for t in range(3000)])  # fmt: skip
        middle = np.median(known, axis=0)
        assert np.allclose(scan.median[place], middle)
        assert np.allclose(scan.online[place], np.quantile(known, 0.99, axis=0) - middle)
        assert np.allclose(scan.offline[place], np.quantile(ahead, 0.99, axis=0) - middle)
        high = ((known - middle) / scan.online[place] > 1).mean(axis=0)
        assert np.allclose(high, 0.01, atol=0.001)
    rarer = ScanUnits.fit(means, WIDTHS, quantile=0.999)
    assert (rarer.online > scan.online).all()
    assert (scan.offline[1:] > scan.online[1:]).all()  # the largest of several is larger


def test_rows_that_are_all_alike_have_a_unit():
    scan = ScanUnits.fit(trailing_means(np.full((50, 1), 2.0), WIDTHS), WIDTHS)
    assert np.allclose(scan.median, 2.0)
    assert (scan.online == 1e-6).all()
    assert (scan.offline == 1e-6).all()


@pytest.mark.parametrize("total", [0, 1, 3, 5])
def test_fewer_rows_than_a_width(total):
    rows = np.random.default_rng(0).normal(size=(total, 2))
    means = trailing_means(rows, WIDTHS)
    scan = ScanUnits.fit(means, WIDTHS)
    for place, width in enumerate(WIDTHS):
        if total < (3 * width - 1 if width > 1 else 1):  # room for fewer than two windows
            assert (scan.median[place] == 0).all()
            assert np.isinf(scan.online[place]).all()
    online, offline = scan.online_scores(means), scan.offline_scores(means, total)
    assert online.shape == offline.shape == (total, 2)
    assert np.isfinite(online).all()
    assert np.isfinite(offline).all()


def test_a_step_is_found_with_its_edges():
    """Rows 100 to 119 are 3 higher: offline loud inside, quiet a width before and after."""
    rng = np.random.default_rng(3)
    scan = ScanUnits.fit(trailing_means(rng.normal(size=(4000, 1)), WIDTHS), WIDTHS)
    rows = rng.normal(size=(220, 1))
    rows[100:120] += 3.0
    score = scan.offline_scores(trailing_means(rows, WIDTHS), 220)[:, 0]
    assert (score[100:120] > 1.2).all()
    assert (score[:92] < 1.2).all()
    assert (score[128:] < 1.2).all()
