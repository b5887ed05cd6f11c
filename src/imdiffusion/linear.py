"""The closed-form views of an entity: rows in, scores at arrival and in hindsight out. No torch.

    rows -> residual of each view -> evidence of each channel -> dense and sparse join over channels
         -> scan over widths -> one score a view, and the sparse evidence beside them

The views are the masks of one Gaussian law (`diffusion.denoisers.gaussian`): `forecast` hides the
newest row, `channel` hides each channel of a row in turn. Residuals look back alone, so a row's
evidence is known when it arrives; hindsight waits for the windows of the scan that contain it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.checks import CheckStream, RowChecks, less_course
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches, LagMoments
from imdiffusion.scoring.joining import dense, sparse
from imdiffusion.scoring.scan import ScanUnits, trailing_means
from imdiffusion.scoring.tail import TailLaws

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Arrays = dict[str, NDArray[np.generic]]

VIEWS = ("forecast", "channel")
BLOCKS = 5  # of the training rows, each of which is judged by a law of the others
NOISE = 0.05  # variance on standardised values: what is smaller is not trusted
NOISES = (0.05, 0.3, 1.5)  # tried where rows are few for the size of a patch
LEAST_RESIDUAL = 0.05
MOST_NUMBERS = 600  # in the rows that a forecast reads
ROWS_A_NUMBER = 4  # training rows for each of them, at least
FEW_ROWS = 4  # with fewer rows for each, how much noise is right is measured
THIN = 0.2  # share of training rows with gaps from which a forecast reads two rows alone
FAR = 3.0  # usual ranges beyond the usual range: what a value farther off is worth as context
USUAL = (0.001, 0.999)
# Rare peaks of one channel make short windows the loudest: the test is about what is rarer still.
SPARSE_QUANTILE = 0.999


@dataclass(frozen=True, slots=True)
class LinearRun:
    """A run of n rows: views (n, V), sparse (n,), parts and expected (n, K), scaled; known (n,).

    parts: each channel's evidence beyond normal. known: whether anything was observed. check (n,)
    and kind (n, K): what the checks beside the views say, as in `checks.CheckRun`.
    """

    views: Floats
    sparse: Floats
    parts: NDArray[np.float32]
    expected: NDArray[np.float32]
    known: Flags
    check: NDArray[np.float32]
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.sparse)

    def join(self, other: LinearRun) -> LinearRun:
        """These rows, then those."""
        return LinearRun(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__slots__
            )
        )

    def to_arrays(self) -> Arrays:
        """All of it by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> LinearRun:
        """The run that `to_arrays` describes."""
        return cls(
            np.asarray(arrays["views"], np.float64),
            np.asarray(arrays["sparse"], np.float64),
            np.asarray(arrays["parts"], np.float32),
            np.asarray(arrays["expected"], np.float32),
            np.asarray(arrays["known"], bool),
            np.asarray(arrays["check"], np.float32),
            np.asarray(arrays["kind"], np.int8),
        )

    def split(self, count: int) -> tuple[LinearRun, LinearRun]:
        """The first rows, and the rest."""
        first, rest = (
            LinearRun(*(getattr(self, name)[part] for name in self.__slots__))
            for part in (slice(0, count), slice(count, None))
        )
        return first, rest


