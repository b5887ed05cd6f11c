"""Fits in the background: interrupted, killed, failed, lost, won; and torn models refused."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
import pytest
from fit_parts import circle, configuration, frame, parts

from imdiffusion.errors import ConvergenceWarning
from imdiffusion.live.models.background_fits import Fitter
from imdiffusion.live.models.champion_challenger import Shape
from imdiffusion.live.models.fit_job import JOB, RESUME, VERDICT, read_outcome, write_facts
from imdiffusion.live.models.fit_worker import answer
from imdiffusion.live.models.pinned import name_of
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.store.queries import Reader

HERE = Path(__file__).parent


def wait_for(condition, seconds=90):
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)
    return found


def over(fitter, router):
    """Look after it until a fit is over."""

    def look():
        fitter.tick(router.speaking())
        return not fitter.fitting

    fitter.tick(router.speaking())
    assert fitter.fitting == "web"
    wait_for(look)


def fitted_here(fitter, router):
    """What the process of a fit does, done in this one, which has what takes long to load."""
    folder = fitter.places.fit("web")
    folder.mkdir(parents=True)
    write_facts(folder / JOB, fitter._job("web", router.speaking()["web"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert answer({"folder": str(folder)})["exit_code"] == 0
    assert fitter._due("web", router.speaking()["web"], Shape()) is False  # its verdict is there
    assert not (folder / JOB).exists()
    return read_outcome(folder)


def models(store):
    with Reader(store.path) as reader:
        return reader.models("web")


def counters(store):
    with Reader(store.path) as reader:
        return reader.counters()


class Engine:
    """Takes the router that are put forward."""

    def __init__(self):
        self.spoken = []

    def succeed(self, entity, active):
        self.spoken.append((entity, active))


def test_an_interrupted_fit_goes_on_and_what_wins_takes_over(tmp_path):
    values = circle(460)
    made = configuration()  # against `linear` a network of this size would not win
    store, places, router, fitter = parts(tmp_path, made, values[:420])
    with store:
        fitter.tick(router.speaking())
        folder = places.fit("web")
        wait_for(lambda: (folder / "rows").exists())
        fitter._process.end(0.0)  # killed
        fitter.close()
        assert (folder / JOB).exists()
        assert not (folder / VERDICT).exists()
        fitter = Fitter(store, places, made)
        fitter.tick(router.speaking())
        wait_for(lambda: (folder / VERDICT).exists())  # and then its parent ends unasked
        assert models(store) == []
        fitter.close()
        fitter = Fitter(store, places, made)
        fitter.tick(router.speaking())
        assert not fitter.fitting
        assert not (folder / JOB).exists()
        assert not (folder / RESUME).exists()
        outcome = read_outcome(folder)
        (model,) = models(store)
        assert (outcome.won, model.live, model.digest) == (True, True, outcome.digest)
        fitter.tick(router.speaking())
        assert not fitter.fitting  # till it is time for the next
        engine = Engine()
        assert router.follow(engine) == ["web"]
        assert router.follow(engine) == []
        ((_, active),) = engine.spoken
        told = active.push(frame(values[420:], 420))
        assert (active.detector, active.model) == ("fast", model.digest)
        assert {one.state for one in told} == {"ready"}
        assert np.isfinite([one.score for one in told]).all()
        store.add_model("web", "feedface", detector="fast", path="models/none", now=time.time_ns())
        store.promote("web", "feedface", reason="by hand", now=time.time_ns())
        assert router.follow(engine) == []  # there is nothing in its folder: the one before serves
        assert counters(store)["models_refused", "web"] == 1
        assert next(one for one in models(store) if one.live).digest == model.digest
        assert ModelRouter(store, places, made).scorer_for(frame(values[:1])).model == model.digest
        torn = tmp_path / model.path / "manifest.json"
        torn.write_text(torn.read_text()[:-40])
        again = ModelRouter(store, places, made)
        assert again.scorer_for(frame(values[:1])).detector == "mahalanobis"
        refused = counters(store)["models_refused", "web"]
        assert refused >= 2
        assert again.follow(engine) == []
        assert counters(store)["models_refused", "web"] == refused


def test_who_loses_is_noted_and_does_not_speak(tmp_path):
    # A network of one step by itself, against a distance to the mean.
    made = configuration(steps=1, detector='views = ["network"]', more="nice = 0")
    store, _, router, fitter = parts(tmp_path, made, np.random.default_rng(0).normal(size=(420, 4)))
    with store:
        outcome = fitted_here(fitter, router)
        (model,) = models(store)
        assert model.live == outcome.won
        assert not outcome.won, outcome.reason
        assert router.follow(Engine()) == []
        fitter.tick(router.speaking())
        assert not fitter.fitting


def test_rows_that_are_too_few_are_said_and_tried_again_later(tmp_path):
    made = configuration(more="most_rows = 400\nholdout = 0.3")
    store, places, router, fitter = parts(tmp_path, made, circle(420))
    with store:
        with store._transaction():
            store._connection.execute("DELETE FROM details")
        over(fitter, router)
        assert counters(store)["fits_failed", "web"] == 1
        assert "400 are needed" in (places.fit("web") / "log.txt").read_text()
        assert models(store) == []
        fitter.tick(router.speaking())
        assert not fitter.fitting  # it waits


def test_a_file_to_fit_on(tmp_path):
    import pyarrow as pa

    from imdiffusion.data.writing import write_table

    values = circle(450)
    rows = frame(values)
    columns = {name: values[:, k] for k, name in enumerate(("a", "b", "c", "d"))}
    write_table(pa.table({"timestamp": rows.timestamps, **columns}), tmp_path / "old.parquet")
    made = configuration(steps=1, more=f'nice = 0\ntrain = "{tmp_path / "old.parquet"}"')
    store, _, router, fitter = parts(tmp_path, made, values[:10])
    with store:
        assert fitter._due("web", router.speaking()["web"], Shape())  # whatever has come live
        fitter._outcomes.clear()
        outcome = fitted_here(fitter, router)
        assert [one.digest for one in models(store)] == [outcome.digest]
        assert outcome.rows == 450


def test_a_fit_ends_when_its_parent_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, HERE / "fit_parts.py", tmp_path], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for(lambda: list(tmp_path.glob("fits/*/rows")))
        assert child.nice() >= 10
        parent.kill()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("entity", ["web", "", "../../etc/passwd", "a/b", "x" * 500, "\ud800", "é"])
def test_names_of_entities_lead_nowhere_else(entity):
    name = name_of(entity)
    assert name.isascii()
    assert "/" not in name
    assert name not in (".", "..", "")
    assert len(name) < 60
    assert name_of(entity + "x") != name
