"""Live events begin and end where the fault does, and say what it is; over any cut and restart"""

from __future__ import annotations

import json
import warnings
from types import MappingProxyType

import kind_story
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_parts import Hands, LineSink

from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.errors import DataWarning
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.engine.engine import Engine
from imdiffusion.live.engine.entity_state import EngineOptions, EntityState
from imdiffusion.live.events.open_event import MOST, EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.rows.alignment import Alignment
from imdiffusion.live.scorers.active_scorer import ActiveScorer
from imdiffusion.live.scorers.fitted import EntityScorer, ScoredRow, resumed
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.records import EventRecord
from imdiffusion.results import Analysis
from imdiffusion.saved_state import State
from imdiffusion.scoring.edges import AROUND
from imdiffusion.scoring.event import Finding
from imdiffusion.wording import number

STEP = 60 * 1_000_000_000
CHANNELS = ("cpu", "memory", "disk", "net")
QUIET = (0.1, 0.1, 0.1, 0.1)
FAULTY = (0.1, 40.0, 0.1, 0.1)
FAR = 2**62


def row(at, score, evidence=QUIET, *, reach=8, findings=None, mode="online"):
    own = np.array(evidence)
    cells = np.array([at, at + 0.25, at + 0.5, at + 0.75], float)
    return ScoredRow(
        at * STEP, mode, score, own, cells, cells - 1, cells - 2, cells + 2,
        findings=findings or {}, evidence=own, echo=2, reach=reach,
    )  # fmt: skip


def tracker(offline=False, **rules):
    made = EventTracker("web", EventRules(merge_gap=2, renotify=0, **rules), offline=offline)
    made.speak("linear", "m1", CHANNELS)
    return made


def lagging(count=120, fault=range(60, 66), onset=63, over=90, **options):
    """Rows of which `fault` carry the evidence, above 1 from `onset` to `over`."""
    return [
        row(at, 2.0 if onset <= at < over else 0.1, FAULTY if at in fault else QUIET, **options)
        for at in range(count)
    ]


def span(record):
    return record.start // STEP, None if record.end is None else record.end // STEP


# -- by hand


def test_an_event_has_the_rows_of_the_evidence_and_not_those_above_one():
    onset, resolution = tracker().push(lagging())
    assert span(onset) == (60, None)
    assert span(resolution) == (60, 66)
    assert 60 <= resolution.peak // STEP < 66
    assert resolution.channels[0] == "memory"
    assert resolution.shares[0] > 0.98
    at = resolution.peak // STEP
    assert (resolution.seen[0], resolution.expected[0]) == (at + 0.25, at - 0.75)
    assert resolution.reason == f"memory {number(at + 0.25)} where {number(at - 0.75)} was expected"
    assert resolution.kinds == ("",) * 4


def test_the_row_that_is_shown_is_the_one_where_the_leading_channel_is_most_wrong():
    rows = lagging()
    rows[64] = row(64, 2.0, (0.1, 60.0, 0.1, 0.1))
    rows[70] = row(70, 9.0)  # the highest score comes when the fault is over
    *_, resolution = tracker().push(rows)
    assert resolution.peak == 64 * STEP
    assert resolution.score == 9.0


def test_a_start_is_not_looked_for_before_the_rows_that_a_score_reads_nor_in_an_earlier_run():
    assert span(tracker().push(lagging(onset=65, reach=3))[-1]) == (62, 66)
    rows = lagging(fault=(60, 61, 64, 65), onset=65)
    rows[61] = row(61, 2.0, FAULTY)  # a run of its own
    told = tracker().push(rows)
    assert [span(one) for one in told if one.status == "resolved"] == [(60, 62), (64, 66)]


def test_rows_that_speak_for_no_fault_open_no_second_event():
    rng = np.random.default_rng(0)
    noise = [tuple(rng.uniform(0, 1, 4)) for _ in range(120)]
    rows = lagging()
    rows[66:90] = [row(at, 1.5, noise[at]) for at in range(66, 90)]
    told = tracker().push(rows)
    assert [(one.update, one.status) for one in told] == [(0, "ongoing"), (1, "resolved")]
    assert span(told[1]) == (60, 66)


