"""The anomalous rows of one cause, added up as they come."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.live.connection.record_json import number, plain
from imdiffusion.live.scorers.fitted import ScoredRow
from imdiffusion.scoring.event import Finding, often

MOST_WAITING = 10_000  # rows of a run that wait for their offline score; the oldest are given up


@dataclass(slots=True)
class Peak:
    """The worst row of a run: its time, score, and all channels (K,) of it."""

    timestamp: int
    score: float
    parts: Floats
    expected: Floats
    seen: Floats

    @classmethod
    def of(cls, row: ScoredRow) -> Peak:
        """The peak of one row alone."""
        cells = (_floats(part) for part in (row.parts, row.expected, row.seen))
        return cls(row.timestamp, float(row.score), *cells)

    def to_dict(self) -> dict[str, Any]:
        """JSON facts, NaN as null."""
        cells = {name: plain(getattr(self, name).tolist()) for name in _CELLS}
        return {"timestamp": self.timestamp, "score": self.score, **cells}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Peak:
        """The peak that `to_dict` wrote."""
        cells = {name: np.array([number(v) for v in facts[name]], np.float64) for name in _CELLS}
        return cls(facts["timestamp"], facts["score"], **cells)

    def reordered(self, places: list[int]) -> Peak:
        """The same for channels in another order; place -1 = was not there."""
        cells = {name: _taken(getattr(self, name), places) for name in _CELLS}
        return Peak(self.timestamp, self.score, **cells)


_CELLS = ("parts", "expected", "seen")


@dataclass(frozen=True, slots=True)
class Noted:
    """A finding in a channel, and the times of the first and the last row with one of its kind;
    rows: how many there are.
    """

    finding: Finding
    first: int
    last: int
    rows: int = 1

    def join(self, other: Noted) -> Noted:
        """Both, of one channel and kind."""
        early, late = sorted((self, other), key=lambda one: one.last)
        first = min(early.first, late.first)
        rows = early.rows + late.rows
        return Noted(early.finding.then(late.finding), first, late.last, rows)


@dataclass(slots=True)
class Worst:
    """The row where the channel with the most evidence so far is most wrong; by: its evidence."""

    channel: int
    by: float
    peak: Peak

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return {"channel": self.channel, "by": self.by, "peak": self.peak.to_dict()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Worst:
        """What `to_dict` wrote."""
        return cls(facts["channel"], facts["by"], Peak.from_dict(facts["peak"]))


@dataclass(slots=True)
class AnomalousRun:
    """Anomalous rows [start, last], with the quiet rows between them.

    first and at: positions of the first and the last anomalous row among all rows. rows: how many
    were anomalous. end: time of the row after the last one, None = not seen yet. total (K,): each
    channel's part of the error, added up. waiting: rows whose offline score has not been seen;
    again: the peak offline. found: by channel and kind what checks found in these rows. against
    (K,): the evidence of these rows against each channel, added up, and worst: the row that is to
    be shown; None where the scorer has no evidence of single rows.
    """

    start: int
    last: int
    first: int
    at: int
    rows: int
    end: int | None
    total: Floats
    peak: Peak
    waiting: deque[int] = field(default_factory=deque)
    again: Peak | None = None
    found: dict[tuple[int, str], Noted] = field(default_factory=dict)
    against: Floats | None = None
    worst: Worst | None = None

    @classmethod
    def begin(cls, row: ScoredRow, at: int, *, wait: bool) -> AnomalousRun:
        """The run of one row; wait: its offline score will come."""
        waiting = deque([row.timestamp] if wait else [])
        total = np.nan_to_num(_floats(row.parts))
        time, peak = row.timestamp, Peak.of(row)
        found = {(k, one.kind): Noted(one, time, time) for k, one in row.findings.items()}
        run = cls(time, time, at, at, 1, None, total, peak, waiting, found=found)
        if row.evidence is not None:
            run.against = np.nan_to_num(_floats(row.evidence))
            most = int(run.against.argmax())
            run.worst = Worst(most, float(run.against[most]), peak)
        return run

    def join(self, other: AnomalousRun) -> None:
        """Take in another run, be it later or woven in between."""
        for key, one in other.found.items():
            self.found[key] = self.found[key].join(one) if key in self.found else one
        self._join_evidence(other)
        self.start, self.first = min(self.start, other.start), min(self.first, other.first)
        if other.at > self.at:
            self.last, self.at, self.end = other.last, other.at, other.end
        self.rows += other.rows
        self.total = self.total + other.total
        self.peak = _worse(self.peak, other.peak)
        if other.again is not None:
            self.again = other.again if self.again is None else _worse(self.again, other.again)
        self.waiting = deque(sorted((*self.waiting, *other.waiting))[-MOST_WAITING:])

    def findings(self, end: int | None) -> dict[int, Finding]:
        """By channel, the last that checks found before a time; None = in all rows.

        What they find after the fault, looking back at it, is not said of it.
        """
        told: dict[int, Noted] = {}
        for (channel, _), one in self.found.items():
            if end is None or one.first < end:
                before = told.get(channel)
                if before is None or one.last >= before.last:
                    told[channel] = one
        found = {channel: one.finding for channel, one in told.items()}
        return often(found, {channel: one.rows for channel, one in told.items()})

    def _join_evidence(self, other: AnomalousRun) -> None:
        if other.against is None or other.worst is None:
            return
        if self.against is None or self.worst is None:
            self.against, self.worst = other.against.copy(), other.worst
            return
        against = self.against + other.against
        most = int(against.argmax())
        own = [run._most_wrong(most) for run in (self, other)]
        known = [one for one in own if one is not None]
        # Where neither knows a row of that channel, the one that is most wrong has to do.
        choice = known or [self.worst, other.worst]
        self.worst = max(choice, key=lambda one: (one.by, -one.peak.timestamp))
        self.against = against

    def _most_wrong(self, channel: int) -> Worst | None:
        """The row in which a channel is most wrong; None = not known."""
        if self.worst is None or self.against is None:
            return None
        if self.rows == 1:
            return Worst(channel, float(self.against[channel]), self.worst.peak)
        return self.worst if self.worst.channel == channel else None

    def offline(self, row: ScoredRow) -> None:
        """See a row again: if it is of this run, it counts for the peak offline."""
        while self.waiting and self.waiting[0] < row.timestamp:
            self.waiting.popleft()
        if self.waiting and self.waiting[0] == row.timestamp:
            self.waiting.popleft()
            if not np.isnan(row.score):
                peak = Peak.of(row)
                self.again = peak if self.again is None else _worse(self.again, peak)

    def copy(self) -> AnomalousRun:
        """A run of its own with the same rows."""
        return AnomalousRun.from_dict(self.to_dict())

    def reorder(self, places: list[int]) -> None:
        """Go on under other channels: channel k is what was at places[k], -1 = was not there."""
        self.total = np.nan_to_num(_taken(self.total, places))
        self.peak = self.peak.reordered(places)
        self.again = None if self.again is None else self.again.reordered(places)
        place = {channel: k for k, channel in enumerate(places) if channel >= 0}
        self.found = {(place[k], kind): one for (k, kind), one in self.found.items() if k in place}
        if self.worst is not None and self.against is not None:
            self.against = np.nan_to_num(_taken(self.against, places))
            most = place.get(self.worst.channel, int(self.against.argmax()))
            self.worst = Worst(most, self.worst.by, self.worst.peak.reordered(places))

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "total": self.total.tolist(),
            "peak": self.peak.to_dict(),
            "waiting": list(self.waiting),
            "again": None if self.again is None else self.again.to_dict(),
            "found": [
                [k, asdict(one.finding), one.first, one.last, one.rows]
                for (k, _), one in self.found.items()
            ],
            "against": None if self.against is None else self.against.tolist(),
            "worst": None if self.worst is None else self.worst.to_dict(),
        }

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> AnomalousRun:
        """The run that `to_dict` wrote."""
        against, worst = facts["against"], facts["worst"]
        return cls(
            **{name: facts[name] for name in _PLAIN},
            total=np.array(facts["total"], np.float64),
            peak=Peak.from_dict(facts["peak"]),
            waiting=deque(facts["waiting"]),
            again=None if facts["again"] is None else Peak.from_dict(facts["again"]),
            found={
                (k, one["kind"]): Noted(Finding(**one), first, last, rows)
                for k, one, first, last, rows in facts["found"]
            },
            against=None if against is None else np.array(against, np.float64),
            worst=None if worst is None else Worst.from_dict(worst),
        )


_PLAIN = ("start", "last", "first", "at", "rows", "end")


def _worse(one: Peak, other: Peak) -> Peak:
    """The higher of two peaks; of equal ones the earlier."""
    if (other.score, -other.timestamp) > (one.score, -one.timestamp):
        return other
    return one


def _floats(values: NDArray[np.floating]) -> Floats:
    return np.asarray(values, np.float64).copy()


def _taken(values: Floats, places: list[int]) -> Floats:
    return np.array([np.nan if place < 0 else values[place] for place in places], np.float64)
