"""Bad input is a named error or a named fallback: what too few, too many, alike or absent is"""

import numpy as np
import pandas as pd
import pytest
from linear_series import series

from imdiffusion import ImDiffusion
from imdiffusion.errors import DataError, DataWarning

PRESETS = {
    "linear": {},
    "fast": {
        "window": 20, "patch_length": 5, "width": 8, "heads": 2, "layers": 1, "feedforward": 8,
        "step_embedding": 8, "time_embedding": 8, "channel_embedding": 4, "max_steps": 4,
        "validate_every": 2, "batch_size": 4,
    },
}  # fmt: skip
pytestmark = [
    pytest.mark.parametrize("preset", PRESETS),
    pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning"),
]
ROWS = {"linear": 10, "fast": 20}  # that a fit needs at least


def fit(preset, values, **more):
    return ImDiffusion(preset, **{"alarm_rate": 0.01, **PRESETS[preset], **more}).fit(values)


def says(call, *words):
    """The call warns with DataWarning once for each of these words; what it returns."""
    with pytest.warns(DataWarning) as caught:
        found = call()
    said = [str(one.message) for one in caught if one.category is DataWarning]
    for word in words:
        assert sum(word in one for one in said) == 1, said
    assert len(said) == len(words), said
    return found


@pytest.fixture(scope="module")
def known():
    """The fitted detectors of four plain channels, by preset."""
    return {name: fit(name, series(600, 0, 4)) for name in PRESETS}


@pytest.mark.parametrize("rows", [0, 1, 2, 9])
def test_too_few_rows_to_fit_on_are_refused(preset, rows):
    least = "there are no rows" if rows == 0 else f"has {rows} rows, fewer than "
    with pytest.raises(DataError, match=least) as caught:
        fit(preset, series(rows, 0, 4))
    assert "Give" in caught.value.remedy


def test_fewer_rows_than_lags_are_a_named_fallback(preset):
    rows = ROWS[preset]
    few = [f"{rows} rows are few for 4 channels: a forecast reads 1 of 10 rows"]
    if preset == "fast":
        few.append("fewer than two windows")
    else:
        few.append("fewer than two patches")
    detector = says(lambda: fit(preset, series(rows, 0, 4)), *few)
    assert np.isfinite(detector.decision_function(series(50, 1, 4))).all()


def test_more_channels_than_rows_are_a_named_fallback(preset):
    train, clean = series(40, 0, 60), series(40, 1, 60)
    few = ["40 rows are few for 60 channels"]
    few += ["fewer than two patches"] if preset == "linear" else []
    detector = says(lambda: fit(preset, train), *few)
    fault = clean.copy()
    fault[20:30, 33] += 40 * train[:, 33].std()
    one, two = detector.decision_function(clean), detector.decision_function(fault)
    assert np.isfinite(one).all()
    assert two[20:30].max() > max(1.0, one.max())


@pytest.mark.parametrize("rows", [1, 2])
def test_one_row_and_two_to_score(known, preset, rows):
    if preset == "fast":
        with pytest.raises(DataError, match=f"has {rows} rows, fewer than a window"):
            known[preset].decision_function(series(rows, 1, 4))
    else:
        assert np.isfinite(known[preset].decision_function(series(rows, 1, 4))).all()
        assert known[preset].predict(np.full((rows, 4), 100.0)).all()
    with pytest.raises(DataError, match="no rows"):
        known[preset].decision_function(series(0, 1, 4))


@pytest.mark.parametrize("shape", [(-1, 1), (-1,)])
def test_one_channel_is_scored_by_its_own_past(preset, shape):
    detector = fit(preset, series(900, 0, 1).reshape(shape))
    test = series(300, 1, 1)
    test[100:110] += 12.0
    score = detector.decision_function(test.reshape(shape))
    assert np.isfinite(score).all()
    assert score[100:110].max() > 1
    assert score[160:].max() < 1.2