def test_two_causes_at_once_have_edges_of_their_own():
    net = (0.1, 0.1, 0.1, 50.0)
    rows = [row(at, 0.1) for at in range(60)]
    rows += [row(at, 2.0, FAULTY) for at in range(60, 70)]
    rows += [row(at, 2.0, net) for at in range(70, 80)]
    rows += [row(at, 2.0 if at < 90 else 0.1) for at in range(80, 120)]
    over = {one.channels[0]: one for one in tracker().push(rows) if one.status == "resolved"}
    assert {name: span(one) for name, one in over.items()} == {"memory": (60, 70), "net": (70, 80)}


def test_without_evidence_of_single_rows_an_event_has_the_rows_above_one():
    rows = [
        ScoredRow(one.timestamp, "online", one.score, one.parts, *[one.seen] * 4)
        for one in lagging()
    ]
    assert span(tracker().push(rows)[-1]) == (63, 90)


def test_an_event_longer_than_what_is_held_keeps_its_start():
    count = 3 * MOST
    rows = lagging(count + 60, fault=range(60, count), onset=61, over=count + 20)
    made = tracker()
    told = made.push(rows)
    assert span(told[-1]) == (60, count)
    sizes = []
    for one in lagging(count + 60, fault=range(60, count), onset=61, over=count + 20):
        made.push([ScoredRow(**{**_fields(one), "timestamp": one.timestamp + 10**16})])
        sizes.append(len(made._log))
    assert max(sizes) == MOST
    assert sizes[-1] == AROUND + 8  # an hour after it, what a next one needs


def _fields(one):
    return {name: getattr(one, name) for name in ScoredRow.__slots__}


def test_a_leap_of_time_forgets_the_rows_before():
    made = tracker()
    made.push(lagging(60))
    later = [
        ScoredRow(**{**_fields(one), "timestamp": one.timestamp + 10**15}) for one in lagging()[:62]
    ]
    made.push(later)
    assert len(made._log) == 62


def test_expiry_tells_the_edges_too():
    made = tracker()
    made.push(lagging()[:75])
    (over,) = made.expire()
    assert (over.status, span(over)) == ("expired", (60, 66))
    assert span(_expired_at(64)) == (60, 64)  # the row after the last has not come


def _expired_at(row_count):
    made = tracker()
    made.push(lagging()[:row_count])
    return made.expire()[0]


def test_offline_that_finds_rows_normal_is_told_and_moves_no_edge():
    made = tracker(offline=True)
    told = made.push(lagging())
    assert made.push([row(at, 1.2, mode="offline") for at in range(120)]) == []
    made = tracker(offline=True)
    made.push(lagging())
    (again,) = made.push([row(at, 0.4, mode="offline") for at in range(120)])
    assert (again.score, span(again)) == (0.4, span(told[-1]))


def test_findings_are_those_of_the_fault_and_not_of_what_looks_back_at_it():
    frozen = {1: Finding("frozen", "frozen for 6 rows", lasting=True)}
    hour = {2: Finding("unusual_hour", "unusual for 02:00")}
    rows = lagging()
    rows[65] = row(65, 2.0, FAULTY, findings=frozen)
    rows[70] = row(70, 2.0, findings=hour)
    *_, resolution = tracker().push(rows)
    assert resolution.kinds == ("frozen", "", "", "")
    assert resolution.reason == "memory frozen for 6 rows"


def test_a_change_of_channels_in_an_event_keeps_edges_kinds_and_evidence():
    frozen = {1: Finding("frozen", "frozen for 6 rows", lasting=True)}
    rows = lagging()
    rows[65] = row(65, 2.0, FAULTY, findings=frozen)
    made = tracker()
    made.push(rows[:75])
    made.speak("linear", "m2", ("gpu", "memory"))
    own = np.array([0.1, 0.1])
    told = made.push(
        ScoredRow(at * STEP, "online", 0.1, own, own, own, own, own, evidence=own, echo=2, reach=8)
        for at in range(75, 90)
    )
    assert span(told[0]) == (60, 66)
    assert told[0].channels == ("memory", "gpu")
    assert told[0].kinds == ("frozen", "")


def test_an_event_that_a_person_reopens_keeps_its_start_and_its_kind():
    frozen = {1: Finding("left_constant", "away for 6 rows", lasting=True)}
    rows = lagging()
    rows[65] = row(65, 2.0, FAULTY, findings=frozen)
    made = tracker()
    over = made.push(rows)[-1]
    fresh = tracker()
    for one in (made, fresh):  # one that knows the event, and one that begins afresh
        (again,) = one.hold([over])
        assert (span(again), again.kinds[0]) == ((60, None), "left_constant")
        one.push([row(at, 2.0, FAULTY) for at in range(120, 126)])
        one.hold([])
        (last,) = one.push([row(at, 0.1) for at in range(126, 140)])
        assert span(last) == (60, 126)
        assert last.kinds[0] == "left_constant"


