"""A new entity is scored before anything was fitted, from what its first rows have taught."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_series import live, series

from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.live.scorers.cold_start import COLD_BASELINES, MOST_ROWS, SMOOTH, ColdStartScorer
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.live.scorers.row_baseline import ROW_BASELINES
from imdiffusion.saved_state import State

SECOND = 10**9
NAMES = ("cpu", "memory", "disk")


def cold(period: int = 20, **options) -> ColdStartScorer:
    return ColdStartScorer(NAMES, period=period * SECOND, **options)


def noise(rows: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(rows, 3))
    values[:, 1] = 1e9 + 1e6 * (values[:, 0] + 0.1 * values[:, 1])  # bytes that follow the cpu
    return values


def scores(judged: list[ScoredRow]) -> np.ndarray:
    return np.array([one.score for one in judged])


@pytest.mark.parametrize("baseline", COLD_BASELINES)
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
    assert (one.mode, scorer.detector) == ("online", baseline)


@pytest.mark.parametrize("baseline", ["linear", "mahalanobis"])
def test_outliers_among_the_first_rows_do_no_harm(baseline: str) -> None:
    values = noise(130)
    clean = cold(baseline=baseline)
    clean.push(live(values[:100]))
    values[[5, 17, 40], :] += [1e6, 1e12, -1e6]
    dirty = cold(baseline=baseline)
    dirty.push(live(values[:100]))
    fault = values[100:106].copy()
    fault[:, 2] += 60.0
    for scorer in (clean, dirty):
        assert (scores(scorer.push(live(fault, start=100)))[1:] > 1).all()
    assert np.mean(scores(dirty.push(live(noise(300, 4), start=106)))[SMOOTH:] > 1) < 0.03


def test_it_goes_on_learning_and_follows_a_level_that_has_moved() -> None:
    scorer = cold()
    scorer.push(live(noise(200)))
    later = noise(2_000, 3)
    later[:, 0] += 30.0
    found = scores(scorer.push(live(later, start=200)))
    assert (found[1:20] > 1).all()
    assert np.mean(found[-300:] > 1) < 0.03


@settings(max_examples=6, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 50), max_size=10),
    saved=st.sets(st.integers(0, 10)),
    baseline=st.sampled_from(COLD_BASELINES),
    offline=st.booleans(),
)
def test_scores_hang_on_rows_alone_not_on_pushes_or_restarts(
    cuts, saved, baseline, offline
) -> None:
    values = noise(160)
    values[20:50:3, 0], values[70], values[90:, 2] = np.nan, np.nan, np.nan
    options = {"baseline": baseline, "offline": offline}
    first = cold(**options)
    whole = [*first.push(live(values)), *first.finish()]
    edges = np.unique(np.clip(np.cumsum([0, *cuts, 160]), 0, 160))
    scorer = cold(**options)
    judged: list[ScoredRow] = []
    for number, (a, b) in enumerate(itertools.pairwise(edges)):
        judged += scorer.push(live(values[a:b], start=int(a)))
        if number in saved:
            state = State.from_bytes(scorer.to_state().to_bytes())
            scorer = ColdStartScorer.from_state(state, cold(**options))
    judged += scorer.finish()
    looked = 130 if offline and baseline == "linear" else 0  # all rows from the first lesson on
    assert len(judged) == len(whole) == 160 + looked
    for mode in ("online", "offline"):
        some, others = ([one for one in of if one.mode == mode] for of in (judged, whole))
        assert [one.timestamp for one in some] == sorted({one.timestamp for one in some})
        np.testing.assert_allclose(scores(some), scores(others), rtol=1e-4)
        assert [one.state for one in some] == [one.state for one in others]
        for name in ("parts", "seen", "expected", "lower", "upper"):
            np.testing.assert_allclose(
                [getattr(one, name) for one in some],
                [getattr(one, name) for one in others],
                rtol=1e-4,
                atol=1e-4,
                err_msg=name,
            )


@pytest.mark.parametrize(("baseline", "most"), [("mahalanobis", 200_000), ("linear", 300_000)])
def test_what_is_held_does_not_grow(baseline: str, most: int) -> None:
    names = tuple(f"c{k}" for k in range(38))
    scorer = ColdStartScorer(names, period=SECOND, baseline=baseline)
    held = []
    for start in range(0, 4_000, 500):
        scorer.push(live(series(500, 38, seed=start), names, start=start))
        held.append(scorer.nbytes)
    assert len(scorer._rows) == MOST_ROWS
    assert max(held[3:]) <= max(held[:3]) < most


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
    for baseline in ROW_BASELINES:
        assert (scores(cold(baseline=baseline).push(live(values)))[155:160] > 1).all()
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
    with pytest.raises(ConfigError, match=r"unknown baseline of live rows 'moving_variance'"):
        cold(baseline="moving_variance")
    with pytest.raises(ConfigError, match="period"):
        cold(period=0)
    scorer = cold()
    scorer.push(live(noise(40)))
    with pytest.raises(DataError, match="not after the one before"):
        scorer.push(live(noise(1), start=39))
    with pytest.raises(ModelError, match="other channels or options"):
        ColdStartScorer.from_state(scorer.to_state(), cold(alarm_rate=0.01))


def seasonal(rows: int, channels: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    season = np.sin(2 * np.pi * (np.arange(rows)[:, None] / 48 + generator.random(channels)))
    shared = generator.normal(size=(rows, 1))
    return 3 * season + shared + generator.normal(size=(rows, channels))


def white(rows: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, channels))


@pytest.mark.parametrize("make", [white, seasonal])
@pytest.mark.parametrize(("channels", "rows"), [(3, 600), (12, 600), (12, 150)])
def test_the_promise_holds_on_rows_like_those_it_learned_from(make, channels, rows) -> None:
    names = tuple(f"c{k}" for k in range(channels))
    shares = []
    for seed in range(3):
        values = make(rows + 1_000, channels, seed)
        scorer = ColdStartScorer(names, period=10**13, alarm_rate=0.01)
        scorer.needed = rows  # learned once, so that all that follow are judged by one fit
        scorer.push(live(values[:rows], names))
        baseline = scorer._baseline
        assert baseline is not None
        found = baseline.scores(live(values[rows - 100 :], names))[100:]
        shares.append(np.mean(found > 1))
    assert max(shares) <= 0.03
    assert np.mean(shares) <= 0.02


def test_counters_are_judged_by_their_rates_and_shown_as_they_came() -> None:
    count = 6.8e10 + np.cumsum(1000 + 50 * np.random.default_rng(5).normal(size=400))
    values = np.column_stack([noise(400), count])
    names = (*NAMES, "bytes")
    scorer = ColdStartScorer(names, period=20 * SECOND)
    judged = scorer.push(live(values, names))
    late = judged[-100:]
    assert np.mean([one.score > 1 for one in late]) < 0.03
    np.testing.assert_array_equal([one.seen[3] for one in late], values[-100:, 3])
    steps = np.array([one.expected[3] for one in late]) - values[-101:-1, 3]
    assert np.abs(steps - 1000).max() < 100
    stalled = np.column_stack([noise(20, 9), np.full(20, count[-1])])
    found = scorer.push(live(stalled, names, start=400))
    assert np.mean([one.score > 1 for one in found[3:]]) > 0.8
    assert int(np.nanargmax(found[10].parts)) == 3


def test_sight_tells_who_is_blind(caplog: pytest.LogCaptureFixture) -> None:
    names = tuple(f"c{k}" for k in range(38))
    values = seasonal(600, 38, 0)
    sight = {}
    for baseline in ("mahalanobis", "linear"):
        scorer = ColdStartScorer(
            names, period=20 * SECOND, baseline=baseline, alarm_rate=0.001, entity="web"
        )
        scorer.push(live(values[:20], names))
        assert scorer.sight is None
        scorer.push(live(values[20:], names, start=20))
        found = sight[baseline] = scorer.sight
        again = ColdStartScorer.from_state(scorer.to_state(), scorer)
        assert again._sight == found
        assert found is not None
        assert str(found) == f"sees {found.seen} of 12 planted faults here"
        told = f"web: {baseline} sees {found.seen} of 12 planted faults here"
        assert (told in caplog.text) == found.blind
    assert sight["mahalanobis"].blind
    assert not sight["linear"].blind


def test_entities_do_not_all_learn_at_the_same_row() -> None:
    due = set()
    for entity in map(str, range(20)):
        scorer = ColdStartScorer("ab", period=SECOND, baseline="zscore", entity=entity)
        scorer.push(live(noise(600)[:, :2], "ab"))
        due.add(scorer._due)
    assert len(due) > 15
    assert 600 + 200 <= min(due) <= max(due) <= 900


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from imdiffusion.data.frame import Frame\n"
        "from imdiffusion.live.scorers.cold_start import ColdStartScorer\n"
        "x = np.random.default_rng(0).normal(size=(60, 2))\n"
        "t = (np.arange(60) * 10**9 * 60).astype('datetime64[ns]')\n"
        "s = ColdStartScorer(('a', 'b'), period=60 * 10**9, offline=True)\n"
        "said = s.push(Frame(x, ~np.isnan(x), t, ('a', 'b')))\n"
        "assert np.isfinite(said[-1].score), said[-1]\n"
        "s = s.from_state(s.to_state(), s)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
