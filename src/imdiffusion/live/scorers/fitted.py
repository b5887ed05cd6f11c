"""A fitted entity, live: every row judged as it arrives, and on wish again offline.

The scores are those of `decision_function(x, mode="online")` and `decision_function(x)` over all
rows since the stream started, however they are cut into pushes, and over a restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Ints, Reals
from imdiffusion.data.counters import Rates
from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.errors import ModelError
from imdiffusion.live.rows.reorder_buffer import checked_times
from imdiffusion.live.store.inserts import SCORER
from imdiffusion.online import OnlineScorer, need_online
from imdiffusion.records import STATES
from imdiffusion.saved_state import REMEDY, State
from imdiffusion.scored_run import ScoredRun
from imdiffusion.scoring.event import Finding, findings_of


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One row of one entity, judged at one mode.

    timestamp: nanoseconds since the epoch, UTC. mode: "online" or "offline". score: above 1 =
    anomalous, NaN where nothing was observed. parts (K,): each channel's part of the error, NaN =
    not observed. seen, expected, lower, upper (K,): in the caller's units. state: of
    `records.STATES`. findings: by channel what checks beside the views found. evidence (K,): at
    online, what the row by itself has against each channel (`runs.ScoredRun`), None where no view
    says so; echo: rows after a bad one of which something wrong is expected because of it; reach:
    rows before its own that a score looks at.
    """

    timestamp: int
    mode: str
    score: float
    parts: Reals
    seen: Reals
    expected: Reals
    lower: Reals
    upper: Reals
    state: str = "ready"
    findings: Mapping[int, Finding] = field(default_factory=dict)
    evidence: Reals | None = None
    echo: int = 0
    reach: int = 0