@st.composite
def _rows(draw):
    count = draw(st.integers(30, 150))
    loud = draw(st.lists(st.tuples(st.integers(0, count), st.integers(0, 3)), max_size=6))
    own = np.full((count, 4), 0.2)
    score = np.full(count, 0.1)
    for start, channel in loud:
        own[start : start + 5, channel] = draw(st.sampled_from([4.0, 30.0, 9e4]))
        score[start + draw(st.integers(0, 3)) : start + draw(st.integers(4, 20))] = 2.0
    kinds = draw(st.lists(st.integers(0, count - 1), max_size=4))
    said = {at: {at % 4: Finding("missing", f"for {at} rows", lasting=True)} for at in kinds}
    return [row(at, score[at], own[at], findings=said.get(at)) for at in range(count)]


@settings(max_examples=60, deadline=None)
@given(_rows(), st.lists(st.tuples(st.integers(1, 25), st.booleans()), min_size=1, max_size=20))
def test_any_cut_and_any_restart_give_the_same_turns(rows, cuts):
    whole = tracker()
    expected = whole.push(rows) + whole.expire()
    made, told, at = tracker(), [], 0
    while at < len(rows):
        size, restart = cuts[at % len(cuts)]
        told += made.push(rows[at : at + size])
        at += size
        if restart:
            state = made.to_state().to_bytes()
            made = EventTracker.from_state(State.from_bytes(state), tracker())
            assert made.to_state().to_bytes() == state
    told += made.expire()
    assert repr(told) == repr(expected)
    for one in told:
        assert one.start <= one.peak
        assert one.end is None or one.peak < one.end


# -- of a real detector


@pytest.fixture(scope="module", name="story")
def _story() -> tuple[Entity, Analysis]:
    detector = kind_story.fitted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of the gap, and of what is constant
        entity = detector.entity()
        return entity, detector.analyze(kind_story.faulty())


class Whole(EntityScorer):
    """A scorer whose rows come as it wants them: nothing of them is ever counted."""

    counts = MappingProxyType({})


def watched(entity: Entity, *, offline: bool) -> EntityState:
    rules = EventRules(merge_gap=entity.settings.merge_gap, renotify=0)
    one = EntityState("web", rules, offline=offline, now=0.0)
    one.speak(Whole(entity, offline=offline))
    return one


def replayed(entity: Entity, frame: Frame, *, offline: bool, step: int) -> list[EventRecord]:
    """The turns of a series that is pushed in pieces, with a restart in every tenth of them."""
    one, turns = watched(entity, offline=offline), []
    for piece, start in enumerate(range(0, len(frame), step)):
        turns += one.push(frame.slice(start, start + step))[1]
        if piece % 10 == 9:
            states = one.to_states()
            one = watched(entity, offline=offline)
            one.tracker = EventTracker.from_state(states["web", "tracker"], one.tracker)
            one.speak(resumed(one.scorer, states["web", "scorer"]))
    return turns


