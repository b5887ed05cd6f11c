"""The calendar profile: what is usual then, where it is switched on, and that it is a function of
the timestamp alone"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.scoring.cycles import DAY, NONE, WEEKDAY, WORKDAY
from imdiffusion.scoring.profile import CalendarProfile

MINUTE = np.timedelta64(1, "m")
MONDAY = np.datetime64("2026-03-02", "ns")


def times(days, *, step=15, first=MONDAY):
    rows = round(days * 1440 / step)
    return first.astype("datetime64[ns]") + np.arange(rows) * (step * MINUTE)


def clock(stamps):
    """Hour of the day, with its fraction, and day of the week, of times in UTC."""
    days = stamps.astype("datetime64[D]")
    return (stamps - days) / np.timedelta64(1, "h"), (days.astype(int) + 3) % 7


def series(stamps, seed, *, batch=True):
    """A load with a noon peak and quiet weekends, a batch from 02:00 to 02:45, plain noise."""
    rng = np.random.default_rng(seed)
    hour, weekday = clock(stamps)
    load = np.where(weekday >= 5, 0.4, 1.0) * (1 - np.cos(2 * np.pi * hour / 24))
    busy = ((hour >= 2) & (hour < 2.75)) * float(batch)
    noise = rng.normal(size=(len(stamps), 3))
    return np.stack([load, 4 * busy, 0 * load], axis=1) + noise * [0.15, 0.3, 1.0]


def fitted(stamps, values, **options):
    return CalendarProfile.fit(stamps, values, np.isfinite(values), **options)


@pytest.fixture(scope="module")
def month():
    stamps = times(28)
    values = series(stamps, 0)
    profile, residual = CalendarProfile.fit_cross_fitted(stamps, values, np.isfinite(values))
    return profile, residual, stamps, values


def test_each_channel_has_the_cycle_that_it_shows(month):
    profile, *_ = month
    assert profile.on.tolist() == [True, True, False]
    assert profile.level.tolist() == [WORKDAY, DAY, NONE]
    assert profile.reason == ""


def test_a_new_fortnight_is_as_expected(month):
    profile, *_ = month
    stamps = times(14, first=np.datetime64("2026-03-30"))
    clean = series(stamps, 1)
    off = np.abs(clean - profile.expected(stamps))
    assert np.median(off[:, 0]) < 0.12  # .10 is the noise alone
    assert np.median(off[:, 1]) < 0.25  # .20
    residual = profile.residual(stamps, clean, np.isfinite(clean))
    assert np.std(residual[:, :2], axis=0) == pytest.approx([1, 1], abs=0.1)
    assert np.isnan(residual[:, 2]).all()


def test_a_weekday_like_a_saturday_and_a_missing_batch_stand_out(month):
    profile, *_ = month
    stamps = times(14, first=np.datetime64("2026-03-30"))
    values, idle = series(stamps, 1), series(stamps, 1, batch=False)
    values[192:288] = series(stamps, 1)[480:576]  # a Wednesday with the load of a Saturday
    values[290:305, 1] = idle[290:305, 1]
    residual = profile.residual(stamps, values, np.isfinite(values))
    assert residual[192:288, 0][32:64].mean() < -5
    assert residual[296:299, 1].max() < -6  # 02:00, 02:15, 02:30
    clean = np.delete(residual, np.r_[192:305], axis=0)[:, :2]
    hour = np.apply_along_axis(lambda x: np.convolve(x, np.ones(4) / 4, "valid"), 0, clean)
    assert np.abs(hour).max() < 2.5


def test_the_edges_of_a_batch_stay_sharp():
    stamps = times(14, step=1)
    rng = np.random.default_rng(0)
    minute = np.round(clock(stamps)[0] * 60)
    busy = (minute >= 127) & (minute < 130)  # 02:07 to 02:10
    values = (8 * busy + rng.normal(0, 1, len(stamps)))[:, None]
    profile = fitted(stamps, values)
    assert profile.level.tolist() == [DAY]
    said = profile.expected(times(1, step=1))[:, 0]
    assert (said[127:130] > 6).all()
    assert np.abs(said[[124, 125, 126, 130, 131, 132]]).max() < 1.0
    assert np.abs(np.r_[said[:120], said[135:]]).max() < 0.5  # no noise is learnt elsewhere


def test_what_is_said_names_the_cycle(month):
    profile, *_ = month
    assert profile.describe(np.datetime64("2026-04-04T12:00")) == "for a Saturday"
    assert profile.describe(np.datetime64("2026-04-04T02:15")) == "for 02:15"
    assert profile.describe(np.datetime64("2026-04-01T12:05")) == "for 12:05"


def test_one_odd_day_and_some_absurd_rows_change_little(month):
    profile, _, stamps, values = month
    rng = np.random.default_rng(5)
    dirty = values.copy()
    dirty[10 * 96 : 11 * 96] = 3.0  # a stuck day
    dirty[rng.random(len(dirty)) < 0.03] = 1e6
    other = fitted(stamps, dirty)
    assert other.on.tolist() == [True, True, False]
    week = times(7)
    assert np.abs(other.expected(week) - profile.expected(week)).max() < 0.6
    assert np.mean(np.abs(other.expected(week) - profile.expected(week))) < 0.05
    assert np.median(other.spread(week) / profile.spread(week), axis=0) == pytest.approx(
        [1, 1, 1], abs=0.2
    )


def test_two_weeks_show_a_week():
    stamps = times(14)
    profile = fitted(stamps, series(stamps, 3))
    assert profile.level.tolist() == [WORKDAY, DAY, NONE]
    assert fitted(times(13), series(times(13), 3)).level.max() == DAY


def test_a_weekday_of_its_own():
    stamps = times(28)
    values = series(stamps, 3)
    values[clock(stamps)[1] == 1, 0] += 3.0  # every Tuesday
    profile = fitted(stamps, values)
    assert profile.level[0] == WEEKDAY
    assert profile.describe(np.datetime64("2026-04-07T20:00")) == "for a Tuesday"


def test_daily_rows_show_a_week():
    stamps = MONDAY + np.arange(70) * np.timedelta64(1, "D")
    values = np.where(clock(stamps)[1] >= 5, -2.0, 0.0)[:, None]
    values = values + np.random.default_rng(0).normal(0, 0.3, values.shape)
    profile = fitted(stamps, values)
    assert profile.level.tolist() == [WORKDAY]
    assert profile.describe(np.datetime64("2026-05-16")) == "for a Saturday"
    assert profile.describe(np.datetime64("2026-05-15")) == "for a Friday"


@pytest.mark.parametrize(
    ("stamps", "reason"),
    [
        (np.zeros(0, "datetime64[ns]"), "there are no rows"),
        (times(1.9), "the rows span 1.9 days, and a time of day shows in 2 at least"),
        (MONDAY + np.arange(5000) * np.timedelta64(1, "s"), "the rows span 0.0579 days"),
        (MONDAY + np.arange(50) * np.timedelta64(7, "D"), "rows are more than a day apart"),
        (times(1 / 96), "the rows span 0 days"),
    ],
)
def test_without_a_full_cycle_it_is_off_and_says_why(stamps, reason):
    values = np.full((len(stamps), 2), 2.0)
    profile, residual = CalendarProfile.fit_cross_fitted(stamps, values, np.isfinite(values))
    assert profile.reason.startswith(reason)
    assert not profile.on.any()
    assert (profile.expected(stamps) == 0).all()
    assert np.isnan(residual).all()
    assert profile.describe(MONDAY) == ""


def test_noise_has_no_cycle():
    for days, tried in ((3, "day"), (14, "day or of week")):
        stamps = times(days)
        profile = fitted(stamps, np.random.default_rng(2).normal(size=(len(stamps), 4)))
        assert not profile.on.any()
        assert profile.reason.endswith(f"does not fall clearly by the time of {tried}")
        assert profile.spread(stamps) == pytest.approx(1, abs=0.2)
        assert np.ptp(profile.spread(stamps), axis=0).max() == 0


def test_slow_courses_without_a_cycle_are_seldom_taken_for_one():
    """A walk over two weeks, forty times: its weekends are not alike, its days go their own way."""
    stamps = times(14)
    walks = np.random.default_rng(4).normal(size=(len(stamps), 40)).cumsum(axis=0)
    walks -= np.median(walks, axis=0)
    walks /= 1.4826 * np.median(np.abs(walks), axis=0)
    assert fitted(stamps, walks).on.sum() <= 4


def test_hard_hours_have_a_unit_of_their_own():
    stamps = times(14)
    hour, _ = clock(stamps)
    rng = np.random.default_rng(1)
    noise = np.where((hour >= 12) & (hour < 13), 1.0, 0.1) * rng.normal(size=len(stamps))
    values = (np.sin(2 * np.pi * hour / 24) + noise)[:, None]
    profile = fitted(stamps, values)
    unit = profile.spread(times(1))[:, 0]
    assert unit[48:52] == pytest.approx(0.8, abs=0.35)
    assert np.delete(unit, np.r_[48:52]) == pytest.approx(0.11, abs=0.05)


def test_a_channel_that_repeats_exactly_has_the_least_unit():
    stamps = times(7)
    values = np.sin(2 * np.pi * clock(stamps)[0] / 24)[:, None]
    profile = fitted(stamps, values)
    assert profile.on.all()
    assert (profile.spread(stamps) == 0.05).all()
    assert np.abs(profile.residual(stamps, values, np.isfinite(values))).max() < 1e-9


def test_cross_fitted_residuals_are_as_wide_as_those_of_new_days():
    stamps, later = times(3), times(140, first=np.datetime64("2026-03-16"))
    later = later[clock(later)[1] < 5]  # what three days from Monday on do not show
    values, new = series(stamps, 6), series(later, 7)
    seen = np.isfinite(values)
    profile, residual = CalendarProfile.fit_cross_fitted(stamps, values, seen)
    own = np.nanstd(profile.residual(stamps, values, seen)[:, 0])
    fresh = np.nanstd(profile.residual(later, new, np.isfinite(new))[:, 0])
    assert np.nanstd(residual[:, 0]) == pytest.approx(fresh, rel=0.1)
    assert own < 0.95 * fresh  # what calibration on the fitted rows would believe


def test_a_day_is_not_measured_against_itself():
    stamps = times(14, step=60)  # one width of slots: nothing but the level to choose
    day = slice(9 * 24, 10 * 24)
    values = series(stamps, 8)[:, :1]
    changed = values.copy()
    changed[day] += 1.0
    said = []
    for given_ in (values, changed):
        profile, residual = CalendarProfile.fit_cross_fitted(stamps, given_, np.isfinite(given_))
        assert profile.level.tolist() == [WORKDAY]
        said.append(given_ - residual * profile.spread(stamps))
    assert said[0][day] == pytest.approx(said[1][day], abs=1e-9)
    assert np.abs(said[0] - said[1]).max() > 0.01  # it speaks of the other days


def test_daylight_saving_moves_what_is_usual_with_the_clock_on_the_wall():
    stamps = times(14, first=np.datetime64("2026-03-09"))  # winter time until 29 March
    there = stamps + np.timedelta64(1, "h")
    values = series(there, 0)
    berlin = fitted(stamps, values, timezone="Europe/Berlin")
    utc = fitted(stamps, values)
    later = times(7, first=np.datetime64("2026-03-30"))  # summer time: two hours
    new = series(later + np.timedelta64(2, "h"), 1)
    seen = np.isfinite(new)
    batch = np.flatnonzero(clock(later + np.timedelta64(2, "h"))[0] == 2.25)
    assert np.abs(berlin.residual(later, new, seen)[batch, 1]).max() < 4
    assert np.abs(utc.residual(later, new, seen)[batch, 1]).min() > 6
    assert berlin.describe(np.datetime64("2026-03-30T00:15")) == "for 02:15"


@pytest.mark.parametrize("first", ["2026-03-16", "2026-10-12"])
def test_training_may_hold_days_of_23_and_25_hours(first):
    """Rows in UTC over the change of the clock in Berlin; the course is that of the wall."""
    stamps = times(21, first=np.datetime64(first))
    change = np.datetime64("2026-03-29T01:00" if first < "2026-06" else "2026-10-25T01:00")
    before, after = (1, 2) if first < "2026-06" else (2, 1)
    shift = np.where(stamps < change, before, after) * np.timedelta64(1, "h")
    values = series(stamps + shift, 0)
    profile = fitted(stamps, values, timezone="Europe/Berlin")
    assert profile.level.tolist() == [WORKDAY, DAY, NONE]
    off = profile.residual(stamps, values, np.isfinite(values))[:, :2]
    assert np.abs(off).mean() < 0.85
    assert np.isfinite(profile.expected(stamps)).all()


def test_holidays_are_days_off_where_a_country_is_named():
    stamps = times(35, first=np.datetime64("2026-04-06"))  # Easter Monday, 1 May
    days = stamps.astype("datetime64[D]")
    feast = np.isin(days, np.array(["2026-04-06", "2026-05-01"], dtype="datetime64[D]"))
    values = series(stamps, 0)
    weekday = clock(stamps)[1]
    saturdays = values[weekday == 5].reshape(-1, 96, 3)
    values[feast] = saturdays[:2].reshape(-1, 3)
    germany = fitted(stamps, values, country="DE")
    ascension = times(1, first=np.datetime64("2026-05-14"))  # a Thursday
    saturday = times(1, first=np.datetime64("2026-05-16"))
    assert germany.expected(ascension)[48, 0] == pytest.approx(
        germany.expected(saturday)[48, 0], abs=0.2
    )
    assert germany.describe(ascension[48]) == "for a holiday (Ascension Day)"
    assert fitted(stamps, values).expected(ascension)[48, 0] > 1.8


def test_gaps_and_a_channel_that_never_speaks():
    stamps = times(21)
    values = series(stamps, 0)
    keep = np.ones(len(stamps), dtype=bool)
    keep[700:1000] = keep[5 * 96 + 10 : 5 * 96 + 60] = False
    values[:, 2] = np.nan
    values[100:140, 0] = np.nan
    profile, residual = CalendarProfile.fit_cross_fitted(
        stamps[keep], values[keep], np.isfinite(values[keep])
    )
    assert profile.on.tolist() == [True, True, False]
    assert np.isfinite(profile.expected(stamps)).all()
    assert np.array_equal(np.isnan(residual[:, 0]), np.isnan(values[keep, 0]))
    assert (profile.spread(stamps)[:, 2] == 1).all()  # nothing is known of it


def test_hours_that_were_never_seen_have_the_usual_value():
    stamps = times(21)
    open_ = (clock(stamps)[0] >= 8) & (clock(stamps)[0] < 18)
    values = series(stamps, 0)
    profile = fitted(stamps[open_], values[open_])
    assert profile.on[0]
    night = profile.expected(times(7))
    assert np.isfinite(night).all()
    assert np.abs(night).max() < 5


def test_rows_that_jitter_keep_their_slots():
    rng = np.random.default_rng(0)
    stamps = times(14, step=1)[::7]
    jitter = stamps + rng.integers(0, 60_000, len(stamps)) * np.timedelta64(1, "ms")
    values = series(jitter, 0)
    assert fitted(jitter, values).on.tolist() == [True, True, False]


def steep(stamps, seed, *, batch=0.0):
    """A load that rises and falls evenly, twelve hours each, and a batch from 02:00 to 02:45."""
    hour, _ = clock(stamps)
    busy = (hour >= 2) & (hour < 2.75)
    noise = np.random.default_rng(seed).normal(size=len(stamps))
    return (np.abs(hour - 12) / 2 + batch * busy + 0.3 * noise)[:, None]


def test_where_rows_come_once_a_slot_the_course_is_what_is_expected_of_the_row():
    stamps = times(21, step=60)
    profile = fitted(stamps, steep(stamps, 0))
    assert profile.shift == -1800 * 10**9
    np.testing.assert_allclose(
        profile.course(times(3, step=60)), profile.expected(times(3, step=60))
    )


@pytest.mark.parametrize("batch", [0.0, 12.0])
def test_hours_meet_in_lines_whatever_the_slots_of_other_hours_are(batch):
    stamps = times(21, step=1)
    values = steep(stamps, 0, batch=batch) + np.random.default_rng(1).normal(size=(len(stamps), 1))
    profile = fitted(stamps, values)
    # A batch needs finer slots, beside hours that a single value tells as well.
    assert (profile.slots[0] > 24) == (batch > 0)
    day = times(1, step=1, first=MONDAY + np.timedelta64(700, "D"))
    hour, course, expected = clock(day)[0], profile.course(day)[:, 0], profile.expected(day)[:, 0]
    rest = (hour > 4) & (hour < 23)
    assert np.abs(np.diff(course)[rest[1:]]).max() < 0.02
    assert np.abs(np.diff(expected)[rest[1:]]).max() > 0.3
    assert np.abs(course - np.abs(hour - 12) / 2)[rest & (np.abs(hour - 12) > 1)].max() < 0.2
    if batch:
        edge = np.flatnonzero(hour == 2)[0]
        assert course[edge] - course[edge - 1] > 0.8 * batch
        assert np.abs(course - expected)[edge - 20 : edge + 45].max() < 0.5


def test_a_model_saved_before_the_shift_was_told_is_read():
    stamps = times(21, step=15)
    state = fitted(stamps, steep(stamps, 0)).to_dict()
    assert CalendarProfile.from_dict(state).shift == -450 * 10**9
    del state["shift"]
    assert CalendarProfile.from_dict(state).shift == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-40_000_000, 40_000_000), min_size=1, max_size=20))
def test_pieces_say_what_the_whole_says(month, minutes):
    profile, *_ = month
    stamps = MONDAY + np.array(sorted(minutes)) * MINUTE
    for said in (profile.expected, profile.spread, profile.course):
        whole = said(stamps)
        alone = np.concatenate([said(stamps[row : row + 1]) for row in range(len(stamps))])
        assert np.array_equal(whole, alone)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 10), st.floats(-5, 5))
def test_scaling_and_moving_a_channel_scales_and_moves_what_is_expected(seed, factor, shift):
    stamps = times(7, step=60)
    values = series(stamps, seed)[:, :1]
    one, other = fitted(stamps, values), fitted(stamps, values * factor + shift)
    if factor < 0.5:
        return  # the least unit does not scale
    assert other.on.tolist() == one.on.tolist()
    if one.on.all():
        assert other.expected(stamps) == pytest.approx(one.expected(stamps) * factor + shift)


def test_a_profile_comes_back_exactly(month):
    profile, _, stamps, values = month
    for one in (profile, fitted(stamps, values, timezone="Europe/Berlin", country="DE-BY")):
        state = one.to_dict()
        facts = {name: part for name, part in state.items() if not isinstance(part, np.ndarray)}
        again = CalendarProfile.from_dict({**state, **json.loads(json.dumps(facts))})
        assert again.calendar == one.calendar
        assert again.reason == one.reason
        assert np.array_equal(again.expected(stamps), one.expected(stamps))
        assert np.array_equal(again.spread(stamps), one.spread(stamps))
        assert again.on.tolist() == one.on.tolist()
    with pytest.raises(ModelError, match="lacks centre, timezone"):
        CalendarProfile.from_dict(
            {name: part for name, part in state.items() if name not in ("centre", "timezone")}
        )


def test_bad_input_is_refused(month):
    profile, _, stamps, values = month
    seen = np.isfinite(values)
    with pytest.raises(DataError, match="out of order"):
        CalendarProfile.fit(stamps[::-1], values, seen)
    with pytest.raises(DataError, match=r"do not belong together\. Give"):
        CalendarProfile.fit(stamps[1:], values, seen)
    with pytest.raises(DataError, match="fitted on 3 channels"):
        profile.residual(stamps, values[:, :2], seen[:, :2])
    with pytest.raises(ConfigError, match="timezone"):
        CalendarProfile.fit(stamps, values, seen, timezone="Nowhere")
    with pytest.raises(ConfigError, match="country"):
        CalendarProfile.fit(stamps, values, seen, country="Nowhere")


def test_of_a_long_history_the_last_year_is_fitted_and_the_rest_is_measured():
    stamps = times(500, step=360)
    values = series(stamps, 0)[:, :1]
    values[: 100 * 4] = -values[: 100 * 4]  # what was usual once
    profile, residual = CalendarProfile.fit_cross_fitted(stamps, values, np.isfinite(values))
    late = fitted(stamps[-364 * 4 :], values[-364 * 4 :])
    assert np.array_equal(profile.expected(stamps), late.expected(stamps))
    assert np.isfinite(residual).all()
    assert np.abs(residual[: 100 * 4]).mean() > 3 * np.abs(residual[100 * 4 :]).mean()