@dataclass(frozen=True, slots=True)
class LinearViews:
    """The fitted views. Everything is in scaled units.

    law: of patches. low, high (K,): what context is cut to. measured (K,): channels that are
    judged; the others only condition. tails: one for each view. dense: units of the scan over the
    dense join (W, V). sparse: of that over the sparse join (W, V).
    """

    law: GaussianPatches
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    measured: Flags
    tails: tuple[TailLaws, ...]
    dense: ScanUnits
    sparse: ScanUnits

    @classmethod
    def fit(
        cls, rows: Rows, *, lags: int, widths: tuple[int, ...]
    ) -> tuple[LinearViews, LinearFit]:
        """From normal rows. Each block of rows is judged by a law of the other blocks, so that
        what is calibrated on its residuals holds on rows that the law has not seen.

        lags: rows before its own that a forecast reads, fewer where channels are many or rows few.
        """
        low, high = _usual_range(rows)
        measured = measured_channels(rows)
        lags = lags_for(rows, lags)
        blocks = _blocks(rows, low, high, lags)
        total = _sum(moments for _, moments in blocks)
        noise, residuals, apart = _cross_fitted(rows, (low, high), blocks, total, lags)
        tails = tuple(TailLaws.fit(one[:, measured], least=LEAST_RESIDUAL) for one in residuals)
        law = GaussianPatches(total.covariances(noise=noise).astype(np.float32), noise=noise)
        scan = ScanUnits(widths, *(np.zeros((len(widths), len(tails))) for _ in range(3)))
        views = cls(law, low, high, measured, tails, scan, scan)
        evidence = [
            _filled(tail.evidence(one[:, measured]))
            for tail, one in zip(tails, residuals, strict=True)
        ]
        thick, thin = _means(evidence, widths)
        views = replace(
            views,
            dense=ScanUnits.fit(thick, widths),
            sparse=ScanUnits.fit(thin, widths, quantile=SPARSE_QUANTILE),
        )
        known = np.asarray(rows.observed.any(axis=1))
        early, early_sparse, late, late_sparse = (
            _where_known(one, known) for one in views.judged(thick, thin)
        )
        return views, LinearFit(early, early_sparse, late, late_sparse, apart)

    def judged(self, thick: Floats, thin: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Trailing means of the dense and sparse joins (n, W, V) as scores of rows.

        Views (n, V) and sparse (n,) at arrival, then both in hindsight.
        """
        count = len(thick)
        return (
            self.dense.at_arrival(thick),
            self.sparse.at_arrival(thin).max(axis=1),
            self.dense.in_hindsight(thick, count),
            self.sparse.in_hindsight(thin, count).max(axis=1),
        )

    @property
    def reach(self) -> int:
        """Rows after its own that the score of a row in hindsight waits for."""
        return self.dense.widths[-1] - 1

    # -- saved

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts, under names that begin with `linear_`."""
        facts: dict[str, Any] = {
            "linear_covariances": self.law.covariances.astype(np.float32),
            "linear_noise": self.law.noise,
            "linear_low": self.low,
            "linear_high": self.high,
            "linear_measured": self.measured,
            "linear_widths": list(self.dense.widths),
        }
        for name, tail in zip(VIEWS, self.tails, strict=True):
            facts |= {f"linear_{name}_size": tail.size, f"linear_{name}_excess": tail.excess}
        for name, scan in (("dense", self.dense), ("sparse", self.sparse)):
            facts |= {
                f"linear_{name}_{part}": getattr(scan, part)
                for part in ("median", "arrival", "hindsight")
            }
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> LinearViews:
        """The views that `to_dict` describes."""
        widths = tuple(int(width) for width in facts["linear_widths"])
        scans = (
            ScanUnits(
                widths,
                *(
                    np.asarray(facts[f"linear_{name}_{part}"], np.float64)
                    for part in ("median", "arrival", "hindsight")
                ),
            )
            for name in ("dense", "sparse")
        )
        tails = tuple(
            TailLaws(
                np.asarray(facts[f"linear_{name}_size"], np.float32),
                np.asarray(facts[f"linear_{name}_excess"], np.float32),
            )
            for name in VIEWS
        )
        return cls(
            GaussianPatches(np.asarray(facts["linear_covariances"]), noise=facts["linear_noise"]),
            np.asarray(facts["linear_low"], np.float32),
            np.asarray(facts["linear_high"], np.float32),
            np.asarray(facts["linear_measured"], bool),
            tails,
            *scans,
        )


@dataclass(frozen=True, slots=True)
class LinearFit:
    """What the views say of the rows they were fitted on, each by a law that had not seen it.

    Views (T, V) and sparse evidence (T,), at arrival and in hindsight; residual (T, K): seen less
    expected, scaled, NaN where not observed.
    """

    views_arrival: Floats
    sparse_arrival: Floats
    views_hindsight: Floats
    sparse_hindsight: Floats
    residual: NDArray[np.float32]


class LinearStream:
    """The views over one series that is pushed in pieces, at arrival and in hindsight at once.

    checks: what is looked at beside them. rate: the whole promise.
    """

    def __init__(self, views: LinearViews, checks: RowChecks, *, rate: float) -> None:
        self.views, self._fitted = views, checks
        self._checks = CheckStream(checks, rate=rate)
        channels, judged = len(views.low), int(views.measured.sum())
        lags, reach, count = views.law.lags, views.reach, len(views.tails)
        self._rows = np.zeros((lags, channels), np.float32)
        self._observed = np.zeros((lags, channels), bool)
        self._evidence = np.empty((0, count, judged), np.float32)  # the last `reach` rows
        self._thick = np.empty((0, len(views.dense.widths), count))  # from the first row not final
        self._thin = np.empty_like(self._thick)
        self._waiting: LinearRun | None = None  # rows of `_thick`: what else is said of them
        self._keep = reach

    def push(self, rows: Rows) -> tuple[LinearRun, LinearRun]:
        """Take the next rows: what is said of them at arrival, and the rows now final."""
        views = self.views
        run, evidence = self._residuals(rows)
        held = np.concatenate([self._evidence, evidence])
        before = len(self._evidence)
        thick, thin = (
            means[before:] for means in _means(list(held.transpose(1, 0, 2)), views.dense.widths)
        )
        self._evidence = held[max(0, len(held) - self._keep) :].copy()
        arrival = replace(
            run,
            views=_where_known(views.dense.at_arrival(thick), run.known),
            sparse=_where_known(views.sparse.at_arrival(thin).max(axis=1), run.known),
        )
        self._thick = np.concatenate([self._thick, thick])
        self._thin = np.concatenate([self._thin, thin])
        self._waiting = run if self._waiting is None else self._waiting.join(run)
        return arrival, self._final(max(0, len(self._thick) - views.reach))

    def finish(self) -> LinearRun:
        """The series has ended: the rows that are left."""
        return self._final(len(self._thick))

    def _final(self, count: int) -> LinearRun:
        views = self.views
        if self._waiting is None:
            return _empty(len(views.tails), len(views.low))
        first, self._waiting = self._waiting.split(count)
        final = replace(
            first,
            views=_where_known(views.dense.in_hindsight(self._thick, count), first.known),
            sparse=_where_known(
                views.sparse.in_hindsight(self._thin, count).max(axis=1, initial=-np.inf),
                first.known,
            ),
        )
        self._thick, self._thin = self._thick[count:].copy(), self._thin[count:].copy()
        return final

    def _residuals(self, rows: Rows) -> tuple[LinearRun, NDArray[np.float32]]:
        """Evidence (n, V, judged channels) of rows, and the run without its scores."""
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
        evidence = np.stack(
            [
                _filled(tail.evidence(one[:, views.measured]))
                for tail, one in zip(views.tails, residuals, strict=True)
            ],
            axis=1,
        )
        parts = np.zeros(rows.values.shape, np.float32)
        parts[:, views.measured] = np.maximum(evidence - 1.0, 1e-3 * evidence).sum(axis=1)
        parts[~rows.observed] = np.nan
        count = len(rows)
        blank = np.zeros((count, len(views.tails))), np.zeros(count)
        known = np.asarray(rows.observed.any(axis=1))
        if course is not None:
            expected = expected + course
        run = LinearRun(*blank, parts, expected, known, found.score, found.kind)
        return run, evidence

    # -- over a restart

    def state(self) -> Arrays:
        """Everything it goes on from, as arrays."""
        arrays: Arrays = {
            "rows": self._rows,
            "observed": self._observed,
            "evidence": self._evidence,
            "thick": self._thick,
            "thin": self._thin,
        }
        if self._waiting is not None:
            arrays |= {f"waiting.{name}": one for name, one in self._waiting.to_arrays().items()}
        return arrays | {f"checks.{name}": one for name, one in self._checks.state().items()}

    def resume(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from what `state` gave."""
        self._rows = np.asarray(arrays["rows"], np.float32)
        self._observed = np.asarray(arrays["observed"], bool)
        self._evidence = np.asarray(arrays["evidence"], np.float32)
        self._thick = np.asarray(arrays["thick"], np.float64)
        self._thin = np.asarray(arrays["thin"], np.float64)
        prefix = "waiting."
        own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        self._waiting = LinearRun.from_arrays(own) if own else None
        prefix = "checks."
        own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        self._checks.resume(own)


def residuals_of(
    law: GaussianPatches, held: NDArray[np.float32], observed: Flags, seen: NDArray[np.floating]
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Standardised residual of each view (n, K), and the expected value (n, K).

    held, observed: (lags + n, K), cut to the usual range; seen (n, K) as it is, NaN = missing.
    The expected value is the mean of the views' conditional means, weighed by their precisions.
    """
    own = held[law.lags :], observed[law.lags :]
    moments = (law.forecast(held, observed), law.from_others(*own))
    residuals = [
        ((seen - mean) / np.sqrt(variance)).astype(np.float32) for mean, variance in moments
    ]
    weights = [1.0 / variance for _, variance in moments]
    weighed = sum(weight * mean for weight, (mean, _) in zip(weights, moments, strict=True))
    return residuals, np.asarray(weighed / sum(weights), np.float32)


# -- fitting


def measured_channels(rows: Rows) -> Flags:
    """Channels that take more than two values: measurements (K,). All where there is none.

    Commands of 0 and 1 are context: they condition the others, and an unpredictable one must not
    fill the score.
    """
    found = np.zeros(rows.values.shape[1], bool)
    for channel in range(len(found)):
        seen = rows.values[rows.observed[:, channel], channel]
        found[channel] = len(seen) > 0 and bool(((seen != seen.min()) & (seen != seen.max())).any())
    return found if found.any() else np.ones_like(found)


def moving_channels(rows: Rows) -> int:
    """How many channels take more than one value."""
    found = 0
    for channel in range(rows.values.shape[1]):
        seen = rows.values[rows.observed[:, channel], channel]
        found += bool(len(seen) and (seen != seen[0]).any())
    return found


def lags_for(rows: Rows, wanted: int) -> int:
    """Rows that a forecast reads: as many as wanted, if channels are few and rows many."""
    total, channels = len(rows), max(1, moving_channels(rows))
    thin = float((~rows.observed.all(axis=1)).mean()) > THIN
    most = min(MOST_NUMBERS // channels, total // (ROWS_A_NUMBER * channels), 2 if thin else wanted)
    return max(1, min(wanted, most))


def _usual_range(rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What context is cut to, (K,) each: the usual range and as far again on either side."""
    low = np.zeros(rows.values.shape[1], np.float32)
    high = np.zeros_like(low)
    for channel in range(len(low)):
        seen = rows.values[rows.observed[:, channel], channel]
        if len(seen):
            least, most = np.quantile(seen, USUAL)
            low[channel], high[channel] = least - FAR * (most - least), most + FAR * (most - least)
    return low, high


Block = tuple[slice, LagMoments]


def _blocks(
    rows: Rows, low: NDArray[np.float32], high: NDArray[np.float32], lags: int
) -> list[Block]:
    edges = np.linspace(0, len(rows), min(BLOCKS, len(rows)) + 1).astype(int)
    found = []
    for start, stop in pairwise(edges):
        values, observed = rows.values[start:stop], rows.observed[start:stop]
        own = np.where(observed, np.clip(values, low, high), np.float32(0))
        found.append((slice(start, stop), LagMoments.of(own, observed, lags)))
    return found


def _sum(moments: Any) -> LagMoments:
    total: LagMoments | None = None
    for one in moments:
        total = one if total is None else total + one
    assert total is not None  # noqa: S101
    return total


def _cross_fitted(
    rows: Rows,
    limits: tuple[NDArray[np.float32], NDArray[np.float32]],
    blocks: list[Block],
    total: LagMoments,
    lags: int,
) -> tuple[float, list[NDArray[np.float32]], NDArray[np.float32]]:
    """The noise under which rows that a law has not seen are told best; with it, the residuals of
    the views (T, K) and seen less expected (T, K).
    """
    few = len(rows) < FEW_ROWS * (lags + 1) * moving_channels(rows)
    tried = NOISES if few else (NOISE,)
    clipped = np.clip(rows.values, *limits)
    best: tuple[float, float, list[NDArray[np.float32]], NDArray[np.float32]] | None = None
    for noise in tried:
        residuals = [np.empty(rows.values.shape, np.float32) for _ in VIEWS]
        apart = np.empty(rows.values.shape, np.float32)
        for where, moments in blocks:
            law = GaussianPatches((total - moments).covariances(noise=noise), noise=noise)
            first = max(0, where.start - lags)
            short = lags - (where.start - first)
            held = np.pad(clipped[first : where.stop], ((short, 0), (0, 0)))
            observed = np.pad(rows.observed[first : where.stop], ((short, 0), (0, 0)))
            seen = np.where(rows.observed[where], rows.values[where], np.nan)
            found, expected = residuals_of(law, held, observed, seen)
            for one, part in zip(residuals, found, strict=True):
                one[where] = part
            apart[where] = seen - expected
        wrong = float(np.nansum(np.log1p(np.square(apart) / NOISE)))
        if best is None or wrong < best[0]:
            best = wrong, noise, residuals, apart
    assert best is not None  # noqa: S101
    return best[1:]


# -- rows and windows


def _filled(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """A channel without a value counts as normal."""
    return np.where(np.isnan(evidence), np.float32(1.0), evidence)


def _means(evidence: list[NDArray[np.float32]], widths: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Trailing means of the dense and the sparse join over channels, (n, W, V) each."""
    thick = trailing_means(np.stack([dense(one) for one in evidence], axis=-1), widths)
    thin = np.stack([sparse(trailing_means(one, widths)) for one in evidence], axis=-1)
    return thick, thin


def _where_known(values: Floats, known: Flags) -> Floats:
    return np.where(known if values.ndim == 1 else known[:, None], values, np.nan)


def _empty(views: int, channels: int) -> LinearRun:
    none = np.empty((0, channels), np.float32)
    known, check = np.empty(0, bool), np.empty(0, np.float32)
    kind = np.empty((0, channels), np.int8)
    return LinearRun(np.empty((0, views)), np.empty(0), none, none, known, check, kind)
