"""A live entity says what the detector says of the whole file, row by row, over any restart."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_series import entity_of, faulty, fit, live, series

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.errors import DataError, ModelError, UsageError
from imdiffusion.live.rows.reorder_buffer import RowBuffer
from imdiffusion.live.scorers.fitted import EntityScorer, ScoredRow
from imdiffusion.online import (
    DelayedScorer,
    Standing,
    _last_row,
    context,
    rows_after,
    rows_before,
)
from imdiffusion.saved_state import State
from imdiffusion.scoring.error import RecentQuantile, residual_of, scored, smoothed_errors
from imdiffusion.series_imputer import SeriesImputer


def alike(found: np.ndarray, expected: np.ndarray) -> None:
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    apart = np.abs(found - expected) - 1e-4 * np.maximum(1, np.abs(expected))
    assert np.nanmax(apart, initial=-1) <= 0


def column(judged: list[ScoredRow], mode: str, name: str = "score") -> np.ndarray:
    return np.array([getattr(one, name) for one in judged if one.mode == mode])


# -- the definition


def test_a_score_online_is_the_last_row_of_what_offline_says_of_the_rows_up_to_it() -> None:
    detector = fit(series(400), views=("network",))
    entity, test = entity_of(detector), faulty()
    online = detector.decision_function(live(test), mode="online")
    limits = entity.calibration.online[0] / entity.calibration.thresholds[0]
    size = context(entity.imputer)
    assert size == 20
    # In the first rows the past that the level view follows is still that of the fit.
    for row in range(size - 1, 60):
        few = live(test[row + 1 - size : row + 1], start=row + 1 - size)
        last = detector.decision_function(few)[-1] / limits
        alike(online[row : row + 1], np.array([last]))
    assert np.flatnonzero(np.isnan(online)).tolist() == [*range(size - 1), 170]


def test_a_score_online_knows_nothing_of_later_rows(detector: ImDiffusion) -> None:
    test = faulty()
    other = test.copy()
    other[150:] = 50 * np.random.default_rng(3).normal(size=other[150:].shape)
    scores = [detector.decision_function(live(x), mode="online")[:150] for x in (test, other)]
    assert np.array_equal(*scores, equal_nan=True)


def test_the_planted_fault_is_an_alarm_online(detector: ImDiffusion) -> None:
    alarm = detector.predict(live(faulty()), mode="online")
    assert alarm[100:110].any()
    normal = detector.predict(live(series(400)), mode="online")
    assert normal[20:].mean() < 0.05
    with pytest.raises(UsageError, match="unknown mode 'departure'"):
        detector.decision_function(live(faulty()), mode="departure")


def test_the_level_follows_what_offline_has_made_of_final_rows(detector: ImDiffusion) -> None:
    entity = entity_of(detector)
    frame = live(series(600, seed=5) * np.linspace(1, 4, 600)[:, None])
    rows = entity.rows(frame)
    offline = DelayedScorer(entity)
    raw = []

    class Spy(RecentQuantile):
        def push(self, run):
            raw.append(run)
            return super().push(run)

    place = next(n for n, view in enumerate(entity.imputer.recipe.views) if view.recent)
    knots = entity.calibration.units.recent[place]
    offline.past[place] = Spy(knots)
    for start in range(0, 600, 7):
        offline.push(rows.slice(start, start + 7))
        seen = min(600, start + 7)
        whole = seen // 20 * 20
        final = max(0, whole - rows_after(entity.imputer.recipe))
        assert offline.final == offline.final_after(seen) == final
        past = RecentQuantile(knots)
        if final:
            past.push(np.concatenate(raw))
        assert sum(map(len, raw)) == final
        # It looks at the first of the two steps, and leaves the last one to the view of ties.
        assert np.array_equal(offline.standing[final][place][:1], past.standing(1))
        assert np.isnan(offline.standing[final][place][1])
    assert len({level[place][0] for level in offline.standing.values()}) > 5


def test_the_unit_online_is_that_of_the_rows_final_by_then() -> None:
    detector = fit(series(400), views=("network",))
    entity = entity_of(detector)
    test = series(400, seed=5) * np.linspace(1, 8, 400)[:, None]
    rows = entity.rows(live(test))
    online = detector.decision_function(live(test), mode="online")
    place = next(n for n, view in enumerate(entity.imputer.recipe.views) if view.recent)
    levels = set()
    for row in (118, 119, 120, 237, 399):
        offline = DelayedScorer(entity)
        offline.push(rows.slice(0, row + 1))
        past = [one and Standing(one.standing(1)[None]) for one in offline.past]
        (run,) = entity.imputer.estimates(
            [rows.slice(row - 19, row + 1)], entity.imputer.chosen_steps
        )
        residual = residual_of(run.seen, run.estimates, run.target)
        *_, errors = smoothed_errors([residual], entity.imputer.recipe)
        units = entity.calibration.units
        ((joined, _),) = scored([errors[-1:]], units, entity.imputer.recipe, past)
        alike(online[row : row + 1], entity.score(joined.T, "online"))
        levels.add(past[place].levels[0, 0])
    assert len(levels) >= 3


def test_the_rows_a_score_looks_at_reach_as_far_as_stated(detector: ImDiffusion) -> None:
    entity = entity_of(detector)
    recipe, units = entity.imputer.recipe, entity.calibration.units
    assert (rows_before(recipe), rows_after(recipe)) == (10, 8)
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(2, 20, 1, 3)).astype(np.float32)
    expected = _last_row(recipe, units, residual, None)
    far = residual.copy()
    far[:, : 20 - 1 - rows_before(recipe)] = 99.0
    for one, other in zip(expected, _last_row(recipe, units, far, None), strict=True):
        assert np.array_equal(one, other)
    near = residual.copy()
    near[:, 20 - 1 - rows_before(recipe)] = 99.0
    assert not np.array_equal(expected[0], _last_row(recipe, units, near, None)[0])


# -- the push form


@settings(max_examples=12, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 60), max_size=8),
    singles=st.booleans(),
    saved=st.sets(st.integers(0, 8)),
    long=st.booleans(),
)
def test_pushed_rows_score_as_the_whole_file_whatever_the_cuts_and_restarts(
    detector: ImDiffusion, cuts, singles, saved, long
) -> None:
    test = faulty()[: 230 if long else 97]
    total = len(test)
    edges = np.unique(
        np.clip(np.cumsum([0, *cuts, *([1] * 9 if singles else []), total]), 0, total)
    )
    scorer = EntityScorer(entity_of(detector), offline=True)
    judged: list[ScoredRow] = []
    for number, (a, b) in enumerate(itertools.pairwise(edges)):
        judged += scorer.push(live(test[a:b], start=int(a)))
        if number in saved:
            state = State.from_bytes(scorer.to_state().to_bytes())
            fresh = EntityScorer(entity_of(detector), offline=True)
            scorer = EntityScorer.from_state(state, fresh)
    judged += scorer.finish()
    frame = live(test)
    for mode in ("online", "offline"):
        alike(column(judged, mode), detector.decision_function(frame, mode=mode))
        assert np.array_equal(column(judged, mode, "timestamp"), frame.timestamps.view(np.int64))
    analysis = detector.analyze(frame)
    alike(column(judged, "offline", "parts").ravel(), analysis.channel_scores.ravel())
    for name in ("expected", "lower", "upper"):
        assert np.allclose(column(judged, "offline", name), getattr(analysis, name), atol=1e-4)
    assert np.array_equal(column(judged, "offline", "seen"), test, equal_nan=True)


@pytest.mark.filterwarnings("ignore:2 gaps in the timestamps")
def test_a_file_replayed_out_of_order_scores_as_the_file(detector: ImDiffusion) -> None:
    test = faulty()
    kept = np.setdiff1d(np.arange(230), [50, 51, 52, 150])
    frame = live(test)
    file = Frame(test[kept], frame.observed[kept], frame.timestamps[kept], frame.channels)
    rng = np.random.default_rng(0)
    order = np.argsort(kept + rng.integers(0, 4, len(kept)), kind="stable")
    buffer = RowBuffer(frame.channels, period=60 * 10**9, lateness=3)
    scorer = EntityScorer(entity_of(detector), offline=True)
    judged: list[ScoredRow] = []
    while len(order):
        some, order = kept[order[:9]], order[9:]
        piece = Frame(test[some], frame.observed[some], frame.timestamps[some], frame.channels)
        runs = buffer.push(piece) + ([] if len(order) else buffer.flush())
        judged += [one for run in runs for one in scorer.push(run.frame)]
    judged += scorer.finish()
    assert buffer.counts["filled"] == 4
    own = np.isin(frame.timestamps, file.timestamps)
    for mode in ("online", "offline"):
        found = column(judged, mode)
        assert len(found) == 230
        alike(found[own], detector.decision_function(file, mode=mode))


def test_offline_comes_as_soon_as_the_rows_after_allow(detector: ImDiffusion) -> None:
    entity = entity_of(detector)
    scorer = EntityScorer(entity, offline=True)
    test, known = series(100), 0
    for row in range(100):
        judged = scorer.push(live(test[row : row + 1], start=row))
        assert [one.mode for one in judged[:1]] == ["online"]
        known += len(judged) - 1
        network = (row + 1) // 20 * 20 - rows_after(entity.imputer.recipe)
        assert known == max(0, min(network, row + 1 - entity.linear.reach))
    assert len(scorer.finish()) == 100 - known


def test_after_finish_the_stream_starts_afresh(detector: ImDiffusion) -> None:
    scorer = EntityScorer(entity_of(detector))
    first = scorer.push(live(faulty()))
    assert scorer.finish() == []
    again = scorer.push(live(faulty()))
    assert np.array_equal(column(first, "online"), column(again, "online"), equal_nan=True)


def test_what_is_held_does_not_grow(detector: ImDiffusion) -> None:
    scorer = EntityScorer(entity_of(detector), offline=True)
    held = []
    for start in range(0, 4_000, 100):
        scorer.push(live(series(100, seed=start), start=start))
        held.append(scorer.nbytes)
    assert max(held[5:]) <= max(held[:5])


def test_memory_of_an_entity_of_38_channels_under_the_settings_of_fast() -> None:
    names = tuple(f"c{k}" for k in range(38))
    fast = {"window": 100, "detrend": (10, 30, 100), "smooth": (10, 30, 100), "mask_groups": 6}
    detector = fit(series(450, 38), names, max_steps=1, validate_every=1, **fast)
    for offline, most in ((False, 180_000), (True, 270_000)):
        scorer = EntityScorer(entity_of(detector), offline=offline)
        scorer.push(live(series(250, 38), names))
        held = [scorer.nbytes]
        for row in range(250, 350, 3):
            scorer.push(live(series(3, 38), names, start=row))
            held.append(scorer.nbytes)
        assert 20_000 < max(held) < most, offline


# -- states


def test_states_of_rows(detector: ImDiffusion) -> None:
    test = series(120)
    test[60:63] = np.nan  # 3 of 20 rows: more than a tenth
    test[100:, 1] = np.nan
    scorer = EntityScorer(entity_of(detector))
    states = column(scorer.push(live(test)), "online", "state").tolist()
    assert states[:19] == ["warming"] * 19
    runs = [(state, len(list(rows))) for state, rows in itertools.groupby(states[19:])]
    # Rows 62 to 80 see all three; a channel counts as missing after 20 rows, its cells after 7.
    assert runs == [("ready", 43), ("degraded", 18), ("ready", 26), ("degraded", 14)]


@pytest.mark.filterwarnings("ignore:.*which training had:imdiffusion.errors.DataWarning")
def test_missing_channels_are_scored_from_the_rest(detector: ImDiffusion) -> None:
    test = faulty()
    frame = live(test)
    part = frame.select(("memory", "disk"))
    judged = EntityScorer(entity_of(detector)).push(part)
    expected = test.copy()
    expected[:, 0] = np.nan
    alike(column(judged, "online"), detector.decision_function(live(expected), mode="online"))
    assert set(column(judged, "online", "state")) == {"warming", "degraded"}
    # What is missing has no part, but for that it is missing, which comes before all else.
    assert all(math.isnan(one.parts[0]) or one.parts[0] == max(one.parts) for one in judged)


def test_a_channel_that_training_never_saw_is_passed_over_and_degrades_nothing() -> None:
    train = series()
    train[:, 2] = np.nan
    with pytest.warns(UserWarning, match="without any value"):
        detector = fit(train)
    scorer = EntityScorer(entity_of(detector))
    judged = scorer.push(live(series(50)))
    assert set(column(judged[19:], "online", "state")) == {"ready"}
    assert all(math.isnan(one.parts[2]) for one in judged)


# -- refusals


def test_what_cannot_be_scored_is_refused(detector: ImDiffusion) -> None:
    scorer = EntityScorer(entity_of(detector))
    scorer.push(live(series(30)))
    with pytest.raises(DataError, match="not after the one before"):
        scorer.push(live(series(3), start=29))
    with pytest.raises(DataError, match=r"does not know: 'gpu'.*RowBuffer"):
        scorer.push(live(series(3, 1), ("gpu",), start=30))
    assert len(scorer.push(live(series(3), start=30))) == 3


def test_the_state_of_another_model_is_refused(detector: ImDiffusion) -> None:
    state = EntityScorer(entity_of(detector)).to_state()
    other = fit(series(200), seed=1)
    assert entity_of(other).version != entity_of(detector).version
    with pytest.raises(ModelError, match="starts afresh"):
        EntityScorer.from_state(state, EntityScorer(entity_of(other)))


def test_the_state_of_another_version_of_the_software_is_refused(detector: ImDiffusion) -> None:
    scorer = EntityScorer(entity_of(detector))
    scorer.push(live(series(130)))
    state = scorer.to_state()
    fresh = EntityScorer(entity_of(detector))
    for parts in ({}, {**state.parts, "online": replace(state.part("online"), parts={})}):
        with pytest.raises(ModelError, match="of another version"):
            EntityScorer.from_state(replace(state, parts=parts), fresh)
    with pytest.raises(ModelError, match="in version 2, not of a 'entity scorer' in version 1"):
        EntityScorer.from_state(replace(state, version=2), fresh)
    assert len(fresh.push(live(series(3)))) == 3  # nothing has come of it


def test_the_version_outlives_a_save(detector: ImDiffusion, tmp_path) -> None:
    detector.save(tmp_path / "model")
    loaded = ImDiffusion.load(tmp_path / "model")
    stated = entity_of(loaded).version  # the folder says it: its weights are not read again
    assert stated == entity_of(detector).version
    assert replace(entity_of(loaded), saved_version="").version == stated
    frame = live(faulty())
    expected = detector.decision_function(frame, mode="online")
    assert np.array_equal(loaded.decision_function(frame, mode="online"), expected, equal_nan=True)


def test_a_model_without_thresholds_online_says_what_to_do() -> None:
    old = fit(series(200), ensemble="rank", reduce="sum")
    assert np.isfinite(old.decision_function(live(series(60)))).all()
    with pytest.raises(ModelError, match=r"no thresholds for scores online.*Fit it again"):
        old.decision_function(live(series(60)), mode="online")
    with pytest.raises(ModelError, match="no thresholds"):
        EntityScorer(entity_of(old))
    with pytest.raises(DataError, match="fewer than a window"):
        fit(series(200)).decision_function(live(series(10)), mode="online")


def test_a_model_of_an_older_version_loads_and_says_that_it_knows_no_online(
    detector: ImDiffusion,
) -> None:
    entity = entity_of(detector)
    facts = entity.to_dict()
    for name in [name for name in facts if name.startswith("join_online_")]:
        del facts[name]
    old = Entity.restore(
        facts,
        entity.settings,
        seed=0,
        network=entity.imputer.network,
        device=entity.imputer.device,
    )
    assert old.calibration.thresholds == entity.calibration.thresholds
    with pytest.raises(ModelError, match="of an older version"):
        EntityScorer(old)


# -- other ways to score

PAPER = {
    "mask": "grating", "stride": 10, "sampling_steps": 4, "ensemble": "threshold",
    "ensemble_steps": 2, "detrend": (0,), "smooth": (1,), "error_scale": ("none",), "log_gain": 0.0,
    "sampler": "ddpm", "estimate": "sample",
}  # fmt: skip
DEEP = {"smooth": (3, 41)}
PARTIAL = {"mask": "forecast", "detrend": (5,), "smooth": (3,), "horizon": 8}


@pytest.mark.parametrize("changes", [PAPER, DEEP, PARTIAL], ids=["paper", "deep", "partial"])
def test_other_masks_steps_and_ensembles_go_the_same_way(changes) -> None:
    detector = fit(series(200), **changes)
    entity, test = entity_of(detector), faulty()
    scorer = EntityScorer(entity, offline=True)
    judged: list[ScoredRow] = []
    for start in range(0, 230, 31):
        judged += scorer.push(live(test[start : start + 31], start=start))
    judged += scorer.finish()
    for mode in ("online", "offline"):
        alike(column(judged, mode), detector.decision_function(live(test), mode=mode))
    assert (column(judged, "online")[100:110] > 1).any()
    follows = any(view.recent for view in entity.imputer.recipe.views)
    assert (EntityScorer(entity)._online.offline is not None) == follows


def test_means_that_reach_beyond_a_window_are_given_several() -> None:
    detector = fit(series(200), **DEEP, views=("network",))
    entity, test = entity_of(detector), series(80, seed=4)
    assert context(entity.imputer) == 40
    online = detector.decision_function(live(test), mode="online")
    ratio = entity.calibration.online[0] / entity.calibration.thresholds[0]
    for row in (39, 40, 47, 60):
        few = live(test[row - 39 : row + 1], start=row - 39)
        alike(online[row : row + 1], detector.decision_function(few)[-1:] / ratio)


def test_under_a_grating_only_the_mask_that_hides_the_last_row_is_run(monkeypatch) -> None:
    entity = entity_of(fit(series(200), **PAPER))
    asked = []
    impute = SeriesImputer.impute

    def spy(imputer, windows, steps, chosen=None):
        asked.append(chosen)
        return impute(imputer, windows, steps, chosen)

    monkeypatch.setattr(SeriesImputer, "impute", spy)
    EntityScorer(entity).push(live(series(30)))
    assert asked
    assert all(chosen == [1] for chosen in asked)  # bands 1 and 3 are hidden by the second mask
