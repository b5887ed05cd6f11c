"""Which of two detectors should be active: compared on rows that the newer one was not fitted on.

No label is needed. The rows are taken for normal for the most part, so each detector should flag
about the share that was promised; and into copies of them faults are planted, which each should
find. A fault is found if a row of it is above 1 where the same rows without it are not: whoever
flags everything finds nothing.

The challenger wins if it flags no more of the rows as they are than was promised, give or take
chance, or no more than the incumbent does; and

- the incumbent has no score for any of the rows; or
- it finds more of the faults; or
- it finds as many, and keeps the promise where the incumbent does not; or
- both find as many and keep it, and its scores tell faults from normal rows better, whatever the
  threshold: by .05 of the area under the ROC curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import Frame
from imdiffusion.live.scorers.fault_injection import InjectedFault, plant
from imdiffusion.live.scorers.fitted import Scorer
from imdiffusion.live.store.inserts import Judgement

FAULTS = 24  # that are planted, in as many copies of the rows as it takes
COPIES = (2, 12)  # at least and at most
LEAST_FAULTS = 3
CLEARLY = 0.05  # by so much the areas under the ROC curve have to differ


@dataclass(frozen=True, slots=True)
class Performance:
    """What one detector did.

    scored, share: shares of the rows that have a score, and that are flagged. found: faults. area:
    under the ROC curve of the highest scores of spans with a fault against the same without.
    """

    detector: str
    model: str
    scored: float
    share: float
    found: int
    area: float


@dataclass(frozen=True, slots=True)
class Contestant:
    """A detector as it enters: newly made. context: rows it reads before those it is judged on."""

    make: Callable[[], Scorer]
    context: int


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
    challenger: Contestant,
    incumbent: Contestant,
    before: Frame,
    held: Frame,
    *,
    promise: float,
    seed: int,
) -> Verdict:
    """Compare two detectors on the rows `held`; each reads the last of the rows `before` first.

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
    promised = (chance + 3 * math.sqrt(chance) + 3) / len(held)
    won, reason = _judge(one, other, promised, sum(map(len, faults)))
    allowed = max(promised, other.share)
    return Verdict(won, reason, len(held), sum(map(len, faults)), allowed, one, other)


def _planted(
    values: Floats, generator: np.random.Generator
) -> list[tuple[Floats, list[InjectedFault]]]:
    """Copies of rows with faults, until there are enough of them."""
    copies: list[tuple[Floats, list[InjectedFault]]] = []
    least, most = COPIES
    while len(copies) < most:
        copies.append(plant(values, generator=generator))
        if len(copies) >= least and sum(len(faults) for _, faults in copies) >= FAULTS:
            break
    return copies


def _perform(
    contestant: Contestant,
    before: Frame,
    held: Frame,
    rows: list[Floats],
    faults: list[list[InjectedFault]],
) -> Performance:
    scorer = contestant.make()
    context = before.slice(max(0, len(before) - contestant.context))
    if len(context):
        scorer.push(context.select(scorer.channels))
    state = scorer.to_state()
    scores = []
    for values in rows:
        copy = scorer.from_state(state, scorer)
        frame = Frame(values, ~np.isnan(values), held.timestamps, held.channels, held.entity)
        judged = copy.push(frame.select(scorer.channels))
        own = [one.score for one in judged if one.mode == "online"]
        # Rows without a value were left out of the contest: that they are absent is no news here.
        gone = np.asarray(np.isnan(values).all(axis=1))[len(values) - len(own) :]
        scores.append(np.where(gone, np.nan, np.array(own, np.float64)))
    scored = float(np.isfinite(scores[0]).mean())
    clean, *planted = map(np.nan_to_num, scores)
    highs: list[float] = []
    lows: list[float] = []
    for score, ones in zip(planted, faults, strict=True):
        for fault in ones:
            span = slice(fault.start, fault.stop)
            highs.append(float(score[span].max()))
            lows.append(float(clean[span].max()))
    found = sum(high > 1.0 >= low for high, low in zip(highs, lows, strict=True))
    share = float((clean > 1.0).mean())
    area = _area(np.array(highs), np.array(lows))
    return Performance(scorer.detector, scorer.model, scored, share, found, area)


