"""A scorer behind a row buffer: rows as they come in, judged in order on the entity's grid."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.stream.buffer import RowBuffer
from imdiffusion.stream.judged import Judged, Scorer
from imdiffusion.stream.packing import pack, unpack

KIND = "ordered scorer"


class EndingScorer(Scorer, Protocol):
    """A scorer that can be told that the rows to come do not follow those so far."""

    def finish(self) -> list[Judged]:
        """What is still to be said of the rows so far; then it starts afresh."""


class Ordered:
    """Keeps `stream.judged.Scorer` for rows in any order, with channels missing, new or renamed.

    period: nanoseconds between rows. lateness, fill: rows, as of `RowBuffer`. After a gap too long
    to fill, or a clock that was set, the scorer starts afresh.
    """

    def __init__(
        self,
        scorer: EndingScorer,
        *,
        period: int,
        lateness: int = 2,
        fill: int = 30,
        entity: str | None = None,
    ) -> None:
        self.scorer = scorer
        self.detector, self.model, self.channels = scorer.detector, scorer.model, scorer.channels
        self.buffer = RowBuffer(
            scorer.channels, period=period, lateness=lateness, fill=fill, entity=entity
        )
        self._begun = False  # whether the scorer has had a row

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in, by reason; see `stream/buffer.py`."""
        return self.buffer.counts

    def push(self, frame: Frame) -> list[Judged]:
        """Take rows as they come: what can be said now of those that are in order."""
        judged: list[Judged] = []
        for run in self.buffer.push(frame):
            if run.fresh and self._begun:
                judged += self.scorer.finish()
            judged += self.scorer.push(run.frame)
            self._begun = True
        return judged

    def follow(self, before: Ordered) -> None:
        """Go on with the rows that another one has seen but not yet handed to its scorer."""
        if (before.channels, before.buffer.period) == (self.channels, self.buffer.period):
            self.buffer.restore(before.buffer.dump())

    def dump(self) -> bytes:
        """The states of buffer and scorer, without pickle."""
        states = {"buffer": self.buffer.dump(), "scorer": self.scorer.dump()}
        arrays = {name: np.frombuffer(state, np.uint8) for name, state in states.items()}
        return pack(KIND, {"begun": self._begun}, arrays)

    def restore(self, state: bytes) -> None:
        """Go on as the one that was dumped would. ModelError for a state that does not fit."""
        facts, arrays = unpack(KIND, state)
        self.buffer.restore(arrays["buffer"].tobytes())
        self.scorer.restore(arrays["scorer"].tobytes())
        self._begun = bool(facts["begun"])
