"""Online scores: of each row from the rows up to it alone.

The score of row t is the last row of what the stages of `Entity.score_runs` say of the last N rows
that end with it, N whole windows laid back from t. What a view knows of the recent past is what the
offline pass has made of the rows that are final at t. The thresholds of online scores are their
own, for means that see one side only are noisier. Rows before a whole window has come have no score
(NaN).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.data.windows import Rows, WindowBatch
from imdiffusion.delayed import DelayedScorer, rows_after, rows_before
from imdiffusion.entity import Entity
from imdiffusion.errors import ModelError
from imdiffusion.linear import LinearRun, LinearStream
from imdiffusion.merging import Pairing
from imdiffusion.runs import Floats, ScoredRun
from imdiffusion.saved_state import State
from imdiffusion.scoring.error import last_errors, pasts, residual_of, scored, stood

SAMPLE = 1_000  # normal rows that say how loud online scores are beside offline ones
SAMPLE_LEAST = 100  # where a row costs many calls of the network
SAMPLE_CALLS = 4_000  # of the network, each for one window under one mask at one step
LOUD_SHARE = 0.05  # of them, the largest, which say how loud online scores are
WHOLE_SERIES = frozenset({"rank"})  # ensembles that cannot say anything of one row


def context(entity: Entity) -> int:
    """N, the rows an online score reads: whole windows, as many as the means reach back."""
    length = entity.settings.window
    if not entity.settings.networked:
        return length
    return length * max(1, -(-rows_before(entity.recipe) // length))


@dataclass(frozen=True, slots=True)
class Standing:
    """The past of a view, as it stood before each of the rows that are scored: (n, S) of the steps
    it looks at.
    """

    levels: Floats

    def push(self, run: Floats) -> Floats:
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
        self.context = context(entity)
        self.linear: LinearStream | None = None
        if entity.linear is not None:
            self.linear = entity.linear_stream(entity.linear, offline=offline)
        self.waiting = entity.pairing()
        follows = any(view.recent for view in entity.recipe.views)
        networked = entity.settings.networked
        self.offline = DelayedScorer(entity) if networked and (offline or follows) else None
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
            run = score_online(self.entity, held, seen, levels)
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

    def _levels(self, counts: NDArray[np.int64]) -> Floats | None:
        """What stood when so many rows (n,) had come: (V, n, S)."""
        if self.offline is None:
            return None
        final = [self.offline.final_after(int(count)) for count in counts]
        levels = [self.offline.standing[at] for at in final]
        if final:
            self.offline.forget(final[-1])
        steps = len(self.entity.chosen_steps)
        empty = np.empty((len(self.entity.recipe.views), 0, steps), np.float32)
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


def score_online(
    entity: Entity, rows: Rows, seen: NDArray[np.int64], levels: Floats | None
) -> ScoredRun:
    """Score rows at their coming: row seen[i] - 1 of `rows` from the seen[i] rows up to it.

    seen (n,) ascending; levels (V, n, S): what the views knew of the past at each, None where none
    of them asks. All NaN where less than a window had been seen.
    """
    length, channels, steps = entity.settings.window, len(entity.channels), entity.chosen_steps
    errors = np.full((len(steps), len(seen)), np.nan, np.float32)
    parts = np.full((len(seen), channels), np.nan, np.float32)
    expected = np.full((len(seen), channels), np.nan)
    depth = np.minimum(seen, context(entity))
    for deep in np.unique(depth[depth >= length]):
        alike = np.flatnonzero(depth == deep)
        for first in range(0, len(alike), entity.batch):
            some = alike[first : first + entity.batch]
            residual, last = _laid_back(entity, rows, seen[some], int(deep))
            now = None if levels is None else levels[:, some]
            joined, part = _last_row(entity, residual, now)
            errors[:, some], parts[some] = joined.T, entity.joined(part)
            expected[some] = entity.scaler.backward(last)
    return ScoredRun(errors, parts, expected)


def _laid_back(
    entity: Entity, rows: Rows, seen: NDArray[np.int64], deep: int
) -> tuple[Floats, Floats]:
    """Residuals (B, n, S, K) of the rows that the means of B last rows look at, out of `deep` rows
    laid with windows from the last one back; and the last rows' estimates (B, K).
    """
    length, steps = entity.settings.window, entity.chosen_steps
    need = min(deep, rows_before(entity.recipe) + 1)
    hidden = (~entity.imputer.masks).cpu().numpy()
    covered = hidden.any(axis=0)
    residual: list[Floats] = []
    last: Floats | None = None
    stop = deep  # rows of the context from here on are done
    while stop > deep - need:
        start = max(0, stop - length)  # the first window is aligned with the context's first row
        lo, hi = max(start, deep - need) - start, stop - start
        index = (seen - deep + start)[:, None] + np.arange(length)
        keep = [(lo, hi)] * len(seen)
        windows = WindowBatch(rows.values[index], rows.observed[index], rows.keys[index], keep)
        chosen = np.flatnonzero(hidden[:, lo:hi].any(axis=(1, 2))).tolist()
        estimate = entity.impute(windows, steps, chosen)[:, lo:hi]
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


def _last_row(entity: Entity, residual: Floats, levels: Floats | None) -> tuple[Floats, Floats]:
    """Errors (B, S) and parts (B, S, K) of the last rows of B contexts (B, n, S, K)."""
    batch, rows, steps, channels = residual.shape
    # The contexts side by side, as if each were a step of its own: time comes first.
    beside = residual.transpose(1, 0, 2, 3).reshape(rows, batch * steps, channels)
    last = last_errors(beside, entity.recipe)
    errors = np.moveaxis(last.reshape(*last.shape[:2], batch, steps, channels), 2, 0)
    units = entity.calibration.units
    views = entity.recipe.views
    past = (
        None
        if levels is None
        else [
            Standing(level[:, view.steps(steps)]) if view.recent else None
            for view, level in zip(views, levels, strict=True)
        ]
    )
    ((joined, parts),) = scored([errors], units, entity.recipe, past)
    return joined, parts


@dataclass(frozen=True, slots=True)
class Sample:
    """Normal rows scored online: how many rows each had seen (m,), and its errors (S, m)."""

    seen: NDArray[np.int64]
    errors: Floats


def sample_online(entity: Entity, rows: Rows, errors: Floats) -> Sample:
    """An even sample of normal rows online; errors (n, W, M, S, K) are the offline ones of `rows`.

    Empty where an online score cannot be said: an ensemble that needs the whole series, or no
    row that has one.
    """
    settings = entity.settings
    if settings.ensemble in WHOLE_SERIES or len(rows) < settings.window:
        return Sample(np.empty(0, np.int64), np.empty((len(entity.chosen_steps), 0), np.float32))
    calls = len(entity.imputer.masks) * settings.sampling_steps
    most = min(SAMPLE, max(SAMPLE_LEAST, SAMPLE_CALLS // calls), len(rows) - settings.window + 1)
    seen = np.unique(np.linspace(settings.window, len(rows), most).round().astype(np.int64))
    found = score_online(entity, rows, seen, _levels_along(entity, errors, seen)).errors
    return Sample(seen, found)


def fit_thresholds(
    entity: Entity, sample: Sample, joined: Floats, limits: list[float]
) -> list[float] | None:
    """Thresholds of online scores: those of offline ones, as much higher as online ones are louder.

    joined (n, S): the offline errors of the rows the sample is of, limits its thresholds. So the
    sample need not be large: it says how two tails compare, and all normal rows where the one of
    them lies. None where an online score cannot be said.
    """
    settings = entity.settings
    found, same = sample.errors, joined[sample.seen - 1].T
    known = np.isfinite(found).all(axis=0) & np.isfinite(same).all(axis=0)
    if not known.any():
        return None
    ensemble = registry.load("ensembles", settings.ensemble)
    loud = [
        ensemble.fit(
            part[:, known],
            rule=_loud,
            alarm_rate=settings.alarm_rate,
            xi=settings.xi,
            anomaly_share=settings.anomaly_share,
        ).thresholds
        for part in (found, same)
    ]
    return [limit * now / then for limit, now, then in zip(limits, *loud, strict=True)]


def loudness(scores: NDArray[np.floating]) -> float:
    """The mean of the largest scores (n,), NaN left out: what stands for a tail."""
    return _loud(scores[np.isfinite(scores)], alarm_rate=0.0)


def _loud(scores: NDArray[np.floating], *, alarm_rate: float) -> float:
    """The mean of the largest scores (n,): what stands for a tail that is to be compared."""
    largest = np.sort(scores)[-max(1, round(LOUD_SHARE * len(scores))) :]
    return max(float(largest.mean()), float(np.finfo(np.float32).tiny))


def _levels_along(entity: Entity, errors: Floats, seen: NDArray[np.int64]) -> Floats:
    """What the views knew of the past when so many rows (n,) had been seen: (V, n, S)."""
    units, grid = entity.calibration.units, entity.grid()
    past, steps, done = pasts(units, entity.recipe), len(entity.chosen_steps), 0
    levels = []
    for count in seen:
        final = max(0, grid.final(int(count)) - rows_after(entity.recipe))
        if final > done:
            for _ in scored([errors[done:final]], units, entity.recipe, past):
                done = final
        levels.append(stood(past, entity.recipe, steps))
    return np.stack(levels, axis=1)
