"""What people say of events shapes the next fit: what is left out, what stays, where it begins."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from fit_parts import NAMES, SECOND, START, circle, configuration, frame, parts

from imdiffusion.errors import ConvergenceWarning
from imdiffusion.live.models.champion_challenger import Shape, shape_of
from imdiffusion.live.models.fit_worker import fit
from imdiffusion.live.models.pinned import speaker_of
from imdiffusion.live.store.inserts import Checkpoint, Judgement, Told
from imdiffusion.live.store.queries import Reader
from imdiffusion.records import EventRecord, ScoreRecord

MINUTE = 60 * SECOND
ROWS = 420
FAULT = range(280, 300)  # of the rows that a model is calibrated on


def judged(verdict, start, end, *, recorded=1, event="e", entity="web"):
    return Judgement(entity, event, verdict, start, end, recorded)


@pytest.mark.parametrize(
    ("said", "shape"),
    [
        ([], Shape()),
        ([judged("confirmed", 10, 20)], Shape(((10, 20),))),
        ([judged("confirmed", 10, None)], Shape(((10, 2**62),))),
        ([judged("confirmed", 10, 20, entity="db")], Shape()),
        ([judged("expected", 10, 20), judged("false_alarm", 5, 9)], Shape()),
        ([judged("not_resolved", 10, 20)], Shape()),
        (
            [judged("confirmed", 10, 20), judged("expected", 12, 14)],
            Shape(((10, 12), (14, 20))),
        ),
        ([judged("false_alarm", 5, 30), judged("confirmed", 10, 20)], Shape()),
        (
            [
                judged("new_normal", 50, 60, recorded=7),
                judged("new_normal", 30, 40, recorded=9),
                judged("confirmed", 45, 55),
            ],
            Shape(((45, 50),), 50, 9),
        ),
    ],
)
def test_what_was_said_as_rows(said, shape):
    assert shape_of("web", said) == shape


@pytest.fixture
def live(tmp_path):
    """Store, fitter and active of an entity with one loud event."""
    values = circle(ROWS)
    values[FAULT] += 9.0
    made = configuration(steps=10, more="most_rows = 600")
    store, places, router, fitter = parts(tmp_path, made, values)
    nothing = (float("nan"),) * 4
    first, last = (START + row * MINUTE for row in (FAULT.start, FAULT.stop))
    event = EventRecord(
        "e", "web", "resolved", 1, first, last, first, 9.0, "mahalanobis", "m",
        NAMES, (0.25,) * 4, nothing, nothing,
    )  # fmt: skip
    store.write(Checkpoint(updates=[event]), now=1)
    with store:
        yield store, places, router, fitter


def fitted(live, *, rows=400):
    """The entity and the outcome of the next fit, made in this process."""
    from imdiffusion import ImDiffusion

    _, places, router, fitter = live

    job = replace(fitter._job("web", router.speaking()["web"]), rows=rows)
    folder = places.fit("web")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        outcome = fit(job, folder)
    detector = ImDiffusion.load(places.model(outcome.path))
    return speaker_of(detector, outcome.digest, name="fast").entity, outcome


def test_confirmed_is_left_out_and_expected_counts_as_normal(live):
    store = live[0]
    silent, _ = fitted(live)
    store.add_feedback("e", "expected", who="", text="", now=2)
    expected, _ = fitted(live)
    store.add_feedback("e", "confirmed", who="", text="", now=3)
    confirmed, _ = fitted(live)
    limits = [one.calibration.thresholds[0] for one in (silent, expected, confirmed)]
    assert limits[0] == limits[1]
    assert limits[2] < 0.9 * limits[0]
    assert confirmed.calibration.units.scale.max() < silent.calibration.units.scale.max()


def test_a_fault_that_is_confirmed_is_no_false_alarm_in_the_contest(live):
    store = live[0]
    held = slice(370, 380)  # of the rows on which detectors are compared
    nothing = (float("nan"),) * 4
    first, last = (START + row * MINUTE for row in (held.start, held.stop))
    store.write(
        Checkpoint(
            updates=[
                EventRecord(
                    "f", "web", "resolved", 1, first, last, first, 9.0, "mahalanobis", "m",
                    NAMES, (0.25,) * 4, nothing, nothing,
                )
            ]
        ),
        now=1,
    )  # fmt: skip
    store.add_feedback("f", "confirmed", who="", text="", now=2)
    _, outcome = fitted(live)
    assert outcome.verdict["challenger"]["scored"] == pytest.approx(95 / 105)


def test_new_normal_begins_there_and_is_waited_for(live):
    store, _, router, fitter = live
    store.add_feedback("e", "new_normal", who="", text="", now=2)
    fitter.tick(router.speaking())
    assert not fitter.fitting  # 140 rows are too few
    entity, outcome = fitted(live, rows=140)
    assert outcome.rows == ROWS - FAULT.start
    assert entity.scaler.centre.mean() > 0.5  # most of what it has seen is the new normal
    with Reader(store.path) as reader:
        (said,) = reader.judgements()
    assert (said.entity, said.verdict, said.start) == ("web", "new_normal", START + 280 * MINUTE)
    made = replace(fitter.configuration.fit, rows=140)
    fitter.configuration = replace(fitter.configuration, fit=made)
    active, shape = router.speaking()["web"], Shape((), said.start, 2)
    fitter._outcomes["web"] = replace(outcome, won=True, made=1)
    assert fitter._due("web", active, shape)  # at once, not after `refit`
    fitter._outcomes["web"] = replace(outcome, won=True)  # made after it was said
    assert not fitter._due("web", active, shape)


def test_the_next_fit_takes_up_what_is_new_and_leaves_what_is_gone(live):
    store, _, router, _ = live
    active = router.speaking()["web"]
    values = circle(ROWS + 200)[ROWS:]
    rows = replace(frame(values, ROWS), channels=("a", "b", "c", "x"))  # d has another name
    active.push(rows)
    names = ("a", "b", "c", "d", "x")
    assert active.channels == names
    cells = np.insert(values, 3, np.nan, axis=1)
    told = [
        Told(
            ScoreRecord("web", int(at), "online", 0.5, "ready", active.detector, active.model),
            names,
            np.stack([row] * 4).astype(np.float32),
        )
        for at, row in zip(rows.timestamps.astype(np.int64), cells, strict=True)
    ]
    store.write(Checkpoint(told=told), now=1)
    both, outcome = fitted(live)
    assert outcome.rows == 600
    assert both.channels == names
    assert both.scaler.known.all()
    store.add_feedback("e", "new_normal", who="", text="", now=2)
    store._connection.execute("UPDATE events SET start = ?", (START + (ROWS - 5) * MINUTE,))
    after, _ = fitted(live, rows=200)
    assert after.channels == ("a", "b", "c", "x")
