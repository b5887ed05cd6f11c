"""The series of behaviours: what is wrong is wrong where it is said to be, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.errors import ConfigError
from imdiffusion.schema import pairs_of
from imdiffusion_bench.behaviours import SCENARIOS, SystemDials, make_series
from imdiffusion_bench.behaviours.system import batch_rows, hours, season, weekend

SMALL = SystemDials(channels=5, period_s=1800, rows_train=400, rows_test=480, length=12)
FAULTY = [name for name in SCENARIOS if name != "clean"]


def on_grid(series):
    """The test part on the whole grid, NaN where rows were left out."""
    values = np.full(series.normal.shape, np.nan)
    values[series.positions] = series.test.values
    return values


def marked(series):
    """Rows and channels that are said to be at fault: bool (T, K)."""
    found = np.zeros(series.normal.shape, bool)
    for fault in series.faults:
        found[fault.start : fault.end, sorted(fault.channels)] = True
    return found


def differs(a, b):
    return ~((a == b) | (np.isnan(a) & np.isnan(b)))


@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.3]))
def test_only_the_named_channels_differ_and_only_inside_the_fault(name, seed, missing):
    series = make_series(name, replace(SMALL, missing=missing), seed=seed)
    values, at = on_grid(series), marked(series)
    if name == "counter_reset":  # what it counts from then on is the same
        (fault,) = series.faults
        for k in fault.channels:
            later = values[fault.start :, k] - series.normal[fault.start :, k]
            known = later[~np.isnan(later)]
            assert np.ptp(known) < 1e-6
            assert known[0] < 0
            values[fault.end :, k] = series.normal[fault.end :, k]
    assert not differs(values, series.normal)[~at].any()
    assert bool(series.faults) == (name != "clean")
    if missing == 0.0:
        for fault in series.faults:
            assert fault.channels
            for k in fault.channels:
                assert differs(values, series.normal)[fault.start : fault.end, k].any()


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_seed_has_the_same_bits_and_another_one_has_not(name):
    one, same, other = (make_series(name, SMALL, seed=seed) for seed in (3, 3, 4))
    for part in ("train", "test"):
        a, b, c = (getattr(series, part).values for series in (one, same, other))
        assert a.tobytes() == b.tobytes()
        assert a.shape == c.shape or name == "missing_rows"
        assert a[:300].tobytes() != c[:300].tobytes()
    assert one.faults == same.faults


@pytest.mark.parametrize("channels", [1, 300])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_has_one_channel_or_300_or_says_why_not(name, channels):
    dials = SystemDials(channels=channels, period_s=1800, rows_train=110, rows_test=480)
    needs_two = {"constant_left", "swapped", "lag", "coupling_broken"}
    if channels == 1 and name in needs_two:
        with pytest.raises(ConfigError, match="cannot exist"):
            make_series(name, dials)
        return
    series = make_series(name, dials)
    assert series.train.values.shape == (110, channels)
    assert np.isfinite(series.train.values).all()
    assert all(fault.channels <= set(range(channels)) for fault in series.faults)


def test_scenarios_of_a_seed_share_their_training_but_for_what_is_wrong_with_it():
    plain = make_series("clean", SMALL).train.values
    for name in ("spike", "silent", "missing_rows", "batch_early", "two_faults_in_a_row"):
        assert make_series(name, SMALL).train.values.tobytes() == plain.tobytes()
    dirty = differs(make_series("contamination", SMALL).train.values, plain)
    assert 0.01 <= dirty.any(axis=1).mean() <= 0.03
    for seed, value in ((0, -9999.0), (1, 1e12)):
        series = make_series("absurd_training_value", SMALL, seed=seed)
        changed = differs(series.train.values, make_series("clean", SMALL, seed=seed).train.values)
        assert series.train.values[changed].tolist() == [value]
        assert set(np.flatnonzero(changed.any(axis=0))) == set(series.faults[0].channels)


def test_training_and_test_are_two_draws_one_after_the_other():
    series = make_series("clean", SMALL)
    step = np.timedelta64(1800, "s")
    assert series.times[0] - series.train.timestamps[-1] == step
    assert not np.array_equal(series.train.values[:100], series.test.values[:100])


def test_scenarios_do_what_their_names_say():
    for name, told in {
        "spike": lambda s, f, k: f.end - f.start == 3,
        "frozen": lambda s, f, k: np.ptp(s.test.values[f.start : f.end, k]) == 0,
        "silent": lambda s, f, k: np.isnan(s.test.values[f.start : f.end, k]).all(),
        "constant_left": lambda s, f, k: (s.test.values[f.start : f.end, k] == 0.05).all(),
        "counter_reset": lambda s, f, k: s.test.values[f.start, k] == 0,
    }.items():
        series = make_series(name, SMALL)
        (fault,) = series.faults
        (k,) = fault.channels
        assert told(series, fault, k), name
    assert len(make_series("missing_rows", SMALL).test.values) == SMALL.rows_test - SMALL.length
    assert (make_series("constant_left", SMALL).train.values[:, -1] == 0).all()
    first, second = make_series("two_faults_in_a_row", SMALL).faults
    assert second.start - first.start == 50
    assert not first.channels & second.channels
    unit = make_series("unit_change", SMALL)
    (fault,), (k,) = unit.faults, unit.faults[0].channels
    ratio = unit.test.values[fault.start : fault.end, k] / unit.normal[fault.start : fault.end, k]
    assert ratio == pytest.approx(1000.0)


def test_faults_of_the_calendar_lie_at_their_times():
    for seed in range(5):
        (saturday,) = make_series("weekend_as_weekday", SMALL, seed=seed).faults
        series = make_series("batch_early", SMALL, seed=seed)
        times = series.times
        assert weekend(times[saturday.start : saturday.end]).all()
        (early,) = series.faults
        assert hours(times[early.start : early.start + 1])[0] == 0.5
        assert hours(times[early.end : early.end + 1])[0] == 3.0  # a row every half hour
        (missing,) = make_series("season_missing", SMALL, seed=seed).faults
        assert hours(times[missing.start : missing.start + 1])[0] == 9
        assert not weekend(times[missing.start : missing.end]).any()


def test_the_season_is_standardised_over_its_week_and_quiet_on_weekends():
    week = np.datetime64("2026-03-02", "ns") + np.arange(7 * 288) * np.timedelta64(300, "s")
    for rhythm in ("daily", "weekly"):
        found = season(week, rhythm)
        assert (found.mean(), found.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    off = weekend(week)
    assert off.sum() == 2 * 288
    weekly = season(week, "weekly")
    assert weekly[off].max() < weekly[~off].max() - 1
    workday = season(week, "weekly", workday=True)
    assert workday[off] == pytest.approx(workday[~off][: off.sum()])
    assert not season(week, "none").any()
    assert batch_rows(week, 45).sum() == 7 * 9


def test_coupling_and_noise_are_what_the_dials_say():
    dials = {"channels": 4, "rows_train": 20_000, "season": "none", "batch_minutes": 0}
    tied = make_series("clean", SystemDials(**dials, coupling=1.0, noise=0.0, slow_share=0.0))
    loose = make_series("clean", SystemDials(**dials, coupling=0.0, noise=0.0, slow_share=0.0))
    assert abs(np.corrcoef(tied.train.values[:, [0, 1]].T)[0, 1]) == pytest.approx(1.0)
    assert abs(np.corrcoef(loose.train.values[:, [0, 1]].T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanels=3", "channels"),
        ("channels=301", "from 1 to 300"),
        ("channels=3,channels=4", "comes twice"),
        ("channels", "no name=value pair"),
    ],
)
def test_wrong_dials_are_refused_by_name(text, message):
    with pytest.raises(ConfigError, match=message):
        SystemDials.from_texts(pairs_of(text))


@pytest.mark.parametrize(
    ("name", "dials", "message"),
    [
        ("frozn", "", "frozen"),
        ("season_missing", "season=none", "no season"),
        ("weekend_as_weekday", "season=daily", "weekends are like weekdays"),
        ("batch_long", "batch_minutes=0", "nightly batch"),
        ("lag", "coupling=0", "follows the load"),
        ("drift", "rows_test=100", "does not fit"),
        ("weekend_as_weekday", "rows_test=300", "rows_test higher"),
    ],
)
def test_what_cannot_exist_says_why(name, dials, message):
    with pytest.raises(ConfigError, match=message):
        make_series(name, SystemDials.from_texts(pairs_of(dials)))


def test_spelling_and_reading_dials_go_both_ways():
    assert SystemDials.from_texts(pairs_of(SMALL.spelled())) == SMALL
