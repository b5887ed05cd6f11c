"""What a baseline has learned of an entity's rows, and the face that every such lesson has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.stream.judged import Judged
from imdiffusion.stream.packing import Arrays

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Lesson(Protocol):
    """Judges rows by what others have taught. Frames have timestamps, and the entity's channels."""

    @property
    def known(self) -> Bools:
        """Channels (K,) of which anything was learned."""

    def judge(self, held: Floats, frame: Frame, states: Sequence[str]) -> list[Judged]:
        """Judge the next rows (n, K); states: of each. held (m, K): rows as they are held, those
        that are judged last, so that no score hangs on how rows were pushed.

        In order of the rows at arrival; what is said in hindsight of earlier rows stands last.
        """

    def read(self, frame: Frame) -> None:
        """Rows that come before the first it judges, the newest of those that are held."""

    def finish(self) -> list[Judged]:
        """The rows to come do not follow those so far: what is left to say in hindsight."""

    def scores(self, frame: Frame) -> Floats:
        """Scores (n,) at arrival of rows of their own, which nothing came before."""

    def dump(self) -> tuple[dict[str, Any], Arrays]:
        """What was learned and where it stands, as facts and arrays."""
