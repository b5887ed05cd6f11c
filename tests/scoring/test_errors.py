"""Residuals to errors: means over time, drift taken away, units of normal, all by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imdiffusion import presets, registry
from imdiffusion.scoring.error import (
    ErrorConfig,
    ErrorView,
    NormalScale,
    evidence,
    last_errors,
    residual_of,
    scored,
    smoothed_errors,
)
from imdiffusion.scoring.smoothing import (
    EVERY,
    KNOTS,
    RECENT_QUANTILE,
    RECENT_ROWS,
    CentredMean,
    RecentQuantile,
    centred_mean,
)
from imdiffusion.scoring.units import fit_units, needs_trained_rows, recipe_of

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


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=8), st.sampled_from(["absolute", "squared"]))
def test_smoothed_errors_are_those_of_the_whole_series(cuts: list[int], kind: str) -> None:
    residual = np.random.default_rng(0).normal(size=(61, 2, 3)).astype(np.float32)
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 61]), 0, 61))
    pieces = [residual[a:b] for a, b in itertools.pairwise(edges)]
    recipe = ErrorConfig(detrend=(0, 5, 12), smooth=(1, 4), kind=kind)
    out = np.concatenate(list(smoothed_errors(pieces, recipe)))
    assert out.shape == (61, 3, 2, 2, 3)
    power = 2 if kind == "squared" else 1
    for w, width in enumerate(recipe.detrend):
        left = residual - slow(residual, width) if width else residual
        error = np.abs(left) ** power
        assert out[:, w, 0] == pytest.approx(error, rel=1e-4, abs=1e-5)
        assert out[:, w, 1] == pytest.approx(slow(error, 4), rel=1e-4, abs=1e-5)


@given(
    st.integers(1, 40),
    st.lists(st.sampled_from([0, 1, 3, 10, 25]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([1, 2, 7, 30]), min_size=1, max_size=3, unique=True),
    st.sampled_from(["absolute", "squared"]),
    st.sampled_from([0.0, 0.3]),
)
def test_the_last_errors_are_those_of_the_whole_series(
    rows: int, detrend: list[int], smooth: list[int], kind: str, holes: float
) -> None:
    random = np.random.default_rng(rows)
    residual = random.normal(size=(rows, 2, 3)).astype(np.float32)
    residual[random.random(residual.shape) < holes] = np.nan
    recipe = ErrorConfig(detrend=tuple(detrend), smooth=tuple(smooth), kind=kind)
    whole = np.concatenate(list(smoothed_errors([residual], recipe)))
    assert np.array_equal(last_errors(residual, recipe), whole[-1], equal_nan=True)


def test_what_drifts_slowly_is_no_error_and_what_jumps_is() -> None:
    ramp = np.linspace(0, 50, 400, dtype=np.float32)[:, None, None]
    recipe = ErrorConfig(detrend=(20,), kind="squared")
    out = np.concatenate(list(smoothed_errors([ramp], recipe)))
    assert out[20:-20].max() < 0.01
    ramp[200:] += 5
    out = np.concatenate(list(smoothed_errors([ramp], recipe)))
    assert out[200].item() > 4


def test_a_series_that_never_comes_gives_no_error() -> None:
    assert list(smoothed_errors([], ErrorConfig(detrend=(5,), smooth=(3,)))) == []


def test_evidence_is_a_mean_over_widths_of_logarithms() -> None:
    errors = f32([[[[4.0]], [[8.0]]]])  # one row, one width of the slow part, two of the mean
    scale = f32([[2.0], [4.0]])
    assert evidence(errors, scale, ErrorView(), log_gain=0.0).item() == 2.0
    logged = evidence(errors, scale, ErrorView(), log_gain=0.5).item()
    assert logged == pytest.approx(np.log(2.0))


def test_a_view_looks_at_its_own_widths_alone() -> None:
    errors = f32([[[[4.0]]], [[[8.0]]]])  # one row, two widths of the slow part
    for widths, expected in (((0,), 4.0), ((1,), 8.0), ((0, 1), 6.0)):
        view = ErrorView(widths=widths)
        assert evidence(errors, np.ones((2, 1, 1), np.float32), view, log_gain=0.0) == expected


def units(scale: np.ndarray, *high: float, past: float = 0.0) -> NormalScale:
    return NormalScale(scale, f32(*high), np.full((len(high), KNOTS), past, np.float32))


def test_of_several_views_the_largest_in_its_own_unit_counts() -> None:
    errors = f32([1.0, 2.0], [6.0, NAN], [NAN, NAN])[:, None, None, None, :]
    scale = np.stack([np.ones((1, 1, 2)), np.full((1, 1, 2), 4.0)]).astype(np.float32)
    recipe = ErrorConfig(views=(ErrorView(), ErrorView()), reduce="mean")
    ((joined, parts),) = scored([errors], units(scale, 2.0, 0.25), recipe)
    # first view: error / 2; second: error / 4 / .25 = error
    assert joined[:2, 0].tolist() == [1.5, 6.0]
    assert parts[0, 0].tolist() == [1.0, 2.0]
    assert np.isnan(joined[2, 0])


def test_a_unit_that_follows_the_past_rises_and_falls_with_it() -> None:
    series = np.ones((3 * RECENT_ROWS, 1, 1, 1, 1), np.float32)
    series[RECENT_ROWS : 2 * RECENT_ROWS] = 8.0
    recipe = ErrorConfig(views=(ErrorView(recent=True),))
    ((joined, _),) = scored(
        [series], units(np.ones((1, 1, 1, 1), np.float32), 2.0, past=1.0), recipe
    )
    score = joined[:, 0]
    assert (score[:RECENT_ROWS] == 0.5).all()  # never below the unit of the held-out rows
    assert score[RECENT_ROWS] == 4.0
    assert score[2 * RECENT_ROWS - 1] == 1.0
    assert score[-1] == 0.5


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=12))
def test_the_recent_past_hangs_on_rows_and_not_on_runs(cuts: list[int]) -> None:
    rng = np.random.default_rng(4)
    series = rng.exponential(size=(2600, 2)).astype(np.float32)
    series[rng.random(series.shape) < 0.1] = NAN
    series[:2200, 1] = NAN
    knots = np.linspace(0, 3, KNOTS, dtype=np.float32)
    (whole, pieces) = RecentQuantile(knots), RecentQuantile(knots)
    expected = whole.push(series)
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 2600]), 0, 2600))
    out = [pieces.push(series[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(out), expected)


def test_the_recent_past_by_hand() -> None:
    knots = np.linspace(0, 1, KNOTS, dtype=np.float32)
    series = np.random.default_rng(6).exponential(size=(2 * RECENT_ROWS, 1)).astype(np.float32)
    out = RecentQuantile(knots).push(series)
    assert out[:EVERY, 0] == pytest.approx(RECENT_QUANTILE, abs=1e-3)
    assert out[EVERY, 0] != out[0, 0]
    last = series[-EVERY - RECENT_ROWS : -EVERY]
    lift = RECENT_QUANTILE / 0.5  # of evenly spread normal rows
    assert out[-1, 0] == pytest.approx(lift * np.median(last), rel=1e-3)
    fault = np.where(np.arange(len(series)) % 3 == 0, 1e3, series[:, 0])[:, None]
    faulty = RecentQuantile(knots).push(fault.astype(np.float32))
    assert faulty[-1, 0] < 2.5 * out[-1, 0]  # a third of the past is at fault, and hardly counts
    silent = RecentQuantile(knots).push(np.full((3 * RECENT_ROWS, 1), NAN))
    assert np.isfinite(silent).all()  # nothing new is known, so what was known stands


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
        found = registry.load("error_scales", rule).size(errors, 8, lambda times: 0.01 * times)
        assert found.shape == (1, 1, 3)
        return found[0, 0].tolist()

    assert size("none") == [1.0, 1.0, 1.0]
    trained = (15 + 40) / 16
    # the floor for the second channel, the median of the known two for the third
    assert size("holdout") == pytest.approx([3.0, 0.01, (3 + 1e-9) / 2])
    for rule in ("spread", "level"):
        assert size(rule) == pytest.approx([(trained + 3) / 2, 0.04, (trained + 3) / 4])
    assert size("peak") == pytest.approx([40.0, 0.01, 20.0])


def test_spread_without_a_trained_or_held_part_is_that_of_the_other() -> None:
    errors = normal_errors()
    rule = registry.load("error_scales", "spread")
    mean = np.nanmean(errors[..., 0])
    for split in (0, 12):
        assert rule.size(errors, split, lambda times: 0.0)[0, 0, 0] == pytest.approx(mean)


def test_units_of_views_are_high_held_out_rows() -> None:
    rng = np.random.default_rng(1)
    errors = rng.exponential(size=(4000, 1, 1, 1, 2)).astype(np.float32)
    one = fit_units(errors, 1000, ErrorConfig(views=(ErrorView("spread"),)), unit=1.0)
    assert one.view.tolist() == [1.0]
    recipe = ErrorConfig(
        views=(ErrorView("spread"), ErrorView("peak")), kind="squared", reduce="mean"
    )
    two = fit_units(errors, 1000, recipe, unit=1.0)
    alone = NormalScale(two.scale[:1], two.view[:1], two.recent[:1])
    ((joined, _),) = scored(
        [errors[1000:]], alone, ErrorConfig(views=recipe.views[:1], reduce="mean")
    )
    assert (joined > 1).mean() == pytest.approx(0.1, abs=0.002)
    past = np.quantile(joined * two.view[0], np.linspace(0, 1, KNOTS))
    assert two.recent[0] == pytest.approx(past, rel=1e-4)


def test_a_view_of_the_last_step_leaves_the_others_to_the_rest() -> None:
    rng = np.random.default_rng(2)
    errors = rng.exponential(size=(400, 1, 1, 2, 3)).astype(np.float32)
    views = (ErrorView("spread", reads="but_last"), ErrorView("tie", reads="last"))
    recipe = ErrorConfig(views=views, kind="squared", reduce="mean")
    units = fit_units(errors, 300, recipe, unit=1.0)
    ((joined, parts),) = scored([errors], units, recipe)
    # Two thirds of the largest normal row, trained rows too, are what the last step is held to.
    assert joined[:, 1].max() == pytest.approx(1.5, rel=1e-5)
    assert (joined[300:, 0] > 1).mean() == pytest.approx(0.1, abs=0.011)
    first = errors[:, 0, 0, 0] / units.scale[0, 0, 0]
    assert joined[:, 0] == pytest.approx(first.mean(axis=1) / units.view[0], rel=1e-5)
    assert parts.shape == (400, 2, 3)
    ((alone, _),) = scored([errors[:, :, :, 1:]], units, recipe)  # a single step: all look at it
    assert alone.shape == (400, 1)


def test_floors_are_in_standard_deviations_of_a_channel() -> None:
    errors = np.zeros((10, 1, 1, 1, 1), np.float32)
    found = [
        fit_units(
            errors, 5, ErrorConfig(views=(ErrorView("holdout"),), kind=kind), unit=20.0
        ).scale.item()
        for kind in ("absolute", "squared")
    ]
    assert found == pytest.approx([0.05 * 20, (0.05 * 20) ** 2])


def test_every_view_has_its_floor_in_the_same_units() -> None:
    errors = np.full((20, 1, 1, 2, 2), 1e-9, np.float32)
    names = ("spread", "peak", "level", "tie")
    recipe = ErrorConfig(views=tuple(ErrorView(name, recent=name == "level") for name in names))
    found = fit_units(errors, 15, recipe, unit=1.0)
    assert found.scale[:, 0, 0, 0] == pytest.approx([0.2, 0.05, 0.2, 0.2])
    ((joined, parts),) = scored([errors], found, recipe)
    assert np.isfinite(joined).all()
    assert np.isfinite(parts).all()


def test_a_recipe_has_the_views_that_the_settings_name() -> None:
    paper = recipe_of(presets.preset("paper"))
    assert paper == ErrorConfig()
    assert not needs_trained_rows(paper)
    asked = presets.resolve("fast", {"error_scale": ("spread", "level"), "detrend": (10, 30)})
    recipe = recipe_of(asked)
    assert recipe.detrend == (10, 30, 0)
    assert recipe.views == (ErrorView("spread", (0, 1)), ErrorView("level", (2,), recent=True))
    assert needs_trained_rows(recipe)
    ties = recipe_of(presets.preset("fast")).views
    assert [(view.rule, view.reads) for view in ties] == [
        ("spread", "but_last"),
        ("peak", "but_last"),
        ("level", "but_last"),
        ("tie", "last"),
    ]
    own = presets.resolve("fast", {"error_scale": ("holdout", "level"), "detrend": (0, 30)})
    assert recipe_of(own).views == (
        ErrorView("holdout", (0, 1)),
        ErrorView("level", (0,), recent=True),
    )
