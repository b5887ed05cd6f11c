"""Every entity that is watched: batches in, what follows from them gathered for a checkpoint."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace

from imdiffusion.data.frame import Frame
from imdiffusion.errors import OutputError
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.engine.entity_state import (
    CheckpointBuilder,
    Clock,
    EngineOptions,
    EntityState,
    ScorerFor,
)
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.fitted import EngineScorer, owner_of
from imdiffusion.live.store.inserts import SCORER, TRACKER
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.retention import PeerStates
from imdiffusion.records import EventRecord

log = logging.getLogger(__name__)


class EntityPool:
    """The entities by name. successors: (entity, scorer), to be active from the next round on.

    peers: what other processes have left; an entity that comes from one goes on where it was.
    """

    def __init__(
        self,
        store: Store,
        scorer_for: ScorerFor,
        rules: EventRules,
        options: EngineOptions,
        *,
        clock: Clock,
        peers: PeerStates | None = None,
    ) -> None:
        self._peers = peers
        self.entities: dict[str, EntityState] = {}
        self.successors: deque[tuple[str, EngineScorer]] = deque()
        self._store, self._scorer_for, self._rules = store, scorer_for, rules
        self._options, self._clock = options, clock
        self._looked = clock.steady()
        self._asked: float | None = None  # when it was looked for what people said
        self._heard = 0  # the last that they had said by then
        self._restore()

    def _restore(self) -> None:
        """Every entity of the last checkpoint is watched again, with its open events."""
        for name in self._store.entities():
            self._restore_events(name)

    def _restore_events(self, name: str) -> None:
        entity = self.entities[name] = self._new_watched(name)
        try:
            state = self._store.state(name, TRACKER)
            if state is not None:
                entity.tracker = EventTracker.from_state(state, entity.tracker)
        except Exception:  # better a fresh one than no detection at all
            log.exception("the events of %s cannot be restored: starting over", name)

    def _take_over(self, name: str) -> None:
        """Go on where another process was, which had the entity since this one had it last."""
        peers = self._peers
        left = None if peers is None else peers.of(name)
        if peers is None or left is None:
            return
        if not self._store.adopt(name, left.states, recorded=left.recorded):
            return
        peers.taken[name] = left.folder
        log.info("%s continues from the state of %s", name, left.folder)
        if TRACKER in left.states:
            self._restore_events(name)

    def _new_watched(self, name: str) -> EntityState:
        return EntityState(
            name, self._rules, offline=self._options.offline, now=self._clock.steady()
        )

    def succeed(self, pending: CheckpointBuilder) -> None:
        """Let those scorers speak that were put forward."""
        while self.successors:
            entity, scorer = self.successors.popleft()
            if entity not in self.entities:
                self.entities[entity] = self._new_watched(entity)
            self.entities[entity].speak(scorer)
            pending.changed(entity)

    def hear(self, pending: CheckpointBuilder) -> None:
        """Hold open the events of which people say that they are not resolved, and no others.

        Looked for at most once a second. What people have said stands in the live state: it holds
        after a restart, too.
        """
        now = self._clock.steady()
        if self._asked is not None and now - self._asked < min(1.0, self._options.every):
            return
        self._asked = now
        held: dict[str, list[EventRecord]] = {}
        try:
            last = self._store.last_feedback()
            if last == self._heard:
                return
            for record in self._store.unresolved():
                held.setdefault(record.entity, []).append(record)
        except OutputError as error:  # rows are scored without; the next look tries again
            log.warning("feedback on events cannot be read: %s", error)
            return
        self._heard = last
        holding = {name for name, one in self.entities.items() if one.tracker.holds}
        for name in sorted({*held, *holding}):
            if name not in self.entities:
                self.entities[name] = self._new_watched(name)
            pending.add([], self.entities[name].hold(held.get(name, [])), details=False)
            pending.changed(name)

    def take(self, source: str, batch: Batch, pending: CheckpointBuilder) -> None:
        """Score a batch of a source; what cannot be used is counted and said."""
        for sentence in batch.rejected:
            log.warning("source %s: %s", source, sentence)
        pending.count("rejected", source, len(batch.rejected))
        for frame in batch.frames:
            self._score(source, frame, pending)
        pending.offsets[source] = batch.offset

    def _score(self, source: str, frame: Frame, pending: CheckpointBuilder) -> None:
        name = frame.entity or source
        if frame.timestamps is None:
            pending.count("without_time", source, len(frame))
            log.warning("source %s: %d rows of %s without timestamps", source, len(frame), name)
            return
        if name not in self.entities and len(self.entities) >= self._options.most_entities:
            pending.count("entities_refused", source, len(frame))
            log.warning("source %s: one entity too many, %s is not watched", source, name)
            return
        if name not in self.entities or self.entities[name].state == "stale":
            self._take_over(name)
        if name not in self.entities:
            self.entities[name] = self._new_watched(name)
        watched = self.entities[name]
        before = set(watched.tracker.channels)
        watched.source = source
        watched.heard, watched.heard_wall = self._clock.steady(), self._clock.wall()
        try:
            if watched.scorer is None:
                self._begin(watched, frame, pending)
            told, updates = watched.push(frame)
        except Exception:
            # Poison must not block what comes after it, nor come again at every start. Half a
            # push may have changed the scorer: it goes on from the last checkpoint.
            log.exception("source %s: %d rows of %s were skipped", source, len(frame), name)
            pending.count("failed", source, len(frame))
            watched.scorer = None
            return
        own = set(watched.tracker.channels)
        pending.count("unknown_channels", name, len(set(frame.channels) - own))
        if before:
            pending.count("new_channels", name, len(own - before))
        for reason, count in watched.newly_counted().items():
            pending.count(f"rows_{reason}", name, count)
        pending.count("rows", source, len(frame))
        pending.add(told, updates, details=self._options.details)
        pending.changed(name)

    def _begin(self, watched: EntityState, frame: Frame, pending: CheckpointBuilder) -> None:
        frame = replace(frame, entity=watched.name)
        try:
            state = self._store.state(watched.name, SCORER)
            scorer = self._scorer_for(frame, state)
            fresh = state is not None and owner_of(state) != (scorer.detector, scorer.model)
        except Exception:  # better a fresh one than no detection at all
            log.exception("the scorer of %s cannot be restored from its state", watched.name)
            pending.count("states_refused", watched.name, 1)
            scorer, fresh = self._scorer_for(frame, None), False
        if fresh:
            log.info("%s starts over with %s", watched.name, scorer.detector)
        watched.speak(scorer)

    def look_for_silence(self, behind: set[str], pending: CheckpointBuilder) -> bool:
        """Note who has become stale, at most once a second; whether anybody has.

        behind: sources with batches that wait; those they spoke of may have spoken again.
        """
        now, options = self._clock.steady(), self._options
        if now - self._looked < min(1.0, options.every):
            return False
        self._looked = now
        long_gone = []
        for watched in self.entities.values():
            if watched.source in behind:
                continue
            if watched.silent(now, intervals=options.stale_after, unknown=options.unknown):
                log.warning("%s is stale: nothing came of it", watched.name)
                pending.add(*watched.go_stale(), details=False)
                pending.changed(watched.name)
            elif watched.state == "stale" and now - watched.heard > options.forget_after:
                long_gone.append(watched.name)
        for name in long_gone:
            log.warning("%s is watched no more: it was silent for too long", name)
            pending.forget(name)
            del self.entities[name]
        return bool(pending)
