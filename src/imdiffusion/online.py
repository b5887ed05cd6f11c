"""Scores of rows as they come: online from the rows up to each alone, and offline once final.

`OnlineScorer`: the score of row t is the last row of what the stages of `Entity.score_runs` say of
the last N rows that end with it, N whole windows laid back from t. What a view knows of the recent
past is what the offline pass has made of the rows that are final at t. The thresholds of online
scores are their own, for means that see one side only are noisier. Rows before a whole window has
come have no score (NaN).

`DelayedScorer`: the same numbers as `Entity.score_runs`, which reads a series to its end. A row is
final when the window that keeps it is whole and every later row that its means look at has been
imputed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Ints, Singles
from imdiffusion.data.windows import Rows, WindowBatch, WindowGrid
from imdiffusion.entity import Entity
from imdiffusion.errors import ModelError
from imdiffusion.linear import LinearRun, LinearStream
from imdiffusion.saved_state import State
from imdiffusion.scored_run import Pairing, ScoredRun
from imdiffusion.scoring.error import (
    ErrorConfig,
    NormalScale,
    last_errors,
    pasts,
    residual_of,
    scored,
    smoothed_errors,
    stood,
)
from imdiffusion.scoring.smoothing import RecentQuantile, reach
from imdiffusion.series_imputer import SeriesImputer


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
        self.entity, self.imputer = entity, entity.imputer
        self.recipe, self.units = self.imputer.recipe, entity.calibration.units
        self.grid = self.imputer.grid()
        self.past = pasts(self.units, self.recipe)
        self.final = 0  # rows that are out
        self._base = 0  # position in the series of the first held residual
        channels, steps = len(entity.channels), len(self.imputer.chosen_steps)
        self._residual: Singles = np.empty((0, steps, channels), np.float32)
        self._expected: Singles = np.empty((0, channels), np.float32)  # from row `final` on
        self.standing: dict[int, Singles] = {0: self._stand()}

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
        return max(0, self.grid.final(rows) - rows_after(self.recipe))

    def forget(self, final: int) -> None:
        """Drop what stood before so many rows were final."""
        self.standing = {at: level for at, level in self.standing.items() if at >= final}

    def _take(self, windows: WindowBatch) -> list[ScoredRun]:
        run = self.imputer.estimated(windows, self.imputer.chosen_steps)
        residual = residual_of(run.seen, run.estimates, run.target)
        before = self._base + len(self._residual)
        self._residual = np.concatenate([self._residual, residual])
        self._expected = np.concatenate([self._expected, run.estimates[:, -1]])
        # A step for each window: what stands after it hangs on rows, not on how windows are joined.
        ends = before + np.cumsum([hi - lo for lo, hi in windows.keep])
        after = rows_after(self.recipe)
        return self._release([max(0, int(end) - after) for end in ends])

    def _release(self, stops: list[int]) -> list[ScoredRun]:
        """Runs up to each of these positions, which are final now."""
        if not stops or stops[-1] <= self.final:
            return []
        recipe = self.recipe
        errors = np.concatenate(list(smoothed_errors([self._residual], recipe)))
        runs = []
        for stop in stops:
            if stop <= self.final:
                continue
            part = errors[self.final - self._base : stop - self._base]
            ((joined, parts),) = scored([part], self.units, recipe, self.past)
            expected = self.entity.scaler.backward(self._expected[: len(part)])
            self._expected = self._expected[len(part) :].copy()
            runs.append(ScoredRun(joined.T, self.imputer.join_steps(parts), expected))
            self.final = stop
            self.standing[stop] = self._stand()
        spare = self.final - rows_before(recipe) - self._base
        if spare > 0:
            self._residual, self._base = self._residual[spare:].copy(), self._base + spare
        return runs

    def _stand(self) -> Singles:
        return stood(self.past, self.recipe, len(self.imputer.chosen_steps))

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


@dataclass(frozen=True, slots=True)
class Standing:
    """The past of a view, as it stood before each of the rows that are scored: (n, S) of the steps
    it looks at.
    """

    levels: Singles

    def push(self, run: Singles) -> Singles:
        """As of `RecentQuantile`, but nothing is learned from the run."""
        return self.levels


class OnlineScorer:
    """Online scores of one series, pushed; with them, if asked for, the offline ones.

    offline: also hand out offline runs. Without it the offline pass runs only where a view
    follows the past.
    """

    def __init__(self, entity: Entity, *, offline: bool = False) -> None:
        self.entity = entity
        self.wanted = offline
        networked = entity.settings.networked
        self.context = context(entity.imputer) if networked else entity.settings.window
        self.linear: LinearStream | None = None
        if entity.linear is not None:
            self.linear = entity.linear_stream(entity.linear, offline=offline)
        self.waiting = entity.pairing()
        follows = networked and any(view.recent for view in entity.imputer.recipe.views)
        self.offline = DelayedScorer(entity) if follows or (networked and offline) else None
        self.held: Rows | None = None  # the last rows, less than a context
        self.count = 0  # rows that have come

    def push(self, rows: Rows) -> tuple[ScoredRun, list[ScoredRun]]:
        """Take the next rows: a run of as many online, and the offline runs now final."""
        run, runs = self._network(rows)
        if self.linear is not None:
            early, final = self.linear.push(rows)
            runs = self._paired(final, runs)
            run = self.entity.merged(early, run, "online")
        assert run is not None  # noqa: S101 (some view there is)
        return run, runs if self.wanted else []

    def _network(self, rows: Rows) -> tuple[ScoredRun | None, list[ScoredRun]]:
        """The same of the network alone; None where there is none."""
        before = 0 if self.held is None else len(self.held)
        held = rows if self.held is None else self.held.join(rows)
        runs = [] if self.offline is None else self.offline.push(rows)
        run = None
        if self.entity.settings.networked:
            seen = np.arange(before + 1, len(held) + 1)  # rows of `held` up to and with each row
            levels = self._levels(self.count + 1 + np.arange(len(rows)))
            imputer, units = self.entity.imputer, self.entity.calibration.units
            errors, parts, last = score_online(imputer, units, held, seen, levels)
            run = ScoredRun(errors, parts, self.entity.scaler.backward(last))
        self.count += len(rows)
        need = min(len(held), self.context - 1)
        same = None if self.offline is None else self.offline.grid.held
        if same is not None and len(same) >= need:  # these rows are held already
            self.held = same.slice(len(same) - need)
        else:
            self.held = held.slice(len(held) - need).copy()
        return run, runs

    def _paired(self, linear: LinearRun, network: list[ScoredRun]) -> list[ScoredRun]:
        """Offline runs of which all views have spoken."""
        if not self.wanted:
            return []
        self.waiting.linear.append(linear)
        self.waiting.network += network
        return list(self.waiting.take())

    def finish(self) -> list[ScoredRun]:
        """The series has ended: offline runs of the rows that are left."""
        if not self.wanted:
            return []
        runs = [] if self.offline is None else self.offline.finish()
        if self.linear is None:
            return runs
        if self.count < self.entity.least_rows:
            return []
        return self._paired(self.linear.finish(), runs)

    def _levels(self, counts: Ints) -> Singles | None:
        """What stood when so many rows (n,) had come: (V, n, S)."""
        if self.offline is None:
            return None
        final = [self.offline.final_after(int(count)) for count in counts]
        levels = [self.offline.standing[at] for at in final]
        if final:
            self.offline.forget(final[-1])
        steps = len(self.offline.imputer.chosen_steps)
        empty = np.empty((len(self.offline.recipe.views), 0, steps), np.float32)
        return np.stack(levels, axis=1) if levels else empty

    # -- over a restart

    def to_state(self) -> State:
        """The last rows, and where the views stand."""
        whole = {
            "held": self.held,
            "offline": self.offline,
            "linear": self.linear,
            "waiting": self.waiting,
        }
        parts = {name: one.to_state() for name, one in whole.items() if one is not None}
        return State("online scores", {"count": self.count}, parts=parts)

    @classmethod
    def from_state(cls, state: State, like: OnlineScorer) -> OnlineScorer:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        scorer = cls(like.entity, offline=like.wanted)
        scorer.count = state.check("online scores").fact("count")
        if "held" in state.parts:
            scorer.held = Rows.from_state(state.part("held"))
        if scorer.offline is not None:
            scorer.offline = DelayedScorer.from_state(state.part("offline"), scorer.offline)
        if scorer.linear is not None:
            scorer.linear = LinearStream.from_state(state.part("linear"), scorer.linear)
        scorer.waiting = Pairing.from_state(state.part("waiting"), scorer.waiting)
        return scorer


def need_online(entity: Entity) -> None:
    """Raise ModelError where an entity has no thresholds of online scores."""
    known = (
        entity.calibration.online is not None
        if entity.linear is None
        else ("online" in entity.joins)
    )
    if not known:
        raise ModelError(
            "the model has no thresholds for scores online: it is of an older version, or its "
            "ensemble reads the whole series",
            remedy='Fit it again, with ensemble "mean" or "threshold".',
        )


def online_runs(entity: Entity, pieces: Iterable[Rows]) -> Iterator[ScoredRun]:
    """Online runs of a series that arrives in pieces, of every row. Raises ModelError."""
    need_online(entity)
    online = OnlineScorer(entity)
    for piece in pieces:
        yield online.push(piece)[0]


def context(imputer: SeriesImputer) -> int:
    """N, the rows an online score reads: whole windows, as many as the means reach back."""
    length = imputer.settings.window
    return length * max(1, -(-rows_before(imputer.recipe) // length))


def score_online(
    imputer: SeriesImputer, units: NormalScale, rows: Rows, seen: Ints, levels: Singles | None
) -> tuple[Singles, Singles, Singles]:
    """Score rows at their coming: row seen[i] - 1 of `rows` from the seen[i] rows up to it.

    seen (n,) ascending; levels (V, n, S): what the views knew of the past at each, None where none
    of them asks. Errors (S, n), parts of channels (n, K) and what was expected, scaled (n, K); all
    NaN where less than a window had been seen.
    """
    length, channels = imputer.settings.window, len(imputer.ceiling)
    errors = np.full((len(imputer.chosen_steps), len(seen)), np.nan, np.float32)
    parts = np.full((len(seen), channels), np.nan, np.float32)
    expected = np.full_like(parts, np.nan)
    depth = np.minimum(seen, context(imputer))
    for deep in np.unique(depth[depth >= length]):
        alike = np.flatnonzero(depth == deep)
        for first in range(0, len(alike), imputer.batch):
            some = alike[first : first + imputer.batch]
            residual, expected[some] = _laid_back(imputer, rows, seen[some], int(deep))
            now = None if levels is None else levels[:, some]
            joined, part = _last_row(imputer.recipe, units, residual, now)
            errors[:, some], parts[some] = joined.T, imputer.join_steps(part)
    return errors, parts, expected


def _laid_back(
    imputer: SeriesImputer, rows: Rows, seen: Ints, deep: int
) -> tuple[Singles, Singles]:
    """Residuals (B, n, S, K) of the rows that the means of B last rows look at, out of `deep` rows
    laid with windows from the last one back; and the last rows' estimates (B, K).
    """
    length, steps = imputer.settings.window, imputer.chosen_steps
    need = min(deep, rows_before(imputer.recipe) + 1)
    hidden = (~imputer.windows.masks).cpu().numpy()
    covered = hidden.any(axis=0)
    residual: list[Singles] = []
    last: Singles | None = None
    stop = deep  # rows of the context from here on are done
    while stop > deep - need:
        start = max(0, stop - length)  # the first window is aligned with the context's first row
        lo, hi = max(start, deep - need) - start, stop - start
        index = (seen - deep + start)[:, None] + np.arange(length)
        keep = [(lo, hi)] * len(seen)
        windows = WindowBatch(rows.values[index], rows.observed[index], rows.keys[index], keep)
        chosen = np.flatnonzero(hidden[:, lo:hi].any(axis=(1, 2))).tolist()
        estimate = imputer.impute(windows, steps, chosen)[:, lo:hi]
        target = (windows.observed & covered)[:, lo:hi]
        flat = residual_of(
            windows.values[:, lo:hi].reshape(-1, windows.values.shape[2]),
            estimate.reshape(-1, *estimate.shape[2:]),
            target.reshape(-1, target.shape[2]),
        )
        residual.insert(0, flat.reshape(estimate.shape))
        last = estimate[:, -1, -1] if last is None else last
        stop = start + lo
    assert last is not None  # noqa: S101
    return np.concatenate(residual, axis=1), last


def _last_row(
    recipe: ErrorConfig, units: NormalScale, residual: Singles, levels: Singles | None
) -> tuple[Singles, Singles]:
    """Errors (B, S) and parts (B, S, K) of the last rows of B contexts (B, n, S, K)."""
    batch, rows, steps, channels = residual.shape
    # The contexts side by side, as if each were a step of its own: time comes first.
    beside = residual.transpose(1, 0, 2, 3).reshape(rows, batch * steps, channels)
    last = last_errors(beside, recipe)
    errors = np.moveaxis(last.reshape(*last.shape[:2], batch, steps, channels), 2, 0)
    past = (
        None
        if levels is None
        else [
            Standing(level[:, view.steps(steps)]) if view.recent else None
            for view, level in zip(recipe.views, levels, strict=True)
        ]
    )
    ((joined, parts),) = scored([errors], units, recipe, past)
    return joined, parts
