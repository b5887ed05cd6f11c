"""Inputs that were misread in silence: read as a person would read them, and it is said."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_training import TINY

from imdiffusion import ImDiffusion
from imdiffusion.errors import ConvergenceWarning, DataWarning

pytestmark = pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
SMALL = {**TINY, "alarm_rate": 0.01, "max_steps": 20, "learning_rate": 5e-3}
NAMES = ["cpu", "memory", "disk"]


def series(rows: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(rows, 3))
    return np.sin(np.arange(rows)[:, None] / np.array([5.0, 7.0, 11.0])) + 0.1 * noise


def table(values: np.ndarray, start: str = "2026-01-01", period: str = "1min") -> pd.DataFrame:
    index = pd.date_range(start, periods=len(values), freq=period, tz="UTC")
    return pd.DataFrame(values, columns=NAMES, index=index)


def counting(rows: int, seed: int, *, before: float = 0.0, start: str = "2026-01-01"):
    """Normal rows with two counters, of which the second is steady."""
    frame = table(series(rows, seed=seed), start)
    served = np.maximum(50 + 10 * frame["cpu"].to_numpy(), 0)
    return frame.assign(
        req_total=before + np.cumsum(served), uptime=before + 60.0 * np.arange(rows)
    )


def fit_counting(**settings) -> ImDiffusion:
    detector = ImDiffusion(**{**SMALL, "counters": "rate", **settings})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        detector.fit(counting(300, 0))
    said = [str(one.message) for one in caught if one.category is not ConvergenceWarning]
    assert "2 channels only ever rise in the training data: req_total, uptime" in said[0]
    assert said[1:] == ["1 channel is constant in the training data: uptime"]
    return detector


@pytest.fixture(scope="module", name="counters")
def _counters() -> ImDiffusion:
    return fit_counting()


def test_a_counter_is_read_as_a_rate_and_months_later_is_as_normal(counters: ImDiffusion) -> None:
    later = counting(200, 1, before=5e9, start="2026-03-01")
    assert counters.predict(later).mean() < 0.05
    analysis = counters.analyze(later)
    k = analysis.frame.channels.index("req_total")
    rates = np.diff(later["req_total"]) / 60
    np.testing.assert_allclose(analysis.frame.values[1:, k], rates, rtol=1e-4)
    assert np.isnan(analysis.frame.values[0, k])
    assert 0.3 < np.nanmedian(analysis.expected[:, k]) < 1.5  # a second, as the rates are


def test_a_reset_is_no_fault_and_a_surge_is(counters: ImDiffusion) -> None:
    later = counting(200, 1, before=5e6)
    reset = later.copy()
    reset.iloc[100:, 3] -= reset.iloc[99, 3]
    reset.iloc[100:, 4] -= reset.iloc[99, 4]
    same, other = counters.decision_function(later), counters.decision_function(reset)
    assert other[95:115].max() < 1.5 * max(1.0, same[95:115].max())
    assert np.array_equal(counters.predict(reset)[:80], counters.predict(later)[:80])
    surge = later.copy()
    surge.iloc[100:105, 3] += np.arange(1, 6) * 3000.0
    surge.iloc[105:, 3] += 15000.0
    assert counters.predict(surge)[98:108].any()
    # Windows of the scan, and the rows that a forecast reads, reach 42 rows beyond the surge.
    assert np.array_equal(counters.predict(surge)[150:], counters.predict(later)[150:])


def test_counters_are_saved_and_older_models_have_none(counters: ImDiffusion, tmp_path) -> None:
    counters.save(tmp_path / "model")
    later = counting(120, 2, before=1e6)
    loaded = ImDiffusion.load(tmp_path / "model")
    wanted = counters.decision_function(later)
    np.testing.assert_allclose(loaded.decision_function(later), wanted, rtol=1e-5)
    found = [
        one for one in Path(tmp_path / "model").rglob("*.json") if "counters" in one.read_text()
    ]
    assert any("req_total" in json.dumps(json.loads(one.read_text())) for one in found)


def test_pieces_of_a_file_score_as_the_table(counters: ImDiffusion, tmp_path, monkeypatch) -> None:
    later = counting(150, 3, before=1e6)
    path = tmp_path / "later.csv"
    later.rename_axis("timestamp").to_csv(path)
    monkeypatch.setattr("imdiffusion.inputs.PIECE_ROWS", 31)
    found, wanted = counters.decision_function(path), counters.decision_function(later)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)


def test_counters_may_keep_their_level() -> None:
    detector = ImDiffusion(**SMALL, counters="level").fit(counting(300, 0))
    later = counting(120, 1, before=1e7)
    assert detector.predict(later).mean() > 0.9


def test_entities_of_a_fleet_have_the_counters_of_most() -> None:
    data = {name: counting(200, seed) for seed, name in enumerate("abc")}
    data["b"] = data["b"].assign(req_total=np.random.default_rng(0).normal(9e3, 10, 200))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fleet = ImDiffusion(**{**SMALL, "counters": "rate", "scope": "shared"}).fit(data)
    said = [str(one.message) for one in caught if "only ever rise" in str(one.message)]
    assert len(said) == 1
    assert "of most entities: req_total, uptime" in said[0]
    later = counting(120, 5, before=1e8)
    assert fleet.predict({"a": later})["a"].mean() < 0.1


def test_a_gap_of_ten_years_is_no_period() -> None:
    train = table(series(600))
    index = train.index.tz_localize(None).to_numpy().copy()
    index[300:] += np.timedelta64(3650, "D")
    train.index = pd.DatetimeIndex(index, tz="UTC")
    with pytest.warns(DataWarning, match="1 gaps are longer and were cut"):
        detector = ImDiffusion(**{**SMALL, "holdout": 0.02}).fit(train)
    detector.decision_function(table(series(200, seed=1), "2036-02-01"))  # warns of nothing


def test_a_time_column_by_another_name_is_no_channel(tmp_path) -> None:
    name = "ts"

    def given(rows: int, seed: int, start: int) -> pd.DataFrame:
        frame = pd.DataFrame(series(rows, seed=seed), columns=NAMES)
        return frame.assign(**{name: start + 60 * np.arange(rows)})

    path = tmp_path / "train.csv"
    given(300, 0, 1_767_225_600).to_csv(path, index=False)
    with pytest.warns(DataWarning, match=f"column '{name}' is read as the time"):
        detector = ImDiffusion(**SMALL).fit(path)
    assert detector.channels_ == tuple(NAMES)
    with pytest.warns(DataWarning, match="is read as the time"):
        alarm = detector.predict(given(200, 1, 1_767_225_600 + 30 * 86_400))
    assert alarm.mean() < 0.1
    named = ImDiffusion(**SMALL).fit(path, timestamp=name)  # says nothing
    assert named.channels_ == tuple(NAMES)


def test_a_label_column_is_said_at_fit() -> None:
    train = table(series(300)).assign(is_anomaly=0)
    with pytest.warns(DataWarning) as caught:
        ImDiffusion(**SMALL).fit(train)
    said = [str(one.message) for one in caught]
    assert any("0/1 column 'is_anomaly' is read as a channel" in one for one in said)
    assert any("ignore_columns=['is_anomaly']" in one for one in said)
    ImDiffusion(**SMALL).fit(train, ignore_columns=["is_anomaly"])  # says nothing
