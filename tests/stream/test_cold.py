"""A new entity is scored before anything was fitted, from what its first rows have taught."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_series import live, series

from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.stream.cold import MOST_ROWS, ROW_BASELINES, SMOOTH, ColdScorer
from imdiffusion.stream.judged import Judged

SECOND = 10**9
NAMES = ("cpu", "memory", "disk")


def cold(period: int = 20, **options) -> ColdScorer:
    return ColdScorer(NAMES, period=period * SECOND, **options)


def noise(rows: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, 3))
    values[:, 1] = 1e9 + 1e6 * (values[:, 0] + 0.1 * values[:, 1])  # bytes that follow the cpu
    return values


def scores(judged: list[Judged]) -> np.ndarray:
    return np.array([one.score for one in judged])


@pytest.mark.parametrize("baseline", ROW_BASELINES)
def test_a_fault_is_an_alarm_after_ten_minutes_and_normal_rows_are_not(baseline: str) -> None:
    values = noise(300)
    values[250:256, 2] += 60.0
    scorer = cold(baseline=baseline)
    assert scorer.needed == 30
    judged = scorer.push(live(values))
    assert [one.state for one in judged] == ["warming"] * 30 + ["ready"] * 270
    found = scores(judged)
    assert np.isnan(found[:30]).all()
    assert (found[251:256] > 1).all()  # a mean over rows may need a second one
    assert np.mean(found[30:250] > 1) < 0.03
    one = judged[252]
    assert int(np.argmax(one.parts)) == 2
    assert one.seen.tolist() == values[252].tolist()
    assert np.abs(one.expected - [0, 1e9, 0]).max() < 1e6
    assert one.lower[2] < one.expected[2] < one.upper[2] < one.seen[2]
    assert (one.moment, scorer.detector) == ("arrival", baseline)


def test_outliers_among_the_first_rows_do_no_harm() -> None:
    values = noise(130)
    clean = cold()
    clean.push(live(values[:100]))
    values[[5, 17, 40], :] += [1e6, 1e12, -1e6]
    dirty = cold()
    dirty.push(live(values[:100]))
    fault = values[100:106].copy()
    fault[:, 2] += 60.0
    for scorer in (clean, dirty):
        assert (scores(scorer.push(live(fault, start=100)))[1:] > 1).all()
    apart = clean._lesson.centre - dirty._lesson.centre
    assert (np.abs(apart) < 0.2 * clean._lesson.scale).all()
    assert np.mean(scores(dirty.push(live(noise(300, 4), start=106)))[SMOOTH:] > 1) < 0.03


def test_it_goes_on_learning_and_follows_a_level_that_has_moved() -> None:
    scorer = cold()
    scorer.push(live(noise(200)))
    later = noise(2_000, 3)
    later[:, 0] += 30.0
    found = scores(scorer.push(live(later, start=200)))
    assert (found[1:20] > 1).all()
    assert np.mean(found[-300:] > 1) < 0.03


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 50), max_size=10),
    saved=st.sets(st.integers(0, 10)),
    baseline=st.sampled_from(ROW_BASELINES),
)
def test_scores_hang_on_rows_alone_not_on_pushes_or_restarts(cuts, saved, baseline) -> None:
    values = noise(160)
    values[20:50:3, 0], values[70], values[90:, 2] = np.nan, np.nan, np.nan
    whole = cold(baseline=baseline).push(live(values))
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 160]), 0, 160))
    scorer = cold(baseline=baseline)
    judged: list[Judged] = []
    for number, (a, b) in enumerate(itertools.pairwise(edges)):
        judged += scorer.push(live(values[a:b], start=int(a)))
        if number in saved:
            state, scorer = scorer.dump(), cold(baseline=baseline)
            scorer.restore(state)
    assert np.allclose(scores(judged), scores(whole), rtol=1e-9, equal_nan=True)
    assert [one.state for one in judged] == [one.state for one in whole]
    for one, other in zip(judged, whole, strict=True):
        for name in ("parts", "seen", "expected", "lower", "upper"):
            assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-9, equal_nan=True)


def test_what_is_held_does_not_grow_and_is_below_200_kilobytes() -> None:
    names = tuple(f"c{k}" for k in range(38))
    scorer = ColdScorer(names, period=SECOND)
    held = []
    for start in range(0, 10_000, 500):
        scorer.push(live(series(500, 38, seed=start), names, start=start))
        held.append(scorer.nbytes)
    assert len(scorer._rows) == MOST_ROWS
    assert max(held[3:]) <= max(held[:3]) < 200_000


def test_channels_that_are_missing_constant_or_new() -> None:
    values = noise(200)
    values[:, 1] = 7.0
    values[:90, 2] = np.nan
    judged = cold().push(live(values))
    states = [one.state for one in judged]
    assert states[30:90] == ["ready"] * 60  # nothing was ever known of the third
    assert all(math.isnan(one.parts[2]) for one in judged[30:90])
    assert states[-1] == "ready"
    assert math.isfinite(judged[-1].parts[2])
    assert np.isfinite(scores(judged)[30:]).all()
    values[150:, 1] = 9.0
    assert (scores(cold().push(live(values)))[155:160] > 1).all()
    values = noise(200)
    values[100:, 0] = np.nan
    states = [one.state for one in cold().push(live(values))]
    assert states[99] == "ready"
    assert states[-1] == "degraded"


def test_rows_without_any_value_teach_nothing() -> None:
    scorer = cold()
    judged = scorer.push(live(np.full((60, 3), np.nan)))
    assert {one.state for one in judged} == {"warming"}
    assert np.isnan(scores(judged)).all()
    later = scorer.push(live(noise(200), start=60))
    assert later[-1].state == "ready"
    assert math.isfinite(later[-1].score)


def test_after_finish_rows_of_another_place_are_scored_by_what_was_learned() -> None:
    scorer = cold()
    scorer.push(live(noise(100), start=1_000))
    assert scorer.finish() == []
    judged = scorer.push(live(noise(5, 1), start=0))
    assert {one.state for one in judged} == {"ready"}
    assert np.isfinite(scores(judged)).all()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'moving_variance' cannot score rows as they come"):
        cold(baseline="moving_variance")
    with pytest.raises(ConfigError, match="period"):
        cold(period=0)
    scorer = cold()
    scorer.push(live(noise(40)))
    with pytest.raises(DataError, match="not after the one before"):
        scorer.push(live(noise(1), start=39))
    with pytest.raises(ModelError, match="other channels or options"):
        cold(alarm_rate=0.01).restore(scorer.dump())
