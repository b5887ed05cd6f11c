"""Absence is news: a channel that stops coming, freezes, goes quiet, or leaves its only value.

Each verdict needs only the rows up to its own, so scores online and offline agree, and
what is kept between rows does not grow with their number.

The promise: of rows like those of training, a share of `alarm_rate` at most is news. The kinds
missing, frozen, quiet and left constant, and "all channels missing", have a fifth of it each, which
is divided over the channels that ever had a value. Run lengths are taken to have no memory beyond
what training shows; where gaps have a heavier tail (lognormal), two to four times the promise was
measured. Leaving a constant stands outside where it never happened in training: of a channel that
had one value in n rows nothing more is known than that it leaves in about 1 / n of them, and one
row of it is news at every rate. Where it happened now and then, staying away for longer is news.

Not seen: a channel that comes ever more rarely without one long gap; a still channel whose usual
runs are as long as the fault; quiet channels of fewer than 50 distinct values, or that rest at one
value for 32 values in training, for these are often as good as still by nature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints
from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.saved_state import State
from imdiffusion.scoring import quiet
from imdiffusion.scoring.absence_fit import (
    FROZEN,
    LEFT_CONSTANT,
    MISSING,
    NOTHING,
    QUIET,
    Habits,
    SetAside,
    learn,
)
from imdiffusion.scoring.constant import elsewhere
from imdiffusion.scoring.quiet import RangeTail
from imdiffusion.scoring.tail import LONG_AGO, RunTail, count_since, last_known, rows_since
from imdiffusion.scoring.threshold import RATES

# Kinds that share the alarm rate: missing, frozen, quiet, left, all channels missing.
PARTS = 5
_TAILS = ("left", "missing", "frozen", "resting", "all_missing")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class AbsenceModel:
    """How long each of K channels may be missing, still or quiet before it is news.

    habits: what training rows say. alarm_rate: share of normal rows that may be news. missing,
    frozen, resting (K,): the most rows in a row that are no news; quiet (K,): the smallest range
    of 32 values, as its -log; left: rows
    away from a constant value; all_missing: rows without any value.
    """

    habits: Habits
    alarm_rate: float
    missing: Floats
    frozen: Floats
    resting: Floats
    quiet: Floats
    left: Floats
    all_missing: float

    @classmethod
    def fit(cls, values: Floats, observed: Flags, *, alarm_rate: float) -> AbsenceModel:
        """Learn from normal rows: values (T, K) in the caller's units, observed (T, K) bool.

        A value that is NaN or infinite counts as missing. A few faults among the rows teach
        nothing; `set_aside` has them. DataError for shapes that do not fit; ConfigError for a rate
        that is none.

        >>> rows = np.random.default_rng(0).normal(size=(3000, 2))
        >>> model = AbsenceModel.fit(rows, np.isfinite(rows), alarm_rate=0.001)
        >>> model.frozen.tolist()
        [5.0, 5.0]
        """
        _check_rate(alarm_rate)
        values, observed = checked(values, observed, None)
        if not len(values):
            raise DataError("there are no rows to learn absence from", remedy="Pass normal rows.")
        habits = learn(values, observed)
        return _promised(habits, alarm_rate)

    def with_alarm_rate(self, rate: float) -> AbsenceModel:
        """The same habits under another promise; ConfigError for a rate that is none."""
        _check_rate(rate)
        return _promised(self.habits, rate)

    @property
    def channels(self) -> int:
        """How many channels it knows."""
        return len(self.habits.live)

    @property
    def set_aside(self) -> list[tuple[int, int, float]]:
        """(row, channel, value) where each training stretch that was set aside begins.

        The value is NaN where the channel was missing. `habits.set_aside` has lengths and kinds.
        """
        return [(one.row, one.channel, one.value) for one in self.habits.set_aside]

    def to_dict(self) -> dict[str, Any]:
        """Arrays, and the facts that JSON can say, of which `from_dict` makes the same model."""
        habits = self.habits
        aside = [list(one) for one in habits.set_aside]
        return {
            "format": _FORMAT,
            "alarm_rate": self.alarm_rate,
            "live": habits.live,
            "constant": habits.constant,
            "rest": habits.rest,
            **{name: getattr(habits, name).to_array() for name in _TAILS},
            "quiet": habits.quiet.to_array(),
            "set_aside": np.array(aside, np.float64).reshape(-1, len(SetAside._fields)),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> AbsenceModel:
        """What `to_dict` gave; ModelError where something of it is absent or of a newer format."""
        if facts.get("format") != _FORMAT:
            raise ModelError(
                f"the facts about absence have format {facts.get('format')!r}, not {_FORMAT}",
                remedy="Fit the detector again, or use the version that wrote them.",
            )
        try:
            habits = Habits(
                live=np.array(facts["live"], bool),
                constant=np.array(facts["constant"], np.float64),
                rest=np.array(facts["rest"], np.float64),
                quiet=RangeTail.from_array(facts["quiet"]),
                set_aside=tuple(_set_aside(row) for row in np.asarray(facts["set_aside"])),
                **{name: RunTail.from_array(facts[name]) for name in _TAILS},
            )
            rate = float(facts["alarm_rate"])
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"the facts about absence are incomplete: {error}",
                remedy="Fit the detector again.",
            ) from error
        return _promised(habits, rate)


def _set_aside(row: Floats) -> SetAside:
    first, channel, value, rows, kind = row.tolist()
    return SetAside(int(first), int(channel), value, int(rows), int(kind))


def _promised(habits: Habits, rate: float) -> AbsenceModel:
    """Limits for a promise: its parts, over the channels; a resting value takes half of its own."""
    each = rate / PARTS / max(int(habits.live.sum()), 1)
    rests = np.isfinite(habits.rest)
    frozen = np.where(rests, habits.frozen.limit(each / 2), habits.frozen.limit(each))
    return AbsenceModel(
        habits,
        float(rate),
        missing=habits.missing.limit(each),
        frozen=frozen,
        resting=habits.resting.limit(each / 2),
        quiet=habits.quiet.limit(each),
        left=habits.left.limit(each),
        all_missing=float(habits.all_missing.limit(rate / PARTS)[0]),
    )


def _check_rate(rate: float) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise ConfigError(
            f"alarm_rate is {rate}, which is no share of rows between {RATES[0]} and {RATES[1]}",
            remedy="Pass, for example, alarm_rate=0.001.",
        )


def checked(values: Floats, observed: Flags, channels: int | None) -> tuple[Floats, Flags]:
    """Both as arrays (n, K) of the right kind; what is not finite is not observed."""
    values, observed = np.asarray(values, np.float64), np.asarray(observed, bool)
    wanted = values.shape[1] if channels is None and values.ndim == 2 else channels
    if values.ndim != 2 or values.shape != observed.shape or values.shape[1] != wanted:
        asked = "(rows, channels)" if wanted is None else f"(rows, {wanted})"
        raise DataError(
            f"values have shape {values.shape} and observed has {observed.shape}, not {asked}",
            remedy="Pass both with one column for each channel of the training rows.",
        )
    return values, observed & np.isfinite(values)


# -- rows in, absence out: what each row of each channel is told, from the rows up to it alone

# Points that are looked at together: what the processor's cache holds. At least so many rows, as
# the window of 32 values is looked at again with each piece.
CHUNK_POINTS, CHUNK_ROWS = 12_000, 128
_LEAST_RATIO = 1e-30  # of a range to the usual one: below it float32 ends


@dataclass(frozen=True, slots=True)
class AbsenceRun:
    """What n rows of K channels are told.

    score (n, K) float32: above 1 where absence is news, 0 where there is nothing to say; a run of
    rows has its length over the longest that is no news (of a frozen channel, the repeats), a quiet
    channel the log of how far its range fell over the log of how far it may, a constant that was
    left 1 + log2(1 + values elsewhere) (their number over the most that is none, where it
    leaves by habit). kind (n, K) int8: a code of `KINDS` where the score is
    above 1, else 0. since (n, K) int64: how many rows ago that began, so it began at row
    `index - since`; 0 where there is no kind; of `QUIET` it is at least so many. all_missing,
    all_since (n,): the same for rows without any value.
    """

    score: NDArray[np.float32]
    kind: NDArray[np.int8]
    since: Ints
    all_missing: NDArray[np.float32]
    all_since: Ints


class AbsenceMonitor:
    """Consecutive rows in, in pieces of any size; what they are told depends on the rows alone."""

    def __init__(self, model: AbsenceModel) -> None:
        self._model = model
        habits, channels = model.habits, model.channels
        self._quiet = np.flatnonzero(np.isfinite(habits.quiet.usual))
        self._constant = np.flatnonzero(np.isfinite(habits.constant))
        self._rests = bool(np.isfinite(habits.rest).any())
        self._per_repeat = 1.0 / (model.frozen - 1.0)
        self._per_rest = 1.0 / (model.resting - 1.0)
        self._per_gap = np.where(habits.live, 1.0 / model.missing, 0.0)
        usual = habits.quiet.usual[self._quiet]
        self._per_range = np.exp(usual)
        self._per_fall = (1.0 / (usual - model.quiet[self._quiet])).astype(np.float32)
        self._state: dict[str, NDArray[Any]] = {
            "missing": np.zeros(channels, np.int64),
            "repeats": np.zeros(channels, np.int64),
            "repeating": np.full(channels, LONG_AGO),
            "last": np.full(channels, np.nan),
            "window": np.full((quiet.WIDTH - 1, len(self._quiet)), np.nan),
            "quiet": np.zeros(len(self._quiet), np.int64),
            "quiet_since": np.full(len(self._quiet), LONG_AGO),
            "thawed": np.full(len(self._quiet), LONG_AGO),
            "left": np.zeros(len(self._constant), np.int64),
            "left_since": np.full(len(self._constant), LONG_AGO),
            "all_missing": np.zeros(1, np.int64),
        }

    @property
    def live(self) -> Flags:
        """Channels (K,) that ever had a value in training."""
        return self._model.habits.live

    def to_state(self) -> State:
        """Arrays (K,) and the last 31 values, however many rows it saw."""
        return State("absence", arrays={name: one.copy() for name, one in self._state.items()})

    @classmethod
    def from_state(cls, state: State, like: AbsenceMonitor) -> AbsenceMonitor:
        """Go on from a state, also of one under another alarm rate; see `saved_state`. Raises
        ModelError.
        """
        monitor = cls(like._model)
        monitor._state = state.check("absence").like(monitor._state)
        return monitor

    def push(self, values: Floats, observed: Flags) -> AbsenceRun:
        """The next rows: values (n, K), observed (n, K) bool; DataError for other shapes."""
        values, observed = checked(values, observed, self._model.channels)
        run = _empty(*values.shape)
        step = max(CHUNK_ROWS, CHUNK_POINTS // max(values.shape[1], 1))
        for start in range(0, len(values), step):
            self._piece(values, observed, run, slice(start, start + step))
        return run

    def _piece(self, values: Floats, observed: Flags, run: AbsenceRun, rows: slice) -> None:
        values, observed = values[rows], observed[rows]
        score, kind, since = run.score[rows], run.kind[rows], run.since[rows]
        self._frozen_rows(values, observed, score, since)
        self._missing_rows(observed, score, kind, since, run, rows)
        self._quiet_rows(values, observed, score, kind, since)
        self._constant_rows(values, observed, score, kind, since)
        np.multiply(since, kind > NOTHING, out=since)

    def _frozen_rows(
        self, values: Floats, observed: Flags, score: NDArray[np.float32], since: Ints
    ) -> None:
        """Score and since of every observed value, as a repeat of the one before."""
        state = self._state
        before, state["last"] = last_known(values, observed, state["last"])
        changed = observed & (values != before)
        repeats = count_since(observed, changed, state["repeats"])
        since[:] = rows_since(changed, state["repeating"])
        state["repeats"], state["repeating"] = repeats[-1], since[-1].copy()
        per = self._per_repeat
        if self._rests:
            per = np.where(values == self._model.habits.rest, self._per_rest, per)
        score[:] = (repeats - 1) * per

    def _missing_rows(
        self,
        observed: Flags,
        score: NDArray[np.float32],
        kind: NDArray[np.int8],
        since: Ints,
        run: AbsenceRun,
        rows: slice,
    ) -> None:
        """Score and since of missing values; which of both kinds is news; rows without a value."""
        state, model = self._state, self._model
        if observed.all():
            state["missing"] = np.zeros_like(state["missing"])
            state["all_missing"] = np.zeros_like(state["all_missing"])
            np.multiply(score > 1.0, np.int8(FROZEN), out=kind)
            return
        missing = rows_since(observed, state["missing"])
        state["missing"] = missing[-1]
        np.copyto(score, missing * self._per_gap, where=~observed, casting="same_kind")
        np.copyto(since, missing - 1, where=~observed)
        np.multiply(score > 1.0, np.where(observed, FROZEN, MISSING), out=kind, casting="unsafe")
        if model.habits.live.any():
            present: Flags = np.logical_or.reduce(observed[:, model.habits.live], axis=1)
            whole = rows_since(present[:, None], state["all_missing"])
            state["all_missing"] = whole[-1]
            run.all_missing[rows] = whole[:, 0] / model.all_missing
            news = run.all_missing[rows] > 1.0
            run.all_since[rows] = np.where(news, whole[:, 0] - 1, 0)

    def _quiet_rows(
        self,
        values: Floats,
        observed: Flags,
        score: NDArray[np.float32],
        kind: NDArray[np.int8],
        since: Ints,
    ) -> None:
        """Raise score, kind and since where a channel hardly moved over its last values."""
        if not len(self._quiet):
            return
        own, state = self._quiet, self._state
        all_own = len(own) == values.shape[1]
        seen: Flags = observed if all_own else observed[:, own]
        ratio = self._ranges(values if all_own else values[:, own], seen) * self._per_range
        # A channel that did not move at all is frozen, not quiet; NaN compares as False.
        known = ratio > 0.0
        small = np.where(known, np.maximum(ratio, _LEAST_RATIO), 1.0).astype(np.float32)
        still = np.maximum(np.log(small) * self._per_fall, np.float32(0.0))
        judged = seen & self._thawed(seen, kind[:, own] == FROZEN)
        score[:, own] = np.maximum(score[:, own], np.where(judged, still, np.float32(0.0)))
        news = judged & (still > 1.0)
        if not news.any():
            state["quiet"] = np.where(seen.any(axis=0), 0, state["quiet"])
            state["quiet_since"] = state["quiet_since"] + len(values)
            return
        count = count_since(news, seen & ~news, state["quiet"])
        began = rows_since(news & (count == 1), state["quiet_since"])
        state["quiet"], state["quiet_since"] = count[-1], began[-1]
        louder = news & (still >= score[:, own])
        kind[:, own] = np.where(louder, QUIET, kind[:, own])
        since[:, own] = np.where(louder, began + quiet.WIDTH - 1, since[:, own])

    def _thawed(self, seen: Flags, frozen: Flags) -> Flags:
        """Whether no value of the last 32 was frozen: those that were say nothing of variance."""
        state = self._state
        if not frozen.any() and (state["thawed"] >= quiet.WIDTH).all():
            return seen
        count = count_since(seen & ~frozen, frozen, state["thawed"])
        state["thawed"] = count[-1]
        thawed: Flags = count >= quiet.WIDTH
        return thawed

    def _ranges(self, values: Floats, seen: Flags) -> Floats:
        """The range of the last 32 values of each channel as of each row, NaN where unknown."""
        window = self._state["window"]
        count = seen.sum(axis=0)
        if (count == len(values)).all():
            joined = np.concatenate([window, values])
            self._state["window"] = joined[1 - quiet.WIDTH :].copy()
            return quiet.ranges(joined)
        moved = np.full(values.shape, np.nan)
        if (count % len(values) == 0).all():  # as of one row: each channel is there or is not
            whole = np.flatnonzero(count)
            joined = np.concatenate([window[:, whole], values[:, whole]])
            moved[:, whole] = quiet.ranges(joined)
            window[:, whole] = joined[1 - quiet.WIDTH :]
            return moved
        # The observed values of each channel moved together, and their ranges moved back.
        rows, channels = np.nonzero(seen)
        place = np.cumsum(seen, axis=0)[rows, channels] - 1
        joined = np.full((len(window) + len(values), values.shape[1]), np.nan)
        joined[: len(window)] = window
        joined[place + len(window), channels] = values[rows, channels]
        moved[rows, channels] = quiet.ranges(joined)[place, channels]
        last = count + np.arange(len(window))[:, None]
        self._state["window"] = np.take_along_axis(joined, last, axis=0)
        return moved

    def _constant_rows(
        self,
        values: Floats,
        observed: Flags,
        score: NDArray[np.float32],
        kind: NDArray[np.int8],
        since: Ints,
    ) -> None:
        """Set score, kind and since where a channel has left the only value it ever had."""
        if not len(self._constant):
            return
        own, state = self._constant, self._state
        seen: Flags = observed[:, own]
        left = seen & elsewhere(values[:, own], self._model.habits.constant[own])
        if not left.any():
            state["left"] = np.where(seen.any(axis=0), 0, state["left"])
            state["left_since"] = state["left_since"] + len(values)
            return
        count = count_since(left, seen & ~left, state["left"])
        began = rows_since(left & (count == 1), state["left_since"])
        state["left"], state["left_since"] = count[-1], began[-1]
        limit = self._model.left[own]
        long = np.where(limit < 1.0, 1.0 + np.log2(1.0 + count), count / np.maximum(limit, 1.0))
        score[:, own] = np.where(left, long, score[:, own])
        kind[:, own] = np.where(left & (score[:, own] > 1.0), LEFT_CONSTANT, kind[:, own])
        since[:, own] = np.where(left, began, since[:, own])


def _empty(rows: int, channels: int) -> AbsenceRun:
    return AbsenceRun(
        np.zeros((rows, channels), np.float32),
        np.zeros((rows, channels), np.int8),
        np.zeros((rows, channels), np.int64),
        np.zeros(rows, np.float32),
        np.zeros(rows, np.int64),
    )
