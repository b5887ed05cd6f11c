"""A fitted model as the active of an entity: primed, over leaps of time, offline too."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from fit_parts import circle, configuration, frame, parts

from imdiffusion.errors import ConvergenceWarning
from imdiffusion.live.models.background_fits import Fitter
from imdiffusion.live.models.pinned import Places
from imdiffusion.live.models.router import ModelRouter, cold_rate
from imdiffusion.live.scorers.fitted import EntityScorer


@pytest.fixture(scope="module")
def detector():
    from imdiffusion import ImDiffusion

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**configuration(steps=20).keywords).fit(frame(circle(420)))


@pytest.fixture
def state(tmp_path, detector):
    """Store, places, router and rows of an entity whose live model is `detector`."""
    made = configuration()
    made = replace(made, stream=replace(made.stream, offline=True))
    values = circle(600)
    store, places, router, _ = parts(tmp_path, made, values[:420])
    entity = detector.entity()
    digest = EntityScorer(entity).model
    detector.save(places.folder / "models" / "one")
    store.add_model("web", digest, detector="fast", path="models/one", now=1)
    store.promote("web", digest, reason="by hand", now=2)
    with store:
        yield router, values, digest


class Engine:
    def succeed(self, entity, active):
        self.active = active


@pytest.mark.parametrize("gap", [0, 500])
def test_a_model_begins_ready_and_afresh_after_a_leap(state, gap):
    router, values, digest = state
    engine = Engine()
    assert router.follow(engine) == ["web"]
    active = engine.active
    told = active.push(frame(values[420:460], 420))
    arrived = [one for one in told if one.mode == "online"]
    assert active.model == digest
    assert {one.state for one in arrived} == {"ready"}
    more = active.push(frame(values[460:520], 460 + gap))
    arrived = [one for one in more if one.mode == "online"]
    assert [one.state for one in arrived[:19]] == [("warming" if gap else "ready")] * 19
    # The closed-form views speak at once, while the network still waits for its first window.
    assert all(math.isfinite(one.score) for one in arrived)
    assert {one.state for one in arrived[20:]} == {"ready"}


def test_a_channel_that_is_renamed_is_missed_and_seen_and_the_model_speaks_on(state):
    router, values, digest = state
    engine = Engine()
    router.follow(engine)
    active = engine.active
    active.push(frame(values[420:430], 420))
    new = replace(frame(values[430:480], 430), channels=("a", "b", "c", "x"))
    arrived = [one for one in active.push(new) if one.mode == "online"]
    assert active.channels == ("a", "b", "c", "d", "x")
    assert (active.model, {one.state for one in arrived[20:]}) == (digest, {"degraded"})
    assert [one.seen[4] for one in arrived] == [row[3] for row in values[430:480]][: len(arrived)]
    cells = [(one.parts, one.expected, one.lower, one.upper) for one in arrived]
    assert np.isnan([[cell[4] for cell in row] for row in cells]).all()
    assert np.isfinite([one.score for one in arrived]).all()
    assert np.isfinite([one.expected[3] for one in arrived]).all()  # what it would have been


def test_a_model_of_other_channels_does_not_speak(state):
    router, values, digest = state
    rows = frame(values[:3])
    names = ("w", "x", "y", "z")
    other = ModelRouter(router.store, router.places, router.configuration)
    active = other.scorer_for(replace(rows, channels=names, entity="db"))
    assert active.detector == "mahalanobis"
    router.store.add_model("db", digest, detector="fast", path="models/one", now=1)
    router.store.promote("db", digest, reason="by hand", now=2)
    assert other.follow(Engine()) == []
    assert other.scorer_for(replace(rows, channels=names, entity="db")).channels == names


def test_the_first_rows_of_a_model_without_a_past(state):
    router, values, digest = state
    rows = replace(frame(values[:30]), entity="db")
    router.store.add_model("db", digest, detector="fast", path="models/one", now=1)
    router.store.promote("db", digest, reason="by hand", now=2)
    active = router.scorer_for(rows)
    arrived = [one for one in active.push(rows) if one.mode == "online"]
    assert [one.state for one in arrived] == ["warming"] * 19 + ["ready"] * 11


def test_the_budget_of_alarms_is_a_rate_of_rows():
    made = configuration()
    assert cold_rate(made, 60 * 10**9) == made.settings.alarm_rate
    budget = replace(made, alerts=replace(made.alerts, alarms_per_day=2.0))
    assert math.isclose(cold_rate(budget, 60 * 10**9), 2 * 5 / 1440)
    assert cold_rate(budget, 86_400 * 10**9) == 0.5


def test_nothing_is_fitted_where_nobody_wants_it(tmp_path):
    made = configuration(more="enabled = false")
    store, _, router, fitter = parts(tmp_path, made, np.zeros((420, 4)))
    with store:
        fitter.tick(router.speaking())
        assert not fitter.fitting
        Fitter(store, Places(tmp_path), made).close()


def test_entities_that_share_a_model_folder_share_its_weights_and_nothing_else(state):
    router, values, digest = state
    names = ["db", "cache", "queue"]
    for name in names:
        router.store.add_model(name, digest, detector="fast", path="models/one", now=1)
        router.store.promote(name, digest, reason="by hand", now=2)
    made = {name: router.scorer_for(replace(frame(values[:1]), entity=name)) for name in names}
    scorers = [active._scorer for active in made.values()]
    assert len({id(one.entity.imputer.network) for one in scorers}) == 1
    assert {one.model for one in scorers} == {digest}
    told = {
        name: made[name].push(replace(frame(values[row : row + 40]), entity=name))
        for row, name in enumerate(names)
    }
    # Woven with the others, each says what it says alone.
    alone = ModelRouter(router.store, router.places, router.configuration)
    active = alone.scorer_for(replace(frame(values[:1]), entity="cache"))
    same = active.push(replace(frame(values[1:41]), entity="cache"))
    assert [one.score for one in told["cache"]] == pytest.approx(
        [one.score for one in same], nan_ok=True
    )
    assert active._scorer.entity.imputer.network is not scorers[0].entity.imputer.network


def test_a_folder_that_holds_another_model_by_now_is_read_anew(state, detector):
    from imdiffusion import ImDiffusion

    router, values, digest = state
    first = router.scorer_for(replace(frame(values[:1]), entity="web"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        other = ImDiffusion(**configuration(steps=20).keywords).fit(frame(circle(400)))
    entity = other.entity()
    new = EntityScorer(entity).model
    other.save(router.places.folder / "models" / "one")
    for name, noted in (("db", new), ("cache", digest)):
        router.store.add_model(name, noted, detector="fast", path="models/one", now=1)
        router.store.promote(name, noted, reason="by hand", now=2)
    assert router.scorer_for(replace(frame(values[:1]), entity="db")).model == new
    # What is in memory is still what was noted.
    assert router.scorer_for(replace(frame(values[:1]), entity="cache")).model == digest
    assert first.model == digest
