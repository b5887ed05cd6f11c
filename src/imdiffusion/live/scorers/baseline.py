"""What a baseline has learned of an entity's rows, and the protocol that each keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imdiffusion.arrays import Flags, Floats
from imdiffusion.data.frame import Frame
from imdiffusion.live.scorers.scored_row import ScoredRow
from imdiffusion.saved_state import State


class FittedBaseline(Protocol):
    """Judges rows by what others have taught. Frames have timestamps, and the entity's channels."""

    @property
    def known(self) -> Flags:
        """Channels (K,) of which anything was learned."""

    def judge(self, held: Floats, frame: Frame, states: Sequence[str]) -> list[ScoredRow]:
        """Judge the next rows (n, K); states: of each. held (m, K): rows as they are held, those
        that are judged last, so that no score depends on how rows were pushed.

        In order of the rows online; what is said offline of earlier rows stands last.
        """

    def read(self, frame: Frame) -> None:
        """Rows that come before the first it judges, the newest of those that are held."""

    def finish(self) -> list[ScoredRow]:
        """The rows to come do not follow those so far: what is left to say offline."""

    def scores(self, frame: Frame) -> Floats:
        """Scores (n,) online of rows of their own, which nothing came before."""

    def to_state(self) -> State:
        """What was learned and where it stands."""
