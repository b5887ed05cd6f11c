"""Residuals to errors: means over time, drift taken away, units of normal, all by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion import registry
from imdiffusion.scoring.error import (
    Recipe,
    Units,
    evidence,
    residual_of,
    scored,
    smoothed_errors,
)
from imdiffusion.scoring.smoothing import CentredMean, centred_mean
from imdiffusion.scoring.units import fit_units, needs_trained_rows

NAN = np.float32(np.nan)


def f32(*rows: object) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


@given(
    arrays(np.float32, (37, 2), elements=st.floats(0, 100, width=32) | st.just(NAN)),
    st.integers(1, 12),
    st.lists(st.integers(1, 20), max_size=6),
)
def test_centred_mean_is_the_same_in_pieces(
    series: np.ndarray, width: int, cuts: list[int]
) -> None:
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 37]), 0, 37))
    pieces = [series[a:b] for a, b in itertools.pairwise(edges)]
    out = np.concatenate(list(centred_mean(pieces, width)))
    before, after = width // 2, width - 1 - width // 2
    for row in range(37):
        for k in range(2):
            around = series[max(0, row - before) : row + after + 1, k]
            if np.isnan(series[row, k]):
                assert np.isnan(out[row, k])
            else:
                assert out[row, k] == pytest.approx(np.nanmean(around), rel=1e-4, abs=1e-4)


def test_centred_mean_forgets_a_huge_value() -> None:
    series_ = np.ones((100, 1), np.float32)
    series_[20] = 1e20
    out = np.concatenate(list(centred_mean([series_], 10)))
    assert out[40:].tolist() == [[1.0]] * 60


def test_means_that_wait_hold_no_more_than_two_widths() -> None:
    mean = CentredMean(20)
    for _ in range(50):
        mean.push(np.zeros((10, 2), np.float32))
    assert mean._held is not None
    assert len(mean._held) <= 40


def test_residual_is_seen_less_estimate_where_it_was_hidden() -> None:
    seen, estimate = f32([1, 2, 3]), f32([[2, 2, 7], [0, 0, 0]])
    residual = residual_of(seen, estimate, np.array([[True, True, False]]))
    assert residual[0, :, :2].tolist() == [[-1.0, 0.0], [1.0, 2.0]]
    assert np.isnan(residual[0, :, 2]).all()


def slow(values: np.ndarray, width: int) -> np.ndarray:
    """The centred mean, written out."""
    before, after = width // 2, width - 1 - width // 2
    rows = [
        np.nanmean(values[max(0, t - before) : t + after + 1], axis=0) for t in range(len(values))
    ]
    return np.stack(rows)


@given(st.lists(st.integers(1, 30), max_size=8), st.sampled_from(["absolute", "squared"]))
def test_smoothed_errors_are_those_of_the_whole_series(cuts: list[int], kind: str) -> None:
    residual = np.random.default_rng(0).normal(size=(61, 2, 3)).astype(np.float32)
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 61]), 0, 61))
    pieces = [residual[a:b] for a, b in itertools.pairwise(edges)]
    recipe = Recipe(detrend=(0, 5, 12), smooth=(1, 4), kind=kind)
    out = np.concatenate(list(smoothed_errors(pieces, recipe)))
    assert out.shape == (61, 3, 2, 2, 3)
    power = 2 if kind == "squared" else 1
    for w, width in enumerate(recipe.detrend):
        left = residual - slow(residual, width) if width else residual
        error = np.abs(left) ** power
        assert out[:, w, 0] == pytest.approx(error, rel=1e-4, abs=1e-5)
        assert out[:, w, 1] == pytest.approx(slow(error, 4), rel=1e-4, abs=1e-5)


def test_what_drifts_slowly_is_no_error_and_what_jumps_is() -> None:
    ramp = np.linspace(0, 50, 400, dtype=np.float32)[:, None, None]
    recipe = Recipe(detrend=(20,), kind="squared")
    out = np.concatenate(list(smoothed_errors([ramp], recipe)))
    assert out[20:-20].max() < 0.01
    ramp[200:] += 5
    out = np.concatenate(list(smoothed_errors([ramp], recipe)))
    assert out[200].item() > 4


def test_a_series_that_never_comes_gives_no_error() -> None:
    assert list(smoothed_errors([], Recipe(detrend=(5,), smooth=(3,)))) == []


def test_evidence_is_a_mean_over_widths_of_logarithms() -> None:
    errors = f32([[[[4.0]], [[8.0]]]])  # one row, one width of the slow part, two of the mean
    scale = f32([[2.0], [4.0]])
    assert evidence(errors, scale, Recipe()).item() == 2.0
    logged = evidence(errors, scale, Recipe(log_gain=0.5)).item()
    assert logged == pytest.approx(np.log(2.0))


def test_of_several_views_the_largest_in_its_own_unit_counts() -> None:
    errors = f32([1.0, 2.0], [6.0, NAN], [NAN, NAN])[:, None, None, None, :]
    scale = np.stack([np.ones((1, 1, 2)), np.full((1, 1, 2), 4.0)]).astype(np.float32)
    ((joined, parts),) = scored([errors], Units(scale, f32(2.0, 0.25)), Recipe(reduce="mean"))
    # first view: error / 2; second: error / 4 / .25 = error
    assert joined[:2, 0].tolist() == [1.5, 6.0]
    assert parts[0, 0].tolist() == [1.0, 2.0]
    assert np.isnan(joined[2, 0])


def normal_errors() -> np.ndarray:
    """(12, 1, 1, 2, 3): two steps, three channels, the last of them never measured."""
    errors = np.full((12, 1, 1, 2, 3), np.nan, np.float32)
    errors[:8, ..., 0], errors[8:, ..., 0] = 1.0, 3.0
    errors[..., 1] = 1e-9
    errors[3, 0, 0, 1, 0] = 40.0
    return errors


def test_rules_of_scale_by_hand() -> None:
    errors = normal_errors()

    def size(rule: str) -> list[float]:
        found = registry.load("error_scales", rule)(errors, 8, lambda times: 0.01 * times)
        assert found.shape == (1, 1, 3)
        return found[0, 0].tolist()

    assert size("none") == [1.0, 1.0, 1.0]
    trained = (15 + 40) / 16
    # the floor for the second channel, the median of the known two for the third
    assert size("holdout") == pytest.approx([3.0, 0.01, (3 + 1e-9) / 2])
    assert size("spread") == pytest.approx([(trained + 3) / 2, 0.04, (trained + 3) / 4])
    assert size("peak") == pytest.approx([40.0, 0.01, 20.0])


def test_spread_without_a_trained_or_held_part_is_that_of_the_other() -> None:
    errors = normal_errors()
    rule = registry.load("error_scales", "spread")
    for split in (0, 12):
        assert rule(errors, split, lambda times: 0.0)[0, 0, 0] == pytest.approx(
            np.nanmean(errors[..., 0])
        )


def test_units_of_views_are_high_held_out_rows() -> None:
    rng = np.random.default_rng(1)
    errors = rng.exponential(size=(4000, 1, 1, 1, 2)).astype(np.float32)
    recipe = Recipe(kind="squared", reduce="mean")
    one = fit_units(errors, 1000, recipe, rules=("spread",), unit=1.0)
    assert one.view.tolist() == [1.0]
    two = fit_units(errors, 1000, recipe, rules=("spread", "peak"), unit=1.0)
    for rows, expected in ((errors[1000:], 0.01), (errors[1000:] * 0, 0.0)):
        ((joined, _),) = scored([rows], Units(two.scale[:1], two.view[:1]), recipe)
        assert (joined > 1).mean() == pytest.approx(expected, abs=0.002)


def test_floors_are_in_standard_deviations_of_a_channel() -> None:
    errors = np.zeros((10, 1, 1, 1, 1), np.float32)
    found = [
        fit_units(errors, 5, Recipe(kind=kind), rules=("holdout",), unit=20.0).scale.item()
        for kind in ("absolute", "squared")
    ]
    assert found == pytest.approx([0.05 * 20, (0.05 * 20) ** 2])


def test_which_rules_look_at_trained_rows() -> None:
    assert [needs_trained_rows((rule,)) for rule in ("none", "holdout", "spread", "peak")] == [
        *(False, False),
        *(True, True),
    ]
