"""Rows of one entity, in any order of arrival, to rows on its regular grid.

Rows come late, twice, out of order, without some channels. A row goes out as soon as it is whole
and all before it are out; otherwise it waits until a row more than `lateness` newer is there, and
what comes for it meanwhile fills what it lacks. Of two values for one cell the first stays. So
whatever order and pieces rows come in, if none comes later than that, the same rows go out. What
cannot be used is counted by reason, and the latest of it is kept to look at.

    late              row that came later than that
    ahead             row far ahead of all others, which went on where they were
    duplicate         row that brought nothing new to one that is whole, or as it is already
    conflict          cell with another value than the first
    not_finite        cell that was infinite; it counts as unobserved
    unknown_channel   cell of a channel that the entity does not have
    filled            row put in, without observations, for one that never came
    restart           the stream started afresh: a gap too long to fill, or a clock that was set
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import Frame, moved, places_of
from imdiffusion.errors import DataError, ModelError, UsageError
from imdiffusion.saved_state import REMEDY, State

NAMES = 100  # names of unknown channels that are counted apart


class ChannelMatch:
    """Puts frames in the order of `channels`; cells that have no place there are counted.

    unknown: cells by name, of the first names that came. not_finite, unknown_channel: cells in
    all.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        self.unknown: Counter[str] = Counter()
        self.not_finite = self.unknown_channel = 0

    def rechannel(self, channels: Sequence[str]) -> None:
        """From now on put frames in the order of these; what was counted stays."""
        self.channels = tuple(channels)

    def values(self, frame: Frame) -> NDArray[np.float64]:
        """Values (n, K) of the channels, NaN where not observed or not finite."""
        given = np.asarray(frame.values, np.float64)
        self.not_finite += int((frame.observed & np.isinf(given)).sum())
        seen = np.where(frame.observed & np.isfinite(given), given, np.nan)
        if frame.channels == self.channels:
            return seen
        place = {name: k for k, name in enumerate(self.channels)}
        values = np.full((len(seen), len(self.channels)), np.nan)
        for k, name in enumerate(frame.channels):
            if name in place:
                values[:, place[name]] = seen[:, k]
                continue
            cells = int(frame.observed[:, k].sum())
            self.unknown_channel += cells
            if name in self.unknown or len(self.unknown) < NAMES:
                self.unknown[name] += cells
        return values


def checked_times(frame: Frame, channels: Sequence[str], last: int | None) -> NDArray[np.int64]:
    """Timestamps of a frame (n,), nanoseconds since the epoch.

    last: the time of the row before. Raises DataError for a channel that is none of `channels`, and
    for rows without timestamps or not each after the one before.
    """
    extra = [name for name in frame.channels if name not in set(channels)]
    if extra:
        raise DataError(
            f"a row has channels the model does not know: {', '.join(map(repr, extra[:8]))}",
            remedy="Put a RowBuffer before the scorer: it leaves them out and counts them.",
        )
    if frame.timestamps is None:
        raise DataError("live rows need timestamps", remedy="Give a frame that has them.")
    times: NDArray[np.int64] = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
    chain = times if last is None else np.concatenate([[last], times])
    if (np.diff(chain) <= 0).any():
        raise DataError(
            "a row is not after the one before it",
            remedy="Put a RowBuffer before the scorer: it puts rows in order.",
        )
    return times


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that follow each other on the grid. fresh: they do not follow the run before."""

    frame: Frame
    fresh: bool


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that was set aside: nanoseconds since the epoch, its reason, its values."""

    timestamp: int
    reason: str
    values: tuple[float, ...]


@dataclass(slots=True)
class Leap:
    """Rows at another place than the stream, by point, until it is known which place is right."""

    rows: dict[int, Floats] = field(default_factory=dict)
    pushes: int = 0


@dataclass(slots=True)
class Segment:
    """Rows on their way out."""

    fresh: bool
    points: list[int] = field(default_factory=list)
    rows: list[Floats] = field(default_factory=list)


ASIDE = 100  # rows kept to look at
KIND = "row buffer"
REASONS = ("late", "ahead", "duplicate", "conflict", "filled", "restart")


