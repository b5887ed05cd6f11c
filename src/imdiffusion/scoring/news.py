"""Which rows of an absence are news: its first ones, and fewer where it happens time and again.

A channel that is frozen, quiet, or away from its constant value is news for `NEWS` rows; after
that it is the new normal, and `AbsenceRun.since` still says how long it has lasted. A channel that
may be so for longer than `NEWS` rows by what training rows say is one that often rests, and its
rest is no news. One that was so `INCIDENTS` times within the last `MEMORY` rows does it by habit,
whatever training rows said: then news is only what lasts `MARGIN` times as long as the longest of
these. What happened long ago counts no more, so that a stream of months goes on being told.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Ints
from imdiffusion.saved_state import State
from imdiffusion.scoring.absence_fit import FROZEN, KINDS

NEWS = 64  # rows
INCIDENTS = 3
MEMORY = 10_000  # rows
MARGIN = 2.0  # times the longest incident
MOST_ROWS = 2**29  # of a run that are counted
_LONG_AGO = -(2**62)


class NewsFilter:
    """Consecutive rows in, in pieces of any size; what is news depends on the rows alone."""

    def __init__(self, channels: int) -> None:
        several = (channels, len(KINDS) - FROZEN, INCIDENTS)
        self._state: dict[str, NDArray[Any]] = {
            "count": np.zeros(1, np.int64),  # rows that have come
            "kind": np.zeros(channels, np.int8),  # of the last row
            "length": np.zeros(channels, np.int32),  # of the run that the last row is in
            "limit": np.zeros(channels, np.int32),  # no news before it is longer
            "late": np.zeros(channels, bool),  # the run became one of its kind after `NEWS` rows
            "told": np.zeros(channels, np.int32),  # rows of the run beyond the limit
            "ends": np.full(several, _LONG_AGO),  # of the last incidents, by kind from FROZEN on
            "lengths": np.zeros(several, np.int32),
        }

    def push(self, kind: NDArray[np.int8], since: Ints) -> Flags:
        """The next rows, (n, K) each as in `AbsenceRun`, a missing channel without a kind: whether
        each is news.
        """
        news = np.zeros(kind.shape, bool)
        state = self._state
        for channel in np.flatnonzero(kind.any(axis=0) | (state["kind"] > 0)).tolist():
            self._channel(channel, kind[:, channel], since[:, channel], news[:, channel])
        state["count"] += len(kind)
        return news

    def _channel(self, channel: int, kind: NDArray[np.int8], since: Ints, news: Flags) -> None:
        """Runs of one kind of one channel: rows (n,) of it, `news` set in place."""
        state = self._state
        edges = np.flatnonzero(np.diff(kind)) + 1
        for start, stop in pairwise([0, *edges.tolist(), len(kind)]):
            code = int(kind[start])
            if code != state["kind"][channel]:
                self._ended(channel, int(state["count"][0]) + start)
                state["kind"][channel] = code
                state["told"][channel] = 0
                state["late"][channel] = since[start] >= NEWS
                state["limit"][channel] = self._limit(channel, code, start) if code else 0
            if not code:
                state["length"][channel] = 0
                continue
            state["length"][channel] = min(int(since[stop - 1]) + 1, MOST_ROWS)
            beyond = since[start:stop] + 1 > state["limit"][channel]
            beyond &= not state["late"][channel]
            told = state["told"][channel] + np.cumsum(beyond)
            news[start:stop] = beyond & (told <= NEWS)
            state["told"][channel] = min(int(told[-1]), MOST_ROWS)

    def _ended(self, channel: int, row: int) -> None:
        """The run that the channel was in is over as of a row: remember it."""
        state = self._state
        code = int(state["kind"][channel])
        if not code:
            return
        for name, value in (("ends", row), ("lengths", state["length"][channel])):
            kept = state[name][channel, code - FROZEN]
            kept[:-1], kept[-1] = kept[1:].copy(), value

    def _limit(self, channel: int, code: int, start: int) -> int:
        """How long a run that begins now may be without being news: 0 where it always is."""
        state = self._state
        recent = state["ends"][channel, code - FROZEN] >= state["count"][0] + start - MEMORY
        if not recent.all():
            return 0
        return int(MARGIN * state["lengths"][channel, code - FROZEN].max())

    # -- over a restart

    def to_state(self) -> State:
        """The run that each channel is in, and its last incidents."""
        return State("news", arrays={name: one.copy() for name, one in self._state.items()})

    @classmethod
    def from_state(cls, state: State, like: NewsFilter) -> NewsFilter:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        news = cls(len(like._state["kind"]))
        news._state = state.check("news").like(news._state)
        return news
