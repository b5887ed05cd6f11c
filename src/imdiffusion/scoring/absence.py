"""Absence is news: a channel that stops coming, freezes, goes quiet, or leaves its only value.

Each verdict needs only the rows up to its own, so scores at arrival and in hindsight agree, and
what is kept between rows does not grow with their number.

The promise: of rows like those of training, a share of `alarm_rate` at most is news. Missing,
frozen, quiet and "all channels missing" have a quarter of it each, which is divided over the
channels. Leaving a constant stands outside: of a channel that had one value in n rows nothing more
is known than that it leaves in about 1 / n of them, and one row of it is news at every rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.scoring import quiet
from imdiffusion.scoring.absence_fit import Habits, SetAside, learn
from imdiffusion.scoring.budget import RATES
from imdiffusion.scoring.constant import elsewhere
from imdiffusion.scoring.quiet import RangeTail
from imdiffusion.scoring.run_length import LONG_AGO, count_since, last_known, rows_since
from imdiffusion.scoring.run_tail import RunTail

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NOTHING, MISSING, FROZEN, QUIET, LEFT_CONSTANT = range(5)
# Name and words of every kind, by its code.
KINDS: dict[int, tuple[str, str]] = {
    NOTHING: ("nothing", "nothing"),
    MISSING: ("missing", "missing for"),
    FROZEN: ("frozen", "frozen at one value for"),
    QUIET: ("quiet", "far quieter than normal for"),
    LEFT_CONSTANT: ("left_constant", "away from its constant value for"),
}
PARTS = 4  # kinds that share the alarm rate: missing, frozen, quiet, all channels missing
CHUNK_ROWS = 2048  # looked at together: what the processor's cache holds
_TAILS = ("missing", "frozen", "resting", "all_missing")
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class AbsenceModel:
    """How long each of K channels may be missing, still or quiet before it is news.

    habits: what training rows say. alarm_rate: share of normal rows that may be news. missing,
    frozen, resting (K,): the most rows in a row that are no news; quiet (K,): the smallest range
    of 32 values, as its -log; all_missing: rows without any value.
    """

    habits: Habits
    alarm_rate: float
    missing: Floats
    frozen: Floats
    resting: Floats
    quiet: Floats
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
        values, observed = _checked(values, observed, None)
        if not len(values):
            raise DataError("there are no rows to learn absence from", remedy="Pass normal rows.")
        habits = learn(values, observed, (MISSING, FROZEN, QUIET, LEFT_CONSTANT))
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
    """Limits for a promise: its parts, divided over the channels; a resting value halves its own."""
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
        all_missing=float(habits.all_missing.limit(rate / PARTS)[0]),
    )


@dataclass(frozen=True, slots=True)
class AbsenceRun:
    """What n rows of K channels are told.

    score (n, K) float32: above 1 where absence is news, 0 where there is nothing to say; a run of
    rows has its length over the longest that is no news, a quiet channel the log of how far its
    range fell over the log of how far it may, a constant that was left 1 + log2(1 + rows).
    kind (n, K) int8: a code of `KINDS` where the score is above 1, else 0. since (n, K) int64: how
    many rows ago that began, so it began at row `index - since`; 0 where there is no kind; for
    `QUIET` it is at least so many. all_missing, all_since (n,): the same for rows without a value.
    """

    score: NDArray[np.float32]
    kind: NDArray[np.int8]
    since: Ints
    all_missing: NDArray[np.float32]
    all_since: Ints


class AbsenceMonitor:
    """Rows in, absence out: consecutive rows, in pieces of any size."""

    def __init__(self, model: AbsenceModel) -> None:
        self._model = model
        channels = model.channels
        self._quiet = np.flatnonzero(np.isfinite(model.habits.quiet.usual))
        self._constant = np.flatnonzero(np.isfinite(model.habits.constant))
        self._state: dict[str, NDArray[Any]] = {
            "missing": np.zeros(channels, np.int64),
            "repeats": np.zeros(channels, np.int64),
            "repeating": np.full(channels, LONG_AGO),
            "last": np.full(channels, np.nan),
            "window": np.full((quiet.WIDTH - 1, len(self._quiet)), np.nan),
            "quiet": np.zeros(len(self._quiet), np.int64),
            "quiet_since": np.full(len(self._quiet), LONG_AGO),
            "left": np.zeros(len(self._constant), np.int64),
            "left_since": np.full(len(self._constant), LONG_AGO),
            "all_missing": np.zeros(1, np.int64),
        }

    def state(self) -> dict[str, NDArray[Any]]:
        """What it goes on from: a few arrays of K, whatever the number of rows so far."""
        return {name: array.copy() for name, array in self._state.items()}

    def resume(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state` gave, also under another alarm rate; ModelError if it misfits."""
        fresh: dict[str, NDArray[Any]] = {}
        for name, own in self._state.items():
            given = arrays.get(name)
            if given is None or np.shape(given) != own.shape:
                raise ModelError(
                    f"the state of absence has {name!r} of shape {np.shape(given)}, "
                    f"where the model has {own.shape}",
                    remedy="Resume with the model that wrote the state.",
                )
            fresh[name] = np.array(given, own.dtype)
        self._state = fresh

    def push(self, values: Floats, observed: Flags) -> AbsenceRun:
        """The next rows: values (n, K), observed (n, K) bool; DataError for other shapes."""
        values, observed = _checked(values, observed, self._model.channels)
        run = _empty(*values.shape)
        for start in range(0, len(values), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            self._rows(values[rows], observed[rows], run, rows)
        return run

    def _rows(self, values: Floats, observed: Flags, run: AbsenceRun, rows: slice) -> None:
        state, model = self._state, self._model
        live = model.habits.live
        missing = rows_since(observed, state["missing"])
        before, state["last"] = last_known(values, observed, state["last"])
        changed = observed & (values != before)
        repeats = count_since(observed, changed, state["repeats"])
        repeating = rows_since(changed, state["repeating"])
        limit = np.where(values == model.habits.rest, model.resting, model.frozen)
        score = np.where(
            observed, (repeats - 1) / (limit - 1), np.where(live, missing / model.missing, 0.0)
        )
        kind = np.where(score > 1.0, np.where(observed, FROZEN, MISSING), NOTHING)
        since = np.where(observed, repeating, missing - 1)
        self._quiet_rows(values, observed, score, kind, since)
        self._constant_rows(values, observed, score, kind, since)
        run.score[rows] = score
        run.kind[rows] = kind
        run.since[rows] = np.where(kind > NOTHING, since, 0)
        whole = rows_since(observed[:, live].any(axis=1)[:, None], state["all_missing"])
        if not live.any():
            whole = np.zeros_like(whole)
        run.all_missing[rows] = whole[:, 0] / model.all_missing
        run.all_since[rows] = np.where(whole[:, 0] > model.all_missing, whole[:, 0] - 1, 0)
        for name, counted in (
            ("missing", missing),
            ("repeats", repeats),
            ("repeating", repeating),
            ("all_missing", whole),
        ):
            state[name] = counted[-1]

    def _quiet_rows(
        self, values: Floats, observed: Flags, score: Floats, kind: Ints, since: Ints
    ) -> None:
        """Raise score, kind and since where a channel hardly moved over its last values."""
        if not len(self._quiet):
            return
        own, state = self._quiet, self._state
        seen = observed[:, own]
        moved = self._ranges(values[:, own], seen)
        usual, least = self._model.habits.quiet.usual[own], self._model.quiet[own]
        known = moved > 0.0  # not at all is what `FROZEN` is for; NaN compares as False
        fallen = -np.log(np.where(known, moved, 1.0)) - usual
        still = np.where(known, np.maximum(fallen / (least - usual), 0.0), 0.0)
        news = seen & (still > 1.0)
        count = count_since(news, seen & ~news, state["quiet"])
        began = rows_since(news & (count == 1), state["quiet_since"])
        state["quiet"], state["quiet_since"] = count[-1], began[-1]
        louder = news & (still > score[:, own])
        score[:, own] = np.where(seen, np.maximum(score[:, own], still), score[:, own])
        kind[:, own] = np.where(louder, QUIET, kind[:, own])
        since[:, own] = np.where(louder, began + quiet.WIDTH - 1, since[:, own])

    def _ranges(self, values: Floats, seen: Flags) -> Floats:
        """The range of the last 32 values of each channel as of each row, NaN where unknown."""
        window = self._state["window"]
        moved = np.full(values.shape, np.nan)
        count = seen.sum(axis=0)
        whole = np.flatnonzero(count == len(values))
        if len(whole):
            joined = np.concatenate([window[:, whole], values[:, whole]])
            moved[:, whole] = quiet.ranges(joined)
            window[:, whole] = joined[1 - quiet.WIDTH :]
        for k in np.flatnonzero((count > 0) & (count < len(values))):
            joined = np.concatenate([window[:, k], values[seen[:, k], k]])[:, None]
            moved[seen[:, k], k] = quiet.ranges(joined)[:, 0]
            window[:, k] = joined[1 - quiet.WIDTH :, 0]
        return moved

    def _constant_rows(
        self, values: Floats, observed: Flags, score: Floats, kind: Ints, since: Ints
    ) -> None:
        """Set score, kind and since where a channel has left the only value it ever had."""
        if not len(self._constant):
            return
        own, state = self._constant, self._state
        seen = observed[:, own]
        left = seen & elsewhere(values[:, own], self._model.habits.constant[own])
        count = count_since(left, seen & ~left, state["left"])
        began = rows_since(left & (count == 1), state["left_since"])
        state["left"], state["left_since"] = count[-1], began[-1]
        score[:, own] = np.where(left, 1.0 + np.log2(1.0 + count), score[:, own])
        kind[:, own] = np.where(left, LEFT_CONSTANT, kind[:, own])
        since[:, own] = np.where(left, began, since[:, own])


def _empty(rows: int, channels: int) -> AbsenceRun:
    return AbsenceRun(
        np.zeros((rows, channels), np.float32),
        np.zeros((rows, channels), np.int8),
        np.zeros((rows, channels), np.int64),
        np.zeros(rows, np.float32),
        np.zeros(rows, np.int64),
    )


def _check_rate(rate: float) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise ConfigError(
            f"alarm_rate is {rate}, which is no share of rows between {RATES[0]} and {RATES[1]}",
            remedy="Pass, for example, alarm_rate=0.001.",
        )


def _checked(values: Floats, observed: Flags, channels: int | None) -> tuple[Floats, Flags]:
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


def describe(kind: int, since_rows: int, period: float | None) -> str:
    """Words for an event: what a channel is, and for how long as of a row of it.

    since_rows: `since` of that row. period: seconds from row to row, None where unknown.

    >>> describe(MISSING, 33, 60.0)
    'missing for 34 rows (34 min)'
    """
    rows = since_rows + 1
    text = f"{KINDS[kind][1]} {rows} row{'' if rows == 1 else 's'}"
    return text if period is None else f"{text} ({_span(rows * period)})"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