class RowBuffer:
    """Takes frames of one entity and hands out its rows in order, on a grid of one period.

    channels: the entity's; a frame may have fewer or others. period: nanoseconds. phase:
    nanoseconds from the epoch to any point of the grid; None = the first row lies on it. A row
    belongs to the nearest point.

    lateness: rows that a row may come late by. fill: the longest gap, in rows, that is filled with
    unobserved rows; after a longer one the stream starts afresh. A row further ahead than that, or
    further back than lateness and fill, is believed only when others confirm that the stream goes
    on there, with none between that fits where it stood: so many rows ahead, so many pushes of rows
    back (`confirm`). A clock that jumps loses no row, and a stray timestamp stops nothing.

    Held are lateness + fill + confirm rows at most, and what is set aside.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        period: int,
        phase: int | None = None,
        lateness: int = 2,
        fill: int = 30,
        confirm: int = 5,
        entity: str | None = None,
    ) -> None:
        limits = {"period": period - 1, "lateness": lateness, "fill": fill, "confirm": confirm - 1}
        for name, spare in limits.items():
            if spare < 0:
                raise UsageError(f"{name} is too small", remedy="Give a larger number.")
        self.channels, self.entity = tuple(channels), entity
        self.period, self.phase = period, phase
        self.lateness, self.fill, self.confirm = lateness, fill, confirm
        self.matched = ChannelMatch(channels)
        self._counts: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.aside: deque[Aside] = deque(maxlen=ASIDE)
        self._newest: int | None = None  # point of the grid; None before the first row
        self._next: int | None = None  # the point that goes out next; None until it is known
        self._started = False  # whether it has ever been
        self._fresh = True  # whether the next row that goes out follows no other
        self._waiting: dict[int, Floats] = {}  # by point, NaN = not observed
        self._leap = Leap()

    # -- in and out

    def push(self, frame: Frame) -> list[Run]:
        """Take a frame: the runs that can go out. UsageError for rows without timestamps."""
        if frame.timestamps is None:
            raise UsageError(
                f"rows of entity {self.entity!r} came without timestamps",
                remedy="A live source must say when each row was measured.",
            )
        values = self.matched.values(frame)
        times = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
        if self.phase is None and len(times):
            self.phase = int(times[0] % self.period)
        points = (times - (self.phase or 0) + self.period // 2) // self.period
        out: list[Segment] = []
        fitted = False
        for point, row in zip(points.tolist(), values, strict=True):
            fitted = self._take(point, row, out) or fitted
        if self._leap.rows and not fitted:
            self._leap.pushes += 1
            if self._leap.pushes >= self.confirm:
                self._go_there(out)
        return [self._run(segment) for segment in out]

    def flush(self) -> list[Run]:
        """The source has ended: everything that is still held, in order."""
        out: list[Segment] = []
        self._refuse()
        self._release(out, everything=True)
        return [self._run(segment) for segment in out]

    @property
    def waiting(self) -> list[Floats]:
        """The rows that are held to go out, each (K,)."""
        return list(self._waiting.values())

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in, by reason; see the head of this file."""
        cells = self.matched.not_finite, self.matched.unknown_channel
        return {**self._counts, "not_finite": cells[0], "unknown_channel": cells[1]}

    def rechannel(self, channels: Sequence[str]) -> None:
        """Go on under other channels: what is held moves along, new ones are not observed in it."""
        places = places_of(channels, self.channels)
        for rows in (self._waiting, self._leap.rows):
            for point, row in rows.items():
                rows[point] = moved(row, places)
        self.aside = deque(
            (
                Aside(one.timestamp, one.reason, tuple(moved(np.array(one.values), places)))
                for one in self.aside
            ),
            ASIDE,
        )
        self.channels = tuple(channels)
        self.matched.rechannel(channels)

    # -- inside

    def _take(self, point: int, row: Floats, out: list[Segment]) -> bool:
        """Take one row; False if it lies so far off that the stream may have moved there."""
        newest = point if self._newest is None else self._newest
        behind = newest - point
        if -behind > self.fill + 1 or behind > self.lateness + self.fill:
            self._hold(point, row, ahead=behind < 0, out=out)
            return False
        self._refuse()
        if behind > self.lateness or (self._next is not None and point < self._next):
            # Within the limit a row is gone only because it was whole.
            self._set_aside(point, row, "late" if behind > self.lateness else "duplicate")
            return True
        self._merge(self._waiting, point, row)
        self._newest = max(newest, point)
        self._release(out)
        return True

    def _merge(self, rows: dict[int, Floats], point: int, row: Floats) -> None:
        known = rows.get(point)
        if known is None:
            rows[point] = row.copy()
            return
        new = np.isnan(known) & ~np.isnan(row)
        differs = ~np.isnan(known) & ~np.isnan(row) & (known != row)
        self._counts["conflict"] += int(differs.sum())
        self._counts["duplicate"] += int(not new.any() and not differs.any())
        known[new] = row[new]

    def _release(self, out: list[Segment], *, everything: bool = False) -> None:
        """Let go of what is whole or has waited long enough, in order."""
        if not self._waiting or self._newest is None:
            return
        if self._next is None:
            first = min(self._waiting)
            if self._newest - first < self.lateness and not everything:
                return  # rows before the first may still come
            self._counts["restart"] += int(self._started)
            self._started, self._fresh, self._next = True, True, first
        while self._next <= self._newest:
            row = self._waiting.get(self._next)
            over = everything or self._newest - self._next > self.lateness
            if not over and (row is None or bool(np.isnan(row).any())):
                return
            if row is None:
                self._counts["filled"] += 1
                row = np.full(len(self.channels), np.nan)
            if self._fresh or not out:
                out.append(Segment(self._fresh))
                self._fresh = False
            out[-1].points.append(self._next)
            out[-1].rows.append(row)
            self._waiting.pop(self._next, None)
            self._next += 1

    def _hold(self, point: int, row: Floats, *, ahead: bool, out: list[Segment]) -> None:
        """Keep a row that may be the first of another place; go there if enough confirm it."""
        leap = self._leap.rows
        if leap and not -self.lateness <= point - max(leap) <= self.fill + 1:
            self._refuse()  # they do not even confirm each other
            leap = self._leap.rows
        self._merge(leap, point, row)
        if ahead and len(leap) >= self.confirm:
            self._go_there(out)
        elif len(leap) > self.confirm:
            oldest = min(leap)
            self._set_aside(oldest, leap.pop(oldest), "late")

    def _go_there(self, out: list[Segment]) -> None:
        """Start afresh where the held rows are."""
        self._release(out, everything=True)
        rows, self._leap = self._leap.rows, Leap()
        self._newest = self._next = None
        for point in sorted(rows):
            self._take(point, rows[point], out)

    def _refuse(self) -> None:
        """The stream goes on where it was: set aside what lay elsewhere."""
        for point, row in self._leap.rows.items():
            ahead = self._newest is not None and point > self._newest
            self._set_aside(point, row, "ahead" if ahead else "late")
        self._leap = Leap()

    def _set_aside(self, point: int, row: Floats, reason: str) -> None:
        self._counts[reason] += 1
        self.aside.append(Aside(self._time(point), reason, tuple(row.tolist())))

    def _time(self, point: int) -> int:
        return point * self.period + (self.phase or 0)

    def _run(self, segment: Segment) -> Run:
        values = np.stack(segment.rows)
        times = np.array([self._time(point) for point in segment.points], "datetime64[ns]")
        frame = Frame(values, ~np.isnan(values), times, self.channels, self.entity)
        return Run(frame, segment.fresh)

    # -- over a restart

    def to_state(self) -> State:
        """Everything it holds and has counted."""
        facts = {
            "channels": self.channels,
            "period": self.period,
            "phase": self.phase,
            "newest": self._newest,
            "next": self._next,
            "started": [self._started, self._fresh],
            "pushes": self._leap.pushes,
            "counts": dict(self._counts),
            "unknown": dict(self.matched.unknown),
            "cells": [self.matched.not_finite, self.matched.unknown_channel],
            "reasons": [one.reason for one in self.aside],
        }
        empty = np.empty((0, len(self.channels)))
        tables = {
            "waiting": self._waiting,
            "leap": self._leap.rows,
            "aside": {n: np.array(one.values) for n, one in enumerate(self.aside)},
        }
        arrays: dict[str, NDArray[np.generic]] = {
            "times": np.array([one.timestamp for one in self.aside], np.int64)
        }
        for name, rows in tables.items():
            arrays[f"{name}.points"] = np.array(list(rows), np.int64)
            arrays[name] = np.stack(list(rows.values())) if rows else empty
        return State(KIND, facts, arrays)

    @classmethod
    def from_state(cls, state: State, like: RowBuffer) -> RowBuffer:
        """Go on from a state; see `saved_state`. ModelError for other channels or periods."""
        known = tuple(state.check(KIND).fact("channels")), state.fact("period")
        if known != (like.channels, like.period):
            raise ModelError(
                "the saved state of a row buffer has other channels or another period",
                remedy=REMEDY,
            )
        buffer = cls(
            like.channels, period=like.period, phase=state.fact("phase"), lateness=like.lateness,
            fill=like.fill, confirm=like.confirm, entity=like.entity,
        )  # fmt: skip
        buffer._newest, buffer._next = state.fact("newest"), state.fact("next")
        buffer._started, buffer._fresh = state.fact("started")
        buffer._counts = Counter(state.fact("counts"))
        buffer.matched.unknown = Counter(state.fact("unknown"))
        buffer.matched.not_finite, buffer.matched.unknown_channel = state.fact("cells")
        held = [
            dict(zip(state.array(f"{name}.points", np.int64).tolist(),
                     state.array(name, np.float64), strict=True))
            for name in ("waiting", "leap")
        ]  # fmt: skip
        buffer._waiting, buffer._leap = held[0], Leap(held[1], state.fact("pushes"))
        times, values = state.array("times", np.int64), state.array("aside", np.float64)
        kept = zip(times.tolist(), state.fact("reasons"), values.tolist(), strict=True)
        buffer.aside.extend(Aside(at, why, tuple(row)) for at, why, row in kept)
        return buffer
