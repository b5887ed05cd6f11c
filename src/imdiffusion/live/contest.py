"""Which of two detectors should speak: compared on rows that the newer one was not fitted on.

No label is needed. The rows are taken for normal for the most part, so each detector should flag
about the share that was promised; and into copies of them faults are planted, which each should
find. A fault is found if a row of it is above 1 where the same rows without it are not: whoever
flags everything finds nothing.

The challenger wins if
1. it flags no more of the rows as they are than was promised, give or take chance, or no more
   than the incumbent does; and
2. it finds more of the faults; or as many, and flags fewer rows; or as many at the same share, and
   lifts the score more where a fault lies; or the incumbent has no score for any of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.live.planting import Planted, plant
from imdiffusion.stream.judged import Scorer

FAULTS = 24  # that are planted, in as many copies of the rows as it takes
COPIES = (2, 12)  # at least and at most
LEAST_FAULTS = 3
LEAST_SCORE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Performance:
    """What one detector did.

    scored, share: shares of the rows that have a score, and that are flagged. found: faults. lift:
    median rise of the logarithm of the score where a fault lies.
    """

    detector: str
    model: str
    scored: float
    share: float
    found: int
    lift: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a contest ended. allowed: the share of rows the challenger could flag."""

    won: bool
    reason: str
    rows: int
    faults: int
    allowed: float
    challenger: Performance
    incumbent: Performance

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return asdict(self)


def contest(
    challenger: Callable[[], Scorer],
    incumbent: Callable[[], Scorer],
    before: Frame,
    held: Frame,
    *,
    promise: float,
    seed: int,
) -> Verdict:
    """Compare two detectors on the rows `held`; each reads `before` first.

    promise: the share of normal rows that may be flagged.
    """
    generator = np.random.default_rng([seed, len(held)])
    values = np.where(held.observed, held.values, np.nan).astype(np.float64)
    planted = _planted(values, generator)
    rows = [values, *(changed for changed, _ in planted)]
    faults = [found for _, found in planted]
    one = _perform(challenger, before, held, rows, faults)
    other = _perform(incumbent, before, held, rows, faults)
    chance = len(held) * promise
    allowed = max((chance + 3 * math.sqrt(chance) + 3) / len(held), other.share)
    won, reason = _judge(one, other, allowed, sum(map(len, faults)))
    return Verdict(won, reason, len(held), sum(map(len, faults)), allowed, one, other)


def _planted(values: Floats, generator: np.random.Generator) -> list[tuple[Floats, list[Planted]]]:
    """Copies of rows with faults, until there are enough of them."""
    copies: list[tuple[Floats, list[Planted]]] = []
    least, most = COPIES
    while len(copies) < most:
        copies.append(plant(values, generator=generator))
        if len(copies) >= least and sum(len(faults) for _, faults in copies) >= FAULTS:
            break
    return copies


def _perform(
    make: Callable[[], Scorer],
    before: Frame,
    held: Frame,
    rows: list[Floats],
    faults: list[list[Planted]],
) -> Performance:
    scorer = make()
    scorer.push(before.select(scorer.channels))
    state = scorer.dump()
    scores = []
    for values in rows:
        scorer.restore(state)
        frame = Frame(values, ~np.isnan(values), held.timestamps, held.channels, held.entity)
        judged = scorer.push(frame.select(scorer.channels))
        own = [one.score for one in judged if one.moment == "arrival"]
        scores.append(np.array(own, np.float64))
    scored = float(np.isfinite(scores[0]).mean())
    clean, *planted = map(np.nan_to_num, scores)
    found, lifts = 0, []
    for score, ones in zip(planted, faults, strict=True):
        for fault in ones:
            span = slice(fault.start, fault.stop)
            high, low = float(score[span].max()), float(clean[span].max())
            found += high > 1.0 >= low
            lifts.append(math.log(max(high, LEAST_SCORE) / max(low, LEAST_SCORE)))
    lift = float(np.median(lifts)) if lifts else 0.0
    share = float((clean > 1.0).mean())
    return Performance(scorer.detector, scorer.model, scored, share, found, lift)


def _judge(one: Performance, other: Performance, allowed: float, faults: int) -> tuple[bool, str]:
    """Whether the challenger won, and why, in words."""
    flagged = f"{one.share:.2%} of normal rows flagged ({other.detector}: {other.share:.2%})"
    found = f"{one.found} of {faults} planted faults found ({other.detector}: {other.found})"
    told = f"{found}, {flagged}"
    if faults < LEAST_FAULTS:
        return False, f"only {faults} faults could be planted"
    if one.share > allowed:
        return False, f"more than {allowed:.2%} of normal rows flagged: {told}"
    if one.scored and not other.scored:
        return True, f"{other.detector} has no score yet: {told}"
    if (one.found, -one.share, one.lift) > (other.found, -other.share, other.lift):
        return True, told
    return False, told