@pytest.mark.parametrize("offline", [False, True])
def test_live_events_have_the_edges_and_kinds_of_those_of_the_file(story, offline: bool) -> None:
    entity, analysis = story
    frame = analysis.frame
    turns = replayed(entity, frame, offline=offline, step=29)
    over = {one.id: one for one in turns if one.status != "ongoing"}.values()
    origin, step = frame.timestamps[0].astype(np.int64), int(np.diff(frame.timestamps)[0])
    live = [((one.start - origin) // step, (one.end - origin) // step, one) for one in over]
    for start, end, kind, words in kind_story.FAULTS:
        (event,) = [one for one in analysis.events if one.start < end and start < one.end]
        met = [one for one in live if one[0] < end and start < one[1]]
        (own,) = [one for one in met if one[2].channels[0] == event.channels[0]]
        assert own[:2] == (event.start, event.end)
        assert own[2].kinds[0] == event.kinds[0] == kind
        assert own[2].reason == event.reason
        assert own[2].reason.startswith(words)
        assert (own[2].peak - origin) // step == event.peak
        assert own[2].seen[0] == pytest.approx(event.seen[0], nan_ok=True)
        assert own[2].expected[0] == pytest.approx(event.expected[0], rel=1e-5)
    # Online a fault is heard in another channel first, now and then, and a row by chance.
    assert len(live) <= len(analysis.events) + 2


def test_in_an_alignment_of_more_channels_the_kinds_stand_by_the_right_ones(story) -> None:
    entity, analysis = story
    end = kind_story.FAULTS[0][1]
    frame = analysis.frame.slice(0, end + 60)
    names = ("new", *reversed(frame.channels))  # the alignment has them in another order
    values = np.concatenate([np.ones((len(frame), 1)), frame.values[:, ::-1]], axis=1)
    observed = np.concatenate([np.ones((len(frame), 1), bool), frame.observed[:, ::-1]], axis=1)
    wide = Frame(values, observed, frame.timestamps, names, "web")
    step = int(np.diff(frame.timestamps)[0])
    rows = Alignment("web", names, period=step, lateness=0, fill=30)
    own = EntityScorer(entity)
    one = EntityState("web", EventRules(renotify=0), offline=False, now=0.0)
    one.speak(ActiveScorer(rows, "linear", own.model, lambda *_: own))
    turns = [
        turn for at in range(0, len(wide), 40) for turn in one.push(wide.slice(at, at + 40))[1]
    ]
    (over,) = [one for one in turns if one.status == "resolved" and "missing" in one.kinds]
    assert dict(zip(over.channels, over.kinds, strict=True))["latency"] == "missing"
    assert over.channels[0] == "latency"
    assert over.end == frame.timestamps[end].astype(np.int64)


def test_a_replay_in_other_pieces_and_without_a_restart_says_the_same(story) -> None:
    entity, analysis = story
    frame = analysis.frame.slice(0, 1000)
    cut = replayed(entity, frame, offline=True, step=17)
    assert repr(cut) == repr(replayed(entity, frame, offline=True, step=101))


class Rows:
    """A source of the rows of a frame, some at a time; the offset is a row. Keeps `Source`."""

    def __init__(self, frame: Frame, *, stop: int) -> None:
        self.frame, self.stop, self._at = frame, stop, 0

    def open(self, offset) -> None:
        self._at = int(offset or 0)

    def read(self, timeout):
        start, self._at = self._at, min(self.stop, self._at + 50)
        if start >= self._at:
            return None
        return Batch((self.frame.slice(start, self._at),), str(self._at), ())

    def commit(self, offset) -> None:
        pass

    def close(self) -> None:
        pass


def run(folder, entity: Entity, frame: Frame, *, stop: int) -> None:
    """An engine that scores the rows up to `stop` and is gone then."""
    clock = Hands()
    with Store(folder / "live.db") as store:
        engine = Engine(
            store,
            sources={"rows": Rows(frame, stop=stop)},
            sinks={"lines": LineSink(folder / "out")},
            scorer_for=lambda _, state: resumed(Whole(entity), state),
            rules=EventRules(renotify=0),
            options=EngineOptions(stale_after=1e9),
            clock=clock,
            generator=np.random.default_rng(0),
        )
        engine.open()
        for _ in range(200):
            clock.move(1.0)
            if not engine.once():
                break
        engine.close()


def test_the_kind_goes_through_the_engine_over_a_restart_in_the_midst_of_an_event(
    story, tmp_path
) -> None:
    entity, analysis = story
    frame = analysis.frame
    start, end, kind, words = kind_story.FAULTS[0]
    for stop in (start + 20, end + 60):
        run(tmp_path, entity, frame, stop=stop)
    with Reader(tmp_path / "live.db") as reader:
        (listed,) = reader.events(text="missing")
        onset, *_, last = reader.event(listed.id)
        alarms = [
            one
            for one in reader.scores(listed.entity, 0, FAR, limit=10_000)
            if one.score > 1 and last.start <= one.timestamp < last.end
        ]
    assert (onset.status, last.status) == ("ongoing", "resolved")
    assert onset.kinds[0] == last.kinds[0] == kind
    assert last.reason.startswith(words)
    assert last.end == frame.timestamps[end].astype(np.int64)
    assert {one.kinds[0] for one in alarms} == {"missing"}
    told = [json.loads(text) for text in (tmp_path / "out").read_text().splitlines()]
    (sent,) = [one for one in told if one.get("id") == last.id and one["update"] == last.update]
    assert sent["kinds"][0] == kind
    assert sent["reason"] == last.reason
