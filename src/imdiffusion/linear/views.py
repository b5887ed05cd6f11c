"""The fitted views: the law, what is normal of its residuals, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats, Singles
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches
from imdiffusion.diffusion.denoisers.nearest import WIDTH, NearestPatches
from imdiffusion.linear.fitting import (
    VIEWS,
    completed_blocks,
    cross_fitted,
    evidence_of,
    joined_means,
    lags_for,
    measured_channels,
    moments_of_blocks,
    summed,
    usual_range,
    where_known,
)
from imdiffusion.scoring.scan import ScanUnits
from imdiffusion.scoring.tail import TailLaws
from imdiffusion.settings import MEMORY

LEAST_RESIDUAL = 0.05
# Rare peaks of one channel make short windows the loudest: the test is about what is rarer still.
SPARSE_QUANTILE = 0.999
# With fewer rows tails and units depend on what they were fitted on so much that a promise read off
# the same rows is broken: how much higher rows score that had no part in them is then measured.
NESTED_ROWS = 3_000
HIGH = 0.95  # quantile of scores by which the two are compared
MEMORY_ROWS = 2 * WIDTH  # that each half of them has a patch
_Scores = tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class LinearViews:
    """The fitted views. Everything is in scaled units.

    law: of patches. low, high (K,): what context is cut to. measured (K,): channels that are
    judged; the others only condition. tails: one for each view of the law. dense: units of the scan
    over the dense join (W, V). sparse: of that over the sparse join (W, V). memory: patches of the
    measured channels, None = that view is not there.
    """

    law: GaussianPatches
    low: Singles
    high: Singles
    measured: Flags
    tails: tuple[TailLaws, ...]
    dense: ScanUnits
    sparse: ScanUnits
    memory: NearestPatches | None = None

    @classmethod
    def fit(
        cls, rows: Rows, *, lags: int, widths: tuple[int, ...], memory: bool = False
    ) -> tuple[LinearViews, LinearFit]:
        """From normal rows. Each block of rows is judged by a law of the other blocks, so that
        what is calibrated on its residuals holds on rows that the law has not seen.

        lags: rows before its own that a forecast reads, fewer where channels are many or rows few.
        memory: with the view of that name, where there are `MEMORY_ROWS`.
        """
        low, high = usual_range(rows)
        measured = measured_channels(rows)
        lags = lags_for(rows, lags)
        blocks = moments_of_blocks(rows, low, high, lags)
        blocks = completed_blocks(blocks, rows, low, high)
        total = summed(moments for _, moments in blocks)
        noise, residuals, apart = cross_fitted(rows, (low, high), blocks, total, lags)
        law = GaussianPatches(total.covariances(noise=noise).astype(np.float32), noise=noise)
        judging = [one[:, measured] for one in residuals]
        tails, scans, means = _normal(judging, slice(0, 0), widths)
        views = cls(law, low, high, measured, tails, *scans)
        said: _Scores = views.judged(*means)
        known = np.asarray(rows.observed.any(axis=1))
        unseen: tuple[Floats, Floats] | None = None
        if len(rows) < NESTED_ROWS:
            parts = [(block, views._but_for(judging, block, widths)) for block, _ in blocks]
            said = _inflated(said, parts)
            late, late_sparse = (np.concatenate([one[k] for _, one in parts]) for k in (2, 3))
            unseen = where_known(late, known), where_known(late_sparse, known)
        if memory and len(rows) >= MEMORY_ROWS:
            near, *scores = views._remembered(rows)
            views = replace(views, memory=near)
            said = (_beside(said[0], scores[0]), said[1], _beside(said[2], scores[1]), said[3])
            if unseen is not None:
                unseen = _beside(unseen[0], scores[1]), unseen[1]
        early, early_sparse, late, late_sparse = (where_known(one, known) for one in said)
        return views, LinearFit(early, early_sparse, late, late_sparse, apart, unseen)

    def _but_for(self, residuals: list[Singles], block: slice, widths: tuple[int, ...]) -> _Scores:
        """What a block of rows is told by tails and units of the other rows."""
        tails, scans, (thick, thin) = _normal(residuals, block, widths)
        views = replace(self, tails=tails, dense=scans[0], sparse=scans[1])
        return tuple(one[block] for one in views.judged(thick, thin))

    def judged(self, thick: Floats, thin: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Trailing means of the dense and sparse joins (n, W, V) as scores of rows.

        Views (n, V) and sparse (n,) online, then both offline.
        """
        count = len(thick)
        return (
            self.dense.online_scores(thick),
            self.sparse.online_scores(thin).max(axis=1),
            self.dense.offline_scores(thick, count),
            self.sparse.offline_scores(thin, count).max(axis=1),
        )

    def _remembered(self, rows: Rows) -> tuple[NearestPatches, Floats, Floats]:
        """The memory of rows, and their scores (T,) online and offline.

        Each half has been judged by the patches of the other, half as many as later rows meet:
        these scores are rather too high than too low, so those of few rows need no factor.
        """
        values = np.clip(rows.values, self.low, self.high)[:, self.measured]
        return NearestPatches.fit(values, rows.observed[:, self.measured])

    @property
    def names(self) -> tuple[str, ...]:
        """The views in the order of their scores."""
        return VIEWS if self.memory is None else (*VIEWS, MEMORY)

    @property
    def reach(self) -> int:
        """Rows after its own that the score of a row offline waits for."""
        widest = self.dense.widths[-1]
        return (widest if self.memory is None else max(widest, self.memory.width)) - 1

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
                for part in ("median", "online", "offline")
            }
        return facts | ({} if self.memory is None else self.memory.to_dict("linear_memory"))

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> LinearViews:
        """The views that `to_dict` describes."""
        widths = tuple(int(width) for width in facts["linear_widths"])
        dense, sparse = (
            ScanUnits(
                widths,
                *(
                    np.asarray(facts[f"linear_{name}_{part}"], np.float64)
                    for part in ("median", "online", "offline")
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
        memory = "linear_memory_codes" in facts
        return cls(
            GaussianPatches(np.asarray(facts["linear_covariances"]), noise=facts["linear_noise"]),
            np.asarray(facts["linear_low"], np.float32),
            np.asarray(facts["linear_high"], np.float32),
            np.asarray(facts["linear_measured"], bool),
            tails,
            dense,
            sparse,
            NearestPatches.from_dict(facts, "linear_memory") if memory else None,
        )


@dataclass(frozen=True, slots=True)
class LinearFit:
    """What the views say of the rows they were fitted on, each by a law that had not seen it, and
    as if no value were missing.

    Views (T, V) and sparse evidence (T,), online and offline; residual (T, K): seen less
    expected, scaled, NaN where not observed. unseen: views and sparse evidence offline by
    tails and units of other rows too, where rows are few; None: not worked out.
    """

    views_online: Floats
    sparse_online: Floats
    views_offline: Floats
    sparse_offline: Floats
    residual: Singles
    unseen: tuple[Floats, Floats] | None = None


def _normal(
    residuals: list[Singles], block: slice, widths: tuple[int, ...]
) -> tuple[tuple[TailLaws, ...], tuple[ScanUnits, ScanUnits], tuple[Floats, Floats]]:
    """What is normal of residuals (T, K) but for a block of rows: tail laws, units of the dense and
    the sparse scan; and the means over windows of all rows by those laws, as if they were whole.
    """
    tails = tuple(
        TailLaws.fit(np.delete(one, block, axis=0), least=LEAST_RESIDUAL) for one in residuals
    )
    evidence = evidence_of(tails, residuals, as_whole=True)
    thick, thin = joined_means(evidence, widths)
    scans = (
        ScanUnits.fit(np.delete(thick, block, axis=0), widths),
        ScanUnits.fit(np.delete(thin, block, axis=0), widths, quantile=SPARSE_QUANTILE),
    )
    return tails, scans, (thick, thin)


def _inflated(said: _Scores, parts: list[tuple[slice, _Scores]]) -> _Scores:
    """Scores of fitted rows, times how much higher those of rows are that had no part in the fit.

    The factor of a score is the second largest over the blocks of rows, so that faults in one of
    them do not count as normal; at least 1.
    """
    found = []
    for place, scores in enumerate(said):
        factors = []
        for block, apart in parts:
            own, other = (_high(one) for one in (scores[block], apart[place]))
            factors.append(np.where(own > 0, other / np.where(own > 0, own, 1.0), 1.0))
        second = np.sort(np.stack(factors), axis=0)[-min(2, len(factors))]
        found.append(scores * np.maximum(second, 1.0))
    return tuple(found)


def _beside(scores: Floats, more: Floats) -> Floats:
    return np.concatenate([scores, more[:, None]], axis=1)


def _high(scores: Floats) -> Floats:
    return np.asarray(np.nanquantile(scores, HIGH, axis=0))
