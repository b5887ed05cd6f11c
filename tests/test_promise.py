"""Another promise without a new fit: scores as of a fit with that alarm rate."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from imdiffusion import ImDiffusion
from imdiffusion.errors import ConfigError, NotFittedError


def series(rows: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(rows, 4))
    return np.sin(np.arange(rows)[:, None] / np.arange(5, 9)) + 0.2 * noise


@pytest.fixture(scope="module", name="rows")
def _rows() -> tuple[np.ndarray, np.ndarray]:
    test = series(300, 1)
    test[100:110, 2] += 3.0
    test[200:240, 1] = test[200, 1]
    return series(900, 0), test


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_scores_are_those_of_a_fit_with_that_rate(rows, mode, tmp_path) -> None:
    train, test = rows
    changed = ImDiffusion("linear", alarm_rate=0.05).fit(train).set_alarm_rate(0.002)
    fresh = ImDiffusion("linear", alarm_rate=0.002).fit(train)
    wanted = fresh.decision_function(test, mode=mode)
    assert np.array_equal(changed.decision_function(test, mode=mode), wanted, equal_nan=True)
    assert changed.settings_ == fresh.settings_
    assert changed.get_params() == fresh.get_params()
    changed.save(tmp_path / "model")
    loaded = ImDiffusion.load(tmp_path / "model")
    assert np.array_equal(loaded.decision_function(test, mode=mode), wanted, equal_nan=True)


def test_a_stricter_promise_has_fewer_alarms_and_another_version(rows) -> None:
    train, test = rows
    detector = ImDiffusion("linear", alarm_rate=0.2).fit(train)
    entity = detector.entity()
    before, many = entity.version, detector.predict(test)
    few = detector.set_alarm_rate(1e-6).predict(test)
    assert few.sum() < many.sum()
    assert (few <= many).all()
    with pytest.raises(FrozenInstanceError):  # an entity does not change: there is another one
        entity.alarm_rate = 1e-6
    assert entity.version == before
    assert detector.entity().version != before


def test_what_cannot_be_promised_is_refused(rows) -> None:
    train, _ = rows
    with pytest.raises(NotFittedError):
        ImDiffusion("linear").set_alarm_rate(0.01)
    detector = ImDiffusion("linear").fit(train)
    for rate in (0.0, 0.9, float("nan")):
        with pytest.raises(ConfigError, match="alarm_rate"):
            detector.set_alarm_rate(rate)
    assert detector.settings_.alarm_rate == 0.001
