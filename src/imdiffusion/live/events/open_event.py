"""An event that is not over for good, and the rules by which it opens, rests and is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import moved, places_of
from imdiffusion.live.events.anomalous_run import AnomalousRun, Noted, Peak
from imdiffusion.live.events.evidence_log import Edges
from imdiffusion.records import EventRecord
from imdiffusion.schema import Fields, field
from imdiffusion.scoring.channels import causes_of
from imdiffusion.scoring.finding import Finding


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
