"""Where in a run of alarms the fault is: the rows and channels that carry the evidence.

A score that looks over windows says that something is there, and not where: one bad row puts all
rows of the windows that hold it in alarm. What a row itself has against a channel, its evidence,
says where. In a run of alarms each channel, and all of them together (the dense column), has
segments that maximise

    sum over rows of   min(evidence - quiet, MOST)      quiet = max(QUIET, what is usual around)

so that evidence counts for a row and quiet rows count against it, none of them beyond bounds: how
far off a value is must not decide how many quiet rows it outweighs. A segment ends where quiet rows
have taken back all that it had, or BREAK of it. Those whose evidence, without bounds, is beyond
what chance brings about are the fault; where they overlap they are one, and where quiet rows lie
between they are several; so are parts of which one is LEAP times as large as the other. Segments of
single channels beside one of all of them are the idea of MVCAPA (Fisch, Eckley and Fearnhead,
Journal of Computational and Graphical Statistics 31, 2022); the costs and the search, one pass over
the rows, are not.

An absurd value spoils what is expected of others in its row, and of all in the rows after it. So
evidence that is small beside the largest of these rows says nothing, for or against.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats, Reals

Span = tuple[int, int]

QUIET = 3.0  # evidence of a row that counts neither for a fault nor against one
AROUND = 100  # rows without an alarm on either side of a run that say what is usual there
LEAST_AROUND = 20  # fewer say nothing
USUAL = 0.9  # the share of them whose evidence is below what a row of a fault must have
MOST = 9.0  # what a row can say at most
BREAK = 60.0  # 20 rows without any evidence
SURE = 15.0  # what a segment must have, with one channel; the logarithm of their number on top
WEAK = 2.0  # what rows must say in the mean to lengthen a stronger segment
LEAP = 20.0  # what is so many times as large is another thing
SHADOW = 0.25  # of the largest evidence of late: what is smaller says nothing


class Segment(NamedTuple):
    """Rows [start, end) of one column; weight: the evidence above quiet that they hold."""

    start: int
    end: int
    column: int
    weight: float


def find_edges(
    evidence: Reals, runs: Sequence[Span], *, echo: int = 0, merge_gap: int = 0
) -> list[list[Span]]:
    """For each run of alarms [start, end) the segments in it that carry the evidence, in order.

    evidence (T, K): of each row and channel beyond normal, below 1 in most normal rows, NaN =
    unknown, which is neither for nor against. runs: ascending, without overlap. echo: rows after a
    bad one of which something wrong is expected because of it. merge_gap: the most quiet rows
    within one segment. A run is left without a segment where none of its rows carries enough.

    >>> evidence = np.zeros((60, 2))
    >>> evidence[30, 1] = 40.0
    >>> find_edges(evidence, [(20, 50)])
    [[(30, 31)]]
    """
    calm = np.ones(len(evidence), bool)
    for start, end in runs:
        calm[start:end] = False
    found = []
    for start, end in runs:
        columns = _with_dense(evidence[start:end])
        quiet = np.full(columns.shape[1], QUIET)
        around = evidence[max(0, start - AROUND) : end + AROUND]
        usual = _with_dense(around[calm[max(0, start - AROUND) : end + AROUND]])
        usual = usual[~np.isnan(usual).all(axis=1)]
        if len(usual) >= LEAST_AROUND:
            quiet = np.maximum(quiet, np.quantile(np.nan_to_num(usual), USUAL, axis=0))
        excess = np.nan_to_num(columns - quiet)
        excess[_in_shadow(columns, quiet, echo)] = 0.0
        said = np.minimum(excess, MOST)
        faults = _faults(_segments(said, excess), said, excess, merge_gap)
        found.append([(start + a, start + b) for a, b in faults])
    return found


def in_shadow(evidence: Reals, echo: int) -> NDArray[np.bool_]:
    """Which evidence (n, K) is what larger one of its row or of `echo` rows before brings about."""
    columns = np.asarray(evidence, np.float64)
    return _in_shadow(columns, np.full(columns.shape[1], QUIET), echo)


def flag_runs(flags: NDArray[np.bool_], merge_gap: int = 0) -> list[Span]:
    """Runs [start, end) of flags (T,), joined over gaps of at most `merge_gap` rows."""
    edge = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    merged: list[Span] = []
    for start, end in edge.reshape(-1, 2).tolist():
        if merged and start - merged[-1][1] <= merge_gap:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _with_dense(evidence: Reals) -> Floats:
    """Evidence (n, K) with a column for all channels: their sum, as noisy as one of them."""
    columns = np.asarray(evidence, np.float64)
    if columns.shape[1] == 1:
        return columns
    dense = np.nan_to_num(columns - 1.0).sum(axis=1) / np.sqrt(columns.shape[1])
    dense[np.isnan(columns).all(axis=1)] = np.nan
    return np.concatenate([columns, dense[:, None]], axis=1)


def _in_shadow(columns: Floats, quiet: Floats, echo: int) -> NDArray[np.bool_]:
    """Where evidence (n, K) is small beside the largest of its row and of the `echo` rows before.

    Quiet evidence is quiet there too.
    """
    known = np.nan_to_num(columns)
    largest = known.max(axis=1, initial=0.0)
    late = largest.copy()
    for back in range(1, min(echo, len(largest) - 1) + 1):
        np.maximum(late[back:], largest[:-back], out=late[back:])
    return np.asarray((known > quiet) & (known < SHADOW * late[:, None]))


def _segments(said: Floats, excess: Floats) -> list[Segment]:
    """The segments of each column (n, K) by itself, the strongest first."""
    sure = SURE + np.log(said.shape[1])
    # Most channels have nothing to do with a fault, and not enough in all of the run.
    some = np.flatnonzero(np.maximum(excess, 0.0).sum(axis=0) >= sure)
    if not len(some):
        return []
    count, said = len(said), np.ascontiguousarray(said[:, some])
    added = np.concatenate([np.zeros((1, len(some))), np.cumsum(excess[:, some], axis=0)])
    total, best = np.zeros(len(some)), np.zeros(len(some))
    start, end = np.zeros(len(some), np.int64), np.zeros(len(some), np.int64)
    found: list[Segment] = []
    for row in range(count + 1):
        over = (total <= 0.0) | (best - total >= BREAK) | (row == count)
        for k in np.flatnonzero(over & (best > 0.0)).tolist():
            if added[end[k], k] - added[start[k], k] >= sure:
                found += _levels(int(start[k]), int(end[k]), int(some[k]), excess)
        if row < count:
            total[over], best[over], start[over] = 0.0, 0.0, row
            total += said[row]
            better = total > best
            best[better], end[better] = total[better], row + 1
    found = [one for one in found if one.weight >= sure]
    return sorted(found, key=lambda one: (-one.weight, one.start, one.end))


def _levels(start: int, end: int, column: int, excess: Floats) -> list[Segment]:
    """A segment without what leads up to a leap in it, and what follows a fall; these beside it."""
    rows = excess[start:end, column]
    before = np.maximum.accumulate(rows)[:-1]
    after = np.maximum.accumulate(rows[::-1])[::-1][1:]
    leaps = np.flatnonzero((rows[1:] >= LEAP * before) & (rows[1:] > 0.0)) + 1
    falls = np.flatnonzero((rows[:-1] >= LEAP * after) & (rows[:-1] > 0.0)) + 1
    first = int(leaps[-1]) if len(leaps) else 0
    last = int(falls[falls > first].min(initial=len(rows)))
    found = []
    for a, b in pairwise(sorted({0, first, last, len(rows)})):
        loud = np.flatnonzero(rows[a:b] > 0.0)
        if len(loud):
            held = float(rows[a:b].sum())
            one = Segment(start + a + int(loud[0]), start + a + int(loud[-1]) + 1, column, held)
            found.append(one)
    return found


def _faults(segments: Sequence[Segment], said: Floats, excess: Floats, gap: int) -> list[Span]:
    """What is one fault of the segments, in order of time.

    A segment lengthens a stronger one near it where its other rows say enough; where they are of
    quite another size, they are a fault of their own.
    """
    count, sure = len(said), SURE + np.log(said.shape[1])
    label, levels = np.full(count, -1), list[float]()
    for one in segments:
        rows = np.arange(one.start, one.end)
        for part in np.split(rows, np.flatnonzero(np.diff(label[rows] < 0)) + 1):
            loud = np.flatnonzero(excess[part, one.column] > 0.0)
            if label[part[0]] >= 0 or not len(loud):
                continue
            piece = part[loud[0] : loud[-1] + 1]
            near = label[max(0, piece[0] - gap - 1) : piece[-1] + 2 + gap]
            known = np.unique(near[near >= 0]).tolist()
            held = excess[piece, one.column]
            if known and said[piece, one.column].mean() < WEAK:
                continue
            alike = [number for number in known if levels[number] < LEAP * held.mean()]
            if alike:
                label[piece] = max(alike, key=lambda number: levels[number])
            elif held.sum() >= sure:
                label[piece] = len(levels)
                levels.append(float(held.mean()))
    return _spans_of(label, levels, gap)


def _spans_of(label: NDArray[np.int64], levels: Sequence[float], gap: int) -> list[Span]:
    """Runs of rows of one label (n,), -1 = none; near ones of like level are one."""
    edge = np.flatnonzero(np.diff(label, prepend=-1, append=-1))
    found: list[tuple[int, int, float]] = []
    for start, end in pairwise(edge.tolist()):
        if label[start] < 0:
            continue
        level = levels[label[start]]
        if found:
            first, last, other = found[-1]
            if start - last <= gap and max(level, other) < LEAP * min(level, other):
                found[-1] = first, end, max(level, other)
                continue
        found.append((start, end, level))
    return [(start, end) for start, end, _ in found]