@pytest.mark.parametrize("sign", [1.0, -1.8])
def test_copies_are_named_and_a_fault_of_one_of_the_twins_is_found(preset, sign):
    def twins(values):
        return np.column_stack([values, 32 + sign * values[:, 0]])

    train, test = twins(series(900, 0, 4)), twins(series(300, 1, 4))
    detector = says(lambda: fit(preset, train), "channels repeat others in the training data: 'c4'")
    assert np.isfinite(detector.decision_function(test)).all()
    for twin in (0, 4):
        fault = test.copy()
        fault[100:112, twin] += 3.0
        analysis = detector.analyze(fault)
        assert np.isfinite(analysis.score).all()
        met = [one for one in analysis.events if one.start < 112 and one.end > 100]
        assert met
        assert met[0].channels[0] == f"c{twin}"  # its own past and the others tell which it is
    both = twins(
        np.where((np.arange(300) // 12 == 9)[:, None], series(300, 1, 4) + 12, series(300, 1, 4))
    )
    assert detector.decision_function(both)[108:120].max() > 1


def test_a_sum_of_channels_is_finite_and_a_broken_sum_is_found(preset):
    def summed(values):
        return np.column_stack([values, values.sum(axis=1)])

    detector = fit(preset, summed(series(900, 0, 4)))
    test = summed(series(300, 1, 4))
    assert np.isfinite(detector.decision_function(test)).all()
    test[100:112, 4] += 6.0
    analysis = detector.analyze(test)
    met = [one for one in analysis.events if one.start < 112 and one.end > 100]
    assert met
    assert met[0].channels[0] == "c4"


def test_constant_channels_alone_are_named_and_leaving_them_is_an_event(preset):
    still = np.full((300, 3), [5.0, 0.0, -1e6])
    detector = says(lambda: fit(preset, still), "3 channels are constant in the training data")
    assert (detector.decision_function(still[:60]) <= 1).all()
    moved = still[:60].copy()
    moved[30:35, 1] = 0.1
    assert (detector.decision_function(moved)[30:35] > 1).all()


def test_a_channel_without_a_value_is_named_at_fit_and_at_scoring(preset, known):
    train, test = series(600, 0, 4), series(100, 1, 4)
    train[:, 1] = np.nan
    detector = says(lambda: fit(preset, train), "1 channel is without any value")
    score = says(lambda: detector.decision_function(test), "had no value in training")
    assert np.isfinite(score).all()
    test[:, 1] = np.nan
    same = detector.decision_function(test)  # as in training: nothing is said
    assert np.allclose(same, score)  # its values had no part in the score either
    score = says(
        lambda: known[preset].decision_function(test),
        "'c1', which training had, has no value in the first ",
    )
    assert score[20:].min() > 1


def test_without_any_value_a_fit_is_refused_and_scores_are_unknown(preset, known):
    with pytest.raises(DataError, match=r"no value is observed in the \d+ training rows"):
        fit(preset, np.full((300, 3), np.nan))
    nothing = np.full((60, 4), np.nan)
    score = says(
        lambda: known[preset].decision_function(nothing), "which training had, have no value"
    )
    assert np.isnan(score[:2]).all()  # nothing is known of them, until that itself is news
    assert (score[20:] > 1).all()


def test_rows_without_a_value_are_unknown_and_what_follows_is_normal(preset, known):
    test = series(200, 1, 4)
    test[50:52] = np.nan
    score = known[preset].decision_function(test)
    assert np.array_equal(np.isnan(score), np.isnan(test).all(axis=1))
    assert np.array_equal(known[preset].predict(test)[50:52], [0, 0])
    train = series(600, 0, 4)
    train[100:300] = np.nan
    assert np.isfinite(fit(preset, train).decision_function(series(200, 1, 4))).all()


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_are_refused_where_they_stand(preset, known, value):
    values = series(60, 1, 4)
    values[40, 1] = value
    for call in (lambda: fit(preset, values), lambda: known[preset].predict(values)):
        with pytest.raises(DataError, match=f"row 41, column 'c1': {value} is infinite") as caught:
            call()
        assert "NaN" in caught.value.remedy


def timed(values, start, step):
    index = pd.date_range(start, periods=len(values), freq=step)
    return pd.DataFrame(values, index=index).rename(columns=str)


def test_a_calendar_without_a_full_cycle_is_off_and_it_is_said(preset, caplog):
    short = timed(series(600, 0, 4), "2026-01-01", "1min")
    with caplog.at_level("INFO", logger="imdiffusion"):
        fit(preset, short)
    assert "no calendar: the rows span 0.417 days" in caplog.text
    assert (
        "a forecast spans 10 rows (10 min), the longest scan spans 32 rows (32 min)" in caplog.text
    )
    said = "no calendar: the rows span 0.417 days, and a time of day shows in 2 at least"
    says(lambda: fit(preset, short, timezone="Europe/Berlin"), said)  # asked for, and not to be had
    says(
        lambda: fit(preset, short.to_numpy(), timezone="Europe/Berlin"),
        "no calendar: the rows have no timestamps",
    )


def test_a_rhythm_longer_than_what_is_read_is_said_where_no_calendar_knows_it(preset, caplog):
    day = 12 * np.sin(2 * np.pi * np.arange(4032) / 288)
    values = series(4032, 0, 4) + day[:, None]
    says(lambda: fit(preset, values), "4 of 4 channels repeat themselves about every 28")
    fit(preset, timed(values, "2026-01-05", "5min"))  # it has a calendar: nothing is said
    other = timed(values, "2026-01-05", "1min")  # 4.8 hours: no time of day tells it
    reader = "a forecast" if preset == "linear" else "the network's window"
    with caplog.at_level("INFO", logger="imdiffusion"):  # with timestamps it was tried
        fit(preset, other)
        assert f" h), and {reader} spans " in caplog.text
        fit(preset, other, calendar="off")
        assert "Use views in closed form with calendar='auto'" in caplog.text
