"""What a live scorer says of one row, and the protocol that every live scorer keeps.

The state of a score says how far it can be trusted, by what share of what it reads was there:

    warming    fewer rows than the detector needs have come since the stream started
    degraded   of the cells in the rows a detector reads (those up to a row, a window at most), more
               than a tenth was not observed, or a channel was not observed at all
    ready      else

Only channels that the detector was fitted on count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import numpy as np

from imdiffusion.arrays import Flags, Reals
from imdiffusion.data.frame import Frame
from imdiffusion.live.store.checkpoint import SCORER
from imdiffusion.records import STATES
from imdiffusion.saved_state import State
from imdiffusion.scoring.finding import Finding


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
