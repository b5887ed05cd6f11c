"""A scorer for an entity that no network has been fitted on yet: a baseline that learns as it goes.

It learns from the last rows it has seen, again whenever there are half as many more, and scores
once it has ten minutes of them. What it learns, and how a score comes of it, is a `FittedBaseline`:
of the preset `linear`, or of a baseline that looks at one row alone. Which score stands for 1 is
found without labels, on rows that were scored by what others had taught.

Whether what was learned would see a fault at all is measured when it is asked for (`sight`).
"""

from __future__ import annotations

import hashlib
import logging
import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import Frame, moved, places_of
from imdiffusion.errors import ConfigError, ModelError
from imdiffusion.live.rows.reorder_buffer import checked_times
from imdiffusion.live.scorers import linear_baseline, row_baseline
from imdiffusion.live.scorers.fault_injection import InjectionResult, injection_result
from imdiffusion.live.scorers.fitted import DEGRADED, READY, WARMING, ScoredRow, degraded
from imdiffusion.live.scorers.linear_baseline import LINEAR, LinearBaseline
from imdiffusion.live.scorers.row_baseline import ROW_BASELINES, SMOOTH, FittedBaseline, RowBaseline
from imdiffusion.saved_state import REMEDY, State
from imdiffusion.schema import one_of

__all__ = ["COLD_BASELINES", "SMOOTH", "ColdStartScorer"]

log = logging.getLogger(__name__)

KIND = "cold start"
COLD_BASELINES = (LINEAR, *ROW_BASELINES)
SECONDS = 600.0  # of rows before it scores
MOST_ROWS = 1_000  # it learns from the last so many
GROWTH = 1.5  # it learns again when it has seen so many times the rows
STAGGER = 0.3  # share of the rows till then that the name of an entity may take off
LONG_AGO = -(2**63)


