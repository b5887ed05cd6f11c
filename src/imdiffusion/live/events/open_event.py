"""An event that is not over for good, and the rules by which it opens, rests and is told."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import moved, places_of
from imdiffusion.live.events.anomalous_run import AnomalousRun, Noted, Peak
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.records import EventRecord
from imdiffusion.saved_state import State
from imdiffusion.schema import Fields, field
from imdiffusion.scoring.edges import AROUND, find_edges, flag_runs, in_shadow
from imdiffusion.scoring.event import Finding, causes_of, leading

MOST = 512  # rows that are held at most; without an event some more than AROUND
LARGEST = 6e4  # what half precision can hold

Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the fault of a run is. start: ns; None = before the rows that are held. end: ns, of
    the row after it; None = that has not come yet. last: of the run when they were found. part
    (K,): the evidence against each channel in these rows.
    """

    start: int | None
    end: int | None
    last: int
    part: Floats

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return {**asdict(self), "part": self.part.tolist()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Edges:
        """The edges that `to_dict` wrote."""
        return cls(**{**facts, "part": np.array(facts["part"], np.float64)})

    def reordered(self, places: list[int]) -> Edges:
        """The same for channels in another order; place -1 = was not there."""
        return Edges(self.start, self.end, self.last, np.nan_to_num(moved(self.part, places)))


class EvidenceLog:
    """The evidence of the last rows of an entity, each following the one before."""

    def __init__(self) -> None:
        self._rows: deque[Half] = deque()
        self._times: deque[int] = deque()
        self._alarms: deque[bool] = deque()
        self._echo = self._reach = 0

    def __len__(self) -> int:
        return len(self._rows)

    def push(self, row: ScoredRow) -> None:
        """Take the next row as it arrives; of a scorer without evidence it is unknown."""
        if row.evidence is None and not self._rows:
            return
        if row.evidence is None:
            evidence = np.full(len(row.parts), np.nan, np.float16)
        else:
            evidence = np.minimum(row.evidence, LARGEST).astype(np.float16)
            self._echo, self._reach = row.echo, row.reach
        self._rows.append(evidence)
        self._times.append(row.timestamp)
        self._alarms.append(row.score > 1.0)

    def trim(self, rows: int) -> None:
        """Keep what the last `rows` rows, an event's, need to be searched; none of many rows."""
        keep = min(MOST, rows + self._reach + AROUND)
        while len(self._rows) > keep:
            self._rows.popleft()
            self._times.popleft()
            self._alarms.popleft()

    def clear(self) -> None:
        """Forget all: the rows to come do not follow these."""
        for part in (self._rows, self._times, self._alarms):
            part.clear()

    def take(self, edges: Edges) -> None:
        """What an event that is over has in its leading channels, from now on no other one has."""
        evidence, times = np.stack(self._rows), np.array(self._times, np.int64)
        begun = times >= (times[0] if edges.start is None else edges.start)
        own = begun & (times < (times[-1] + 1 if edges.end is None else edges.end))
        evidence[in_shadow(evidence, self._echo)] = np.nan
        lead = np.array(sorted(leading(edges.part)), np.int64)
        evidence[np.ix_(own, lead)] = np.nan
        self._rows = deque(evidence)

    def edges(self, run: AnomalousRun, *, others: frozenset[int], merge_gap: int) -> Edges | None:
        """Where the fault of a run is, from its first segment to its last; None = not known.

        others: the leading channels of other events that are open, which are not looked at where
        they are not the run's too. Segments are the run's where they share a leading channel
        with it, or all of them if there are no others and none does.
        """
        times = np.array(self._times, np.int64)
        first, last = np.searchsorted(times, [run.start, run.last]).tolist()
        if last >= len(times) or times[last] != run.last:
            return None
        begun = times[first] == run.start
        runs = flag_runs(np.array(self._alarms, bool), merge_gap)
        low = 0
        if begun:
            before = [end for _, end in runs if end <= first]
            low = max(first - self._reach, max(before, default=0))
        evidence = np.stack(self._rows).astype(np.float64)
        for start, end in runs:  # rows of other runs say nothing of what is usual
            evidence[start : min(end, low)] = np.nan
            evidence[max(start, last + 1) : end] = np.nan
        lead = leading(run.total)
        if others - lead:
            evidence[in_shadow(evidence, self._echo)] = np.nan
            evidence[:, sorted(others - lead)] = np.nan
        (found,) = find_edges(evidence, [(low, last + 1)], echo=self._echo, merge_gap=merge_gap)
        known = np.nan_to_num(evidence)
        own = [(a, b) for a, b in found if leading(known[a:b].sum(axis=0)) & lead]
        own = own or ([] if others else found)
        if not own:
            return None
        part = sum((known[a:b].sum(axis=0) for a, b in own), np.zeros(evidence.shape[1]))
        start, end = own[0][0], own[-1][1]
        return Edges(
            int(times[start]) if begun else None,
            int(times[end]) if end < len(times) else None,
            run.last,
            part,
        )

    def reorder(self, places: list[int]) -> None:
        """Go on under other channels: channel k is what was at places[k], -1 = was not there."""
        self._rows = deque(moved(row, places).astype(np.float16) for row in self._rows)

    # -- over a restart

    def to_state(self) -> State:
        """All of it; no arrays where no row is held."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self._rows:
            arrays["evidence"] = np.stack(self._rows)
            arrays["times"] = np.array(self._times, np.int64)
            arrays["alarms"] = np.array(self._alarms, bool)
        return State("evidence log", {"echo": self._echo, "reach": self._reach}, arrays)

    @classmethod
    def from_state(cls, state: State) -> EvidenceLog:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        log = cls()
        log._echo, log._reach = state.check("evidence log").fact("echo"), state.fact("reach")
        if state.arrays:
            log._rows = deque(row.copy() for row in state.array("evidence", np.float16))
            log._times = deque(state.array("times", np.int64).tolist())
            log._alarms = deque(state.array("alarms", np.bool_).tolist())
        return log


@dataclass(frozen=True, slots=True)
class EventRules(Fields):
    """When rows are one event, and when it is told."""

    merge_gap: int = field(5, "quiet rows inside one event", low=0)
    min_length: int = field(1, "rows an event needs", low=1)
    quiet: float = field(
        0.0, "seconds after being told resolved in which a cause opens nothing", low=0
    )
    renotify: float = field(14_400.0, "seconds until an event is told again; 0 = never", low=0)
    distinct: int = field(3, "rows of another cause that open a second event", low=1)
    most_open: int = field(3, "events of an entity that are open at once", low=1)


@dataclass(slots=True)
class OpenEvent:
    """An event that is not over for good.

    next: number of its next update. told: time of its last one. closed: time at which it was told
    resolved, None = not since it opened. unsaid: it changed since then, in its quiet time. held:
    a person said that it is not resolved, so no quiet row ends it. edges: where the fault is, as it
    was told last; None where the scorer has no evidence of single rows.
    """

    id: str
    run: AnomalousRun
    next: int = 0
    told: int = 0
    closed: int | None = None
    unsaid: bool = False
    status: str = "ongoing"
    held: bool = False
    edges: Edges | None = None

    @property
    def silent_since(self) -> int:
        """When it was told resolved; while it rests there always is such a time."""
        return self.told if self.closed is None else self.closed

    def with_apart(self, apart: AnomalousRun | None) -> AnomalousRun:
        """Its rows, and those that count too while they are held apart."""
        if apart is None:
            return self.run
        run = self.run.copy()
        run.join(apart)
        return run

    def find(self, edges: Edges | None) -> None:
        """Keep edges that were found; a start that was told before moves back at most, for what was
        found then may not be held any more.
        """
        if edges is not None:
            before = None if self.edges is None else self.edges.start
            starts = [start for start in (edges.start, before) if start is not None]
            self.edges = replace(edges, start=min(starts, default=None))

    def record(
        self,
        status: str,
        entity: str,
        speaker: tuple[str, str, tuple[str, ...]],
        run: AnomalousRun,
    ) -> EventRecord:
        """Its next update, as (detector, model, channels) tells it; run: the rows that count."""
        detector, model, channels = speaker
        start, end, part, peak = self._place(run)
        causes = causes_of(part, peak.expected, peak.seen, channels, run.findings(end))
        return EventRecord(
            id=self.id,
            entity=entity,
            status=status,
            update=self.next,
            start=start,
            end=None if status == "ongoing" else end,
            peak=peak.timestamp,
            score=run.peak.score,
            detector=detector,
            model=model,
            **causes._asdict(),
        )

    def _place(self, run: AnomalousRun) -> tuple[int, int | None, NDArray[np.float64], Peak]:
        """Start, end, each channel's part (K,), and the row that is shown."""
        edges, worst = self.edges, run.worst
        if edges is None or worst is None:
            return run.start, run.end, run.total, run.peak
        peak, end = worst.peak, run.end
        if edges.last == run.last and edges.end is not None and edges.end > peak.timestamp:
            end = edges.end
        start = min(run.start if edges.start is None else edges.start, peak.timestamp)
        return start, end, edges.part, peak

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        facts = {name: getattr(self, name) for name in _PLAIN}
        edges = None if self.edges is None else self.edges.to_dict()
        return {**facts, "run": self.run.to_dict(), "edges": edges}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> OpenEvent:
        """The event that `to_dict` wrote."""
        edges = facts["edges"]
        own = {
            "run": AnomalousRun.from_dict(facts["run"]),
            "edges": None if edges is None else Edges.from_dict(edges),
        }
        return cls(**{**facts, **own})

    def reorder(self, places: list[int]) -> None:
        """Go on under other channels: channel k is what was at places[k], -1 = was not there."""
        self.run.reorder(places)
        self.edges = None if self.edges is None else self.edges.reordered(places)

    @classmethod
    def again(cls, record: EventRecord, channels: tuple[str, ...], at: int) -> OpenEvent:
        """One that was over, from the last that was sent of it; at: position of the newest row."""
        places = places_of(channels, record.channels)
        share, expected, seen = (
            moved(np.array(part, np.float64), places)
            for part in (record.shares, record.expected, record.seen)
        )
        total = np.nan_to_num(share)
        peak = Peak(record.peak, record.score, total, expected, seen)
        last = max(record.start, record.peak)
        run = AnomalousRun(record.start, last, at, at, 1, record.end, total, peak)
        place = {name: k for k, name in enumerate(channels)}
        run.found = {  # its words are in a sentence with others; the name has to do
            (place[name], kind): Noted(Finding(kind, kind.replace("_", " ")), record.start, last)
            for name, kind in zip(record.channels, record.kinds, strict=False)
            if kind and name in place
        }
        edges = Edges(record.start, record.end, last, total)  # it never begins later than was sent
        return cls(record.id, run, next=record.update + 1, status=record.status, edges=edges)


_PLAIN = ("id", "next", "told", "closed", "unsaid", "status", "held")
