"""Which differences between variants are more than luck: signed ranks, Friedman, Nemenyi.

The units are entities (each the mean over its seeds): seeds of one entity are no independent
evidence about another. Wilcoxon 1945 with Holm 1979 for pairs; Friedman 1937 with the critical
difference of Nemenyi 1963 for all, as Demšar (JMLR 7, 2006) recommends for several data sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from imdiffusion.errors import DataError

LEVEL = 0.05  # of every test


@dataclass(frozen=True, slots=True)
class Pair:
    """Two variants: the two-sided p of their difference, as it is and after Holm's correction."""

    first: str
    second: str
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Variants on the same entities, in the order they were given.

    mean_ranks           1 = best on every entity; ties share their ranks
    friedman             (statistic, p); None below three variants, and where there is no test
    critical_difference  mean ranks further apart than this differ (Nemenyi); None as above
    pairs                empty where there is no test
    note                 why there is no test, or ""
    """

    names: tuple[str, ...]
    entities: int
    mean_ranks: Mapping[str, float]
    friedman: tuple[float, float] | None
    critical_difference: float | None
    pairs: tuple[Pair, ...]
    note: str

    def like(self, name: str) -> frozenset[str]:
        """The other variants that do not differ from `name` at the level, after Holm."""
        return frozenset(
            pair.second if pair.first == name else pair.first
            for pair in self.pairs
            if name in (pair.first, pair.second) and pair.p_holm >= LEVEL
        )


def compare(
    names: Sequence[str],
    values: NDArray[np.float64],
    *,
    lower_is_better: bool = False,
) -> Comparison:
    """Compare variants by `values` (E entities, V variants), all finite.

    With fewer than `fewest_entities` there are mean ranks but no p: `note` says so.
    Raises DataError for other shapes and for values that are missing.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names) or not np.isfinite(values).all():
        raise DataError(
            f"{len(names)} variants cannot be compared by values of shape {values.shape}"
            f" with {int((~np.isfinite(values)).sum())} missing",
            remedy="Compare variants on the entities that all of them have.",
        )
    entities, count = values.shape
    ranks = _ranks(values if lower_is_better else -values)
    mean_ranks = dict(zip(names, ranks.mean(axis=0).tolist(), strict=True)) if entities else {}
    note = _note(entities, count)
    if note:
        return Comparison(tuple(names), entities, mean_ranks, None, None, (), note)
    return Comparison(
        names=tuple(names),
        entities=entities,
        mean_ranks=mean_ranks,
        friedman=friedman(ranks) if count > 2 else None,
        critical_difference=critical_difference(count, entities),
        pairs=_pairs(names, values),
        note="",
    )


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact, also where sizes tie.

    Differences of zero are left out, as Wilcoxon did; 1.0 where none is left. The law of the
    rank sum under random signs is built up rank by rank; ranks are doubled, so ties stay whole.
    """
    kept = differences[differences != 0]
    if not kept.size:
        return 1.0
    doubled = np.rint(2 * _ranks(np.abs(kept)[:, None].T, axis=1)[0]).astype(np.int64)
    law = np.zeros(int(doubled.sum()) + 1)
    law[0] = 1.0
    for rank in doubled:
        law[rank:] = law[rank:] + law[: len(law) - rank]
        law /= 2
    positive = int(doubled[kept > 0].sum())
    smaller = min(positive, len(law) - 1 - positive)
    return min(1.0, 2 * float(law[: smaller + 1].sum()))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p adjusted so that the whole family keeps the level."""
    order = sorted(range(len(p)), key=p.__getitem__)
    adjusted = [0.0] * len(p)
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return adjusted


def friedman(ranks: NDArray[np.float64]) -> tuple[float, float]:
    """Friedman's chi-square and its p for ranks (E, V) of three or more variants.

    Corrected for ties; (0.0, 1.0) where every entity ranks all variants alike.
    """
    if (ranks == ranks[:, :1]).all():
        return 0.0, 1.0
    result = stats.friedmanchisquare(*ranks.T)
    return float(result.statistic), float(result.pvalue)


def critical_difference(variants: int, entities: int) -> float:
    """Nemenyi's: q sqrt(k (k + 1) / 6 N), q = studentized range of k and infinity over sqrt 2."""
    q = float(stats.studentized_range.ppf(1 - LEVEL, variants, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(variants * (variants + 1) / (6 * entities)))


def fewest_entities(variants: int) -> int:
    """Entities below which no outcome is significant at the level.

    The smallest p of a signed-rank test is 2 / 2^entities; Holm multiplies it by the pairs.
    """
    pairs = variants * (variants - 1) // 2
    return 1 + math.floor(math.log2(pairs / LEVEL)) + 1


def _note(entities: int, variants: int) -> str:
    if variants < 2:
        return "one variant: nothing to compare" if variants else "no variant to compare"
    least = fewest_entities(variants)
    if entities < least:
        return (
            f"too few entities for a test of {variants} variants "
            f"({entities}, at least {least} are needed)"
        )
    return ""


def _pairs(names: Sequence[str], values: NDArray[np.float64]) -> tuple[Pair, ...]:
    both = list(combinations(range(len(names)), 2))
    p = [signed_rank_p(values[:, a] - values[:, b]) for a, b in both]
    adjusted = holm(p)
    return tuple(
        Pair(names[a], names[b], plain, corrected)
        for (a, b), plain, corrected in zip(both, p, adjusted, strict=True)
    )


def _ranks(values: NDArray[np.float64], axis: int = 1) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = stats.rankdata(values, method="average", axis=axis)
    return ranks
