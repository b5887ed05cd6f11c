"""The rows of one entity on their way to a scorer: in order, on a grid, the last kept.

An alignment outlives the scorers behind it. A scorer that takes over reads the rows that are held.

Its channels are those of the first rows, and every one that shows up later with a value. One that
is missing is not observed; it goes when a model takes over that does not know it, if none of the
rows that are held observed it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import Frame, moved, places_of
from imdiffusion.durations import SECOND_NS
from imdiffusion.errors import ModelError, UsageError
from imdiffusion.live.rows.reorder_buffer import RowBuffer, Run
from imdiffusion.saved_state import REMEDY, State

log = logging.getLogger(__name__)

KIND = "alignment"
DECIDE = 6  # times after which the period is known, where nobody said it
TAIL = 64  # rows that are held for a scorer that takes over
# Periods that people choose, in seconds; one that is this near to what was measured is meant.
USUAL = (
    *(step * unit for unit in (0.001, 0.01, 0.1, 1.0) for step in (1, 2, 5)),
    *(10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 86_400.0),
)
NEAR = 0.05
MOST_CHANNELS = 1_000


class Alignment:
    """Puts frames of an entity in order (`RowBuffer`) and holds the last rows that went out.

    period: ns between rows; None = found from the first DECIDE times, until which rows wait. most:
    channels beyond which no new one is taken up. count: rows that went out so far.
    """

    def __init__(
        self,
        entity: str,
        channels: Sequence[str],
        *,
        period: int | None,
        lateness: int,
        fill: int,
        most: int = MOST_CHANNELS,
    ) -> None:
        self.entity, self.channels = entity, tuple(channels)
        self.lateness, self.fill, self.most = lateness, fill, most
        self.count = 0
        self.buffer: RowBuffer | None = None
        self._early: list[tuple[int, Floats]] = []  # rows that wait for the period
        self._times = np.empty(0, np.int64)
        self._tail = np.empty((0, len(self.channels)), np.float32)
        if period is not None:
            self.buffer = self._new_buffer(period)

    def _new_buffer(self, period: int) -> RowBuffer:
        return RowBuffer(
            self.channels,
            period=period,
            lateness=self.lateness,
            fill=self.fill,
            entity=self.entity,
        )

    @property
    def period(self) -> int | None:
        """Nanoseconds between rows; None = not known yet."""
        return None if self.buffer is None else self.buffer.period

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in, by reason; see `live/rows/reorder_buffer.py`."""
        return {} if self.buffer is None else self.buffer.counts

    def push(self, frame: Frame) -> list[Run]:
        """Take a frame: the runs that go out. UsageError for rows without timestamps."""
        self._take_up(frame)
        if self.buffer is None:
            self._wait(frame)
            return self._decide()
        return self._out(self.buffer.push(frame))

    # -- channels

    def _take_up(self, frame: Frame) -> None:
        """New channels are the entity's from now on, while there is room.

        Those beyond are left out by the buffer, which counts them.
        """
        known = set(self.channels)
        new = [
            name
            for name, seen in zip(frame.channels, frame.observed.T, strict=True)
            if name not in known and seen.any()
        ][: max(0, self.most - len(known))]
        if new:
            log.warning(
                "%s has new channels from now on: %s", self.entity, ", ".join(map(repr, new))
            )
            self._rechannel((*self.channels, *new))

    def settle(self, own: Sequence[str]) -> None:
        """Continue in the channels of the next scorer, and in those that are still observed."""
        waiting = [] if self.buffer is None else self.buffer.waiting
        held: list[NDArray[np.floating]] = [*self._tail, *(row for _, row in self._early), *waiting]
        further = [
            name
            for k, name in enumerate(self.channels)
            if name not in set(own) and not all(np.isnan(row[k]) for row in held)
        ]
        if (names := (*own, *further)) != self.channels:
            self._rechannel(names)

    def _rechannel(self, names: tuple[str, ...]) -> None:
        """What is held moves to the places of these channels."""
        places = places_of(names, self.channels)
        self._tail = moved(self._tail, places).astype(np.float32)
        self._early = [(time, moved(row, places)) for time, row in self._early]
        if self.buffer is not None:
            self.buffer.rechannel(names)
        self.channels = names

    # -- rows

    def _wait(self, frame: Frame) -> None:
        if frame.timestamps is None:
            raise UsageError("live rows need timestamps", remedy="Give a source that has them.")
        own = frame.select(self.channels)
        values = np.where(own.observed, own.values, np.nan).astype(np.float64)
        times = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
        self._early += list(zip(times.tolist(), values, strict=True))

    def _decide(self) -> list[Run]:
        """Once there are enough times, the period; and everything that waited goes out."""
        times = sorted({time for time, _ in self._early})
        if len(times) < DECIDE:
            return []
        self.buffer = self._new_buffer(usual_period(float(np.median(np.diff(times)))))
        runs: list[Run] = []
        for time, row in self._early:
            runs += self.buffer.push(self._frame(np.array([time]), row[None]))
        self._early = []
        return self._out(runs)

    def _out(self, runs: list[Run]) -> list[Run]:
        for run in runs:
            times = run.frame.timestamps
            assert times is not None  # noqa: S101  a buffer always gives them
            if run.fresh:  # what was before does not lead up to it
                self._times, self._tail = self._times[:0], self._tail[:0]
            self._times = np.concatenate([self._times, times.astype(np.int64)])[-TAIL:].copy()
            rows = run.frame.values.astype(np.float32)
            self._tail = np.concatenate([self._tail, rows])[-TAIL:].copy()
            self.count += len(run.frame)
        return runs

    def rows_since(self, time: int) -> int:
        """About how many rows went out from `time` (ns) on: of as many as there can have been."""
        if self.period is None or not len(self._times):
            return 0
        return min(self.count, max(0, int(self._times[-1] - time) // self.period + 1))

    def since(self, time: int | None) -> Frame | None:
        """Of the rows that are held those after `time` (None = all); None if there are none."""
        later = self._times > (-(2**62) if time is None else time)
        if not later.any():
            return None
        return self._frame(self._times[later], self._tail[later].astype(np.float64))

    def _frame(self, times: NDArray[np.int64], values: Floats) -> Frame:
        stamps = times.astype("datetime64[ns]")
        return Frame(values, ~np.isnan(values), stamps, self.channels, self.entity)

    # -- over a restart

    def to_state(self) -> State:
        """Everything it holds."""
        empty = np.empty((0, len(self.channels)))
        arrays: dict[str, NDArray[np.generic]] = {
            "early.times": np.array([time for time, _ in self._early], np.int64),
            "early": np.stack([row for _, row in self._early]) if self._early else empty,
            "times": self._times,
            "tail": self._tail,
        }
        parts = {} if self.buffer is None else {"buffer": self.buffer.to_state()}
        facts = {"channels": self.channels, "period": self.period, "count": self.count}
        return State(KIND, facts, arrays, parts)

    @classmethod
    def from_state(cls, state: State, like: Alignment) -> Alignment:
        """Go on from a state; see `saved_state`. ModelError if it has other channels."""
        channels, period = rows_known(state)
        if channels != like.channels or period != (like.period or period):
            raise ModelError(
                f"the saved rows of {like.entity!r} have other channels or another interval",
                remedy=REMEDY,
            )
        alignment = cls(
            like.entity, channels, period=period, lateness=like.lateness, fill=like.fill,
            most=like.most,
        )  # fmt: skip
        if alignment.buffer is not None:
            alignment.buffer = RowBuffer.from_state(state.part("buffer"), alignment.buffer)
        times, early = state.array("early.times", np.int64), state.array("early", np.float64)
        alignment._early = list(zip(times.tolist(), early, strict=True))
        alignment.count = state.fact("count")
        alignment._times = state.array("times", np.int64)
        alignment._tail = state.array("tail", np.float32)
        return alignment


def rows_known(state: State) -> tuple[tuple[str, ...], int | None]:
    """Channels and period, in ns, of an alignment's state. ModelError for another state."""
    return tuple(state.check(KIND).fact("channels")), state.fact("period")


def usual_period(measured: float) -> int:
    """The period that is meant, in ns: a usual one if it is near to the measured one (ns)."""
    near = min(USUAL, key=lambda usual: abs(usual * SECOND_NS - measured))
    if abs(near * SECOND_NS - measured) <= NEAR * measured:
        return round(near * SECOND_NS)
    return max(1, round(measured))
