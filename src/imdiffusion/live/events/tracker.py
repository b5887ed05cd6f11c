"""Events as they change: judged rows of one entity in, updates of its events out.

An event opens when anomalous rows, with at most `merge_gap` quiet rows between them, span
`min_length` rows; it resolves at the quiet row that makes the gap too long. Onset and resolution
are both sent, and while it lasts it is sent again every `renotify` seconds.

Cause: the leading channels, the fewest that hold half of the error. An anomalous row belongs to
every open event with which it shares a leading channel. Rows that share none are held apart; once
there are `distinct` of them, and what they have against their channels is beyond chance, they are
an event of their own, from the first of them on. Else they belong to the event opened last. So
there is one open event an entity and cause, and at most `most_open` in all, beyond which rows go to
the one opened last.

Quiet time: within `quiet` seconds of its end, a new run of the same cause opens no
event. The old one goes on, and nothing is sent before the quiet time has passed: then that it is
ongoing again, or resolved with a later end.

An offline score never opens an event and never changes an update. When an event is over for good
and all its anomalous rows were judged again, one more update follows if it moved the peak, changed
the leading channels, or found the rows normal after all; its shares are those of the row at the
peak.

A person may say that an event is not resolved: it stays open, or is open again, till he takes it
back (`hold`).

Edges: where the scorer has evidence of single rows, an event begins and ends with the rows that
carry it (`open_event.py:EvidenceLog`), not where the score crosses 1; found at every update, from
the rows up to then.

All else depends on the order of arrival and of offline rows, however they are cut or restored.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Sequence

import numpy as np

from imdiffusion.data.frame import places_of
from imdiffusion.durations import SECOND_NS
from imdiffusion.live.events.anomalous_run import AnomalousRun
from imdiffusion.live.events.open_event import Edges, EventRules, EvidenceLog, OpenEvent
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.records import EventRecord
from imdiffusion.saved_state import State
from imdiffusion.scoring.event import leading

MOST_DONE = 256  # events that are over and wait for their offline scores; the oldest are given up
STEPS_KEPT = 15  # steps of time whose median is the interval


class EventTracker:
    """The events of one entity; `offline`: whether rows are judged again."""

    def __init__(
        self, entity: str, rules: EventRules | None = None, *, offline: bool = False
    ) -> None:
        self.entity, self.rules, self.offline = entity, rules or EventRules(), offline
        self.detector, self.model = "", ""
        self.channels: tuple[str, ...] = ()
        self._at = 0
        self._before: int | None = None
        self._steps: deque[int] = deque(maxlen=STEPS_KEPT)
        self._apart: AnomalousRun | None = None
        self._open: list[OpenEvent] = []
        self._resting: list[OpenEvent] = []
        self._done: list[OpenEvent] = []
        self._updates: list[EventRecord] = []
        self._log = EvidenceLog()

    @property
    def interval(self) -> int | None:
        """Median step between the last rows, in ns; None before there are two."""
        return sorted(self._steps)[len(self._steps) // 2] if self._steps else None

    @property
    def last(self) -> int | None:
        """Time of the last row, in ns; None before there is one."""
        return self._before

    def speak(self, detector: str, model: str, channels: Sequence[str]) -> None:
        """From now on rows come from this detector. Open events go on, channel by name."""
        names = tuple(channels)
        if self.channels and names != self.channels:
            places = places_of(names, self.channels)
            for event in (*self._open, *self._resting, *self._done):
                event.reorder(places)
            if self._apart is not None:
                self._apart.reorder(places)
            self._log.reorder(places)
        self.detector, self.model, self.channels = detector, model, names

    def push(self, rows: Iterable[ScoredRow]) -> list[EventRecord]:
        """Take rows as the scorer says them; the updates that follow, in order."""
        for row in rows:
            if row.mode == "online":
                self._arrive(row)
            elif self.offline:
                for run in self._runs():
                    run.offline(row)
                self._correct()
        return self._told()

    def expire(self) -> list[EventRecord]:
        """Nothing comes any more: what is open ends as expired, after its last anomalous row."""
        self._expire()
        return self._told()

    @property
    def holds(self) -> bool:
        """Whether it holds an event open."""
        return any(event.held for event in self._open)

    def hold(self, records: Iterable[EventRecord]) -> list[EventRecord]:
        """Let just these stay open whatever the rows say; the updates of those that were over."""
        wanted = {one.id: one for one in records}
        for event in self._open:
            event.held = wanted.pop(event.id, None) is not None
        for record in wanted.values():
            event = OpenEvent.again(record, self.channels, self._at)
            for events in (self._resting, self._done):
                for kept in [one for one in events if one.id == record.id]:
                    events.remove(kept)
                    event = kept
            event.held, event.unsaid, event.closed = True, False, None
            self._open.append(event)
            self._tell(event, "ongoing", self._before or 0)
        return self._told()

    # -- one row

    def _arrive(self, row: ScoredRow) -> None:
        self._keep_time(row.timestamp)
        self._at += 1
        self._log.push(row)
        for run in self._runs():
            if run.end is None and run.at == self._at - 1:
                run.end = row.timestamp
        for event in list(self._resting):
            if row.timestamp - event.silent_since >= self.rules.quiet * SECOND_NS:
                self._resting.remove(event)
                self._finish(event)
        own = self._assign(row) if row.score > 1.0 else []
        for event in list(self._open):
            apart = self._apart_of(event)
            last = event.run.at if apart is None else max(event.run.at, apart.at)
            if self._at - last > self.rules.merge_gap and not event.held:
                self._resolve(event, row.timestamp)
        if self._apart is not None and self._at - self._apart.at > self.rules.merge_gap:
            if self._open:
                self._open[-1].run.join(self._apart)
            self._apart = None
        for event in own:
            self._remind(event, row.timestamp)
        runs = [*(event.run for event in self._open), *filter(None, [self._apart])]
        self._log.trim(self._at + 1 - min((run.first for run in runs), default=self._at + 1))

    def _keep_time(self, time: int) -> None:
        """Note the step. After a leap of time it is unknown what happened: open events expire."""
        if self._before is not None:
            step, usual = time - self._before, self.interval
            most = max(2, self.rules.merge_gap + 1) * (usual or step)
            if step <= 0 or step > most:
                self._expire()
                self._log.clear()
            if step > 0:
                self._steps.append(step)
        self._before = time

    def _assign(self, row: ScoredRow) -> list[OpenEvent]:
        """Give an anomalous row to the events it belongs to; those that it keeps open."""
        run = AnomalousRun.begin(row, self._at, wait=self.offline)
        lead = leading(row.parts)
        own = [event for event in self._open if leading(event.run.total) & lead]
        if not own and self._open and (not lead or len(self._open) >= self.rules.most_open):
            own = [self._open[-1]]
        if own:
            for number, event in enumerate(own):
                event.run.join(run if number == 0 else run.copy())
            return own
        if self._apart is None:
            self._apart = run
        else:
            self._apart.join(run)
        long = self._at - self._apart.first + 1 >= self.rules.min_length
        if long and (not self._open or self._is_another(self._apart)):
            run, self._apart = self._apart, None
            self._begin(run, row.timestamp)
        return []

    def _is_another(self, apart: AnomalousRun) -> bool:
        """Whether rows beside open events are enough for one of their own, by number and evidence.

        While an event is open its rows are above 1 for some time after the fault, and by chance a
        few of them have something against another channel.
        """
        if apart.rows < self.rules.distinct:
            return False
        return apart.against is None or self._edges_of(apart, self._open) is not None

    def _apart_of(self, event: OpenEvent) -> AnomalousRun | None:
        """What is held apart counts for the event opened last until it is one of its own."""
        return self._apart if self._open and event is self._open[-1] else None

    # -- the updates of an event

    def _begin(self, run: AnomalousRun, time: int) -> None:
        lead = leading(run.total)
        for event in self._resting:
            if leading(event.run.total) & lead:
                self._resting.remove(event)
                event.run.join(run)
                event.unsaid = True
                self._open.append(event)
                return
        facts = f"{self.entity}\n{run.start}\n{self.model}"
        event = OpenEvent(hashlib.sha256(facts.encode()).hexdigest()[:16], run)
        self._open.append(event)
        self._tell(event, "ongoing", time)

    def _remind(self, event: OpenEvent, time: int) -> None:
        if event not in self._open:
            return
        if event.unsaid:
            if time - event.silent_since >= self.rules.quiet * SECOND_NS:
                event.unsaid, event.closed = False, None
                self._tell(event, "ongoing", time)
        elif 0 < self.rules.renotify * SECOND_NS <= time - event.told:
            self._tell(event, "ongoing", time)

    def _resolve(self, event: OpenEvent, time: int) -> None:
        if apart := self._apart_of(event):
            event.run.join(apart)
            self._apart = None
        self._open.remove(event)
        self._find_edges(event, event.run, over=True)
        if event.unsaid and time - event.silent_since < self.rules.quiet * SECOND_NS:
            self._resting.append(event)  # told when the quiet time is over
            return
        event.unsaid, event.closed = False, time
        self._tell(event, "resolved", time)
        if self.rules.quiet > 0:
            self._resting.append(event)
        else:
            self._finish(event)

    def _finish(self, event: OpenEvent) -> None:
        """Over for good: say what was left unsaid, and wait for the offline scores of its rows."""
        if event.unsaid:
            event.unsaid = False
            self._tell(event, "resolved", self._before or 0)
        self._done = [*self._done, event][-MOST_DONE:]
        self._correct()

    def _expire(self) -> None:
        apart, self._apart = self._apart, None
        if apart is not None and self._open:
            self._open[-1].run.join(apart)
        over = [event for event in self._open if not event.held]
        for event in over:
            self._find_edges(event, event.run, over=True)
        self._open = [event for event in self._open if event.held]
        for event in over:
            if event.run.end is None:
                event.run.end = event.run.last + (self.interval or 1)
            event.unsaid = False
            self._tell(event, "expired", self._before or 0)
            self._finish(event)
        resting, self._resting = self._resting, []
        for event in resting:
            self._finish(event)

    def _correct(self) -> None:
        """Tell what offline scores found of events that are over, once all their rows were seen."""
        for event in [event for event in self._done if not event.run.waiting]:
            self._done.remove(event)
            again = event.run.again
            if again is None:
                continue
            moved = again.timestamp != event.run.peak.timestamp
            other = leading(again.parts) != leading(event.run.total)
            placed = event.edges is not None and event.run.worst is not None
            if not again.score > 1.0 or ((moved or other) and not placed):
                event.run.peak, event.run.total = again, np.nan_to_num(again.parts)
                self._tell(event, event.status, self._before or 0)

    def _tell(self, event: OpenEvent, status: str, time: int) -> None:
        run = event.with_apart(self._apart_of(event) if status == "ongoing" else None)
        if status == "ongoing":  # of one that is over they were found when its rows ended
            self._find_edges(event, run, over=False)
        speaker = (self.detector, self.model, self.channels)
        self._updates.append(event.record(status, self.entity, speaker, run))
        event.next, event.told, event.status = event.next + 1, time, status

    def _find_edges(self, event: OpenEvent, run: AnomalousRun, *, over: bool) -> None:
        """Find where the fault of an event is; of an ended one it is stored nowhere else."""
        found = self._edges_of(run, [one for one in self._open if one is not event])
        event.find(found)
        if found is not None and over:
            self._log.take(found)

    def _edges_of(self, run: AnomalousRun, others: Sequence[OpenEvent]) -> Edges | None:
        """Where the fault of a run is, which is none of these others'."""
        if not len(self._log):
            return None
        leads = frozenset[int]().union(*(leading(one.run.total) for one in others))
        return self._log.edges(run, others=leads, merge_gap=int(self.rules.merge_gap))

    def _told(self) -> list[EventRecord]:
        told, self._updates = self._updates, []
        return told

    def _runs(self) -> list[AnomalousRun]:
        """Every run that still counts, the one held apart among them."""
        apart = [] if self._apart is None else [self._apart]
        return [*(event.run for event in (*self._open, *self._resting, *self._done)), *apart]

    # -- over a restart

    def to_state(self) -> State:
        """The state between two pushes."""
        lists = (self._open, self._resting, self._done)
        facts = {
            "scorer": [self.detector, self.model, list(self.channels)],
            "time": [self._at, self._before, list(self._steps)],
            "apart": None if self._apart is None else self._apart.to_dict(),
            "events": [[one.to_dict() for one in events] for events in lists],
        }
        return State("event tracker", facts, parts={"evidence": self._log.to_state()})

    @classmethod
    def from_state(cls, state: State, like: EventTracker) -> EventTracker:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        tracker = cls(like.entity, like.rules, offline=like.offline)
        tracker.detector, tracker.model, names = state.check("event tracker").fact("scorer")
        tracker.channels = tuple(names)
        tracker._at, tracker._before, steps = state.fact("time")
        tracker._steps.extend(steps)
        apart = state.fact("apart")
        tracker._apart = None if apart is None else AnomalousRun.from_dict(apart)
        tracker._open, tracker._resting, tracker._done = (
            [OpenEvent.from_dict(one) for one in events] for events in state.fact("events")
        )
        tracker._log = EvidenceLog.from_state(state.part("evidence"))
        return tracker
