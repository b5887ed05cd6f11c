"""Offline scores, pushed: rows go in as they come, scores come out once they are final.

The same numbers as `Entity.score_runs`, which reads a series to its end. A row is final when the
window that keeps it is whole and every later row that its means look at has been imputed too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.windows import Rows, WindowBatch, WindowGrid
from imdiffusion.entity import Entity
from imdiffusion.runs import Floats, ScoredRun
from imdiffusion.saved_state import State
from imdiffusion.scoring.error import (
    ErrorConfig,
    pasts,
    residual_of,
    scored,
    smoothed_errors,
    stood,
)
from imdiffusion.scoring.recent import RecentQuantile
from imdiffusion.scoring.smoothing import reach


def rows_after(recipe: ErrorConfig) -> int:
    """Rows after its own that the error of a row looks at."""
    return sum(max(0, reach(max(widths))[1]) for widths in (recipe.detrend, recipe.smooth))


def rows_before(recipe: ErrorConfig) -> int:
    """Rows before its own that the error of a row looks at."""
    return sum(reach(max(widths))[0] for widths in (recipe.detrend, recipe.smooth))


class DelayedScorer:
    """The offline pass over one series of an entity.

    standing: for each number of final rows that was reached of late, what the pasts of the views
    say there (V, S). Held are less than two windows of rows and the residuals that means still
    look at.
    """

    def __init__(self, entity: Entity) -> None:
        self.entity = entity
        self.grid = entity.grid()
        self.past = pasts(entity.calibration.units, entity.recipe)
        self.final = 0  # rows that are out
        self._base = 0  # position in the series of the first held residual
        channels, steps = len(entity.channels), len(entity.chosen_steps)
        self._residual: Floats = np.empty((0, steps, channels), np.float32)
        self._expected: Floats = np.empty((0, channels), np.float32)  # from row `final` on
        self.standing: dict[int, Floats] = {0: self._stand()}

    def push(self, rows: Rows) -> list[ScoredRun]:
        """Take the next rows: the runs that are final with them, in order."""
        runs = []
        for windows in self.grid.push(rows):
            runs += self._take(windows)
        return runs

    def finish(self) -> list[ScoredRun]:
        """The series has ended: the runs of all rows that are left, none for less than a window."""
        runs = []
        for windows in self.grid.finish():
            runs += self._take(windows)
        left = self._base + len(self._residual)
        return runs + self._release([left] if left > self.final else [])

    def final_after(self, rows: int) -> int:
        """How many rows are final once so many have come."""
        return max(0, self.grid.final(rows) - rows_after(self.entity.recipe))

    def forget(self, final: int) -> None:
        """Drop what stood before so many rows were final."""
        self.standing = {at: level for at, level in self.standing.items() if at >= final}

    def _take(self, windows: WindowBatch) -> list[ScoredRun]:
        run = self.entity.estimated(windows, self.entity.chosen_steps)
        residual = residual_of(run.seen, run.estimates, run.target)
        before = self._base + len(self._residual)
        self._residual = np.concatenate([self._residual, residual])
        self._expected = np.concatenate([self._expected, run.estimates[:, -1]])
        # A step for each window: what stands after it hangs on rows, not on how windows are joined.
        ends = before + np.cumsum([hi - lo for lo, hi in windows.keep])
        after = rows_after(self.entity.recipe)
        return self._release([max(0, int(end) - after) for end in ends])

    def _release(self, stops: list[int]) -> list[ScoredRun]:
        """Runs up to each of these positions, which are final now."""
        if not stops or stops[-1] <= self.final:
            return []
        entity, recipe = self.entity, self.entity.recipe
        errors = np.concatenate(list(smoothed_errors([self._residual], recipe)))
        runs = []
        for stop in stops:
            if stop <= self.final:
                continue
            part = errors[self.final - self._base : stop - self._base]
            ((joined, parts),) = scored([part], entity.calibration.units, recipe, self.past)
            expected = entity.scaler.backward(self._expected[: len(part)])
            self._expected = self._expected[len(part) :].copy()
            runs.append(ScoredRun(joined.T, entity.joined(parts), expected))
            self.final = stop
            self.standing[stop] = self._stand()
        spare = self.final - rows_before(recipe) - self._base
        if spare > 0:
            self._residual, self._base = self._residual[spare:].copy(), self._base + spare
        return runs

    def _stand(self) -> Floats:
        return stood(self.past, self.entity.recipe, len(self.entity.chosen_steps))

    # -- over a restart

    def to_state(self) -> State:
        """The windows, residuals and pasts that it goes on from."""
        arrays: dict[str, NDArray[np.generic]] = {
            "residual": self._residual,
            "expected": self._expected,
            "stood": np.array(list(self.standing), np.int64),
            "standing": np.stack(list(self.standing.values())),
        }
        pasts = {str(n): one.to_state() for n, one in enumerate(self.past) if one is not None}
        parts = {"windows": self.grid.to_state(), **pasts}
        return State("offline scores", {"final": self.final, "base": self._base}, arrays, parts)

    @classmethod
    def from_state(cls, state: State, like: DelayedScorer) -> DelayedScorer:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        scorer = cls(like.entity)
        scorer.grid = WindowGrid.from_state(
            state.check("offline scores").part("windows"), scorer.grid
        )
        scorer.final, scorer._base = state.fact("final"), state.fact("base")
        scorer._residual = state.array("residual", np.float32)
        scorer._expected = state.array("expected", np.float32)
        stood, standing = state.array("stood", np.int64), state.array("standing", np.float32)
        scorer.standing = dict(zip(stood.tolist(), standing, strict=True))
        scorer.past = [
            None if one is None else RecentQuantile.from_state(state.part(str(n)), one)
            for n, one in enumerate(scorer.past)
        ]
        return scorer
