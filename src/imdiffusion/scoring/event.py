"""Events: merged runs of anomalous rows, with the channels that caused them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.scoring.edges import Span, find_edges, flag_runs
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


# -- which channels an anomaly is about: the share that each has in it, their order, which lead


class Causes(NamedTuple):
    """All K channels of an event, the most responsible first.

    shares (K,) sum to 1; expected and seen (K,): values at its peak in the caller's units; kinds
    (K,): what a check found, "" = nothing; reason: all of it in one sentence.
    """

    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    kinds: tuple[str, ...]
    reason: str


def by_share(parts: Reals) -> tuple[list[int], Floats]:
    """Positions of channels by their parts (K,) of an error, largest first, and the shares (K,).

    Shares sum to 1; they are equal where no channel has a part.

    >>> by_share(np.array([1.0, 3.0, np.nan]))
    ([1, 0, 2], array([0.25, 0.75, 0.  ]))
    """
    known = np.nan_to_num(np.asarray(parts, np.float64))
    total = float(known.sum())
    shares = known / total if total > 0 else np.full(len(known), 1.0 / max(1, len(known)))
    return np.argsort(-shares, kind="stable").tolist(), shares


def leading(parts: Reals) -> frozenset[int]:
    """Positions of the fewest channels that hold half of the error; none where there is none."""
    if not np.nan_to_num(np.asarray(parts, np.float64)).sum() > 0:
        return frozenset()
    order, shares = by_share(parts)
    held = np.cumsum(shares[order])
    return frozenset(order[: int(np.searchsorted(held, LEADING - 1e-9)) + 1])


def causes_of(
    parts: Reals,
    expected: Reals,
    seen: Reals,
    channels: Sequence[str],
    found: Mapping[int, Finding],
) -> Causes:
    """The causes of an event of which each channel has this part (K,); found: by channel."""
    order, share = by_share(parts)
    names, shares = tuple(channels[k] for k in order), tuple(share[order].tolist())
    cells = [tuple(np.asarray(one, np.float64)[order].tolist()) for one in (expected, seen)]
    kinds = tuple(found[k].kind if k in found else "" for k in order)
    told = {channels[k]: one for k, one in found.items()}
    reason = sentence(names, shares, told, cells[1], cells[0])
    return Causes(names, shares, cells[0], cells[1], kinds, reason)


@dataclass(frozen=True, slots=True)
class Event:
    """One anomaly: rows [start, end), and the highest score of them.

    peak: the row where the first of `channels` is most wrong, where that is known, or else that of
    the score. channels: all K names, the most responsible first; shares (K,) sum to 1; expected and
    seen (K,) are the values at the peak in the caller's units, NaN where nothing was observed.
    kinds (K,): what a check beside the views found in the channel ("missing", "frozen",
    "unusual_hour", ...), "" where none found anything and a view alone may have spoken; empty: it
    was not asked. reason: all of it in one sentence, "cpu frozen at one value for 120 rows (2 h)".
    """

    start: int
    end: int
    peak: int
    score: float
    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    kinds: tuple[str, ...] = ()
    reason: str = ""


def spans(score: Reals, *, merge_gap: int = 0, min_length: int = 1) -> list[tuple[int, int]]:
    """Runs [start, end) of score (T,) above 1, joined over gaps of at most `merge_gap` rows.

    Rows without a score (NaN) are quiet. Runs shorter than `min_length` rows are left out.
    """
    alarm = np.nan_to_num(score) > 1.0
    return [(a, b) for a, b in flag_runs(alarm, merge_gap) if b - a >= min_length]


def find_events(
    score: Reals,
    channel_scores: Reals,
    values: Reals,
    expected: Reals,
    channels: tuple[str, ...],
    *,
    evidence: Reals | None = None,
    findings: Findings | None = None,
    echo: int = 0,
    merge_gap: int = 0,
    min_length: int = 1,
) -> list[Event]:
    """Events of a series: score (T,), channel_scores, values, expected (T, K).

    findings: what checks beside the views found; it names the kinds, and decides nothing.

    A run of `spans` is one event. With evidence (T, K), what each row by itself has against each
    channel, it is one for each segment that carries the evidence (`edges.find_edges`, which says
    what echo is); no event is longer than its run, and one that has none of it stays as it is.

    A channel's share is its part of the evidence summed over the event's rows, or of the channel
    scores over those with a score above 1; and the peak is the row with the most evidence against
    the first channel, or the highest score.
    """
    runs = spans(score, merge_gap=merge_gap, min_length=min_length)
    found: list[list[Span]] = [[] for _ in runs]
    if evidence is not None:
        found = find_edges(evidence, runs, echo=echo, merge_gap=merge_gap)
    events = []
    for run, segments in zip(runs, found, strict=True):
        heard = [(a, b) for a, b in segments if np.nan_to_num(score[a:b]).max() > 1.0]
        for start, end in heard or [run]:
            within = np.nan_to_num(score[start:end])
            if heard and evidence is not None:
                parts = np.nan_to_num(evidence[start:end].astype(np.float64))
                peak = start + int(parts[:, parts.sum(axis=0).argmax()].argmax())
            else:
                parts = channel_scores[start:end][within > 1.0].astype(np.float64)
                peak = start + int(within.argmax())
            part = np.nan_to_num(parts).sum(axis=0)
            told = {} if findings is None else findings.within(start, end)
            causes = causes_of(part, expected[peak], values[peak], channels, told)
            events.append(Event(start, end, peak, float(within.max()), *causes))
    return events


def rows_in(events: Iterable[Event], count: int) -> NDArray[np.bool_]:
    """Which of `count` rows lie in an event, (count,)."""
    inside = np.zeros(count, bool)
    for event in events:
        inside[event.start : event.end] = True
    return inside


# -- channels that are outside their band for long, and no event names them: told with the reason
#
# A band holds 99 % of normal rows one by one, and a score is about rows and channels together, so
# the two may disagree. A person who sees a channel outside its band for half an hour asks why there
# is no event: either its rows lie in one of other channels, or their evidence, joined with that of
# all channels and rows, stays within what the promise allows, or the channel is not judged.

LEAST_ROWS = 32
MOST_OF = 0.75  # of any `LEAST_ROWS` rows in a row must lie outside
NAMED = 0.1  # share of an event that a channel has at least to be named by it


@dataclass(frozen=True, slots=True)
class Unalarmed:
    """Rows [start, end) in which most values of a channel lie outside its band, on one side.

    side: "above" or "below"; outside: the share of its observed values there that do; score: the
    highest of these rows, NaN where none has one; reason: why no event names it.
    """

    channel: str
    start: int
    end: int
    side: str
    outside: float
    score: float
    reason: str


def find_unalarmed(
    values: Reals,
    lower: Reals,
    upper: Reals,
    score: Reals,
    events: Sequence[Event],
    channels: Sequence[str],
    *,
    judged: Flags | None = None,
) -> list[Unalarmed]:
    """Spans outside the band that no event names, in the order of time.

    values (T, K): NaN where not observed; lower, upper (T, K); score (T,). judged (K,): channels
    that are scored, None = all.

    >>> values = np.zeros((100, 1))
    >>> values[40:80] = 5.0
    >>> band = np.ones((100, 1))
    >>> (one,) = find_unalarmed(values, -band, band, np.full(100, 0.5), [], ["load"])
    >>> one.channel, one.start, one.end, one.side, one.outside
    ('load', 40, 80, 'above', 1.0)
    >>> one.reason
    'the score reaches 0.5 of what an alarm takes: normal rows may have as much at this alarm_rate'
    """
    found = []
    for side, outside in (("below", values < lower), ("above", values > upper)):
        often = outside.sum(axis=0) >= MOST_OF * LEAST_ROWS
        for k in np.flatnonzero(often).tolist():
            seen = ~np.isnan(values[:, k])
            for start, end in _long(outside[:, k]):
                within = [e for e in events if e.start < end and e.end > start]
                if any(_names(event, channels[k]) for event in within):
                    continue
                scores = score[start:end]
                known = scores[np.isfinite(scores)]
                top = float(known.max()) if len(known) else float("nan")
                own = judged is None or bool(judged[k])
                reason = _reason(top, own=own, within=bool(within))
                share = float(outside[start:end, k].sum() / seen[start:end].sum())
                found.append(Unalarmed(channels[k], start, end, side, share, top, reason))
    return sorted(found, key=lambda one: (one.start, one.channel))


def _long(outside: Flags) -> list[tuple[int, int]]:
    """Stretches of rows (T,) of which each `LEAST_ROWS` have `MOST_OF` outside."""
    if len(outside) < LEAST_ROWS:
        return []
    total = np.concatenate([[0], np.cumsum(outside)])
    many = total[LEAST_ROWS:] - total[:-LEAST_ROWS] >= MOST_OF * LEAST_ROWS
    spans = []
    for first, last in flag_runs(many, LEAST_ROWS):
        rows = np.flatnonzero(outside[first : last + LEAST_ROWS - 1])
        start, end = first + int(rows[0]), first + int(rows[-1]) + 1
        if end - start >= LEAST_ROWS:
            spans.append((start, end))
    return spans


def _names(event: Event, channel: str) -> bool:
    place = event.channels.index(channel)
    return place == 0 or event.shares[place] >= NAMED


def _reason(top: float, *, own: bool, within: bool) -> str:
    if not own:
        return "the channel takes two values in training: it conditions others and is not scored"
    if within:
        return "an event in these rows is about other channels more than about this one"
    if np.isnan(top):
        return "the rows have no score"
    if top > 1.0:
        return "a run of alarms in these rows is shorter than an event must be"
    return (
        f"the score reaches {top:.2g} of what an alarm takes: normal rows may have as much at this "
        "alarm_rate"
    )
