"""How long each channel may be absent before it is news, under a promise of false alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import ConfigError, DataError, ModelError
from imdiffusion.scoring.absence_fit import Habits, SetAside, learn
from imdiffusion.scoring.budget import RATES
from imdiffusion.scoring.quiet import RangeTail
from imdiffusion.scoring.run_tail import RunTail

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