class ColdStartScorer:
    """Keeps `live.scorers.fitted.Scorer` without anything fitted beforehand.

    channels: the entity's. period: nanoseconds between rows. baseline: of COLD_BASELINES.
    alarm_rate: the share of normal rows above 1 that is aimed at. offline: judge every row a
    second time, once the rows after it are there; only `linear` does. entity: a name, by which
    several do not all learn again at the same row. Memory: MOST_ROWS rows. Raises ConfigError.
    """

    def __init__(
        self,
        channels: Sequence[str],
        *,
        period: int,
        baseline: str = LINEAR,
        alarm_rate: float = 0.001,
        offline: bool = False,
        entity: str = "",
    ) -> None:
        one_of("baseline of live rows", baseline, COLD_BASELINES)
        if period <= 0 or not 0 < alarm_rate < 1:
            raise ConfigError(
                f"period = {period} ns with alarm_rate = {alarm_rate}",
                remedy="The period must be positive, the rate between 0 and 1.",
            )
        self.period, self.alarm_rate, self.entity = period, alarm_rate, entity
        self.detector = baseline
        self.offline = offline and baseline == LINEAR
        self._name(channels)
        kind = linear_baseline if baseline == LINEAR else row_baseline
        self.needed: int = max(kind.LEAST_ROWS, math.ceil(SECONDS * 1e9 / period))
        self._early = STAGGER * zlib.crc32(entity.encode()) / 2**32
        self._begin()

    def _name(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        words = [KIND, self.detector, self.period, self.alarm_rate, *self.channels]
        if self.offline:
            words.append("offline")
        self.model = hashlib.sha256("\x1f".join(map(str, words)).encode()).hexdigest()[:16]

    def _begin(self) -> None:
        width = len(self.channels)
        # The last of them, NaN = not observed, each channel less the first value it ever had: a
        # count of billions moves by a few, which single precision would lose.
        self._rows: NDArray[np.floating] = np.empty((0, width), np.float32)
        self._base = np.full(width, np.nan)
        self._times = np.empty(0, np.int64)
        self._count = self._taught = 0  # rows seen; rows seen when it learned last
        self._since = 0  # rows that follow each other, up to the last
        self._asked: int | None = None  # rows seen when it is to learn of new channels
        self._last: int | None = None
        self._looked = LONG_AGO  # ns, up to which rows were judged offline
        self._baseline: FittedBaseline | None = None
        self._sight: InjectionResult | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are held."""
        return self.to_state().nbytes

    @property
    def sight(self) -> InjectionResult | None:
        """How many planted faults it sees in the rows it holds; None while it is warming.

        Measured when it is first asked for after a fit; it is logged where it is few.
        """
        if self._sight is None and self._baseline is not None:
            self._sight = injection_result(self._baseline.scores, self._held())
            say = log.warning if self._sight.blind else log.debug
            say("%s: %s %s", self.entity or "an entity", self.detector, self._sight)
        return self._sight

    @property
    def note(self) -> str:
        """How many planted faults it sees, in words; empty = not known."""
        return "" if self.sight is None else str(self.sight)

    # -- rows

    def push(self, frame: Frame) -> list[ScoredRow]:
        """Take the next rows: each is judged by what the rows before it have taught.

        Raises DataError for a channel that is not the entity's, and for rows without timestamps or
        not after the last.
        """
        times = checked_times(frame, self.channels, self._last)
        own = frame.select(self.channels)
        seen = np.where(own.observed & np.isfinite(own.values), own.values, np.nan)
        judged: list[ScoredRow] = []
        start = 0
        while start < len(seen):
            stop = min(len(seen), start + self._due - self._count)
            judged += self._judge(times[start:stop], seen[start:stop].astype(np.float64))
            start = stop
        return judged

    def finish(self) -> list[ScoredRow]:
        """The stream has ended or starts afresh: what is left to say. What was learned stays."""
        said = [] if self._baseline is None else self._not_yet_said(self._baseline.finish())
        self._last, self._since, self._looked = None, 0, LONG_AGO
        return said

    def widen(self, channels: Sequence[str]) -> None:
        """Go on under other channels. One that is new counts once so many rows more have come as it
        takes to score at all; what the others have taught stands.
        """
        if tuple(channels) == self.channels:
            return
        places = places_of(channels, self.channels)
        self._rows = moved(self._rows, places).astype(np.float32)
        self._base = moved(self._base[None], places)[0]
        self._name(channels)
        self._asked = self._count + self.needed
        if self._baseline is not None:
            self._baseline = None  # were there too few rows to learn from, it would be of others
            self._learn()

    @property
    def _due(self) -> int:
        """How many rows there are when it learns again."""
        if not self._taught:
            return self.needed
        more = min((GROWTH - 1) * self._taught, MOST_ROWS // 2) * (1.0 - self._early)
        usual = self._taught + max(1, math.ceil(more))
        return usual if self._asked is None else min(usual, self._asked)

    def _judge(self, times: NDArray[np.int64], seen: Floats) -> list[ScoredRow]:
        """Rows that one fitted baseline judges, after which the next may be due."""
        baseline = self._baseline
        known = np.ones(len(self.channels), np.bool_) if baseline is None else baseline.known
        low = degraded(~np.isnan(self._rows), ~np.isnan(seen), known=known, window=self.needed)
        self._hold(times, seen)
        if baseline is None:
            judged = [_unsaid(time, row) for time, row in zip(times.tolist(), seen, strict=True)]
        else:
            states = [DEGRADED if poor else READY for poor in low.tolist()]
            rows = self._frame(times, seen)
            judged = self._not_yet_said(baseline.judge(self._values(), rows, states))
        self._count += len(seen)
        self._since += len(seen)
        self._last = int(times[-1])
        if self._count == self._due:
            self._learn()
        return judged

    def _not_yet_said(self, judged: Iterable[ScoredRow]) -> list[ScoredRow]:
        """Without what an earlier fit has said offline before."""
        said = []
        for one in judged:
            if one.mode == "offline":
                if one.timestamp <= self._looked:
                    continue
                self._looked = one.timestamp
            said.append(one)
        return said

    def _hold(self, times: NDArray[np.int64], seen: Floats) -> None:
        first = np.isnan(self._base) & ~np.isnan(seen).all(axis=0)
        for channel in np.flatnonzero(first):
            self._base[channel] = seen[~np.isnan(seen[:, channel]), channel][0]
        rows = (seen - self._base).astype(np.float32)
        self._rows = np.concatenate([self._rows, rows])[-MOST_ROWS:].copy()
        self._times = np.concatenate([self._times, times])[-MOST_ROWS:].copy()

    def _values(self) -> Floats:
        """The rows that are held, in the caller's units."""
        return np.asarray(self._rows + self._base, np.float64)

    def _frame(self, times: NDArray[np.int64], values: Floats) -> Frame:
        stamps = times.view("datetime64[ns]")
        return Frame(values, ~np.isnan(values), stamps, self.channels, self.entity or None)

    def _held(self) -> Frame:
        """The rows that are held. Where they begin again at an earlier time, as if they had not."""
        times = self._times
        if (np.diff(times) <= 0).any():
            times = times[-1] - self.period * np.arange(len(times))[::-1]
        return self._frame(times, self._values())

    def _learn(self) -> None:
        """Learn from the rows that are held, unless hardly anything in them was observed."""
        self._taught = self._count
        if self._asked is not None and self._count >= self._asked:
            self._asked = None
        held = self._held()
        baseline: FittedBaseline | None
        if self.detector == LINEAR:
            baseline = LinearBaseline.of(held, self.alarm_rate, offline=self.offline)
        else:
            baseline = RowBaseline.of(held, self.detector, self.alarm_rate)
        if baseline is None:
            return  # still warming, or what was learned before stands
        if self._baseline is None and self._last is not None:
            self._looked = max(self._looked, self._last)  # rows before it stay unjudged
        if since := min(self._since, len(held)):
            baseline.read(held.slice(len(held) - since))
        self._baseline, self._sight = baseline, None

    # -- over a restart

    def to_state(self) -> State:
        """The state between two rows."""
        sight, baseline = self._sight, self._baseline
        facts = {
            "model": self.model,
            "count": self._count,
            "taught": self._taught,
            "since": self._since,
            "asked": self._asked,
            "last": self._last,
            "looked": self._looked,
            "sight": None if sight is None else [sight.seen, sight.planted],
        }
        arrays = {"rows": self._rows, "base": self._base, "times": self._times}
        parts = {} if baseline is None else {"baseline": baseline.to_state()}
        return State(KIND, facts, arrays, parts)

    @classmethod
    def from_state(cls, state: State, like: ColdStartScorer) -> ColdStartScorer:
        """Go on from a state; see `saved_state`. ModelError if it was set up otherwise."""
        scorer = cls(
            like.channels, period=like.period, baseline=like.detector, alarm_rate=like.alarm_rate,
            offline=like.offline, entity=like.entity,
        )  # fmt: skip
        if state.check(KIND).fact("model") != scorer.model:
            raise ModelError(
                "the saved state is of a baseline with other channels or options", remedy=REMEDY
            )
        scorer._count, scorer._taught, scorer._since = map(state.fact, ("count", "taught", "since"))
        scorer._asked, scorer._last, scorer._looked = map(state.fact, ("asked", "last", "looked"))
        scorer._rows = state.array("rows", np.float32)
        scorer._base = state.array("base", np.float64, (len(scorer.channels),))
        scorer._times = state.array("times", np.int64)
        sight = state.fact("sight")
        scorer._sight = None if sight is None else InjectionResult(*sight)
        if "baseline" in state.parts:
            scorer._baseline = scorer._baseline_of(state.part("baseline"))
        return scorer

    def _baseline_of(self, state: State) -> FittedBaseline | None:
        """The fitted baseline of a state; fitted again where it is of another version."""
        if self.detector != LINEAR:
            return RowBaseline.from_state(state, self.detector)
        try:
            return LinearBaseline.from_state(state, offline=self.offline)
        except (KeyError, ValueError, TypeError) as error:
            log.warning("%s learns again: its state is of another version (%s)",
                        self.entity or "an entity", error)  # fmt: skip
            taught = self._taught
            self._learn()
            self._taught = taught
            return self._baseline


def _unsaid(time: int, seen: Floats) -> ScoredRow:
    """A row of which nothing can be said yet."""
    nothing = np.full(len(seen), np.nan)
    return ScoredRow(
        timestamp=time, mode="online", score=math.nan, parts=nothing, seen=seen,
        expected=nothing, lower=nothing, upper=nothing, state=WARMING,
    )  # fmt: skip
