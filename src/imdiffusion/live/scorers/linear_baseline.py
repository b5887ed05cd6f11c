"""A baseline of the views in closed form: the preset `linear`, without its memory.

Each third of the rows is scored by a fit on the other two, and those scores say which one stands
for 1: what few rows have taught is sure of itself on the very rows that taught it, and on no
others. Views are scanned over fewer rows while there are few. Nothing here imports torch.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from imdiffusion import presets, registry
from imdiffusion.arrays import Flags, Floats
from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.errors import DataError, DataWarning
from imdiffusion.fitting import fit_entity
from imdiffusion.live.scorers.fitted import EntityScorer, ScoredRow
from imdiffusion.progress import FitJob
from imdiffusion.saved_state import State
from imdiffusion.settings import LAW, Settings

log = logging.getLogger(__name__)

LINEAR = "linear"
LEAST_ROWS = 30  # of which two thirds can be fitted on, and the rest scored
FOLDS = 3
ROWS_A_SCAN = 20  # rows for each row that the widest window of the scan has, at least
MOST_NUMBERS = 120  # in the rows that a forecast reads, so that a fit takes a moment
CONTEXT = 128  # rows it reads before those it judges: more than lags and scan reach
FEW = 100  # scores of which the largest are too few to be looked at alone
UPPER = 0.25  # share of the scores that a tail is fitted to, at most
FURTHER = 25.0  # the tail begins where so many times the promised share of rows lie beyond
LEAST_UPPER = 0.05
FAULTY = 0.05  # share of a channel's values that may be faults
DWARFS = 5.0  # times as far from the median as all others: what a fault is then
KIND = "linear baseline"


def settings_for(rows: int, channels: int) -> Settings:
    """The preset, scanned no wider than so many rows can bear, and cheap to fit again and again."""
    settings = presets.resolve(LINEAR, {"views": LAW})
    widest = max(1, rows // ROWS_A_SCAN)
    scan = min(settings.scan, 1 << (widest.bit_length() - 1))
    lags = max(1, min(settings.lags, MOST_NUMBERS // channels))
    return replace(settings, scan=scan, lags=lags)


@dataclass(slots=True)
class LinearBaseline:
    """What rows taught. margin: by mode, the score that stands for 1."""

    entity: Entity
    margin: dict[str, float]
    scorer: EntityScorer

    @classmethod
    def of(cls, frame: Frame, rate: float, *, offline: bool) -> Self | None:
        """Learn from rows, so that `rate` of normal rows are above 1; None = too few."""
        frame = without_faults(frame)
        if int(frame.observed.any(axis=1).sum()) < LEAST_ROWS:
            return None
        try:
            apart = _apart(frame, rate, offline=offline)
            entity = _fitted(frame, settings_for(len(frame), frame.width), rate)
        except DataError as error:  # so many rows, and hardly a value in them
            log.info("nothing can be learned of %s yet: %s", frame.entity or "an entity", error)
            return None
        margin = {mode: limit(scores, rate) for mode, scores in apart.items()}
        return cls(entity, margin, _scorer(entity, offline=offline))

    # -- as a FittedBaseline

    @property
    def known(self) -> Flags:
        """Channels that some row had."""
        return self.entity.scaler.known

    def judge(self, held: Floats, frame: Frame, states: Sequence[str]) -> list[ScoredRow]:
        """Each row as it arrives, then earlier ones offline."""
        said = self.scorer.push(frame)
        rows = iter(zip(states, frame.values, frame.observed, strict=True))
        arrived: list[ScoredRow] = []
        later: list[ScoredRow] = []
        for one in said:
            if one.mode != "online":
                later.append(self._in_units(one))
                continue
            state, values, observed = next(rows)
            seen = np.where(observed, values, np.nan)
            arrived.append(replace(self._in_units(one, seen), state=state))
        return arrived + later

    def _in_units(self, one: ScoredRow, seen: NDArray[np.floating] | None = None) -> ScoredRow:
        """What the model says, with its score in units of the margin; seen (K,): as it came.

        Counters are judged by their rates. Online they are shown as they came, and expected as
        far above the row before as their rate was expected to be.
        """
        score = one.score / self.margin[one.mode]
        counters = self.entity.counters
        if seen is None or not counters.channels:
            return replace(one, score=score)
        counts = np.isin(self.entity.channels, counters.channels)
        second = 1.0 if counters.period_ns is None else counters.period_ns / 1e9
        expected, lower, upper = (
            np.where(counts, seen + (part - one.seen) * second, part)
            for part in (one.expected, one.lower, one.upper)
        )
        return replace(one, score=score, seen=seen, expected=expected, lower=lower, upper=upper)

    def read(self, frame: Frame) -> None:
        """Go on from these rows."""
        self.scorer.push(frame.slice(max(0, len(frame) - CONTEXT)))

    def finish(self) -> list[ScoredRow]:
        """What is left to say offline."""
        return [self._in_units(one) for one in self.scorer.finish()]

    def scores(self, frame: Frame) -> Floats:
        """Scores online of rows of their own."""
        return _scores(self.entity, frame, offline=False)["online"] / self.margin["online"]

    # -- over a restart

    def to_state(self) -> State:
        """The model, and where its scorer stands."""
        known = self.entity.to_dict()
        arrays = {name: one for name, one in known.items() if isinstance(one, np.ndarray)}
        facts = {name: one for name, one in known.items() if name not in arrays}
        parts = {"entity": State("entity", facts, arrays), "scorer": self.scorer.to_state()}
        own = {"margin": self.margin, "scan": self.entity.settings.scan}
        return State(KIND, own, parts=parts)

    @classmethod
    def from_state(cls, state: State, *, offline: bool) -> Self:
        """What `to_state` gave. Raises KeyError, ValueError or TypeError for a model of another
        version, ModelError for another state.
        """
        known = state.check(KIND).part("entity").check("entity")
        settings = presets.resolve(LINEAR, {"views": LAW, "scan": state.fact("scan")})
        facts = {**known.facts, **{name: one.copy() for name, one in known.arrays.items()}}
        entity = Entity.restore(facts, settings, seed=0)
        fresh = _scorer(entity, offline=offline)
        scorer = EntityScorer.from_state(state.part("scorer"), fresh)
        return cls(entity, dict(state.fact("margin")), scorer)


def without_faults(frame: Frame) -> Frame:
    """Rows, of which the few values of a channel that dwarf all its others count as not observed.

    The first rows of an entity are few, so a few faults are a large share of them. Of a channel
    whose other values are all alike none is: that it moves at all may be its habit.
    """
    observed = frame.observed.copy()
    for channel in range(frame.width):
        rows = np.flatnonzero(observed[:, channel])
        most = int(FAULTY * len(rows))
        if not most:
            continue
        column = frame.values[rows, channel]
        far = np.abs(column - np.median(column))
        order = np.argsort(far, kind="stable")[-most - 1 :]
        nearer = far[order[:-1]]
        apart = (far[order[1:]] > DWARFS * nearer) & (nearer > 0)
        if apart.any():
            observed[rows[order[1 + int(np.argmax(apart)) :]], channel] = False
    return replace(frame, observed=observed)


def limit(scores: Floats, rate: float) -> float:
    """The score that normal rows exceed with probability `rate`, from scores (n,) of such rows.

    A generalised Pareto tail says it, or an exponential one if that is longer: scores are means
    over rows, so the largest of some hundred come from few occasions, and a tail that such a few
    call short is not believed.
    """
    known = scores[np.isfinite(scores)]
    if not known.size:
        return 1.0
    found = float(registry.load("thresholds", "pot")(known, alarm_rate=rate))
    upper = UPPER if known.size < FEW else min(UPPER, max(LEAST_UPPER, FURTHER * rate))
    if rate >= upper:
        return found
    level = float(np.quantile(known, 1.0 - upper))
    excess = float(np.mean(known[known >= level] - level))
    return max(found, level + excess * float(np.log(upper / rate)))


def _apart(frame: Frame, rate: float, *, offline: bool) -> dict[str, Floats]:
    """Scores of rows by fits that have not seen them, by mode."""
    found: dict[str, list[Floats]] = {}
    edges = np.linspace(0, len(frame), FOLDS + 1).astype(int)
    settings = settings_for(len(frame), frame.width)
    for start, stop in pairwise(edges):
        others = np.r_[0:start, stop : len(frame)]
        entity = _fitted(_rows(frame, others), settings, rate)
        first = max(0, start - CONTEXT)
        run = frame.slice(first, stop)
        for mode, scores in _scores(entity, run, offline=offline).items():
            found.setdefault(mode, []).append(scores[start - first :])
    return {mode: np.concatenate(scores) for mode, scores in found.items()}


def _rows(frame: Frame, places: NDArray[np.int64]) -> Frame:
    times = frame.timestamps
    assert times is not None  # noqa: S101  live rows have them
    return replace(
        frame, values=frame.values[places], observed=frame.observed[places],
        timestamps=times[places],
    )  # fmt: skip


def _fitted(frame: Frame, settings: Settings, rate: float) -> Entity:
    with warnings.catch_warnings():
        # Of channels that stand still or count: true of many, again and again, and no harm.
        warnings.simplefilter("ignore", DataWarning)
        entity = fit_entity(frame, FitJob(settings), measured=False)
    return replace(entity, alarm_rate=rate)


def _scorer(entity: Entity, *, offline: bool) -> EntityScorer:
    return EntityScorer(entity, detector=LINEAR, offline=offline, model=KIND)


def _scores(entity: Entity, frame: Frame, *, offline: bool) -> dict[str, Floats]:
    """Scores (n,) of rows by a fitted entity, by mode."""
    scorer = _scorer(entity, offline=offline)
    said = [*scorer.push(frame), *scorer.finish()]
    moments = ("online", "offline") if offline else ("online",)
    return {
        mode: np.array([one.score for one in said if one.mode == mode], np.float64)
        for mode in moments
    }
