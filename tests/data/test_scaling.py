"""Scaling and compression: golden numbers and round trips."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion.data.scaling import Scaler, compress, expand


def seen(values: np.ndarray) -> np.ndarray:
    return ~np.isnan(values)


def test_golden() -> None:
    values = np.array([[1.0, 10.0], [3.0, np.nan], [5.0, 30.0]])
    zscore = Scaler.fit(values, seen(values), kind="zscore")
    assert zscore.centre.tolist() == [3.0, 20.0]
    assert zscore.scale.tolist() == pytest.approx([(8 / 3) ** 0.5, 10.0])
    minmax = Scaler.fit(values, seen(values), kind="minmax", factor=20.0)
    out = minmax.forward(values)
    assert out[:, 0].tolist() == [0.0, 10.0, 20.0]
    assert np.isnan(out[1, 1])
    assert out[[0, 2], 1].tolist() == [0.0, 20.0]


def test_channels_that_never_move_have_a_finite_scale() -> None:
    values = np.array([[0.0, 7.0, np.nan, 1e9], [0.0, 7.0, np.nan, 1e9 + 1e-7]])
    scaler = Scaler.fit(values, seen(values), kind="zscore")
    assert scaler.scale.tolist() == [1.0, 7.0, 1.0, 1e9]
    assert scaler.known.tolist() == [True, True, False, True]
    later = scaler.forward(np.array([[1.0, 14.0, 3.0, 2e9]]))
    assert later.tolist() == [[1.0, 1.0, 3.0, 1.0]]


@given(
    arrays(np.float64, (12, 3), elements=st.floats(-1e6, 1e6)),
    st.sampled_from(["zscore", "minmax", "robust"]),
    st.sampled_from([1.0, 20.0]),
)
def test_backward_undoes_forward(values: np.ndarray, kind: str, factor: float) -> None:
    scaler = Scaler.fit(values, seen(values), kind=kind, factor=factor)
    back = scaler.backward(scaler.forward(values))
    room = 1e-5 * (np.abs(values).max(axis=0) + scaler.scale)
    assert (np.abs(back - values) <= room).all()


def test_robust_is_zscore_of_values_cut_to_the_usual_range() -> None:
    # 0 to 1000: the .1 % and 99.9 % quantiles are 1 and 999.
    values = np.arange(1001.0)[:, None]
    robust = Scaler.fit(values, seen(values), kind="robust")
    cut = np.clip(values, 1.0, 999.0)
    assert robust.centre.tolist() == pytest.approx([500.0])
    assert robust.scale.tolist() == pytest.approx([cut.std()])
    plain = Scaler.fit(cut, seen(cut), kind="zscore")
    assert robust.scale.tolist() == pytest.approx(plain.scale.tolist())


@given(st.floats(-1e30, 1e30), st.integers(0, 99))
def test_one_value_moves_robust_centre_and_scale_little(value: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(5.0, 2.0, (2000, 1))
    before = Scaler.fit(values, seen(values), kind="robust")
    values[seed] = value
    after = Scaler.fit(values, seen(values), kind="robust")
    assert abs(after.centre - before.centre)[0] < 0.02
    assert after.scale[0] == pytest.approx(before.scale[0], rel=0.02)


def test_robust_where_nearly_all_values_are_alike() -> None:
    """Quantiles that coincide are no range: all values count."""
    values = np.zeros((5000, 2))
    values[7] = 4.0
    values[:, 1] += 1e9
    robust = Scaler.fit(values, seen(values), kind="robust")
    assert robust.scale.tolist() == pytest.approx([values[:, 0].std()] * 2)
    still = Scaler.fit(np.full((50, 1), 7.0), np.ones((50, 1), bool), kind="robust")
    assert (still.centre.tolist(), still.scale.tolist()) == ([7.0], [7.0])


def test_robust_reads_observed_values_alone() -> None:
    values = np.arange(1001.0)[:, None]
    gaps = np.insert(values, [10, 500], 1e12, axis=0)
    one = Scaler.fit(values, seen(values), kind="robust")
    two = Scaler.fit(gaps, gaps < 1e11, kind="robust")
    assert (one.centre, one.scale) == (two.centre, two.scale)
    none = Scaler.fit(values, np.zeros(values.shape, bool), kind="robust")
    assert (none.centre.tolist(), none.scale.tolist(), none.known.tolist()) == ([0], [1], [False])


@given(arrays(np.float32, 40, elements=st.floats(-1e5, 1e5, width=32)), st.sampled_from([1.0, 3.0]))
def test_expand_undoes_compress(values: np.ndarray, limit: float) -> None:
    small = compress(values, limit)
    assert (np.abs(small) <= np.abs(values) + 1e-6).all()
    assert (np.sign(small) == np.sign(values)).all()
    assert np.allclose(expand(small, limit, np.inf), values, rtol=2e-4, atol=1e-5)


def test_compress_golden() -> None:
    out = compress(np.array([0.5, 3.0, -4.0, 3.0 + np.e - 1], np.float32), 3.0)
    assert out.tolist() == pytest.approx([0.5, 3.0, -3.0 - np.log(2.0), 4.0])
    assert compress(np.array([9.0], np.float32), 0.0).tolist() == [9.0]


def test_expand_stops_at_the_ceiling() -> None:
    out = expand(np.array([[90.0, -90.0]], np.float32), 3.0, np.array([4.0, 2.0], np.float32))
    assert out[0].tolist() == pytest.approx([3.0 + np.e - 1, -3.0])
