"""A run of rows as the views in closed form judge them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Singles
from imdiffusion.saved_state import State


@dataclass(frozen=True, slots=True)
class LinearRun:
    """A run of n rows: views (n, V), sparse (n,), parts and expected (n, K), scaled; known (n,).

    parts: each channel's evidence beyond normal. known: whether anything was observed. check (n,),
    kind and since (n, K): what the checks beside the views say, as in `checks.CheckRun`. apart
    (n, K): how far each channel is from the nearest normal patch, (n, 0) without the view `memory`.
    ease (n, 2): what the join and the sparse evidence are divided by, as `checks.RowChecks.ease`.
    """

    views: Floats
    sparse: Floats
    parts: Singles
    expected: Singles
    known: Flags
    check: Singles
    kind: NDArray[np.int8]
    since: NDArray[np.int32]
    apart: Singles
    ease: Singles

    def __len__(self) -> int:
        return len(self.sparse)

    def join(self, other: LinearRun) -> LinearRun:
        """These rows, then those."""
        joined = LinearRun(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__slots__
            )
        )
        if joined.since.any():
            return joined
        # Rows wait, and checks seldom find anything in them: that takes no memory.
        nothing = np.broadcast_to(np.int32(0), joined.since.shape)
        return replace(joined, since=nothing)

    def to_state(self) -> State:
        """All of it by name; since as what is not 0, and where that stands."""
        at = np.flatnonzero(self.since).astype(np.int32)
        own = {name: getattr(self, name) for name in self.__slots__}
        return State("linear run", arrays=own | {"since": self.since.ravel()[at], "since_at": at})

    @classmethod
    def from_state(cls, state: State) -> LinearRun:
        """The run that `to_state` describes. Raises ModelError."""
        run = cls(
            state.check("linear run").array("views", np.float64),
            state.array("sparse", np.float64),
            state.array("parts", np.float32),
            state.array("expected", np.float32),
            state.array("known", np.bool_),
            state.array("check", np.float32),
            state.array("kind", np.int8),
            np.zeros(state.array("kind", np.int8).shape, np.int32),
            state.array("apart", np.float32),
            state.array("ease", np.float32),
        )
        run.since.ravel()[state.array("since_at", np.int32)] = state.array("since", np.int32)
        return run

    def split(self, count: int) -> tuple[LinearRun, LinearRun]:
        """The first rows, and the rest."""
        first, rest = (
            LinearRun(*(getattr(self, name)[part] for name in self.__slots__))
            for part in (slice(0, count), slice(count, None))
        )
        return first, rest


def empty_run(views: int, channels: int, apart: int) -> LinearRun:
    """A run of no rows; apart: the channels of what it says under that name."""
    none = np.empty((0, channels), np.float32)
    known, check = np.empty(0, bool), np.empty(0, np.float32)
    kind, since = np.empty((0, channels), np.int8), np.empty((0, channels), np.int32)
    far = np.empty((0, apart), np.float32)
    views_of, blank = np.empty((0, views)), np.empty(0)
    ease = np.empty((0, 2), np.float32)
    return LinearRun(views_of, blank, none, none, known, check, kind, since, far, ease)
