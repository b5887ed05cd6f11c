"""The views over a series that is pushed in pieces, and their state over a restart."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Singles
from imdiffusion.checks import CheckStream, RowChecks, less_course
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.denoisers.nearest import NearestRun, NearestStream
from imdiffusion.linear.fitting import evidence_of, joined_means, residuals_of, where_known
from imdiffusion.linear.views import LinearViews
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


class LinearStream:
    """The views over one series that is pushed in pieces, online and offline at once.

    checks: what is looked at beside them. rate: the whole promise. offline: without it no row
    waits to be final, and none ever is.
    """

    def __init__(
        self, views: LinearViews, checks: RowChecks, *, rate: float, offline: bool = True
    ) -> None:
        self.views, self._fitted, self._offline = views, checks, offline
        self._rate = rate
        self._checks = CheckStream(checks, rate=rate)
        channels, judged = len(views.low), int(views.measured.sum())
        lags, count = views.law.lags, len(views.tails)
        self._memory = None if views.memory is None else NearestStream(views.memory)
        self._far = NearestRun(np.empty(0), np.empty((0, judged), np.float32))  # from there on too
        self._rows = np.zeros((lags, channels), np.float32)
        self._observed = np.zeros((lags, channels), bool)
        self._evidence = np.empty((0, count, judged), np.float32)  # those the scan reads again
        self._thick = np.empty((0, len(views.dense.widths), count))  # from the first row not final
        self._thin = np.empty_like(self._thick)
        self._waiting: LinearRun | None = None  # rows of `_thick`: what else is said of them

    def push(self, rows: Rows) -> tuple[LinearRun, LinearRun]:
        """Take the next rows: what is said of them online, and the rows now final."""
        views = self.views
        run, evidence, context = self._residuals(rows)
        held = np.concatenate([self._evidence, evidence])
        before = len(self._evidence)
        thick, thin = (means[before:] for means in joined_means(held, views.dense.widths))
        self._evidence = held[max(0, len(held) - views.dense.widths[-1] + 1) :].copy()
        early, apart = views.dense.online_scores(thick), run.apart
        if self._memory is not None:
            near, final = self._memory.push(
                context[:, views.measured], rows.observed[:, views.measured]
            )
            if self._offline:
                self._far = self._far.join(final)
            early, apart = self._beside(early, near)
        online = replace(
            run,
            views=where_known(early, run.known),
            apart=apart,
            sparse=where_known(views.sparse.online_scores(thin).max(axis=1), run.known),
        )
        if not self._offline:
            return online, self._none()
        self._thick = np.concatenate([self._thick, thick])
        self._thin = np.concatenate([self._thin, thin])
        self._waiting = run if self._waiting is None else self._waiting.join(run)
        return online, self._final(max(0, len(self._thick) - views.reach))

    def finish(self) -> LinearRun:
        """The series has ended: the rows that are left."""
        if not self._offline:
            return self._none()
        if self._memory is not None:
            self._far = self._far.join(self._memory.finish())
        return self._final(len(self._thick))

    def _final(self, count: int) -> LinearRun:
        views = self.views
        if self._waiting is None:
            return self._none()
        first, self._waiting = self._waiting.split(count)
        late, apart = views.dense.offline_scores(self._thick, count), first.apart
        if self._memory is not None:
            near, self._far = self._far.split(count)
            late, apart = self._beside(late, near)
        final = replace(
            first,
            views=where_known(late, first.known),
            apart=apart,
            sparse=where_known(
                views.sparse.offline_scores(self._thin, count).max(axis=1, initial=-np.inf),
                first.known,
            ),
        )
        self._thick, self._thin = self._thick[count:].copy(), self._thin[count:].copy()
        return final

    def _none(self) -> LinearRun:
        channels = len(self.views.low)
        return empty_run(len(self.views.names), channels, channels if self._memory else 0)

    def _beside(self, scores: Floats, near: NearestRun) -> tuple[Floats, Singles]:
        """Scores of the other views (n, V) with the memory's, and what is apart of all channels."""
        apart = np.zeros((len(scores), len(self.views.low)), np.float32)
        apart[:, self.views.measured] = near.apart
        return np.concatenate([scores, near.score[:, None]], axis=1), apart

    def _residuals(self, rows: Rows) -> tuple[LinearRun, Singles, Singles]:
        """The run without its scores, evidence of rows (n, V, judged channels), and their values as
        the views read them (n, K).
        """
        views, lags = self.views, self.views.law.lags
        found = self._checks.push(rows)
        course = self._fitted.course(rows)
        rows = less_course(rows, course)
        held = np.concatenate([self._rows, np.clip(rows.values, views.low, views.high)])
        observed = np.concatenate([self._observed, rows.observed])
        self._rows, self._observed = held[len(held) - lags :], observed[len(held) - lags :]
        residuals, expected = residuals_of(
            views.law, held, observed, np.where(rows.observed, rows.values, np.nan)
        )
        evidence = evidence_of(views.tails, [one[:, views.measured] for one in residuals])
        parts = np.zeros(rows.values.shape, np.float32)
        parts[:, views.measured] = np.maximum(evidence - 1.0, 1e-3 * evidence).sum(axis=1)
        parts[~rows.observed] = np.nan
        count = len(rows)
        blank = np.zeros((count, len(views.tails))), np.zeros(count)
        known = np.asarray(rows.observed.any(axis=1))
        if course is not None:
            expected = expected + course
        far = np.empty((count, 0), np.float32)
        check, kind, since = found.score, found.kind, found.since
        ease = self._fitted.ease(rows)
        run = LinearRun(*blank, parts, expected, known, check, kind, since, far, ease)
        return run, evidence, held[lags:]

    # -- over a restart

    def to_state(self) -> State:
        """The rows and evidence that are held, those that wait, and where its parts stand."""
        arrays: dict[str, NDArray[np.generic]] = {
            "rows": self._rows,
            "observed": self._observed,
            "evidence": self._evidence,
            "thick": self._thick,
            "thin": self._thin,
        }
        parts = {"checks": self._checks.to_state()}
        if self._waiting is not None:
            parts["waiting"] = self._waiting.to_state()
        if self._memory is not None:
            parts["memory"] = self._memory.to_state()
            arrays |= {"far.score": self._far.score, "far.apart": self._far.apart}
        return State("linear stream", arrays=arrays, parts=parts)

    @classmethod
    def from_state(cls, state: State, like: LinearStream) -> LinearStream:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        stream = cls(like.views, like._fitted, rate=like._rate, offline=like._offline)
        state.check("linear stream")
        stream._checks = CheckStream.from_state(state.part("checks"), stream._checks)
        stream._rows = state.array("rows", np.float32, stream._rows.shape)
        stream._observed = state.array("observed", np.bool_, stream._observed.shape)
        stream._evidence = state.array("evidence", np.float32)
        stream._thick, stream._thin = (state.array(n, np.float64) for n in ("thick", "thin"))
        if "waiting" in state.parts:
            stream._waiting = LinearRun.from_state(state.part("waiting"))
        if stream._memory is not None:
            stream._memory = NearestStream.from_state(state.part("memory"), stream._memory)
            score = state.array("far.score", np.float64)
            stream._far = NearestRun(score, state.array("far.apart", np.float32))
        return stream
