"""Under which promise each normal row would be in alarm, by thresholds that had no part of it.

A threshold falls as the promise of alarms rises, so a row has one critical rate: the smallest
`alarm_rate` under which it is in alarm. Kept instead of scores, critical rates say how any promise
was kept, and need no second fit. The share of rows whose critical rate is at most p is what was
achieved of a promise p.

Thresholds read off rows are kept by those rows, whatever they are; so each block of rows is judged
by the join of the others, less the neighbours whose windows reach into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion.scoring.joining import APART, JOINED, RATES, SURE, Join, PromiseTable, eased

BLOCKS = 5
LEAST_OTHERS = 20  # rows with a score that thresholds are read off, at least
ENOUGH = 6_000  # of them
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
        every = slice(None, None, max(1, int(others.sum()) // ENOUGH))
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
