"""How channels and views become one score: a dense join that orders, a sparse test that hears.

Evidence of a channel is minus the logarithm of a tail probability (`scoring.tail`), 1 in the mean
of normal rows. Over K channels it is joined twice:

    dense   mean over channels: a fault that is spread thinly over all of them
    sparse  power mean, (mean of e^8)^(1/8): a fault of one channel among hundreds

A channel without a value counts as 1, as normal: of thin rows less can be said. Views are joined by
the mean of log(1 + score), each score in units of its own high quantile of normal rows, so that no
single view can shout; and the sparse test is one more view of half the weight.
Where the sparse evidence alone is beyond doubt, it lifts the row just above 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.arrays import Floats
from imdiffusion.scoring.scan import UNIT_QUANTILE
from imdiffusion.scoring.threshold import thresholds_at

POWER = 8
JOINED = 0.6  # share of the promise that the join may use
SURE = 0.05  # and the sparse test alone; the rest is for checks beside the views
# How far a rare value lies is known from n rows to about 1 / sqrt(n) of it: with fewer than so many
# the sparse evidence must be that much larger to be beyond doubt.
ENOUGH = 16_000
MOST_DOUBT = 2.25
LIFT = 0.1  # how far above 1 it lifts a row, for each factor e of its evidence
RATES = np.geomspace(0.5, 1e-9, 60)  # promises for which thresholds are kept
_FALLING = -np.log(RATES)
LEAST_UNIT = 1e-9
MANY = 1_500  # rows that say themselves how rare scores lie
APART = 32  # rows after which scores are taken for independent
RARE = 0.05
FARTHEST = 1.5  # times the largest normal score: no threshold is set beyond


def dense(evidence: NDArray[np.floating]) -> Floats:
    """Mean over channels (..., K) -> (...)."""
    return np.asarray(evidence.mean(axis=-1, dtype=np.float64))


def sparse(evidence: NDArray[np.floating]) -> Floats:
    """Power mean over channels (..., K) -> (...)."""
    eighth = np.square(evidence, dtype=np.float64)
    for _ in range(2):
        np.square(eighth, out=eighth)
    return np.asarray(eighth.mean(axis=-1, dtype=np.float64) ** (1.0 / POWER))


@dataclass(frozen=True, slots=True)
class PromiseTable:
    """Thresholds for every promise: which value normal scores exceed at each of `RATES`."""

    thresholds: Floats

    @classmethod
    def fit(cls, scores: Floats, rule: str) -> PromiseTable:
        """By a threshold rule of the registry, from scores of normal rows (n,); NaN is left out.

        Scores that look over windows depend on their neighbours: a few hundred rows are few
        independent ones, and their largest says little of a rare one. With fewer than `MANY` the
        threshold of a rate below `RARE` is at least the return level mu - beta log(rate) of a
        Gumbel law of the maxima of `APART` rows, read off their quartiles: mu + .3665 beta is their
        median, 1.5725 beta lies between the outer two.
        """
        found = thresholds_at(registry.load("thresholds", rule), scores, RATES)
        known = scores[np.isfinite(scores)]
        blocks = len(known) // APART
        if len(known) < MANY and blocks > 1:
            maxima = known[: blocks * APART].reshape(blocks, APART).max(axis=1)
            low, middle, high = np.quantile(maxima, [0.25, 0.5, 0.75])
            beta = (high - low) / 1.5725 * (1.0 + 2.0 / np.sqrt(blocks))
            level = middle - 0.3665 * beta - beta * np.log(RATES)
            level = np.minimum(level, FARTHEST * float(known.max()))
            found = np.where(RATES < RARE, np.maximum(found, level), found)
        return cls(np.maximum.accumulate(found))

    def at(self, rate: float) -> float:
        """The threshold of one promise."""
        return float(np.interp(-np.log(rate), _FALLING, self.thresholds))


@dataclass(frozen=True, slots=True)
class Join:
    """Joins the scores of views and the sparse evidence of one mode, online or offline.

    unit (V + 1,): of each view, and of the sparse evidence. weight (V + 1,): theirs in the join.
    joined, alone: the thresholds of the join, and of the sparse evidence alone.
    """

    unit: Floats
    weight: Floats
    joined: PromiseTable
    alone: PromiseTable

    @classmethod
    def fit(
        cls,
        views: Floats,
        evidence: Floats,
        weight: Floats,
        *,
        rule: str,
        ease: NDArray[np.floating] | None = None,
    ) -> Join:
        """From scores of views (n, V) and sparse evidence (n,) of normal rows.

        ease (n, 2): what the join and the evidence of a row are divided by; None: by nothing.
        """
        every = np.concatenate([views, evidence[:, None]], axis=1)
        unit = np.array([_unit(column) for column in every.T])
        empty = PromiseTable(np.ones(len(RATES)))
        join = cls(unit, np.asarray(weight, np.float64), empty, empty)
        joined, alone = (
            PromiseTable.fit(scores, rule)
            for scores in eased(join.join(views, evidence), evidence, ease)
        )
        doubt = np.sqrt(ENOUGH / max(1, np.isfinite(evidence).sum()))
        alone = PromiseTable(alone.thresholds * np.clip(doubt, 1.0, MOST_DOUBT))
        return cls(unit, join.weight, joined, alone)

    def scaled(self, factor: float) -> Join:
        """The same join, whose thresholds of the join are that many times as high."""
        return replace(self, joined=PromiseTable(self.joined.thresholds * factor))

    def shares(self, views: Floats, evidence: Floats) -> Floats:
        """What each view and the sparse evidence adds to the join: (n, V + 1); NaN adds nothing."""
        every = np.concatenate([views, evidence[:, None]], axis=1)
        known = ~np.isnan(every)
        weight = self.weight * known
        total = np.maximum(weight.sum(axis=1, keepdims=True), LEAST_UNIT)
        logs = np.log1p(np.maximum(np.where(known, every, 0.0), 0.0) / self.unit)
        return np.asarray(logs * weight / total)

    def join(self, views: Floats, evidence: Floats) -> Floats:
        """Scores of views (n, V) and sparse evidence (n,) as one (n,)."""
        return np.asarray(self.shares(views, evidence).sum(axis=1))

    def threshold(self, rate: float) -> float:
        """The value of the join that stands for a score of 1 under a promise."""
        return self.joined.at(rate * JOINED)

    def score(
        self,
        views: Floats,
        evidence: Floats,
        rate: float,
        ease: NDArray[np.floating] | None = None,
    ) -> Floats:
        """The score (n,) under a promise: above 1 = anomalous. ease: as of `fit`."""
        return self.score_of(self.join(views, evidence), evidence, rate, ease)

    def score_of(
        self,
        joined: Floats,
        evidence: Floats,
        rate: float,
        ease: NDArray[np.floating] | None = None,
    ) -> Floats:
        """`score` of what `join` gave (n,)."""
        joined, evidence = eased(joined, evidence, ease)
        score = joined / self.threshold(rate)
        sure = np.maximum(np.nan_to_num(evidence), 0.0) / self.alone.at(rate * SURE)
        lifted = 1.0 + LIFT * np.log(np.maximum(sure, 1.0))
        return np.where(sure > 1.0, np.fmax(score, lifted), score)

    # -- saved

    def to_dict(self, prefix: str) -> dict[str, Any]:
        """All of it as arrays, under names that begin with the prefix."""
        return {
            f"{prefix}_unit": self.unit,
            f"{prefix}_weight": self.weight,
            f"{prefix}_joined": self.joined.thresholds,
            f"{prefix}_alone": self.alone.thresholds,
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any], prefix: str) -> Join:
        """The join that `to_dict` describes."""
        unit, weight, joined, alone = (
            np.asarray(facts[f"{prefix}_{name}"], np.float64)
            for name in ("unit", "weight", "joined", "alone")
        )
        return cls(unit, weight, PromiseTable(joined), PromiseTable(alone))


def eased(
    joined: Floats, evidence: Floats, ease: NDArray[np.floating] | None
) -> tuple[Floats, Floats]:
    """Joined scores (n,) and sparse evidence (n,) over what they are divided by, (n, 2)."""
    if ease is None:
        return joined, evidence
    return joined / ease[:, 0], evidence / ease[:, 1]


def _unit(scores: Floats) -> float:
    known = scores[np.isfinite(scores)]
    high = float(np.quantile(known, UNIT_QUANTILE)) if len(known) else 1.0
    return max(high, LEAST_UNIT)
