"""How far the newest rows are from all normal ones: the memory of patches as a score, in O(1).

The distance from a patch x of `width` rows to the nearest of P training patches p_i, each channel
of each less its own mean: shapes are compared and not levels, which drift, and which other views
judge. It is worked out every few rows, along R principal directions V of the training patches
alone; what lies beside them is told apart by its size, as if two patches had nothing in common
there:

    d^2(x) = min_i ( |x - V V'p_i|^2 + |p_i|^2 - |V'p_i|^2 ) / number of visible values

It is the noise level s -> 0 of `denoisers.memory` (nearest normal
window; Boniol et al. 2022, TSB-UAD), and with a single patch in memory the residual of a PCA.
Online a row has the distance of the newest patch; offline the mean of that and of all
later ones that contain the row. Both in units of their own .99 quantile of training rows, each of
which is judged by the patches of the other half; and cut at three units: what was never seen before
is news, and how far it is from all that was is not, else a series that has moved on for good would
drown every other view. Values are standardised by the caller; of a patch with missing
ones the nearest is found as if they were the means of their channels, and differs from it in what
is visible alone.

What sets a patch apart is told by channel: the mean square, over its visible rows, of the patch
less the nearest one along the directions, beyond what is usual of normal rows, in units of what is
usual of all channels together. Online it is that of the newest patch, offline of the one
in whose middle a row is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Reals, Singles
from imdiffusion.diffusion.denoisers.memory import chosen_starts
from imdiffusion.errors import DataError
from imdiffusion.saved_state import State

WIDTH = 32  # rows of a patch
EVERY = 4  # rows between two patches that are judged
MOST_PATCHES = 1_000
DIRECTIONS = 32
ROUNDS = 3  # of subspace iteration, enough for directions that need only span the patches
CHUNK = 256  # patches that are judged at once
UNIT_QUANTILE = 0.99
LEAST_UNIT = 1e-6  # standardised
MOST_UNITS = 3.0
LEAST_SHOWN = 0.5  # share of a patch's rows that must have come for it to be judged
USUAL_QUANTILE = 0.9  # of normal patches: a channel that is no farther is none that sets one apart


class NearestRun(NamedTuple):
    """What n rows are told: score (n,), NaN where nothing can be said; apart (n, K): how much
    farther than usual each channel is from the nearest patch, squared, all of them 1 where they are
    as far again as usual.
    """

    score: Floats
    apart: Singles

    def join(self, other: NearestRun) -> NearestRun:
        """These rows, then those."""
        return NearestRun(
            np.concatenate([self.score, other.score]), np.concatenate([self.apart, other.apart])
        )

    def split(self, count: int) -> tuple[NearestRun, NearestRun]:
        """The first rows, and the rest."""
        return (
            NearestRun(self.score[:count], self.apart[:count]),
            NearestRun(self.score[count:].copy(), self.apart[count:].copy()),
        )


@dataclass(frozen=True, slots=True)
class NearestPatches:
    """Training patches along their principal directions.

    directions (width K, R), orthonormal; codes (P, R): the patches along them; sizes (P,): their
    squared size. width: rows of a patch. every: rows between two that are judged.
    unit (2,): what distances are divided by online, and offline. usual (K,): the mean
    square of a channel of a patch less the nearest one that normal rows seldom exceed.
    """

    directions: Singles
    codes: Singles
    sizes: Singles
    width: int
    every: int
    unit: Floats
    usual: Singles

    @classmethod
    def fit(
        cls,
        rows: Reals,
        observed: Flags,
        *,
        width: int = WIDTH,
        every: int = EVERY,
        most: int = MOST_PATCHES,
    ) -> tuple[NearestPatches, Floats, Floats]:
        """From normal rows (T, K), standardised. Also their scores online and offline
        (T,), each half of the rows judged by the patches of the other.

        Raises DataError where a half has fewer rows than a patch.
        """
        total = len(rows)
        if total < 2 * width:
            raise DataError(
                f"{total} rows are fewer than two patches of {width} rows",
                remedy=f"Give at least {2 * width} rows, or leave this view out.",
            )
        own = np.where(observed, rows, 0.0).astype(np.float32)
        middle = total // 2
        first, second = slice(0, middle), slice(middle, total)
        found, squares = np.empty(total), np.empty(rows.shape, np.float32)
        for here, there in ((first, second), (second, first)):
            # Grid and context are those of the whole series, the patches of the other half.
            other = cls._of(own[there], observed[there], width, every, most)
            start = max(0, here.start - width + 1)
            found[here], squares[here] = other._grid(
                own[start : here.stop], observed[start : here.stop], start, here.start - start
            )
        early, late = _means(found, every - 1, 0), _means(found, every - 1, width - 1)
        unit = np.array([_unit(early), _unit(late)])
        judged = squares[~np.isnan(found)]
        usual = np.quantile(judged, USUAL_QUANTILE, axis=0) if len(judged) else squares[0]
        model = replace(cls._of(own, observed, width, every, most), unit=unit, usual=usual)
        return model, model.online_scores(early), model.offline_scores(late)

    @classmethod
    def _of(
        cls, own: Singles, observed: Flags, width: int, every: int, most: int
    ) -> NearestPatches:
        index = chosen_starts(observed, width, most)[:, None] + np.arange(width)
        patches = shapes(own[index], observed[index])
        directions = principal_directions(patches, DIRECTIONS)
        sizes = np.square(patches).sum(axis=1)
        usual = np.zeros(own.shape[1], np.float32)
        return cls(directions, patches @ directions, sizes, width, every, np.ones(2), usual)

    def online_scores(self, distances: Floats) -> Floats:
        """Distances (n,) of the newest patches as scores; NaN stays."""
        return np.asarray(np.minimum(distances / self.unit[0], MOST_UNITS), np.float64)

    def offline_scores(self, distances: Floats) -> Floats:
        """Mean distances (n,) of the patches that contain a row as scores; NaN stays."""
        return np.asarray(np.minimum(distances / self.unit[1], MOST_UNITS), np.float64)

    def distances(self, patches: Reals, visible: Flags) -> Floats:
        """Distance d (n,) of patches (n, width, K) to the nearest one; NaN: nothing is visible.

        patches: zero where not visible.
        """
        return self._judged(patches, visible)[0]

    def _judged(self, patches: Reals, visible: Flags) -> tuple[Floats, Singles]:
        """Distances (n,) and, by channel, the mean squares (n, K) of what sets patches apart."""
        found = np.empty(len(patches))
        squares = np.empty((len(patches), patches.shape[2]), np.float32)
        beside = self.sizes - np.square(self.codes).sum(axis=1)
        # share |p_i|^2 - 2 (V'x)'(V'p_i) in one product
        against = np.concatenate([-2.0 * self.codes.T, self.sizes[None]])
        for start in range(0, len(patches), CHUNK):
            part = slice(start, start + CHUNK)
            seen = visible[part]
            own = shapes(patches[part].astype(np.float32, copy=False), seen)
            share = seen.mean(axis=(1, 2), dtype=np.float32)[:, None]
            along = np.concatenate([own @ self.directions, share], axis=1)
            nearest = (along @ against).argmin(axis=1)
            left = (own - self.codes[nearest] @ self.directions.T).reshape(seen.shape)
            if not seen.all():  # both less their means over what is visible
                left = shapes(left * seen, seen).reshape(seen.shape)
            squares[part] = np.einsum("nwk,nwk->nk", left, left)
            found[part] = squares[part].sum(axis=1) + share[:, 0] * beside[nearest]
        shown = visible.sum(axis=1)
        squares /= np.maximum(shown, 1)
        total = shown.sum(axis=1)
        root = np.sqrt(np.maximum(found, 0.0) / np.maximum(total, 1))
        return np.where(total > 0, root, np.nan), squares

    def beyond_usual(self, squares: Singles) -> Singles:
        """Mean squares (n, K) of channels beyond what is usual, in units of its sum."""
        unit = max(float(self.usual.sum()), LEAST_UNIT)
        return np.asarray(np.maximum(squares - self.usual, 0.0) / unit, np.float32)

    def _grid(
        self, own: Singles, observed: Flags, start: int, context: int
    ) -> tuple[Floats, Singles]:
        """Distances (n,) of the patches that end with a row of the grid, NaN at all other rows; and
        by channel their squares (n, K), 0 there.

        own (context + n, K): rows from the one at position `start` of the series on; what came
        before them counts as not observed.
        """
        total, width = len(own), self.width
        found = np.full(total - context, np.nan)
        squares = np.zeros((len(found), own.shape[1]), np.float32)
        ends = np.arange(context + (-start - context - 1) % self.every, total, self.every)
        ends = ends[np.minimum(ends + 1, width) >= LEAST_SHOWN * width]
        if not len(ends):
            return found, squares
        short = max(0, width - 1 - int(ends[0]))  # rows that the first patch lacks
        padded, seen = own, observed
        if short:
            padded = np.pad(own, ((short, 0), (0, 0)))
            seen = np.pad(observed, ((short, 0), (0, 0)))
        for first in range(0, len(ends), CHUNK):
            some = ends[first : first + CHUNK]
            index = some[:, None] + (short + 1 - width) + np.arange(width)
            at = some - context
            found[at], squares[at] = self._judged(padded[index], seen[index])
        return found, squares

    # -- saved

    def to_dict(self, prefix: str) -> dict[str, Any]:
        """All of it as arrays and numbers, under names that begin with the prefix."""
        return {f"{prefix}_{name}": getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any], prefix: str) -> NearestPatches:
        """What `to_dict` describes."""
        directions, codes, sizes = (
            np.asarray(facts[f"{prefix}_{name}"], np.float32)
            for name in ("directions", "codes", "sizes")
        )
        width, every = (int(facts[f"{prefix}_{name}"]) for name in ("width", "every"))
        unit = np.asarray(facts[f"{prefix}_unit"], np.float64)
        usual = np.asarray(facts[f"{prefix}_usual"], np.float32)
        return cls(directions, codes, sizes, width, every, unit, usual)


class NearestStream:
    """The scores of one series that is pushed in pieces, online and offline."""

    def __init__(self, model: NearestPatches) -> None:
        channels = len(model.directions) // model.width
        self.model = model
        self._rows = np.zeros((0, channels), np.float32)  # the last width - 1
        self._observed = np.zeros((0, channels), bool)
        self._seen = 0  # rows so far
        # Distances at rows of the grid, NaN elsewhere, and their squares by channel: of rows that
        # are not final yet, after those of the last few that are.
        self._waiting = np.full(model.every - 1, np.nan)
        self._squares = np.zeros((model.every - 1, channels), np.float32)

    def push(self, rows: Reals, observed: Flags) -> tuple[NearestRun, NearestRun]:
        """Take the next rows (n, K): what is said of them online, and of the rows that are
        final now. NaN until half a patch has come.
        """
        before, width, every = len(self._rows), self.model.width, self.model.every
        own = np.concatenate([self._rows, np.where(observed, rows, 0.0).astype(np.float32)])
        seen = np.concatenate([self._observed, observed])
        found, squares = self.model._grid(own, seen, self._seen - before, before)
        self._seen += len(rows)
        keep = max(0, len(own) - width + 1)
        self._rows, self._observed = own[keep:].copy(), seen[keep:].copy()
        earlier = len(self._waiting) - every + 1  # rows that wait
        self._waiting = np.concatenate([self._waiting, found])
        self._squares = np.concatenate([self._squares, squares])
        online = self.model.online_scores(_moving(self._waiting[earlier:], every))
        places = np.arange(earlier + every - 1, len(self._waiting))
        run = NearestRun(online, self._apart(places))
        return run, self._final(max(0, earlier + len(rows) - width + 1))

    def finish(self) -> NearestRun:
        """The series has ended: the rows that are left."""
        return self._final(len(self._waiting) - self.model.every + 1)

    def _final(self, count: int) -> NearestRun:
        width, every = self.model.width, self.model.every
        span = every - 1 + width
        needed = self._waiting[: count + span - 1]
        lacks = count + span - 1 - len(needed)  # rows after the end of the series
        if lacks:
            needed = np.concatenate([needed, np.full(lacks, np.nan)])
        # The patch that ends half its rows on, or the last one there is.
        places = np.arange(every - 1, every - 1 + count) + width // 2 + every - 1
        apart = self._apart(np.minimum(places, len(self._waiting) - 1))
        run = NearestRun(self.model.offline_scores(_moving(needed, span)[:count]), apart)
        self._waiting = self._waiting[count:].copy()
        self._squares = self._squares[count:].copy()
        return run

    def _apart(self, places: Ints) -> Singles:
        """By channel what sets the last patch apart that ended at each place (n,) of what waits."""
        start = self._seen - len(self._waiting)
        back = (places + start + 1) % self.model.every
        return self.model.beyond_usual(self._squares[np.maximum(places - back, 0)])

    # -- over a restart

    def to_state(self) -> State:
        """The last rows, how many have come, and the distances that wait."""
        arrays: dict[str, NDArray[np.generic]] = {
            "rows": self._rows,
            "observed": self._observed,
            "waiting": self._waiting,
            "squares": self._squares,
        }
        return State("nearest patches", {"seen": self._seen}, arrays)

    @classmethod
    def from_state(cls, state: State, like: NearestStream) -> NearestStream:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        stream = cls(like.model)
        stream._seen = state.check("nearest patches").fact("seen")
        stream._rows = state.array("rows", np.float32)
        stream._observed = state.array("observed", np.bool_)
        stream._waiting = state.array("waiting", np.float64)
        stream._squares = state.array("squares", np.float32)
        return stream


def shapes(patches: Singles, visible: Flags) -> Singles:
    """Patches (n, width, K), zero where not visible, each channel less the mean of its visible
    values: (n, width K).
    """
    if visible.all():
        own = patches - patches.mean(axis=1, keepdims=True)
    else:
        count = np.maximum(visible.sum(axis=1, keepdims=True, dtype=np.float32), 1.0)
        own = (patches - patches.sum(axis=1, keepdims=True) / count) * visible
    return np.asarray(own.reshape(len(patches), -1), np.float32)


def principal_directions(patches: Reals, count: int) -> Singles:
    """An orthonormal basis (D, R) of about the R directions in which patches (P, D) are largest.

    By subspace iteration from the patches that lie evenly apart, so that nothing is random
    (Halko et al. 2011, algorithm 4.4).
    """
    rank = min(count, *patches.shape)
    start = np.linspace(0, len(patches) - 1, rank).round().astype(np.int64)
    mixed = patches.T @ (patches @ patches[start].T)
    for _ in range(ROUNDS):
        basis, _ = np.linalg.qr(mixed)
        mixed = patches.T @ (patches @ basis)
    basis, _ = np.linalg.qr(mixed)
    return np.asarray(basis, np.float32)


def _unit(distances: Floats) -> float:
    known = distances[~np.isnan(distances)]
    return max(float(np.quantile(known, UNIT_QUANTILE)), LEAST_UNIT) if len(known) else 1.0


def _means(found: Floats, before: int, after: int) -> Floats:
    """Mean (n,) of the values from `before` rows before each row to `after` after it; NaN is left
    out.
    """
    return _moving(np.pad(found, (before, after), constant_values=np.nan), before + after + 1)


def _moving(found: Floats, count: int) -> Floats:
    """Means of each `count` values in turn (n,) -> (n - count + 1,); NaN is left out. The same bits
    however many values there are around.
    """
    if len(found) < count:
        return np.empty(0)
    around = np.lib.stride_tricks.sliding_window_view(found, count)
    known = ~np.isnan(around)
    some = known.sum(axis=1)
    total = np.where(known, around, 0.0).sum(axis=1)
    return np.where(some > 0, total / np.maximum(some, 1), np.nan)
