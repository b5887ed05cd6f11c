"""Known faults beside the events found: which event met which fault, and how late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imdiffusion.arrays import Floats, Ints
from imdiffusion.errors import UsageError

if TYPE_CHECKING:
    from imdiffusion.data.frame import Frame
    from imdiffusion.results import Analysis
    from imdiffusion.scoring.event import Event


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault known to have happened, shown beside what was detected.

    `start` (inclusive) and `end` (exclusive) are times in UTC, or row positions. A fault of
    one entity names it; `entity=None` holds for all.
    """

    start: np.datetime64 | int
    end: np.datetime64 | int
    kind: str
    description: str = ""
    entity: str | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """The x of one frame: seconds since 1970 where it has timestamps, else row positions."""

    frame: Frame

    @property
    def temporal(self) -> bool:
        """Whether x is time."""
        return self.frame.timestamps is not None

    @property
    def step(self) -> float:
        """Seconds (or rows) from one row to the next; 1 where it cannot be known."""
        period = self.frame.period
        return 1.0 if period is None else float(period / np.timedelta64(1, "ns")) * 1e-9

    @property
    def origin(self) -> float:
        """x of the first row."""
        stamps = self.frame.timestamps
        return 0.0 if stamps is None else stamps[0].astype("datetime64[ns]").astype(np.int64) / 1e9

    def offsets(self) -> Floats:
        """x of every row (T,) counted from `origin`: exact to the nanosecond."""
        stamps = self.frame.timestamps
        if stamps is None:
            return np.arange(len(self.frame.values), dtype=np.float64)
        nanoseconds: Ints = (stamps - stamps[0]).astype("timedelta64[ns]").astype(int)
        return nanoseconds / 1e9

    def x(self, index: int) -> float:
        """x of one row; one past the last is where the last row ends."""
        stamps, last = self.frame.timestamps, len(self.frame.values) - 1
        if index > last:
            return self.x(last) + self.step
        if stamps is None:
            return float(index)
        return self.origin + int((stamps[index] - stamps[0]).astype("timedelta64[ns]")) / 1e9

    def span(self, event: Event) -> tuple[float, float]:
        """x where an event starts and where its last row ends."""
        return self.x(event.start), self.x(event.end - 1) + self.step

    def at(self, value: np.datetime64 | int) -> float:
        """x of a time or a row position; UsageError for a time where the frame has none."""
        if not isinstance(value, np.datetime64):
            return self.x(max(int(value), 0))
        if not self.temporal:
            raise UsageError(
                f"a fault is given by the time {value}, but the data has no timestamps",
                remedy="Give faults as row positions, or data with a timestamp column.",
            )
        return int(value.astype("datetime64[ns]").astype(np.int64)) / 1e9


@dataclass(frozen=True, slots=True)
class Found:
    """An event placed on x, numbered through the whole page."""

    number: int  # from 1, in order of time
    entity: int  # index of its analysis
    event: Event
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Known:
    """A fault placed on x, with the events that overlap it."""

    fault: Fault
    entity: int | None
    start: float
    end: float
    met: tuple[Found, ...]

    @property
    def delay(self) -> float:
        """Seconds or rows from the fault's start to the first event's; 0 where it was earlier."""
        return max(0.0, self.met[0].start - self.start)


def found_events(analyses: Sequence[Analysis]) -> list[Found]:
    """All events of all entities in order of time, numbered from 1."""
    placed = [
        (*Axis(analysis.frame).span(event), index, event)
        for index, analysis in enumerate(analyses)
        for event in analysis.events
    ]
    placed.sort(key=lambda item: item[:3])
    return [
        Found(number, entity, event, start, end)
        for number, (start, end, entity, event) in enumerate(placed, start=1)
    ]


def known_faults(
    faults: Sequence[Fault], analyses: Sequence[Analysis], events: Sequence[Found]
) -> list[Known]:
    """`faults` in order of time, each with the events that overlap it.

    Raises UsageError for a fault whose entity or kind of time the analyses do not have.
    """
    entities = {analysis.frame.entity: index for index, analysis in enumerate(analyses)}
    placed = []
    for fault in faults:
        entity = None
        if fault.entity is not None:
            if fault.entity not in entities:
                raise UsageError(
                    f"a fault names the entity {fault.entity!r}, which is not in this report",
                    remedy=f"Known entities: {', '.join(sorted(map(str, entities)))}.",
                )
            entity = entities[fault.entity]
        axis = Axis(analyses[entity or 0].frame)
        start, end = axis.at(fault.start), axis.at(fault.end)
        met = tuple(
            one
            for one in events
            if one.start < end and one.end > start and entity in (None, one.entity)
        )
        placed.append(Known(fault, entity, start, end, met))
    return sorted(placed, key=lambda known: (known.start, known.end))
