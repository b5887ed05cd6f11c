"""What a detector got wrong, worst first: events without an alarm, alarms without an event.

It reads labels, for it looks at what was scored and judged before; nothing of it goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics.segments import segments
from imdiffusion_bench.score_archive import Kept
from imdiffusion_bench.split import Split

Kind = Literal["missed", "false alarm"]
REACH = 100  # rows: a score of `fast` reads so many on either side of its own
SHOWN = 3  # channels of a case


@dataclass(frozen=True, slots=True)
class Case:
    """Rows start to end (exclusive) of a test part: an event missed, or an alarm for nothing.

    peak       the largest score there, in units of the threshold
    departure  of the channel that departs most: its mean distance there from its mean over the
               normal test rows, in standard deviations of those
    channels   positions of those to look at, the one to look at first before the others
    distance   rows to the next label, of an alarm; 0 of an event
    weight     what cases are ranked by, largest first
    """

    kind: Kind
    dataset: str
    entity: str
    start: int
    end: int
    peak: float
    departure: float
    channels: tuple[int, ...]
    distance: int
    weight: float

    @property
    def title(self) -> str:
        """ "SMD machine-1-2, rows 100 to 149"."""
        return f"{self.dataset} {self.entity}, rows {self.start} to {self.end - 1}"


def missed(kept: Kept, split: Split) -> list[Case]:
    """The events of one entity in which no row is in alarm, worst first.

    weight: departure x (1 - peak): what stands out most and was believed least. An event in which
    no row has a score has a peak of 0. Raises DataError for scores of another length.
    """
    label, score = _known(kept, split)
    far = Departures(split, label)
    cases = []
    for start, end in segments(label):
        peak = float(score[start:end].max())
        if peak > 1.0:
            continue
        each = far.of(start, end)
        first = int(np.argmax(each))
        channels = (first, *(k for k in _implicated(kept, start, end) if k != first))[:SHOWN]
        departure = float(each[first])
        where = (split.dataset, split.entity, int(start), int(end))
        weight = departure * (1.0 - peak)
        cases.append(Case("missed", *where, peak, departure, channels, 0, weight))
    return sorted(cases, key=lambda case: -case.weight)


def false_alarms(kept: Kept, split: Split, *, reach: int = REACH) -> list[Case]:
    """The alarms of one entity with no label within `reach` rows on either side, worst first.

    Alarms with less than `reach` rows between them are one. weight: the peak. Raises DataError for
    scores of another length.
    """
    label, score = _known(kept, split)
    far = Departures(split, label)
    marked = np.flatnonzero(label)
    cases = []
    for start, end in _joined(segments(score > 1.0), reach):
        distance = _distance(marked, start, end)
        if distance < reach:
            continue
        # A long alarm is looked at where it is loudest.
        each = far.of(start, end)
        channels = _implicated(kept, start, end) or (int(np.argmax(each)),)
        peak = float(score[start:end].max())
        where = (split.dataset, split.entity, int(start), int(end))
        departure = float(each.max())
        cases.append(Case("false alarm", *where, peak, departure, channels[:SHOWN], distance, peak))
    return sorted(cases, key=lambda case: -case.weight)


def worst(cases: Iterable[Case], count: int) -> list[Case]:
    """The `count` worst, at most one of an entity: ten times one long fault teaches once."""
    found: dict[tuple[str, str], Case] = {}
    for case in cases:
        where = (case.dataset, case.entity)
        if where not in found or case.weight > found[where].weight:
            found[where] = case
    ranked = sorted(found.values(), key=lambda case: (-case.weight, case.title))
    return ranked[:count]


class Departures:
    """How far each channel of a test part is from its normal rows, in their deviations.

    A channel that never moves in normal rows is measured by its deviation over all rows.
    """

    def __init__(self, split: Split, label: NDArray[np.bool_]) -> None:
        values = np.where(split.test.observed, split.test.values, np.nan).astype(np.float64)
        normal = values[~label]
        centre = _mean(normal)
        spread = np.sqrt(_mean(np.square(normal - centre)))
        whole = np.sqrt(_mean(np.square(values - centre)))
        unit = np.where(spread > 1e-6 * whole, spread, whole)
        self._far = np.abs(values - centre) / np.where(unit > 0, unit, np.inf)

    def of(self, start: int, end: int) -> NDArray[np.float64]:
        """Mean distance (K,) over rows start to end; 0 where nothing was observed."""
        return np.nan_to_num(_mean(self._far[start:end]))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (K,) over the observed rows of (n, K); NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


def _known(kept: Kept, split: Split) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Label and score (T,) in units of the threshold; a row without a score has 0."""
    label = np.asarray(split.truth.label(), bool)
    if kept.score.shape != label.shape:
        raise DataError(
            f"the kept scores of {split.dataset} {split.entity} are of {len(kept.score)} rows, "
            f"its label is of {len(label)}",
            remedy="Measure it again on these data.",
        )
    score = kept.score.astype(np.float64) / kept.threshold
    return label, np.where(np.isnan(score), 0.0, score)


def _implicated(kept: Kept, start: int, end: int) -> tuple[int, ...]:
    """Channels by their share of the error over these rows, largest first; () without any."""
    shares = kept.shares
    if shares is None:
        return ()
    return tuple(int(k) for k in np.argsort(-shares[start:end].mean(axis=0), kind="stable"))


def _joined(spans: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """Spans [start, end) with less than `gap` rows between two made one."""
    found: list[tuple[int, int]] = []
    for start, end in spans.tolist():
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _distance(marked: NDArray[np.int64], start: int, end: int) -> int:
    """Rows between [start, end) and the next of the marked rows; 0 where one is in it."""
    after = int(np.searchsorted(marked, start))
    if after < len(marked) and marked[after] < end:
        return 0
    near: Sequence[int] = [
        *([int(marked[after]) - end] if after < len(marked) else []),
        *([start - int(marked[after - 1]) - 1] if after else []),
    ]
    return min(near)
