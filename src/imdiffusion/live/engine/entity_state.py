"""One entity as the engine watches it: its scorer, its tracker, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.durations import MILLISECOND_NS
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.active_scorer import ActiveScorer
from imdiffusion.live.scorers.scored_row import ScoredRow, Scorer
from imdiffusion.live.store.checkpoint import Standing, Told
from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.scoring.channels import by_share

# Makes the scorer of an entity from the first frame that is seen of it.
ScorerFor = Callable[[Frame], Scorer]


class EntityState:
    """An entity: frames in, scores and turns out; states for the store, and from it.

    source: the one that spoke of it last. heard and heard_wall: steady seconds and ns, UTC, of
    when. state: of `records.STATES`.
    """

    def __init__(self, name: str, rules: EventRules, *, offline: bool, now: float) -> None:
        self.name = name
        self.tracker = EventTracker(name, rules, offline=offline)
        self.scorer: Scorer | None = None
        self.source = ""
        self._counted: dict[str, int] = {}
        self.state = "warming"
        self.heard, self.heard_wall = now, 0

    # -- rows

    def speak(self, scorer: Scorer) -> None:
        """From now on this scorer is the entity's active one."""
        self.scorer = scorer
        self._counted = self._counts()
        self.tracker.speak(scorer.detector, scorer.model, scorer.channels)

    def push(self, frame: Frame) -> tuple[list[Told], list[EventRecord]]:
        """Score the frame's rows; the scores and the updates of events that follow."""
        assert self.scorer is not None  # noqa: S101  the engine gives it one first
        takes_all = isinstance(self.scorer, ActiveScorer)  # it chooses channels itself, and counts
        judged = self.scorer.push(frame if takes_all else frame.select(self.scorer.channels))
        if self.scorer.channels != self.tracker.channels:
            self.tracker.speak(self.scorer.detector, self.scorer.model, self.scorer.channels)
        told = [self._told(row) for row in judged]
        arrived = [row for row in judged if row.mode == "online"]
        if arrived:
            self.state = arrived[-1].state
        return told, self.tracker.push(judged)

    def newly_counted(self) -> dict[str, int]:
        """What the active's buffer has passed over or put in since the last call, by reason."""
        before, self._counted = self._counted, self._counts()
        return {name: count - before.get(name, 0) for name, count in self._counted.items()}

    def _counts(self) -> dict[str, int]:
        return self.scorer.counts if isinstance(self.scorer, ActiveScorer) else {}

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
        turns = self.tracker.hold(records)
        if self.state == "stale":  # no row will end what is held no more
            turns += self.tracker.expire()
        return turns

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
        turns = tracker.expire()
        if tracker.last is None:
            return [], turns
        record = ScoreRecord(
            self.name, tracker.last + MILLISECOND_NS, "online", float("nan"), "stale",
            tracker.detector, tracker.model,
        )  # fmt: skip
        return [Told(record, tracker.channels)], turns

    def standing(self) -> Standing:
        """How it stands, for the store."""
        note = self.scorer.note if isinstance(self.scorer, ActiveScorer) else ""
        return Standing(self.tracker.interval, self.heard_wall, self.state, note)

    # -- over a restart

    def dump(self) -> dict[tuple[str, str], bytes]:
        """Its states, by (entity, part); the scorer's says first whose it is."""
        states = {(self.name, "tracker"): self.tracker.dump()}
        if self.scorer is not None:
            head = f"{self.scorer.detector}\n{self.scorer.model}\n".encode()
            states[self.name, "scorer"] = head + self.scorer.dump()
        return states

    def restore_scorer(self, scorer: Scorer, state: bytes | None) -> bool:
        """Let a scorer speak that goes on from `state`, if that is one of its own; whether it is.

        Another model's state means nothing to it: it begins afresh.
        """
        parts: Sequence[bytes] = [] if state is None else state.split(b"\n", 2)
        own = [scorer.detector.encode(), scorer.model.encode()] == list(parts[:2])
        if own:
            scorer.restore(parts[2])
        self.speak(scorer)
        return own
