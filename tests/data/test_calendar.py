"""Local days, kinds of day and holidays: against the clock of Python, and days looked up by hand"""

import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.calendar import HOLIDAY, Calendar
from imdiffusion.durations import DAY_NS
from imdiffusion.errors import ConfigError, MissingExtraError

HOUR_NS = DAY_NS // 24
ZONES = [
    "UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "America/Sao_Paulo",
]  # fmt: skip


def hours(first, last):
    return np.arange(first, last, dtype="datetime64[h]").astype("datetime64[ns]")


def local_hours(calendar, day, around):
    """The hours of one local day, in the order in which they pass."""
    days, times = calendar.days(around)
    return (times[days == np.datetime64(day, "D").astype(int)] // HOUR_NS).tolist()


def test_the_day_of_the_change_to_summer_time_has_23_hours():
    berlin = Calendar("Europe/Berlin")
    march = hours("2026-03-28", "2026-03-31")
    assert local_hours(berlin, "2026-03-29", march) == [0, 1, *range(3, 24)]
    assert local_hours(berlin, "2026-03-30", march)[:3] == [0, 1, 2]


def test_the_day_of_the_change_to_winter_time_has_25_hours():
    berlin = Calendar("Europe/Berlin")
    october = hours("2026-10-23", "2026-10-27")
    assert local_hours(berlin, "2026-10-25", october) == [0, 1, 2, *range(2, 24)]
    assert local_hours(berlin, "2026-10-24", october) == list(range(24))


def test_the_change_is_found_to_the_nanosecond():
    change = np.datetime64("2026-03-29T01:00:00", "ns")
    around = change + np.array([-1, 0], dtype="timedelta64[ns]")
    local = Calendar("Europe/Berlin").local(around)
    assert np.diff(local)[0] == HOUR_NS + 1


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.lists(st.integers(-2_000_000_000, 4_000_000_000), min_size=1, max_size=30),
)
def test_local_time_is_that_of_pythons_clock(zone, seconds):
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    stamps = np.array(seconds, dtype="datetime64[s]").astype("datetime64[ns]")
    expected = []
    for second in seconds:
        there = (epoch + timedelta(seconds=second)).astimezone(ZoneInfo(zone))
        expected.append(int((there.replace(tzinfo=UTC) - epoch) // timedelta(seconds=1)))
    local = Calendar(zone).local(stamps)
    assert (local // 10**9).tolist() == expected
    alone = [int(Calendar(zone).local(stamps[row : row + 1])[0]) for row in range(len(stamps))]
    assert local.tolist() == alone


def test_an_offset_is_a_zone():
    stamps = hours("2026-03-01", "2026-03-02")
    for offset in ("+05:30", "+0530"):
        assert np.array_equal(
            Calendar(offset).local(stamps), Calendar("Asia/Kolkata").local(stamps)
        )
    assert Calendar("-03:00").local(stamps)[0] == stamps.view(np.int64)[0] - 3 * HOUR_NS


def test_no_rows_have_no_days():
    none = np.zeros(0, dtype="datetime64[ns]")
    days, times = Calendar("Europe/Berlin", "DE").days(none)
    assert days.shape == times.shape == Calendar("UTC", "DE").kinds(days).shape == (0,)


def kinds(calendar, *days):
    return calendar.kinds(np.array(days, dtype="datetime64[D]").astype(np.int64)).tolist()


def test_kinds_of_day():
    plain = Calendar()
    assert kinds(plain, "1970-01-01", "1969-12-31", "2026-03-02", "2026-03-08") == [3, 2, 0, 6]
    assert plain.weekend == {5, 6}
    assert kinds(plain, "2026-05-01") == [4]
    assert kinds(Calendar("UTC", "DE"), "2026-05-01", "2026-05-04") == [HOLIDAY, 0]


def test_holidays_are_those_of_the_country_and_its_part():
    bavaria, germany = Calendar("UTC", "DE-BY"), Calendar("UTC", "DE")
    assert kinds(bavaria, "2026-01-06") == [HOLIDAY]  # Epiphany
    assert kinds(germany, "2026-01-06") == [1]
    day = int(np.datetime64("2026-12-25", "D").astype(int))
    assert germany.holiday(day) == "Christmas Day"
    assert germany.holiday(day - 2) is None
    assert Calendar().holiday(day) is None
    assert kinds(Calendar("UTC", "FR"), "2026-07-14", "2026-10-03") == [HOLIDAY, 5]


def test_the_weekend_is_that_of_the_country():
    assert Calendar("UTC", "EG").weekend == {4, 5}


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "+25:00", "../etc/passwd", "Europe", "+2"])
def test_an_unknown_zone_is_refused(zone):
    with pytest.raises(ConfigError, match=r"timezone = .* is not known here.*Europe/Berlin"):
        Calendar(zone)


@pytest.mark.parametrize("country", ["XX", "DE-XX", "", "Germany!"])
def test_an_unknown_country_is_refused(country):
    with pytest.raises(ConfigError, match=r"country = .* is not known to the package holidays"):
        Calendar("UTC", country)


def test_the_extra_is_named_where_the_package_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "holidays", None)
    with pytest.raises(MissingExtraError, match=r"'imdiffusion\[calendar\]'"):
        Calendar("UTC", "SE")
    Calendar("Europe/Stockholm")  # a zone needs no package
