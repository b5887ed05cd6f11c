"""One entity as the engine watches it: its scorer, its tracker, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.durations import MILLISECOND_NS
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.scored_row import EngineScorer, ScoredRow, signed
from imdiffusion.live.store.checkpoint import SCORER, TRACKER, Standing, Told
from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.saved_state import State
from imdiffusion.scoring.channels import by_share

# Makes the scorer of an entity from the first frame that is seen of it, and from the state that
# the scorer before it had, if there was one; ModelError where that cannot be gone on from.
ScorerFor = Callable[[Frame, State | None], EngineScorer]
MILLISECOND = 1_000_000


class EntityState:
    """An entity: frames in, scores and updates out; states for the store, and from it.

    source: the one that spoke of it last. heard and heard_wall: steady seconds and ns, UTC, of
    when. state: of `records.STATES`.
    """

    def __init__(self, name: str, rules: EventRules, *, offline: bool, now: float) -> None:
        self.name = name
        self.tracker = EventTracker(name, rules, offline=offline)
        self.scorer: EngineScorer | None = None
        self.source = ""
        self._counted: dict[str, int] = {}
        self.state = "warming"
        self.heard, self.heard_wall = now, 0

    # -- rows

    def speak(self, scorer: EngineScorer) -> None:
        """From now on this scorer is the entity's active one."""
        self.scorer = scorer
        self._counted = scorer.counts
        self.tracker.speak(scorer.detector, scorer.model, scorer.channels)

    def push(self, frame: Frame) -> tuple[list[Told], list[EventRecord]]:
        """Score the frame's rows; the scores and the updates of events that follow."""
        assert self.scorer is not None  # noqa: S101  the engine gives it one first
        judged = self.scorer.push(frame)
        if self.scorer.channels != self.tracker.channels:
            self.tracker.speak(self.scorer.detector, self.scorer.model, self.scorer.channels)
        told = [self._told(row) for row in judged]
        arrived = [row for row in judged if row.mode == "online"]
        if arrived:
            self.state = arrived[-1].state
        return told, self.tracker.push(judged)

    def newly_counted(self) -> dict[str, int]:
        """What the scorer has passed over or put in since the last call, by reason."""
        before, self._counted = self._counted, {} if self.scorer is None else self.scorer.counts
        return {name: count - before.get(name, 0) for name, count in self._counted.items()}

    def _told(self, row: ScoredRow) -> Told:
        tracker = self.tracker
        channels: tuple[str, ...] = ()
        shares: tuple[float, ...] = ()
        kinds: tuple[str, ...] = ()
        if row.score > 1.0:
            order, share = by_share(row.parts)
            channels = tuple(tracker.channels[k] for k in order)
            shares = tuple(share[order].tolist())
            if found := row.findings:
                kinds = tuple(found[k].kind if k in found else "" for k in order)
        record = ScoreRecord(
            self.name, row.timestamp, row.mode, float(row.score), row.state,
            tracker.detector, tracker.model, channels, shares, kinds,
        )  # fmt: skip
        cells = np.stack([row.seen, row.expected, row.lower, row.upper]).astype(np.float32)
        return Told(record, tracker.channels, cells)

    def hold(self, records: Sequence[EventRecord]) -> list[EventRecord]:
        """Hold open just these events, of which people say that they are not resolved."""
        if not self.tracker.channels and records:  # nobody has spoken of it since the start
            last = records[0]
            self.tracker.speak(last.detector, last.model, last.channels)
        updates = self.tracker.hold(records)
        if self.state == "stale":  # no row will end what is held no more
            updates += self.tracker.expire()
        return updates

    # -- silence

    def silent(self, now: float, *, intervals: float, unknown: float) -> bool:
        """Whether it has just become stale: nothing for `intervals` of its own, or `unknown` s."""
        interval = self.tracker.interval
        limit = unknown if interval is None else intervals * interval / 1e9
        return self.state != "stale" and now - self.heard > limit

    def go_stale(self) -> tuple[list[Told], list[EventRecord]]:
        """Say that it is stale, once: a score of NaN a millisecond after its last row.

        So near, because what is missed may come later, and a far side that takes samples in the
        order of time must still take it.
        """
        self.state = "stale"
        tracker = self.tracker
        updates = tracker.expire()
        if tracker.last is None:
            return [], updates
        record = ScoreRecord(
            self.name, tracker.last + MILLISECOND_NS, "online", float("nan"), "stale",
            tracker.detector, tracker.model,
        )  # fmt: skip
        return [Told(record, tracker.channels)], updates

    def standing(self) -> Standing:
        """How it stands, for the store."""
        note = "" if self.scorer is None else self.scorer.note
        return Standing(self.tracker.interval, self.heard_wall, self.state, note)

    # -- over a restart

    def to_states(self) -> dict[tuple[str, str], State]:
        """Its states, by (entity, part)."""
        states = {(self.name, TRACKER): self.tracker.to_state()}
        if self.scorer is not None:
            states[self.name, SCORER] = signed(self.scorer)
        return states
