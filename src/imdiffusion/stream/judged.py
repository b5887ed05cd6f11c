"""What a live scorer says of one row, and the face that every live scorer has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.scoring.finding import Finding

Row = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Judged:
    """One row of one entity, judged at one moment.

    timestamp: nanoseconds since the epoch, UTC. moment: "arrival" or "hindsight". score: above 1 =
    anomalous, NaN where nothing was observed. parts (K,): each channel's part of the error, NaN =
    not observed. seen, expected, lower, upper (K,): in the caller's units. state: of
    `records.STATES`. findings: by channel what checks beside the views found. evidence (K,): at
    arrival, what the row by itself has against each channel (`runs.ScoredRun`), None where no view
    says so; echo: rows after a bad one of which something wrong is expected because of it; reach:
    rows before its own that a score looks at.
    """

    timestamp: int
    moment: str
    score: float
    parts: Row
    seen: Row
    expected: Row
    lower: Row
    upper: Row
    state: str = "ready"
    findings: Mapping[int, Finding] = field(default_factory=dict)
    evidence: Row | None = None
    echo: int = 0
    reach: int = 0


class Scorer(Protocol):
    """Scores one entity row by row. `dump` and `restore` carry its state over a restart."""

    detector: str  # the name of what speaks: a preset or a baseline
    model: str  # its version: a digest of what was fitted

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it speaks of; a `stream.voice.Voice` may come to have more."""

    def push(self, frame: Frame) -> list[Judged]:
        """Take the next rows (the model's channels, on its grid): what can be said now."""

    def dump(self) -> bytes:
        """The state between two rows, without pickle; the model itself is apart."""

    def restore(self, state: bytes) -> None:
        """Go on as the scorer that was dumped would: same rows, same scores."""


class EndingScorer(Scorer, Protocol):
    """A scorer that can be told that the rows to come do not follow those so far."""

    def finish(self) -> list[Judged]:
        """What is still to be said of the rows so far; then it starts afresh."""
