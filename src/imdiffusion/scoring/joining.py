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

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.arrays import Flags, Floats
from imdiffusion.scoring.edges import flag_runs
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


# -- the share of rows in alarm, and how well it is known: rows depend on their neighbours
#
# Alarms come in runs, so n rows say less than n independent ones would. They are cut into blocks of
# at least `LEAST_BLOCK` rows; the variance of the count in a block, over that of independent rows,
# is the design effect, and n over it is how many independent rows they are worth. Of that many the
# interval is Wilson's (Journal of the American Statistical Association 22, 1927), which has a width
# even where no row was in alarm.

LEAST_BLOCK = 2 * APART
MOST_BLOCKS = 100  # at most
NORMAL_95 = 1.959964  # standard deviations on either side: 95 %


class Share(NamedTuple):
    """A share with its 95 % interval; worth: how many independent rows say so."""

    share: float
    low: float
    high: float
    worth: float


def alarm_share(alarm: NDArray[np.bool_], rows: int) -> Share:
    """The share of `rows` rows with a score that is in alarm; alarm (T,) of all rows in order.

    The effect is at least what the lengths of runs say; where there is no alarm at all, rows that
    are `APART` rows apart are taken for independent.

    >>> alarm = np.zeros(1000, bool)
    >>> alarm[100:110] = True
    >>> found = alarm_share(alarm, 1000)
    >>> found.share, round(found.low, 4), round(found.high, 4), round(found.worth)
    (0.01, 0.0018, 0.0549, 99)
    """
    count = int(alarm.sum())
    share = count / max(rows, 1)
    effect = max(_design_effect(alarm), _run(alarm)) if count else float(APART)
    worth = max(rows / effect, 1.0)
    square = NORMAL_95**2
    middle = (share + square / (2 * worth)) / (1 + square / worth)
    spread = (share * (1 - share) / worth + square / (4 * worth**2)) ** 0.5
    half = NORMAL_95 * spread / (1 + square / worth)
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), worth)


def _run(alarm: NDArray[np.bool_]) -> float:
    """The mean length of the run that a row in alarm lies in: the design effect of rare runs."""
    lengths = np.array([stop - start for start, stop in flag_runs(alarm)], np.float64)
    return float(np.square(lengths).sum() / lengths.sum())


def _design_effect(alarm: NDArray[np.bool_]) -> float:
    """Variance of the alarms in a block of rows over that of independent rows, 1 at least."""
    size = max(LEAST_BLOCK, len(alarm) // MOST_BLOCKS)
    blocks = len(alarm) // size
    if blocks < 2:
        return 1.0
    counts = alarm[: blocks * size].reshape(blocks, size).sum(axis=1)
    share = float(counts.mean()) / size
    if not 0.0 < share < 1.0:
        return 1.0
    return float(np.clip(counts.var(ddof=1) / (size * share * (1 - share)), 1.0, size))


# -- under which promise each normal row would be in alarm, by thresholds that had no part of it
#
# A threshold falls as the promise of alarms rises, so a row has one critical rate: the smallest
# `alarm_rate` under which it is in alarm. Kept instead of scores, critical rates say how any
# promise was kept, and need no second fit. The share of rows whose critical rate is at most p is
# what was achieved of a promise p.
#
# Thresholds read off rows are kept by those rows, whatever they are; so each block of rows is
# judged by the join of the others, less the neighbours whose windows reach into it.

BLOCKS = 5
LEAST_OTHERS = 20  # rows with a score that thresholds are read off, at least
ENOUGH_VALUES = 6_000  # of them
NEVER = np.inf  # the critical rate of a row that no promise puts in alarm


def critical_rates(
    join: Join, views: Floats, evidence: Floats, ease: NDArray[np.floating] | None = None
) -> Floats:
    """The smallest promise (n,) under which `Join.score` of a row is above 1; NaN: no score.

    views (n, V), evidence (n,), ease (n, 2). 0: in alarm under any; `NEVER`: under none.
    """
    joined, evidence = eased(join.join(views, evidence), evidence, ease)
    sure = np.maximum(np.nan_to_num(evidence), 0.0)
    rates = np.minimum(
        _rates(join.joined, joined) / JOINED,
        _rates(join.alone, sure) / SURE,
    )
    return np.where(np.isfinite(evidence), rates, np.nan)


def _rates(table: PromiseTable, values: Floats) -> Floats:
    """The share of normal rows that a threshold at each value (n,) stands for."""
    logs = np.log(RATES)
    return np.asarray(np.exp(np.interp(values, table.thresholds, logs, left=NEVER, right=-np.inf)))


def held_out_rates(
    views: Floats,
    evidence: Floats,
    weight: Floats,
    *,
    rule: str,
    apart: tuple[Floats, Floats] | None = None,
    louder: float = 1.0,
    ease: NDArray[np.floating] | None = None,
) -> Floats:
    """Critical rates (n,) of normal rows, each block of them by the join of the other blocks.

    views (n, V), evidence (n,), weight, rule, ease: as of `Join.fit`. apart: what views and
    evidence are where units and tails had no part of a row either. NaN where a row has no score, or
    the others are too few. louder: how many times as high the thresholds of the join are.
    """
    rates = np.full(len(evidence), np.nan)
    said = (views, evidence) if apart is None else apart
    for start, stop, others in blocks_apart(np.isfinite(evidence)):
        # Scores depend on their neighbours: of many rows every second says nearly as much.
        every = slice(None, None, max(1, int(others.sum()) // ENOUGH_VALUES))
        easy = None if ease is None else ease[others][every]
        join = Join.fit(views[others][every], evidence[others][every], weight, rule=rule, ease=easy)
        join = join.scaled(louder)
        own = None if ease is None else ease[start:stop]
        near, far = (part[start:stop] for part in said)
        rates[start:stop] = critical_rates(join, near, far, own)
    return rates


def blocks_apart(known: Flags) -> Iterator[tuple[int, int, Flags]]:
    """Blocks [start, stop) of rows (n,), with the known rows (n,) out of their reach.

    A block is left out where these are too few.
    """
    count = len(known)
    near = min(APART, count // (4 * BLOCKS))
    edges = np.linspace(0, count, min(BLOCKS, max(count, 1)) + 1).astype(int)
    for start, stop in pairwise(edges.tolist()):
        others = known.copy()
        others[max(0, start - near) : stop + near] = False
        if others.sum() >= LEAST_OTHERS:
            yield start, stop, others