class Scorer(Protocol):
    """Scores one entity row by row. Its state (`saved_state`) carries it over a restart."""

    detector: str  # the name of the scorer: a preset or a baseline
    model: str  # its version: a digest of what was fitted

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it scores; those of an entity may become more."""

    def push(self, frame: Frame) -> list[ScoredRow]:
        """Take the next rows (the model's channels, on its grid): what can be said now."""

    @property
    def note(self) -> str:
        """What is to be known of it, in a sentence; empty = nothing."""

    def to_state(self) -> State:
        """The state between two rows; the model itself is apart."""

    @classmethod
    def from_state(cls, state: State, like: Self) -> Self:
        """A scorer as `like`, which goes on from a state: same rows, same scores. ModelError."""


class EndingScorer(Scorer, Protocol):
    """A scorer behind an alignment, which says when rows do not follow those so far."""

    def finish(self) -> list[ScoredRow]:
        """What is still to be said of the rows so far; then it starts afresh."""

    def widen(self, channels: Sequence[str]) -> None:
        """The entity has these channels from now on; a fitted model keeps its own."""


class EngineScorer(Scorer, Protocol):
    """A scorer that takes rows as a source sends them: of any channels, in any order."""

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in so far, by reason."""


SomeScorer = TypeVar("SomeScorer", bound=Scorer)


def signed(scorer: Scorer) -> State:
    """The state of an entity's scorer, with the detector and the version that it is of."""
    owner = {"detector": scorer.detector, "model": scorer.model}
    return State(SCORER, owner, parts={SCORER: scorer.to_state()})


def owner_of(state: State) -> tuple[str, str]:
    """Detector and version of the scorer whose signed state it is. Raises ModelError."""
    return state.check(SCORER).fact("detector"), state.fact("model")


def resumed(scorer: SomeScorer, state: State | None) -> SomeScorer:
    """The scorer as it goes on from a signed state; itself, where that is of another detector or
    model, or there is none. ModelError where the state does not fit.
    """
    if state is None or owner_of(state) != (scorer.detector, scorer.model):
        return scorer
    return scorer.from_state(state.part(SCORER), scorer)


WARMING, READY, DEGRADED, _ = STATES
MISSING_SHARE = 0.1


def degraded(before: Flags, rows: Flags, *, known: Flags, window: int) -> Flags:
    """Whether each of the rows (n, K) is degraded: bool (n,).

    before (m, K): the observed cells of the rows before them. known (K,): channels that count.
    """
    observed = np.concatenate([before, rows])[:, known]
    total = np.concatenate([np.zeros((1, observed.shape[1]), np.int64), observed.cumsum(axis=0)])
    last = np.arange(len(before), len(observed)) + 1
    first = np.maximum(0, last - window)
    seen = total[last] - total[first]
    cells = (last - first) * observed.shape[1]
    found: Flags = (seen == 0).any(axis=1) | (cells - seen.sum(axis=1) > MISSING_SHARE * cells)
    return found


KIND = "entity scorer"
PIECE = 512  # rows taken at once, so that a large frame does not need large memory


@dataclass(frozen=True, slots=True)
class _Pending:
    """Rows that wait to be judged offline: times (n,), seen (n, K), low (n,) = degraded."""

    times: Ints
    seen: NDArray[np.float64]
    low: NDArray[np.bool_]

    def join(self, other: _Pending) -> _Pending:
        return _Pending(
            np.concatenate([self.times, other.times]),
            np.concatenate([self.seen, other.seen]),
            np.concatenate([self.low, other.low]),
        )

    def split(self, rows: int) -> tuple[_Pending, _Pending]:
        """The first rows, and a copy of the rest."""
        first = _Pending(self.times[:rows], self.seen[:rows], self.low[:rows])
        rest = self.times[rows:].copy(), self.seen[rows:].copy(), self.low[rows:].copy()
        return first, _Pending(*rest)


class EntityScorer:
    """Keeps `Scorer` for one fitted entity.

    detector: its name. offline: judge every row a second time, once the rows
    after it are there. model: its version, where that is known already; None = looked up, which
    reads all weights. Memory does not grow with the rows: see `nbytes`. The entity may be shared
    by any number of scorers. Raises ModelError for a model without thresholds online.
    """

    def __init__(
        self,
        entity: Entity,
        *,
        detector: str = "fast",
        offline: bool = False,
        model: str | None = None,
    ) -> None:
        self.entity, self.detector, self.offline = entity, detector, offline
        self.channels = entity.channels
        self.model = entity.version if model is None else model
        need_online(entity)
        self._begin()

    def _begin(self) -> None:
        channels = len(self.channels)
        self._online = OnlineScorer(self.entity, offline=self.offline)
        self._rates = self.entity.counters.reader()
        self._last: int | None = None
        self._pending = _Pending(
            np.empty(0, np.int64), np.empty((0, channels)), np.empty(0, np.bool_)
        )

    @property
    def nbytes(self) -> int:
        """Bytes of rows, residuals and pasts that are held; the model is apart."""
        return self.to_state().nbytes

    @property
    def note(self) -> str:
        """Nothing: what a fitted model can do was measured when it was fitted."""
        return ""

    def widen(self, channels: Sequence[str]) -> None:
        """It keeps the channels it was fitted on."""

    # -- rows

    def push(self, frame: Frame) -> list[ScoredRow]:
        """Take the next rows, of the model's channels or some of them: what can be said now.

        Raises DataError for a channel the model does not know, and for rows without timestamps or
        not after the last.
        """
        own = self._own(frame)
        judged: list[ScoredRow] = []
        for start in range(0, len(own), PIECE):
            judged += self._judge(own.slice(start, start + PIECE))
        return judged

    def finish(self) -> list[ScoredRow]:
        """The stream has ended: rows still to be judged offline. Then it starts afresh.

        To be called before a fresh run of a RowBuffer, whose rows do not follow those so far.
        """
        judged = [one for run in self._online.finish() for one in self._look_back(run)]
        self._begin()
        return judged

    def _own(self, frame: Frame) -> Frame:
        """The frame in the model's channels, only what is known and finite observed."""
        times = checked_times(frame, self.channels, self._last)
        own = frame.select(self.channels)
        # A channel that training never saw says nothing.
        observed = own.observed & np.isfinite(own.values) & self.entity.scaler.known
        return replace(own, observed=observed, timestamps=times.view("datetime64[ns]"))

    def _judge(self, frame: Frame) -> list[ScoredRow]:
        entity, online = self.entity, self._online
        frame = self._rates.push(frame)
        rows = entity.rows(frame)
        window, held, count = entity.settings.window, online.held, online.count
        before = frame.observed[:0] if held is None else held.observed
        low = degraded(before, frame.observed, known=entity.scaler.known, window=window)
        run, finals = online.push(rows)
        seen = np.where(frame.observed, frame.values, np.nan).astype(np.float64)
        times = rows_times(frame)
        self._last = int(times[-1])
        states = [
            WARMING if count + row + 1 < window else DEGRADED if poor else READY
            for row, poor in enumerate(low.tolist())
        ]
        judged = self._judged(run, times, seen, states, "online")
        if self.offline:
            self._pending = self._pending.join(_Pending(times, seen, low))
            for final in finals:
                judged += self._look_back(final)
        return judged

    def _look_back(self, run: ScoredRun) -> list[ScoredRow]:
        first, self._pending = self._pending.split(run.errors.shape[1])
        states = [DEGRADED if poor else READY for poor in first.low.tolist()]
        return self._judged(run, first.times, first.seen, states, "offline")

    def _judged(
        self,
        run: ScoredRun,
        times: Ints,
        seen: NDArray[np.float64],
        states: list[str],
        mode: str,
    ) -> list[ScoredRow]:
        entity = self.entity
        scores = entity.score(run.errors, mode)
        lower, upper = entity.band(run.expected)
        evidence = run.evidence if mode == "online" else None  # what it says stays true
        reach = 0 if entity.linear is None else entity.linear.reach
        return [
            ScoredRow(
                timestamp=int(times[row]),
                mode=mode,
                score=float(scores[row]),
                parts=run.channel_scores[row],
                seen=seen[row],
                expected=run.expected[row],
                lower=lower[row],
                upper=upper[row],
                state=states[row],
                findings=self._found(run, row, int(times[row])),
                evidence=None if evidence is None else evidence[row],
                echo=entity.echo,
                reach=reach,
            )
            for row in range(len(times))
        ]

    def _found(self, run: ScoredRun, row: int, time: int) -> dict[int, Finding]:
        """What the checks found in a row of a run, by channel."""
        if run.kind is None or run.since is None or not run.kind[row].any():
            return {}
        step = self.entity.period
        period = None if step is None else float(step / np.timedelta64(1, "s"))

        def of(code: int, since: int) -> Finding:
            at = np.datetime64(time, "ns")
            return self.entity.checks.finding(code, since, time=at, period=period)

        return findings_of(run.kind[row], run.since[row], of)

    # -- over a restart

    def to_state(self) -> State:
        """The state between two rows; the model itself is apart."""
        pending = self._pending
        return State(
            KIND,
            {"model": self.model, "offline": self.offline, "last": self._last},
            {"times": pending.times, "seen": pending.seen, "low": pending.low},
            {"online": self._online.to_state(), "rates": self._rates.to_state()},
        )

    @classmethod
    def from_state(cls, state: State, like: Self) -> Self:
        """Go on from a state; see `saved_state`. ModelError if it had another model."""
        scorer = cls(like.entity, detector=like.detector, offline=like.offline, model=like.model)
        model = state.check(KIND).fact("model")
        if (model, state.fact("offline")) != (like.model, like.offline):
            raise ModelError(
                f"the saved state is of model {model}, this one is {like.model}, or one of the two "
                "scores rows offline and the other does not",
                remedy=REMEDY,
            )
        scorer._last = state.fact("last")
        scorer._pending = _Pending(
            state.array("times", np.int64),
            state.array("seen", np.float64),
            state.array("low", np.bool_),
        )
        scorer._online = OnlineScorer.from_state(state.part("online"), scorer._online)
        scorer._rates = Rates.from_state(state.part("rates"), scorer._rates)
        return scorer


def rows_times(frame: Frame) -> Ints:
    """Timestamps of a live frame as nanoseconds since the epoch."""
    times = frame.timestamps
    return np.empty(0, np.int64) if times is None else times.view(np.int64)
