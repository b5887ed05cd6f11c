"""What checks found in the channels of an event, and the sentence that says what an event is.

A finding has the name of its kind for machines ("missing") and words for people ("missing for 34
rows (34 min)"). Where no check found anything, a view decided: what was seen departs from what
was expected, and the sentence says both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.wording import number

LEADING = 0.5  # the channels that a sentence is about are the fewest that hold this share
MOST_CLAUSES = 3
MOST_NAMED = 3  # channels of a clause
SHARE = 0.25  # of the rows of a kind that does not last, in which a channel must have it to count


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found in a channel: its kind by name, and words.

    lasting: the words count rows up to their own, so that those of a later row say more.
    """

    kind: str
    words: str
    lasting: bool = False

    def then(self, later: Finding) -> Finding:
        """What is to be said after a later row of the same event."""
        return self if later.kind == self.kind and not later.lasting else later


@dataclass(frozen=True, slots=True)
class Findings:
    """What checks found in T rows and K channels: kind (T, K), a code, 0 = nothing; since (T, K),
    how many rows before its own that began. of: the finding of (code, since, row).
    """

    kind: NDArray[np.int8]
    since: NDArray[np.int32]
    of: Callable[[int, int, int], Finding]

    def within(self, start: int, end: int) -> dict[int, Finding]:
        """By channel, what is to be said of rows [start, end): the last kind that was found in it.

        A kind that lasts is told as of its last row, any other as of its first; it is left out
        where another channel has it in four times as many rows.
        """
        codes = self.kind[start:end]
        found: dict[int, Finding] = {}
        counts: dict[int, int] = {}
        for channel in np.flatnonzero(codes.any(axis=0)).tolist():
            last = int(np.flatnonzero(codes[:, channel])[-1])
            code = int(codes[last, channel])
            first = int(np.flatnonzero(codes[:, channel] == code)[0])
            one, early = (
                self.of(code, int(self.since[start + row, channel]), start + row)
                for row in (last, first)
            )
            found[channel] = early.then(one)
            counts[channel] = int((codes[:, channel] == code).sum())
        return often(found, counts)


def often(found: Mapping[int, Finding], counts: Mapping[int, int]) -> dict[int, Finding]:
    """Findings by channel without those that are few. counts: rows in which the channel has it."""
    most: dict[str, int] = {}
    for channel, one in found.items():
        most[one.kind] = max(most.get(one.kind, 0), counts[channel])
    return {
        channel: one
        for channel, one in found.items()
        if one.lasting or counts[channel] >= SHARE * most[one.kind]
    }


def findings_of(
    kind: NDArray[np.int8], since: NDArray[np.int32], of: Callable[[int, int], Finding]
) -> dict[int, Finding]:
    """By channel, what checks found in one row: kind and since (K,); of: as (code, since)."""
    return {
        channel: of(int(kind[channel]), int(since[channel]))
        for channel in np.flatnonzero(kind).tolist()
    }


def sentence(
    channels: Sequence[str],
    shares: Sequence[float],
    findings: Mapping[str, Finding],
    seen: Sequence[float],
    expected: Sequence[float],
) -> str:
    """What an event is, in one sentence without its full stop.

    channels, shares, seen, expected (K,): the most responsible channel first. findings: by channel.
    It is about the leading channels, the fewest that hold half of the event, and those in which a
    check found something.

    >>> sentence(["load"], [1.0], {}, [3.2], [1.1])
    'load 3.2 where 1.1 was expected'
    """
    clauses: dict[str, list[str]] = {}
    held = 0.0
    for channel, share, value, usual in zip(channels, shares, seen, expected, strict=True):
        leads, held = held < LEADING - 1e-9 and share > 0, held + share
        if channel in findings:
            clauses.setdefault(findings[channel].words, []).append(channel)
        elif leads:
            clauses.setdefault(_departed(value, usual), []).append(channel)
    said = [f"{_named(names, len(channels))} {words}" for words, names in clauses.items()]
    left = sum(len(names) for names in list(clauses.values())[MOST_CLAUSES:])
    more = [f"{left} more channel{'' if left == 1 else 's'}"] if left else []
    return "; ".join([*said[:MOST_CLAUSES], *more])


def _named(names: list[str], channels: int) -> str:
    """Channels of a clause: by name, the first ones, or all."""
    if len(names) == channels > MOST_NAMED:
        return f"all {channels} channels"
    told = names[:MOST_NAMED]
    if len(names) > MOST_NAMED:
        return f"{', '.join(told)} and {len(names) - MOST_NAMED} more"
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}"


def _departed(seen: float, expected: float) -> str:
    """What a view says of a channel."""
    what = "not observed" if math.isnan(seen) else number(seen)
    return what if math.isnan(expected) else f"{what} where {number(expected)} was expected"
