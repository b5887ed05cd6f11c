"""Counters, live: their rates are those of the whole file, over any cuts and restarts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from live_series import NAMES, entity_of, fit, live, series

from imdiffusion import ImDiffusion
from imdiffusion.errors import DataWarning
from imdiffusion.live.scorers.fitted import EntityScorer

CHANNELS = (*NAMES, "req_total")


def counting(rows: int, seed: int, before: float = 0.0) -> np.ndarray:
    values = series(rows, seed=seed)
    return np.column_stack([values, before + np.cumsum(50 + 10 * values[:, 0])])


@pytest.fixture(scope="module", name="counted")
def _counted() -> ImDiffusion:
    with pytest.warns(DataWarning, match="1 channel only ever rises"), warnings.catch_warnings():
        return fit(counting(400, 0), CHANNELS)


@pytest.mark.parametrize("size", [1, 50])
@pytest.mark.parametrize("restarted", [False, True])
def test_live_and_the_file_say_the_same(counted: ImDiffusion, size: int, restarted: bool) -> None:
    test = counting(130, 1, before=1e6)
    test[60:] -= [0, 0, 0, test[59, 3]]  # a reset
    test[90:97, 3] = np.nan
    judged, scorer = [], EntityScorer(entity_of(counted), offline=True)
    for start in range(0, 130, size):
        judged += scorer.push(live(test[start : start + size], CHANNELS, start))
        if restarted:
            fresh = EntityScorer(entity_of(counted), offline=True)
            scorer = EntityScorer.from_state(scorer.to_state(), fresh)
    judged += scorer.finish()
    frame = live(test, CHANNELS)
    for mode in ("online", "offline"):
        found = np.array([one.score for one in judged if one.mode == mode])
        wanted = counted.decision_function(frame, mode=mode)
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4)
    seen = np.array([one.seen for one in judged if one.mode == "offline"])
    np.testing.assert_array_equal(seen, counted.analyze(frame).frame.values)
    assert np.flatnonzero(np.isnan(seen[:, 3])).tolist() == [0, 60, *range(90, 97)]
    assert seen[97, 3] == pytest.approx((test[97, 3] - test[89, 3]) / (8 * 60), rel=1e-5)
