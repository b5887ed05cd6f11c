"""One entity as the engine watches it: its scorer, its tracker, and what they say."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.durations import MILLISECOND_NS
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.events.tracker import EventTracker
from imdiffusion.live.scorers.fitted import EngineScorer, ScoredRow, signed
from imdiffusion.live.store.inserts import SCORER, TRACKER, Checkpoint, Standing, Told
from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.saved_state import State
from imdiffusion.schema import Fields, field
from imdiffusion.scoring.event import by_share


class Clock(Protocol):
    """Two readings: `wall` in ns since the epoch, UTC; `steady` in seconds, never going back."""

    def wall(self) -> int:
        """Nanoseconds since the epoch, UTC."""

    def steady(self) -> float:
        """Seconds since some moment."""


class SystemClock:
    """The clocks of this machine."""

    def wall(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return time.time_ns()

    def steady(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()


class Backoff:
    """When to try again: 1, 2, 4, ... seconds later, at most `most`, each cut by up to a half.

    The cut is drawn, so that many who lost the same far side do not come back all at once.
    """

    def __init__(
        self, generator: np.random.Generator, *, first: float = 1.0, most: float = 60.0
    ) -> None:
        self._generator, self._first, self._most = generator, first, most
        self._tries, self._until = 0, float("-inf")

    @property
    def tries(self) -> int:
        """How often in a row it has failed; 0 = it works."""
        return self._tries

    def ready(self, now: float) -> bool:
        """Whether the time to try has come. now: steady seconds."""
        return now >= self._until

    def failed(self, now: float) -> float:
        """It failed: seconds until the next try."""
        wait = min(self._most, self._first * 2.0 ** min(self._tries, 30))
        wait *= float(self._generator.uniform(0.5, 1.0))
        self._tries, self._until = self._tries + 1, now + wait
        return wait

    def worked(self) -> None:
        """It worked: the next failure counts as the first."""
        self._tries, self._until = 0, float("-inf")


# -- how the engine goes about its rounds, in numbers

OVERLOADS = ("wait", "shed")


@dataclass(frozen=True, slots=True)
class EngineOptions(Fields):
    """How the engine goes about it; times in seconds.

    Of `overload`: "wait": a source whose rows come faster than they are scored is read no further;
    "shed": it is read on, and of what waits the oldest beyond `most_waiting` rows of a source is
    passed over, and counted as `rows_shed`. Those that no file sets: rows: scores that bring a
    checkpoint forward. poll: longest wait for a source. retry: first wait after a failure, doubled
    up to a minute. batch: records sent to a sink at once. unknown: as `stale_after`, in seconds,
    where the interval is not known. forget_after: of silence, after which an entity is watched no
    more; its scores stay. details: keep seen and expected values.
    """

    every: float = field(1.0, "seconds between checkpoints", above=0)
    offline: bool = field(False, "judge every row again once the rows after it are there")
    stale_after: float = field(2.0, "intervals of silence until an entity is stale", above=0)
    most_entities: int = field(10_000, "entities watched at most", above=0)
    overload: str = field(
        "wait", "what rows do that come faster than they are scored", choices=OVERLOADS
    )
    most_waiting: int = field(
        20_000, "rows of a source that wait at most where the oldest are shed", above=0
    )
    rows: int = 5_000
    poll: float = 0.5
    retry: float = 1.0
    batch: int = 1_000
    unknown: float = 300.0
    forget_after: float = 604_800.0
    details: bool = True

    @property
    def most_rows(self) -> int | None:
        """Rows of a source that may wait while it is read on; None = it is not read on."""
        return self.most_waiting if self.overload == "shed" else None


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


# -- what has become true since the last checkpoint, gathered until the next


class States(Mapping[tuple[str, str], State]):
    """The states of entities by (entity, part), each made as it is come to.

    Those of hundreds of entities at once would be as large as all that these hold.
    """

    def __init__(self, watched: Sequence[EntityState]) -> None:
        self.watched = {one.name: one for one in watched}

    def __getitem__(self, key: tuple[str, str]) -> State:
        return self.watched[key[0]].to_states()[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[tuple[str, str], State]:
        """Every state with its key, an entity after the other."""
        return _Each(self)


class _Each(ItemsView[tuple[str, str], State]):
    def __init__(self, states: States) -> None:
        super().__init__(states)
        self._watched = states.watched

    def __iter__(self) -> Iterator[tuple[tuple[str, str], State]]:
        for one in self._watched.values():
            yield from one.to_states().items()


class CheckpointBuilder:
    """Scores, updates, offsets and counts that wait; true when there is anything to write."""

    def __init__(self) -> None:
        self.offsets: dict[str, str] = {}
        self._told: list[Told] = []
        self._updates: list[EventRecord] = []
        self._entities: set[str] = set()
        self._forgotten: set[str] = set()
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def rows(self) -> int:
        """Scores that wait."""
        return len(self._told)

    def __bool__(self) -> bool:
        facts = (
            self.offsets, self._told, self._updates, self._entities, self._forgotten, self._counts,
        )  # fmt: skip
        return any(facts)

    def add(self, told: Sequence[Told], updates: Sequence[EventRecord], *, details: bool) -> None:
        """Scores and updates of one entity; details: keep the values behind the scores."""
        self._told += told if details else [replace(one, cells=None) for one in told]
        self._updates += updates

    def changed(self, entity: str) -> None:
        """The states of an entity are to be written."""
        self._entities.add(entity)

    def forget(self, entity: str) -> None:
        """The states of an entity are to be dropped; `changed` after it begins them afresh."""
        self._entities.discard(entity)
        self._forgotten.add(entity)
        self.count("entities_forgotten", "", 1)

    def count(self, name: str, label: str, added: int) -> None:
        """Add to a counter; nothing is not noted."""
        if added:
            self._counts[name, label] += added

    def checkpoint(self, watched: Mapping[str, EntityState]) -> Checkpoint:
        """All of it, with the states of the entities as they are now."""
        own = [watched[name] for name in sorted(self._entities)]
        return Checkpoint(
            told=self._told,
            updates=self._updates,
            standing={one.name: one.standing() for one in own},
            forgotten=sorted(self._forgotten),
            states=States(own),
            offsets=self.offsets,
            counts=self._counts,
        )
