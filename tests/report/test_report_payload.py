"""The page's numbers: what goes in comes out, within half a step."""

import base64
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion.report.payload import (
    BLOCK,
    COARSE,
    FINE,
    MISSING,
    packed,
    packed_timeline,
    quantise,
    restore,
    thinning,
)

SANE = st.floats(-1e300, 1e300).filter(lambda value: value == 0 or abs(value) > 1e-280)
VALUES = st.one_of(SANE, st.just(np.nan), st.floats(-5, 5).map(lambda value: round(value, 3)))


def unpacked(text: str) -> list[np.ndarray]:
    """What page/decode.js does, in Python."""
    raw = gzip.decompress(base64.b64decode(text))
    rows, count = np.frombuffer(raw, "<u4", 2).tolist()
    blocks = -(-rows // BLOCK)
    ends = np.frombuffer(raw, "<f8", 2 * blocks * count, 8).reshape(count, 2, blocks)
    planes = np.frombuffer(raw, np.uint8, offset=8 + 16 * blocks * count).reshape(count, 2, rows)
    series = []
    for (low, step), (high_byte, low_byte) in zip(ends, planes, strict=True):
        change = high_byte.astype(np.int64) * 256 + low_byte
        codes = (np.cumsum(change) % 65536).astype(np.uint16)
        series.append(restore(codes, low, step))
    return series


@settings(max_examples=150, deadline=None)
@given(arrays(np.float64, st.integers(1, 60), elements=VALUES), st.sampled_from([FINE, COARSE]))
def test_a_value_comes_back_within_half_a_step_and_missing_stays_missing(values, levels):
    # stretched over several blocks, so that each has its own range
    values = np.resize(values, len(values) * 40)
    codes, low, step = quantise(values, levels)
    back = restore(codes, low, step)
    known = np.isfinite(values)
    assert np.array_equal(codes == MISSING, ~known)
    assert np.array_equal(np.isnan(back), ~known)
    block = np.arange(len(values)) // BLOCK
    size = np.maximum(np.abs(low), np.abs(low + step * levels))[block]
    bound = step[block] / 2 * (1 + 1e-6) + size * 1e-14
    assert (np.abs(back - values) <= bound)[known].all()
    for one in np.unique(block):
        inside = values[(block == one) & known]
        if len(inside):
            reach = inside.max() / levels - inside.min() / levels
            assert step[one] == pytest.approx(reach)


def test_a_spike_costs_detail_in_its_own_block_only():
    values = np.sin(np.arange(4 * BLOCK) / 9)
    values[BLOCK + 3] = 1e9
    error = np.abs(restore(*quantise(values)) - values)
    assert error[:BLOCK].max() < 1e-4
    assert error[2 * BLOCK :].max() < 1e-4


def test_infinite_and_empty_blocks_are_missing():
    values = np.full(BLOCK + 2, np.nan)
    values[-1] = np.inf
    codes, low, step = quantise(values)
    assert (codes == MISSING).all()
    assert not low.any()
    assert not step.any()


def test_a_blob_holds_every_series_of_a_channel():
    rng = np.random.default_rng(0)
    seen, expected = (rng.normal(size=2500).cumsum() for _ in range(2))
    seen[100:300] = np.nan
    lower, upper = expected - rng.random(2500), expected + 0.5
    back = unpacked(packed(seen, expected, lower, upper))
    for name, values, restored in (
        ("seen", seen, back[0]),
        ("expected", expected, back[1]),
        ("lower", lower, back[1] - back[2]),
        ("upper", upper, back[1] + back[3]),
    ):
        reach = np.nanmax(values) - np.nanmin(values)
        np.testing.assert_allclose(restored, values, atol=2 * reach / COARSE, err_msg=name)


def test_a_band_of_constant_width_costs_next_to_nothing():
    rng = np.random.default_rng(0)
    expected = (5e9 + 1e8 * rng.normal(size=20_000)).astype(np.float32)
    flat = packed(expected, expected, expected - np.float32(3e7), expected + np.float32(3e7))
    assert len(flat) < 1.1 * len(packed(expected, expected, expected, expected))


def test_grain_bounds_the_detail_that_is_kept():
    codes, low, step = quantise(np.array([1.0, 1.0001, 1.9]), COARSE, 0.5)
    assert step.tolist() == [0.5]
    assert restore(codes, low, step).tolist() == [1.0, 1.0, 2.0]


def test_the_same_numbers_make_the_same_text():
    score = np.linspace(0, 3, 50)
    x = np.arange(50) * 0.5
    assert packed_timeline(x, score) == packed_timeline(x.copy(), score.copy())


def test_a_timeline_keeps_irregular_times_and_missing_scores():
    x = np.concatenate([np.arange(100) * 0.5, 4000 + np.arange(50) * 0.5])
    score = np.linspace(0, 40, 150)
    score[7] = np.nan
    raw = gzip.decompress(base64.b64decode(packed_timeline(x, score)))
    assert np.frombuffer(raw, "<u4", 1).item() == 150
    np.testing.assert_allclose(np.cumsum(np.frombuffer(raw, "<f8", 150, 8)), x)
    np.testing.assert_allclose(np.frombuffer(raw, "<f4", 150, 8 + 1200), score, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(300, 4000),
    st.integers(200, 1000),
    st.lists(st.tuples(st.integers(0, 280), st.integers(1, 20)), max_size=4),
)
def test_thinning_keeps_every_extreme_in_about_the_budget(rows, budget, where):
    events = [(start, start + length) for start, length in where]
    plan = thinning(rows, budget, events)
    values = np.random.default_rng(rows).normal(size=rows)
    values[rows // 2] = 99.0
    shown = plan.extremes(values)
    positions = plan.positions()
    assert len(shown) == len(positions) == len(plan.lowest(values)) == len(plan.highest(values))
    assert (np.diff(positions) > 0).all()
    assert shown.max() == 99.0
    assert shown.min() == values.min()
    assert np.isin(shown, values).all()
    assert (plan.lowest(values) <= plan.highest(values)).all()
    if rows <= budget:
        assert plan.coarsest == 1
        assert np.array_equal(shown, values)
    else:
        assert len(shown) <= budget * 1.2 + 4 * len(events) + 4


def test_rows_of_an_event_are_not_thinned():
    plan = thinning(100_000, 10_000, [(50_000, 50_100)])
    assert plan.coarsest > 1
    assert set(range(50_000, 50_100)) <= set(plan.positions().tolist())


def test_a_bucket_without_a_value_stays_missing():
    plan = thinning(1000, 100, [])
    shown = plan.extremes(np.full(1000, np.nan))
    assert np.isnan(shown).all()
