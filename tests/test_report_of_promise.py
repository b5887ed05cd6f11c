"""What a fit reports of its promise: by hand, after another promise, over a file, if unknown."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from imdiffusion import ImDiffusion
from imdiffusion.durations import HOUR_NS
from imdiffusion.errors import DataWarning
from imdiffusion.promise.record import FitNotes, LeftOut, PromiseRecord
from imdiffusion.promise.report import promise_report
from imdiffusion.settings import Settings

START = int(np.datetime64("2026-03-02T00:00", "ns").astype(np.int64))
NETWORK = {
    "window": 20, "stride": 10, "patch_length": 5, "width": 8, "heads": 2, "layers": 1,
    "feedforward": 8, "step_embedding": 8, "time_embedding": 8, "channel_embedding": 4,
    "diffusion_steps": 8, "sampling_steps": 3, "ensemble_steps": 2, "batch_size": 8,
    "max_steps": 4, "validate_every": 2, "ensemble_every": 1,
}  # fmt: skip


def told(record: PromiseRecord | None, rate: float, **more):
    facts = {"name": None, "channels": ["a"], "alarm_rate": rate, "fit_notes": FitNotes().to_dict()}
    facts |= {} if record is None else record.to_dict()
    return promise_report(facts, Settings(**more))


def series(rows: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.sin(np.arange(rows)[:, None] / np.arange(5, 9)) + 0.2 * noise


def by_hand() -> PromiseRecord:
    """Two days of hourly rows: 3 and 27 in alarm from .01 on, 10 from .2 on, row 40 without one."""
    rates = np.full(48, np.inf)
    rates[[3, 27]], rates[10], rates[40] = 0.01, 0.2, np.nan
    times = START + HOUR_NS * np.arange(48)
    return PromiseRecord.of(rates, times, held=0, timezone="+02:00")


def test_a_tiny_promise_worked_out_by_hand() -> None:
    report = told(by_hand(), 0.05, timezone="+02:00")
    assert report.rows == 47
    assert report.achieved == pytest.approx(2 / 47)
    assert report.worst_hour == (5, 1.0, 2)  # 03:00 UTC is 05:00 there, on both days
    assert (report.events, report.events_per) == (1.0, "day")
    assert report.start == np.datetime64("2026-03-02T00:00")
    assert report.end == np.datetime64("2026-03-04T00:00")
    assert report.worst_part is None  # 48 rows are one part
    assert told(by_hand(), 0.3).achieved == pytest.approx(3 / 47)
    assert told(by_hand(), 0.001).achieved == 0.0
    assert not report.unknown


def test_rows_that_had_a_part_are_not_measured() -> None:
    rates = np.full(400, np.inf)
    rates[:40], rates[390] = 0.001, 0.001
    report = told(PromiseRecord.of(rates, None, held=300), 0.01)
    assert (report.rows, report.achieved, report.start, report.end) == (100, 0.01, 300, 400)
    assert (report.events, report.events_per) == (10.0, "1,000 rows")
    assert report.worst_hour is None
    # Six parts of 66 or 67 rows: all of the training, not the measured rows alone.
    assert report.worst_part == (0, 66, pytest.approx(40 / 66), 66)


def test_more_rows_than_are_kept(monkeypatch) -> None:
    monkeypatch.setattr("imdiffusion.promise.record.MOST_ROWS", 10)
    rates = np.geomspace(1e-4, 0.4, 100)
    record = PromiseRecord.of(rates, None, held=0)
    assert len(record.row) == 10
    assert told(record, float(rates[5]) * 1.001).achieved == 0.06
    report = told(record, 0.3)
    assert report.achieved is None
    assert "promise above" in report.unknown[0]


def test_an_older_model_says_that_it_kept_nothing() -> None:
    report = promise_report({"name": "x", "channels": ["a"]}, Settings())
    assert report.achieved is report.worst_part is report.worst_hour is None
    assert "older" in report.unknown[0] or "version" in report.unknown[0]
    assert "not known" in str(report)


def test_it_stays_true_after_another_promise_and_over_a_file(tmp_path) -> None:
    train, plain = series(4000, 0), {"absence": False}
    detector = ImDiffusion("linear", alarm_rate=0.02, **plain).fit(train)
    fresh = ImDiffusion("linear", alarm_rate=0.1, **plain).fit(train)
    before = detector.report_
    assert before.low < before.achieved < before.high
    # Of the promise the join of the views uses a half; without checks the rest is not used.
    assert 0.3 * before.promised < before.achieved < before.promised
    assert detector.set_alarm_rate(0.1).report_ == fresh.report_
    assert fresh.report_.achieved > before.achieved
    detector.save(tmp_path / "m")
    loaded = ImDiffusion.load(tmp_path / "m").report_
    assert loaded == fresh.report_
    assert json.loads(json.dumps(loaded.to_dict(), allow_nan=False))["promised"] == 0.1
    fields = ("promised", "achieved", "measured", "events", "no calendar")
    assert all(term in str(loaded) for term in fields)


def test_checks_are_counted_under_the_promise_of_the_fit() -> None:
    detector = ImDiffusion("linear", alarm_rate=0.02).fit(series(2000, 0))
    assert not detector.report_.unknown
    assert "absence" in detector.set_alarm_rate(0.01).report_.unknown[0]


def test_a_training_of_thousands_of_rows_keeps_its_promise() -> None:
    report = ImDiffusion("linear", alarm_rate=0.01).fit(series(4000, 1)).report_
    assert report.achieved < 0.02


def test_what_was_set_aside_and_the_worst_day() -> None:
    rows = 6 * 288
    values = series(rows, 2)
    values[3 * 288 + 50 : 3 * 288 + 200, 1] += 5.0
    values[400, 2] = -9999.0
    table = pd.DataFrame(values, columns=list("abcd"))
    table["count"] = np.arange(rows) * 3.0 + np.random.default_rng(0).integers(0, 2, rows)
    table["flag"] = (np.arange(rows) // 50) % 2
    table["still"] = 4.0
    table.insert(0, "timestamp", pd.date_range("2026-03-02", periods=rows, freq="5min"))
    with pytest.warns(DataWarning):
        report = ImDiffusion("linear", alarm_rate=0.01).fit({"web": table}).report_["web"]
    assert report.entity == "web"
    assert report.worst_part.start == np.datetime64("2026-03-05T00:00")
    assert report.worst_part.rows == 288
    assert report.worst_part.share > 3 * report.achieved
    absurd = np.datetime64("2026-03-02T00:00", "ns") + np.timedelta64(2000, "m")
    expected = LeftOut("c", 400, int(absurd.astype(np.int64)), 1, -9999.0, "an absurd value")
    assert report.aside[0] == expected
    assert (report.counters, report.context, report.constant) == (("count",), ("flag",), ("still",))
    assert report.worst_hour is not None
    assert report.calendar


def test_a_network_alone_is_measured_on_rows_held_out_from_its_training() -> None:
    x = series(400, 3)
    detector = ImDiffusion("paper", **NETWORK, alarm_rate=0.05, ensemble="mean", holdout=0.3).fit(x)
    report = detector.report_
    assert 100 <= report.rows <= 140
    assert report.start == 400 - report.rows
    assert report.achieved is not None
    ranked = ImDiffusion("paper", **NETWORK, ensemble="rank").fit(x).report_
    assert ranked.achieved is None
    assert "'rank'" in ranked.unknown[0]


def test_scoring_that_begins_without_a_channel_says_so() -> None:
    x = series(900, 0)
    detector = ImDiffusion("linear").fit(x)
    gone = series(300, 1)
    gone[:110, 2] = np.nan
    for method in ("predict", "decision_function", "analyze", "detect"):
        with pytest.warns(
            DataWarning, match="'c2', which .* no value in the first 100 row"
        ) as said:
            getattr(detector, method)(gone)
        assert len(said) == 1
    gone[90, 2] = 0.0  # within the first window
    detector.predict(gone)
    with pytest.warns(DataWarning, match="'c1', 'c3'.* first 30 rows .* entity 'web'"):
        detector.predict({"web": np.where(np.arange(4) % 2, np.nan, gone[120:150])})


def test_bands_hold_on_both_sides_and_have_a_width() -> None:
    rng = np.random.default_rng(0)

    def rows(count: int) -> np.ndarray:
        skewed = np.exp(rng.normal(size=count))
        flag = (rng.random(count) < 0.2).astype(float)
        return np.column_stack([series(count, 5)[:, :2], skewed, flag, np.full(count, 7.3)])

    with pytest.warns(DataWarning, match="constant"):
        detector = ImDiffusion("linear").fit(rows(6000))
    fresh = rows(6000)
    fresh[:, 4] = np.float32(7.3)
    found = detector.analyze(fresh)
    below, above = (fresh < found.lower).mean(axis=0), (fresh > found.upper).mean(axis=0)
    assert (below <= 0.012).all()
    assert (above <= 0.012).all()
    assert (below + above)[:3] == pytest.approx(0.01, abs=0.006)
    assert (found.lower <= found.expected).all()
    assert (found.upper >= found.expected).all()
    assert (found.upper > found.lower).all()
    assert not found.unalarmed
