"""Discrete channels by the surprise of a change given the rest.

A discrete channel (a flag, an enumeration, a count near zero: 2 to 8 values) is told three things
at every row, each from the rows up to it alone:

    changed      more often than the rest explains: over the last w = 1, 4, 16, 64 rows
                 N log(N / H) - (N - H), of N changes where rules (`RuleLists`) expected H
    not changed  where they were sure that it would: - sum log(1 - h) over the last w rows, h the
                 chance of a change in each
    state        hardly ever seen with that of another channel, or after its own (`StateSurprises`)

Rules and states are learnt from the other blocks of rows, so what they say of normal rows is what
they will say of rows to come: how often the largest over the channels comes so high there is the
tail probability whose minus logarithm a row is told. An unpredictable flag, one that was active
three times, states that meet now and then: they are as usual there as they are.

Measured on fresh rows of random flags and counts, and of made plants, also with 30 % of the values
away at random: at most a tenth of the promise came true. Of rows called normal in test data, for a
promised .0008: SMAP .0006, SMD .0012, BATADAL .0026, MSL .0037 (in faults .029, .007, .075, .028);
within three times it on 78 % of MSL's entities and 91 % of SMAP's.
Not seen: states that are unusual for three channels at once and not for any two; a flag that
follows a measurement more loosely than its lowest and highest tenth say; changes in rows after a
gap longer than usual, of the channel or of one that explains it. With 3,000 rows one odd change of
one flag is no news under a promise of .001: such rows cannot show how rare it is. Fewer than 3,072
rows say too little of all this.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Arrays, Flags, Floats, Ints
from imdiffusion.saved_state import State
from imdiffusion.scoring.change_rows import (
    Alphabet,
    Counts,
    RuleLists,
    Step,
    Walk,
    fit_rules,
    lists_of,
)
from imdiffusion.scoring.scan import whole_means
from imdiffusion.scoring.tail import LONG_AGO, rows_since

NEWS = 64  # rows for which a state is news
LEAST_SIZE = 1.0  # what is less is not told
LEAST_ENTRIES = 4  # of both values of a flag, or a third is negligible
CHUNK = 4_096  # rows that are looked at together
MOST_PAIRS = 400_000  # and pairs of channels in them


@dataclass(frozen=True, slots=True)
class Entries:
    """Sums over rows: how many, how often each state was there and was entered (S,), how often two
    states came together (S, S), and how often one was followed by another.
    """

    rows: float
    there: Floats
    entered: Floats
    pair: Floats
    followed: Floats

    @classmethod
    def of(cls, alphabet: Alphabet, step: Step) -> Entries:
        """Of some rows."""
        total = np.zeros((2, int(alphabet.first[-1])))
        pair, followed = np.zeros((2, total.shape[1], total.shape[1]))
        for start in range(0, len(step), CHUNK):
            part = step.rows(slice(start, start + CHUNK))
            new = part.since == 0
            there = alphabet.spread(part.now).astype(np.float32)
            entered = alphabet.spread(np.where(new, part.now, -1)).astype(np.float32)
            left = alphabet.spread(np.where(new, part.before, -1)).astype(np.float32)
            total += np.stack([there.sum(axis=0), entered.sum(axis=0)])
            mixed = entered.T @ there
            pair += mixed + mixed.T - entered.T @ entered
            followed += left.T @ entered
        return cls(float(len(step)), total[0], total[1], pair, followed)

    def __add__(self, other: Entries) -> Entries:
        return Entries(*(getattr(self, n) + getattr(other, n) for n in self.__slots__))

    def __sub__(self, other: Entries) -> Entries:
        return Entries(*(getattr(self, n) - getattr(other, n) for n in self.__slots__))

    def surprises(self, alphabet: Alphabet) -> StateSurprises:
        """What they say of states to come."""
        share = self.there / max(self.rows, 1.0)
        expected = np.outer(share, self.entered)
        together = _size(expected + expected.T, self.pair)
        after = np.zeros_like(together)
        novel = np.zeros(len(alphabet.channel))
        for k, (start, stop) in enumerate(pairwise(alphabet.first.tolist())):
            own = slice(start, stop)
            left = self.followed[own, own]
            after[own, own] = _size(left.sum(axis=1, keepdims=True), left)
            together[own, own] = 0.0
            entered = self.entered[own]
            if len(entered) == 2 and entered.min() >= LEAST_ENTRIES:
                novel[k] = np.log(2.0 * (entered.sum() + 1.0))
        return StateSurprises(together, after, novel)


def _size(expected: Floats, seen: Floats) -> Floats:
    size = np.log(np.maximum(expected, 1e-9) / (seen + 0.5))
    return np.asarray(np.where(size >= LEAST_SIZE, size, 0.0))


@dataclass(frozen=True, slots=True)
class StateSurprises:
    """together (S, S): of two states of two channels at once; after (S, S): of the second state of
    a channel after the first; novel (C,): of a third value. An enumeration may have further values:
    it is a measurement to the views, and they see these.
    """

    together: Floats
    after: Floats
    novel: Floats

    def above(self, least: float) -> StateSurprises:
        """The same without those up to `least`: fewer rows to look at."""
        return StateSurprises(
            np.where(self.together > least, self.together, 0.0), self.after, self.novel
        )

    def of(self, alphabet: Alphabet, step: Step) -> Floats:
        """How unusual each channel's state is in each row (n, C), while it is news."""
        first, last = alphabet.first[:-1], len(self.together)
        fresh = (step.since < NEWS) & ~step.lost
        found = np.where(fresh & (step.now < 0) & step.known, self.novel, 0.0)
        rows = np.flatnonzero(fresh.any(axis=1))
        state = np.where(step.lost, -1, step.now)  # its state now is unknown
        there = alphabet.spread(state[rows]).astype(np.float32)
        rows = rows[((there @ (self.together > 0.0).astype(np.float32)) * there).any(axis=1)]
        whole = np.pad(self.together, (0, 1))  # the last: in no known state
        place = np.where(state >= 0, state + first, last)
        count = max(1, MOST_PAIRS // max(1, place.shape[1] ** 2))
        for start in range(0, len(rows), count):
            some = rows[start : start + count]
            size = whole[place[some][:, :, None], place[some][:, None, :]]
            size *= fresh[some][:, :, None] | fresh[some][:, None, :]
            found[some] = np.maximum(found[some], size.max(axis=2))
        row, channel = np.nonzero(step.changed & (step.now >= 0) & (step.before >= 0))
        was, now = (one[row, channel] + first[channel] for one in (step.before, step.now))
        found[row, channel] = np.maximum(found[row, channel], self.after[was, now])
        return found


# Codes, names and words of what a discrete channel is told; the codes of absence lie below.
CHANGED, NOT_CHANGED, STATE = 17, 18, 19
KINDS: dict[int, tuple[str, str]] = {
    CHANGED: ("changed", "changed unlike what the others explain"),
    NOT_CHANGED: ("not_changed", "not changed where the others say that it does"),
    STATE: ("unusual_state", "in a state hardly ever seen with the others'"),
}

CODES = np.array([CHANGED, NOT_CHANGED, STATE], np.int8)

BLOCKS = 5  # of the training rows, each judged by a law of the others
WIDTHS = (1, 4, 16, 64)
QUIET = 512  # rows without anything to say of a channel, after which it is news again
DUE = 0.5  # chance from which on a change is expected
MOST_POINTS = 40_000_000  # rows times features that rules are fitted on: the last ones
SPAN = 64  # rows of a block whose largest surprise counts once
LEAST_SPANS = 48
LEAST_PEAKS = 8
LEAST_SCALE = 1.0  # a unit of both statistics is a factor e of likelihood
LOUD = 5.0  # usual largest surprise of a channel in a fifth of the rows


@dataclass(frozen=True, slots=True)
class Tail:
    """How rare a surprise is among normal rows: the largest of each span of 64 rows, exponential
    beyond `start`: `number` of `spans` came above it, by `excess` together; `share` of a span's
    rows lie above it then. The mean excess is known no better than so many excesses tell it.
    """

    start: float
    excess: float
    number: float
    spans: float
    share: float

    @classmethod
    def fit(cls, largest: Floats) -> Tail:
        """From the largest surprise over the channels of each normal row (T,)."""
        spans = len(largest) // SPAN
        blocks = largest[: spans * SPAN].reshape(spans, SPAN)
        peak = np.sort(blocks.max(axis=1))[::-1]
        number = max(LEAST_PEAKS, spans // 4)
        start = float(peak[number])
        above = blocks > start
        told = above.any(axis=1)
        share = float(above[told].mean()) if told.any() else 1.0 / SPAN
        excess = max(float((peak[:number] - start).sum()), LEAST_SCALE * number)
        return cls(start, excess, float(number), float(spans), share)

    def surprise(self, found: Floats) -> Floats:
        """Minus the logarithm of the share of normal rows that come so high."""
        base = -float(np.log(self.number / self.spans * self.share))
        below = np.minimum(found / max(self.start, 1e-9), 1.0)
        told: Floats = base * np.where(found > 0.0, below if self.start > 0.0 else 1.0, 0.0)
        far = found > self.start  # few: there is a logarithm for each
        told[far] += self.number * np.log1p((found[far] - self.start) / self.excess)
        return told

    def to_array(self) -> Floats:
        """(5,): the fields in order."""
        return np.array([getattr(self, name) for name in self.__slots__])


class _Rules:
    """Rules fitted on all rows but those of one block after another."""

    def __init__(self, alphabet: Alphabet, step: Step, blocks: list[slice]) -> None:
        self._step, self._states = step, alphabet.most_states
        self._own = [slice(start, stop) for start, stop in pairwise(alphabet.first.tolist())]
        self._lists = lists_of(step.judged, step.before, self._states)
        lists = len(self._own) * self._states
        self._counts = [
            Counts.of(step.features[rows], step.changed[rows], self._lists[rows], lists)
            for rows in blocks
        ]
        self._blocks, self._every = blocks, reduce(Counts.__add__, self._counts)

    def fit(self, but: int | None = None) -> RuleLists:
        """but: the block to leave out."""
        lists, counts = self._lists, self._every
        if but is not None:
            lists, counts = lists.copy(), counts - self._counts[but]
            lists[self._blocks[but]] = -1
        step = self._step
        return fit_rules(step.features, step.changed, lists, counts, self._own, self._states)


def _unexplained(
    step: Step, rules: RuleLists, needs: Flags, held: Floats
) -> tuple[Floats, Floats, Floats]:
    """How many more changes each channel made than its rules explain (n, C), how sure they were of
    one that did not come (n, C), and what the next rows need: held (63, 3, C), of the rows before.

    needs (C, C + M): without which channels of late the rules of one say nothing.
    """
    more, missed = np.zeros(step.changed.shape), np.zeros(step.changed.shape)
    for start in range(0, len(step), CHUNK):
        rows = slice(start, start + CHUNK)
        part = step.rows(rows)
        blind = part.stale.astype(np.float32) @ needs.T.astype(np.float32) > 0.0
        judged = part.judged & ~blind
        changed = part.changed & judged
        chance = np.where(judged, rules.of(part.features, part.before), 0.0)
        free = chance < DUE
        due, expected = np.zeros(chance.shape), ~(changed | free)
        due[expected] = -np.log1p(-chance[expected])
        new = np.stack([changed & free, np.where(free, chance, 0.0), due], axis=1)
        whole = np.concatenate([held, new])
        for width, means in zip(WIDTHS, whole_means(whole, WIDTHS), strict=True):
            number, usual, sure = np.moveaxis(means[len(means) - len(part) :] * width, 1, 0)
            some = number > usual
            ratio = np.log(number[some] / usual[some])
            excess = number[some] * (ratio - 1.0) + usual[some]
            more[rows][some] = np.maximum(more[rows][some], excess)
            missed[rows] = np.where(
                part.since >= width, np.maximum(missed[rows], sure), missed[rows]
            )
        held = whole[len(whole) - len(held) :].copy()
    return more, missed, held


@dataclass(frozen=True, slots=True)
class ChangeModel:
    """The fitted law. unit (C,): of a channel whose changes are more nervous than its rules say.
    changes, states: how rare what they say is.
    """

    alphabet: Alphabet
    rules: RuleLists
    unit: Floats
    surprises: StateSurprises
    changes: Tail
    states: Tail

    @classmethod
    def fit(cls, values: Floats, observed: Flags) -> ChangeModel | None:
        """From normal rows (T, K), T of 3,072 at least; None where they are fewer, or no channel is
        discrete.
        """
        if len(values) < LEAST_SPANS * SPAN:
            return None
        alphabet = Alphabet.fit(values, observed)
        if not len(alphabet.channel):
            return None
        width = 2 * int(alphabet.first[-1]) + 3 * (len(alphabet.channel) + len(alphabet.measured))
        last = max(0, len(values) - max(MOST_POINTS // width, LEAST_SPANS * SPAN))
        step = Walk(alphabet).push(values[last:], observed[last:])
        edges = np.linspace(0, len(step), BLOCKS + 1).astype(int)
        blocks = [slice(start, stop) for start, stop in pairwise(edges.tolist())]
        entries = [Entries.of(alphabet, step.rows(block)) for block in blocks]
        every = reduce(Entries.__add__, entries)
        moved, met = [], []
        held = np.zeros((WIDTHS[-1] - 1, 3, len(alphabet.channel)))
        rules = _Rules(alphabet, step, blocks)
        for place, own in enumerate(entries):
            mine = step.rows(blocks[place])
            law = rules.fit(place)
            needs = law.needs(alphabet.sources, len(alphabet.gap))
            more, missed, held = _unexplained(mine, law, needs, held)
            moved.append(np.maximum(more, missed))
            met.append((every - own).surprises(alphabet).of(alphabet, mine))
        unit = np.maximum(np.mean([one.max(axis=0) for one in moved], axis=0) / LOUD, 1.0)
        return cls(
            alphabet,
            rules.fit(),
            unit,
            every.surprises(alphabet),
            Tail.fit((np.concatenate(moved) / unit).max(axis=1)),
            Tail.fit(np.concatenate(met).max(axis=1)),
        )

    # -- saved

    def to_dict(self) -> dict[str, Any]:
        """Everything as arrays by name."""
        parts = (("rows_", self.alphabet), ("rules_", self.rules), ("states_", self.surprises))
        found: dict[str, Any] = {"unit": self.unit}
        for prefix, part in parts:
            for name in type(part).__slots__:
                found[prefix + name] = np.ascontiguousarray(getattr(part, name))
        return found | {n: getattr(self, n).to_array() for n in ("changes", "states")}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> ChangeModel:
        """The law that `to_dict` describes."""

        def part(prefix: str, names: tuple[str, ...]) -> list[NDArray[Any]]:
            return [np.asarray(facts[prefix + name]) for name in names]

        return cls(
            Alphabet(*part("rows_", Alphabet.__slots__)),
            RuleLists(*part("rules_", RuleLists.__slots__)),
            np.asarray(facts["unit"]),
            StateSurprises(*part("states_", StateSurprises.__slots__)),
            *(
                Tail(*np.asarray(facts[name], np.float64).tolist())
                for name in ("changes", "states")
            ),
        )


@dataclass(frozen=True, slots=True)
class ChangeRun:
    """What n rows of C discrete channels are told.

    channel (C,): which of the rows' channels they are. changed, not_changed, state (n, C): the
    surprise of their changes, of changes that did not come, and of their states. score (n, C):
    above 1 where one of these is news, else 0. kind (n, C): a code of `KINDS` there, else 0.
    """

    channel: Ints
    changed: Floats
    not_changed: Floats
    state: Floats
    score: NDArray[np.float32]
    kind: NDArray[np.int8]


class ChangeStream:
    """The law over one series that is pushed in pieces.

    rate: the promise, a share of normal rows in which something is news; half of it for changes,
    half for states. What a channel does is news for 64 rows, and again after 512 rows without.
    """

    def __init__(self, model: ChangeModel, *, rate: float) -> None:
        self._model, self._level = model, -float(np.log(rate / 2))
        # What is no rarer than the start of the tail is not looked for.
        self._surprises = model.surprises.above(model.states.start)
        self._walk = Walk(model.alphabet)
        self._needs = model.rules.needs(model.alphabet.sources, len(model.alphabet.gap))
        channels = len(model.alphabet.channel)
        self._state: Arrays = {
            "held": np.zeros((WIDTHS[-1] - 1, 3, channels)),
            "heard": np.full(channels, LONG_AGO),  # rows since it last had something to say
            "began": np.full(channels, LONG_AGO),  # and since that was news
        }

    def push(self, values: Floats, observed: Flags) -> ChangeRun:
        """The next rows: values and observed (n, K)."""
        channel = self._model.alphabet.channel
        shape = (len(values), len(channel))
        blank = [np.zeros(shape) for _ in range(3)]
        score, kind = np.zeros(shape, np.float32), np.zeros(shape, np.int8)
        run = ChangeRun(channel, blank[0], blank[1], blank[2], score, kind)
        for start in range(0, len(values), CHUNK):
            rows = slice(start, start + CHUNK)
            self._piece(self._walk.push(values[rows], observed[rows]), run, rows)
        return run

    def _piece(self, step: Step, run: ChangeRun, rows: slice) -> None:
        """Fill in some rows of a run."""
        model, state = self._model, self._state
        more, missed, state["held"] = _unexplained(step, model.rules, self._needs, state["held"])
        met = self._surprises.of(model.alphabet, step)
        told = np.stack(
            [
                model.changes.surprise(more / model.unit),
                model.changes.surprise(missed / model.unit),
                model.states.surprise(met),
            ]
        )
        run.changed[rows], run.not_changed[rows], run.state[rows] = told
        score = told.max(axis=0) / self._level
        news = self._news(score > 1.0)
        run.score[rows] = np.where(news, score, 0.0)
        run.kind[rows] = np.where(news, CODES[told.argmax(axis=0)], 0)

    def _news(self, loud: Flags) -> Flags:
        """Which of the rows that have something to say (n, C) are news."""
        state = self._state
        heard = rows_since(loud, state["heard"])
        before = np.concatenate([state["heard"][None], heard[:-1]])
        began = rows_since(loud & (before >= QUIET), state["began"])
        state["heard"], state["began"] = heard[-1].copy(), began[-1].copy()
        return np.asarray(loud & (began < NEWS))

    def to_state(self) -> State:
        """What is unexplained of the last rows, and when each channel was news."""
        return State("changes", arrays=dict(self._state), parts={"walk": self._walk.to_state()})

    @classmethod
    def from_state(cls, state: State, like: ChangeStream) -> ChangeStream:
        """Go on from a state, also under another rate; see `saved_state`. Raises ModelError."""
        stream = copy(like)
        stream._walk = Walk.from_state(state.check("changes").part("walk"), like._walk)
        stream._state = state.like(like._state)
        return stream