def _area(highs: Floats, lows: Floats) -> float:
    """How often one of `highs` is above one of `lows`, ties counting half; .5 = by chance."""
    if not highs.size:
        return 0.5
    above = (highs[:, None] > lows[None]).mean() + 0.5 * (highs[:, None] == lows[None]).mean()
    return float(above)


def _judge(one: Performance, other: Performance, promised: float, faults: int) -> tuple[bool, str]:
    """Whether the challenger won, and why, in words."""
    told = (
        f"{one.found} of {faults} planted faults found ({other.detector}: {other.found}), "
        f"{one.share:.2%} of normal rows flagged ({other.detector}: {other.share:.2%}), "
        f"area {one.area:.2f} ({other.detector}: {other.area:.2f})"
    )
    if faults < LEAST_FAULTS:
        return False, f"only {faults} faults could be planted"
    if not one.scored:
        return False, "it has no score for any of the rows"
    if one.share > max(promised, other.share):
        return False, f"more than {max(promised, other.share):.2%} of normal rows flagged: {told}"
    if not other.scored:
        return True, f"{other.detector} has no score yet: {told}"
    if one.found != other.found:
        return one.found > other.found, told
    kept = one.share <= promised, other.share <= promised
    if kept[0] != kept[1]:
        return kept[0], told
    return one.area >= other.area + CLEARLY, told


# -- what people say of events, as it shapes the next fit: rows left out, and where it begins
#
# confirmed                its rows are no example of normal: they are left out expected,
# false_alarm    its rows are normal: they stay, also where a confirmed event lies over them
# new_normal               so is all that follows: nothing before it counts any more not_resolved
# nothing is said yet: its rows stay
#
# No verdict sets a threshold: it chooses the rows that one is calibrated on.

NORMAL = ("expected", "false_alarm", "new_normal")
FAR = 2**62  # a time after all others: the end of an event that goes on

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """Which rows of an entity a fit is of.

    excluded: spans (start, end) in ns, end exclusive. since: ns, rows before it do not count;
    None = all do. said: ns, when it was last said where normal begins.
    """

    excluded: Spans = ()
    since: int | None = None
    said: int = 0


def shape_of(entity: str, judgements: Iterable[Judgement]) -> Shape:
    """What was said of an entity's events, for its next fit."""
    own = [one for one in judgements if one.entity == entity]
    wrong = [(one.start, _end(one)) for one in own if one.verdict == "confirmed"]
    right = [(one.start, _end(one)) for one in own if one.verdict in NORMAL]
    new = [one for one in own if one.verdict == "new_normal"]
    begun = max(new, key=lambda one: one.start, default=None)
    spans = tuple(sorted({part for span in wrong for part in _without(span, right)}))
    if begun is None:
        return Shape(spans)
    return Shape(spans, begun.start, max(one.recorded for one in new))


def _end(one: Judgement) -> int:
    return FAR if one.end is None else one.end


def _without(span: tuple[int, int], others: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is left of a span outside of the others."""
    left = [span]
    for start, end in others:
        left = [
            part
            for low, high in left
            for part in ((low, min(high, start)), (max(low, end), high))
            if part[0] < part[1]
        ]
    return left


def within(frame: Frame, spans: Spans) -> list[tuple[np.datetime64, np.datetime64]]:
    """The spans that hold a row of a frame, as `ImDiffusion.fit` takes them."""
    assert frame.timestamps is not None  # noqa: S101  live rows have them
    times = frame.timestamps.astype(np.int64)
    held = [(low, high) for low, high in spans if ((times >= low) & (times < high)).any()]
    return [(np.datetime64(low, "ns"), np.datetime64(high, "ns")) for low, high in held]


def blanked(frame: Frame, spans: Spans) -> Frame:
    """The frame with nothing observed in the rows of the spans."""
    assert frame.timestamps is not None  # noqa: S101  live rows have them
    times = frame.timestamps.astype(np.int64)
    inside = np.zeros(len(frame), np.bool_)
    for low, high in spans:
        inside |= (times >= low) & (times < high)
    values = np.where(inside[:, None], np.nan, frame.values)
    return Frame(
        values, frame.observed & ~inside[:, None], frame.timestamps, frame.channels, frame.entity
    )
