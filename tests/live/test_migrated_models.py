"""A fitted model moves with its entity from one process of a group to another."""

from __future__ import annotations

import math
import shutil
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fit_parts import circle, configuration, frame

from imdiffusion.errors import ConvergenceWarning, SourceEnded
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.models.background_fits import Fitter
from imdiffusion.live.models.pinned import CAME, Places
from imdiffusion.live.models.router import ModelRouter
from imdiffusion.live.scorers.fitted import EntityScorer
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.retention import PeerStates

VALUES = circle(160)
FAR = 2**62


@pytest.fixture(scope="module")
def detectors():
    from imdiffusion import ImDiffusion

    def fitted(seed):
        keywords = {**configuration(steps=10).keywords, "seed": seed}
        return ImDiffusion(**keywords).fit(frame(circle(420)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fitted(0), fitted(1)


class Fed:
    """A source of frames that are given to it; all are there at once."""

    def __init__(self) -> None:
        self.frames = []

    def open(self, offset):
        pass

    def read(self, timeout):
        if not self.frames:
            raise SourceEnded("all of it was read")
        return Batch((self.frames.pop(0),), "1")

    def commit(self, offset):
        pass

    def close(self):
        pass


class Member:
    """A process of the group: its live state in FOLDER/NAME, and what it is fed."""

    def __init__(self, folder, name):
        self.places = Places(folder / name)
        self.places.make()
        self.made = configuration(steps=10)
        self.store = Store(self.places.live)

    def has(self, detector, entity="web", *, path=None):
        """A model of an entity that was fitted here and has won."""
        fitted = detector.entity()
        digest = EntityScorer(fitted).model
        path = path or f"{self.places.models(entity).relative_to(self.places.folder)}/{digest}"
        (self.places.folder / path).parent.mkdir(parents=True, exist_ok=True)
        detector.save(self.places.folder / path)
        self.store.add_model(entity, digest, detector="fast", path=path, now=7)
        self.store.promote(entity, digest, reason="it won", now=8)
        return digest

    def reads(self, first, last):
        """Score rows of `web`, in an engine that ends then; detector, version, score and state."""
        peers = PeerStates(self.places.folder.parent, own=self.places.folder)
        router = ModelRouter(self.store, self.places, self.made, peers=peers)
        source = Fed()
        source.frames = [frame(VALUES[row : row + 1], row) for row in range(first, last)]
        options = EngineOptions(every=1e-9, stale_after=1e9)
        engine = Engine(
            self.store,
            sources={"fed": source},
            sinks={},
            scorer_for=router.scorer_for,
            options=options,
            peers=peers,
        )
        router.source_of = engine.source_of
        while engine.once():
            pass
        engine.close()
        router.close()
        with Reader(self.places.live) as reader:
            found = reader.scores(
                "web",
                frame(VALUES[first : first + 1], first).timestamps.astype("int64")[0].item(),
                FAR,
            )
        assert len(found) == last - first
        return [
            (one.detector, one.model, None if math.isnan(one.score) else one.score, one.state)
            for one in found
        ]


@contextmanager
def group(folder, *names):
    members = [Member(folder, name) for name in names]
    try:
        yield members
    finally:
        for one in members:
            one.store.close()


@pytest.mark.parametrize("path", [None, "models/given/shared"])
def test_it_goes_on_as_if_one_process_had_seen_all_rows(tmp_path, detectors, path):
    with group(tmp_path / "pair", "a", "b") as (a, b), group(tmp_path / "one", "c") as (alone,):
        digest = a.has(detectors[0], path=path)
        alone.has(detectors[0])
        expected = alone.reads(0, 80) + alone.reads(80, 160)
        told = a.reads(0, 80) + b.reads(80, 160)
        assert [one[:2] + one[3:] for one in told] == [one[:2] + one[3:] for one in expected]
        assert [one[2] for one in told] == pytest.approx([one[2] for one in expected])
        assert told[-1][:2] == ("fast", digest)
        (model,) = Reader(b.places.live).models("web")
        assert (model.digest, model.live, model.made) == (digest, True, 7)
        # It is b's own: whatever a does with its folder.
        shutil.rmtree(a.places.folder)
        assert b.reads(159, 160)[0][:2] == ("fast", digest)
        Fitter(b.store, b.places, b.made)._prune("web")
        assert b.places.model(model.path).is_dir()
        ModelRouter(b.store, b.places, b.made).close()
        assert b.places.model(model.path).is_dir()


@pytest.mark.parametrize("harm", ["torn", "gone", "outside"])
def test_one_that_cannot_be_had_is_refused_and_the_baseline_goes_on(
    tmp_path, detectors, caplog, harm
):
    with group(tmp_path, "a", "b") as (a, b):
        digest = a.has(detectors[0])
        a.reads(0, 80)
        folder = a.places.models("web") / digest
        if harm == "torn":
            weights = folder / "weights.safetensors"
            weights.write_bytes(weights.read_bytes()[:-9])
        elif harm == "gone":
            shutil.rmtree(folder)
        else:
            shutil.move(folder, tmp_path / "elsewhere")
            a.store._connection.execute("UPDATE models SET path = '../elsewhere'")
        told = b.reads(80, 115)
        assert {one[0] for one in told} == {"mahalanobis"}
        assert told[-1][2] is not None  # rows came with it: it need not begin anew
        assert f"the model {digest} of web does not come with it" in caplog.text
        with Reader(b.places.live) as reader:
            assert reader.counters()["models_refused", "web"] == 1
            assert reader.models("web") == []
        assert not list(b.places.models("web").glob("*"))


def test_an_entity_that_comes_back_goes_on_with_the_model_that_spoke_last(tmp_path, detectors):
    with group(tmp_path, "a", "b") as (a, b):
        a.made = b.made = replace(a.made, fit=replace(a.made.fit, enabled=True))
        first = a.has(detectors[0])
        a.reads(0, 40)
        assert b.reads(40, 60)[-1][:2] == ("fast", first)
        second = b.has(detectors[1])
        assert b.reads(60, 100)[-1][:2] == ("fast", second)
        # a was away for so long that it has forgotten web.
        a.store._connection.execute("DELETE FROM states WHERE entity = 'web'")
        assert a.reads(100, 120)[-1][:2] == ("fast", second)
        with Reader(a.places.live) as reader:
            assert reader.promotions("web")[0] == (second, CAME)
            assert {one.digest for one in reader.models("web")} == {first, second}


def test_a_model_that_has_won_since_stands_after_a_restart(tmp_path, detectors):
    with group(tmp_path, "a", "b") as (a, _):
        a.has(detectors[0])
        a.reads(0, 40)
        second = a.has(detectors[1])  # promoted, and then the process is killed
        assert a.reads(40, 60)[-1][:2] == ("fast", second)


def test_its_next_fit_is_due_when_it_would_have_been(tmp_path, detectors):
    with group(tmp_path, "a", "b") as (a, b):
        a.has(detectors[0])
        a.store._connection.execute("UPDATE models SET made = ?", (time.time_ns(),))
        a.reads(0, 40)
        b.reads(40, 60)
        active = ModelRouter(b.store, b.places, b.made).scorer_for(frame(VALUES[:1]))
        active.alignment.count = 10 * b.made.fit.rows
        fitter = Fitter(b.store, b.places, b.made)
        assert fitter._next({"web": active}) is None
        b.store._connection.execute("UPDATE models SET made = 7")
        assert Fitter(b.store, b.places, b.made)._next({"web": active}) == "web"
