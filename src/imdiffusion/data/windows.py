"""Slice a series into overlapping windows, and stitch what comes back into one series.

Scoring keeps the middle `stride` rows of each window; the first window also keeps its beginning,
and a last window is aligned with the end, so that every row is kept exactly once. The grid starts
at the first row and windows are a pure function of position: however the series arrives in
pieces, the same windows come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Singles
from imdiffusion.saved_state import State

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of scaled rows: values float32 (n, K), zero where not observed; keys int64 (n,).

    times: int64 (n,), nanoseconds since 1970 in UTC; None where rows have no timestamps.
    """

    values: Singles
    observed: Flags
    keys: Ints
    times: Ints | None = None

    def __len__(self) -> int:
        return len(self.values)

    def join(self, other: Rows) -> Rows:
        """These rows, then those."""
        times = None
        if self.times is not None and other.times is not None:
            times = np.concatenate([self.times, other.times])
        return Rows(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.observed, other.observed]),
            np.concatenate([self.keys, other.keys]),
            times,
        )

    def slice(self, start: int, stop: int | None = None) -> Rows:
        """Rows start to stop."""
        part = slice(start, stop)
        times = None if self.times is None else self.times[part]
        return Rows(self.values[part], self.observed[part], self.keys[part], times)

    def to_state(self) -> State:
        """All but their times, which windows have no use for."""
        own = {"values": self.values, "observed": self.observed, "keys": self.keys}
        return State("rows", arrays=own)

    @classmethod
    def from_state(cls, state: State) -> Rows:
        """The rows that `to_state` describes. Raises ModelError."""
        values = state.check("rows").array("values", np.float32)
        return cls(values, state.array("observed", np.bool_), state.array("keys", np.int64))

    def copy(self) -> Rows:
        """The same rows, which do not keep those they were sliced from in memory."""
        times = None if self.times is None else self.times.copy()
        return Rows(self.values.copy(), self.observed.copy(), self.keys.copy(), times)


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """B windows: values, observed (B, L, K), keys (B, L); keep[b] = (lo, hi) rows to keep of b."""

    values: Singles
    observed: Flags
    keys: Ints
    keep: list[tuple[int, int]]

    def stitch(self, result: NDArray[Number]) -> NDArray[Number]:
        """Join the kept rows of a result (B, L, ...) into one run (n, ...)."""
        parts = [rows[lo:hi] for rows, (lo, hi) in zip(result, self.keep, strict=True)]
        return np.concatenate(parts)


class RowQueue:
    """Rows that wait until as many of another stream are ready: first in, first out."""

    def __init__(self) -> None:
        self.held: Floats | None = None

    def push(self, rows: Floats) -> None:
        """Add rows (n, K)."""
        self.held = rows if self.held is None else np.concatenate([self.held, rows])

    def pop(self, count: int) -> Floats:
        """Take the first `count` rows; IndexError before any came in."""
        if self.held is None:
            raise IndexError("rows requested before any arrived")
        out, self.held = self.held[:count], self.held[count:]
        return out


def held_out_from(total: int, length: int, share: float) -> int:
    """The row where the held-out tail of a training series begins: (rows, window, share) -> row.

    The tail is that share of the rows and at least a window; `total` (no tail) where there are
    fewer rows than two windows.
    """
    if total < 2 * length:
        return total
    return max(total - max(round(share * total), length), length)


def starts(rows: int, length: int, stride: int) -> Ints:
    """First rows of all windows of `length` in `rows` rows, the last one aligned with the end."""
    if rows < length:
        return np.zeros(0, dtype=np.int64)
    grid = np.arange(0, rows - length + 1, stride)
    last = rows - length
    return grid if grid[-1] == last else np.append(grid, last)


class WindowGrid:
    """Cuts a series that is pushed in pieces into batches of at most `batch` windows.

    length, stride: rows of a window, and between two. lead: rows of a window before the `stride`
    rows that are kept of it; None = as many as after them. Held is less than a piece and a window.
    """

    def __init__(self, *, length: int, stride: int, batch: int, lead: int | None = None) -> None:
        self.length, self.stride, self.batch = length, stride, batch
        self.lead = (length - stride) // 2 if lead is None else lead
        self.held: Rows | None = None
        self.origin = 0  # position in the series of held row 0
        self.start = 0  # of the next window on the grid
        self.done = 0  # rows kept so far

    def push(self, piece: Rows) -> Iterator[WindowBatch]:
        """The windows that are whole with the next rows. To be read to its end."""
        held = piece if self.held is None else self.held.join(piece)
        ready: list[tuple[int, int, int]] = []
        while self.start + self.length <= self.origin + len(held):
            stop = self.start + self.lead + self.stride
            ready.append((self.start - self.origin, self.done - self.start, stop - self.start))
            self.start, self.done = self.start + self.stride, stop
        spare = min(self.start, self.origin + len(held) - self.length) - self.origin
        self.held = held if spare <= 0 else held.slice(spare).copy()
        self.origin += max(0, spare)
        yield from _batches(held, ready, self.length, self.batch)

    def finish(self) -> Iterator[WindowBatch]:
        """The series has ended: a last window for the rows that are left, aligned with the end.

        A series of fewer rows than a window has none.
        """
        if self.held is None or self.origin + len(self.held) < self.length:
            return
        total = self.origin + len(self.held)
        if self.done < total:
            last = total - self.length
            lone = [(last - self.origin, self.done - last, self.length)]
            yield from _batches(self.held, lone, self.length, self.batch)
            self.done = total

    def cut(self, pieces: Iterable[Rows]) -> Iterator[WindowBatch]:
        """The windows of a series that arrives in pieces, to its end."""
        for piece in pieces:
            yield from self.push(piece)
        yield from self.finish()

    def to_state(self) -> State:
        """Where it stands, and the rows that are held."""
        place = {"origin": self.origin, "start": self.start, "done": self.done}
        held = {} if self.held is None else {"held": self.held.to_state()}
        return State("windows", place, parts=held)

    @classmethod
    def from_state(cls, state: State, like: WindowGrid) -> WindowGrid:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        grid = copy(like)
        state.check("windows")
        grid.origin, grid.start, grid.done = map(state.fact, ("origin", "start", "done"))
        grid.held = Rows.from_state(state.part("held")) if "held" in state.parts else None
        return grid

    def final(self, rows: int) -> int:
        """How many rows the windows that are whole after so many rows keep."""
        if rows < self.length:
            return 0
        return (rows - self.length) // self.stride * self.stride + self.lead + self.stride


def window_batches(
    pieces: Iterable[Rows], *, length: int, stride: int, batch: int, lead: int | None = None
) -> Iterator[WindowBatch]:
    """Cut a series that arrives in pieces as `WindowGrid` does, to its end."""
    yield from WindowGrid(length=length, stride=stride, batch=batch, lead=lead).cut(pieces)


def _batches(
    held: Rows, ready: list[tuple[int, int, int]], length: int, batch: int
) -> Iterator[WindowBatch]:
    for first in range(0, len(ready), batch):
        chosen = ready[first : first + batch]
        index = np.array([at for at, _, _ in chosen])[:, None] + np.arange(length)
        keep = [(lo, hi) for _, lo, hi in chosen]
        yield WindowBatch(held.values[index], held.observed[index], held.keys[index], keep)
