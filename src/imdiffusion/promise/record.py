"""What a fit promises, and what its rows say of that: kept with a model, small whatever its rows.

A model keeps critical rates (`scoring.joining`) of those training rows that come into alarm
first: they say how any promise was kept, also after `set_alarm_rate`. Beside them, how many rows
there were, in all, in each hour of the day and in each part of the training; and what the fit set
aside. `promise.report` has what is reported of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Singles
from imdiffusion.data.calendar import Calendar
from imdiffusion.durations import DAY_NS, HOUR_NS

MOST_ROWS = 10_000  # critical rates that are kept: 150 kB
MOST_RATE = 0.5  # that a promise may have
LEAST_PART = 64  # rows that a part of the training has at least, of which one is the worst
PARTS = 20  # of the training, where it has no days
MOST_PARTS = 400  # days
LEAST_DAYS = 5  # from which on a part is a day
LEAST_HOURS = 2  # days that one hour of the day is compared over
HOURS = 24
PREFIX = "promise_"
_INTS = ("row", "edges", "edge_times", "scored", "hour_rows")
_FACTS = ("rows", "least", "held", "held_rows", "held_time", "checks_rate", "reason")


class LeftOut(NamedTuple):
    """Something that a fit did not learn from. row: its first in the training; rows: how many."""

    channel: str
    row: int
    time_ns: int | None
    rows: int
    value: float | None
    why: str


@dataclass(frozen=True, slots=True)
class FitNotes:
    """What a fit found in its rows and did not learn, or not as others: for people, not scores.

    aside: absurd values and stretches taken for faults, the first `MOST` of each; absurd: how many
    values were absurd. constant, empty: channels that never moved, or had no value.
    """

    aside: tuple[LeftOut, ...] = ()
    absurd: int = 0
    constant: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return {
            "aside": [list(part) for part in self.aside],
            "absurd": self.absurd,
            "constant": list(self.constant),
            "empty": list(self.empty),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> FitNotes:
        """What `to_dict` gave."""
        return cls(
            tuple(LeftOut(*part) for part in facts["aside"]),
            int(facts["absurd"]),
            tuple(facts["constant"]),
            tuple(facts["empty"]),
        )


@dataclass(frozen=True, slots=True)
class PromiseRecord:
    """Critical rates of training rows.

    row, rate, hour (m,): position in the training of each kept row, ascending; its critical rate;
    its local hour, -1 without times. rows: how many of all rows have a score. least: up to this
    rate every row is kept. held: the first of the rows that are judged by others alone, of
    which `held_rows` have a score; held_time: ns, None without times. edges, scored: of the parts
    of the training, and rows with a score in each; edge_times in ns, empty without times.
    hour_rows (24,): rows with a score by local hour, empty without times or two days of them.
    checks_rate: the promise under which the checks beside the views were run; None: there are none.
    reason: why nothing is known of what was achieved.
    """

    row: Ints
    rate: Singles
    hour: NDArray[np.int8]
    edges: Ints
    edge_times: Ints
    scored: Ints
    hour_rows: Ints
    rows: int
    least: float
    held: int
    held_rows: int
    held_time: int | None = None
    checks_rate: float | None = None
    reason: str = ""

    @classmethod
    def of(
        cls,
        rates: Floats,
        times: Ints | None,
        *,
        held: int,
        timezone: str = "UTC",
        first: int = 0,
        checks_rate: float | None = None,
        reason: str = "",
    ) -> PromiseRecord:
        """From critical rates (n,) of the training rows from `first` on, NaN = no score.

        times (T,): ns since 1970 of all training rows, None = there are none.
        """
        all_rates = np.concatenate([np.full(first, np.nan), rates])
        scored = np.isfinite(all_rates) | np.isposinf(all_rates)
        known = np.flatnonzero(scored & (all_rates <= MOST_RATE))
        least = MOST_RATE
        if len(known) > MOST_ROWS:
            order = np.argsort(all_rates[known], kind="stable")[:MOST_ROWS]
            least = float(all_rates[known[order[-1]]])
            known = np.sort(known[order])
        edges = _edges(len(all_rates), times)
        hours = None if times is None else _local_hours(times, timezone)
        hour_rows = np.empty(0, np.int64)
        if times is not None and hours is not None and _span(times) >= LEAST_HOURS * DAY_NS:
            hour_rows = np.bincount(hours[scored], minlength=HOURS).astype(np.int64)
        return cls(
            known.astype(np.int64),
            all_rates[known].astype(np.float32),
            (np.full(len(known), -1) if hours is None else hours[known]).astype(np.int8),
            edges,
            np.empty(0, np.int64) if times is None else _times_at(times, edges),
            np.add.reduceat(scored.astype(np.int64), edges[:-1]),
            hour_rows,
            int(scored.sum()),
            least,
            held,
            int(scored[held:].sum()),
            int(times[held]) if times is not None and held < len(times) else None,
            checks_rate,
            reason,
        )

    def alarm(self, rate: float) -> Flags:
        """Which of the kept rows (m,) are in alarm under a promise."""
        return np.asarray(self.rate <= np.float32(rate))

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts, under names that begin with `PREFIX`."""
        facts: dict[str, Any] = {f"{PREFIX}{name}": getattr(self, name) for name in _INTS}
        facts |= {f"{PREFIX}rate": self.rate, f"{PREFIX}hour": self.hour}
        facts[f"{PREFIX}facts"] = {name: getattr(self, name) for name in _FACTS}
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> PromiseRecord | None:
        """What `to_dict` gave; None of a model that keeps none."""
        plain = facts.get(f"{PREFIX}facts")
        if plain is None:
            return None
        given: dict[str, Any] = {
            name: np.asarray(facts[f"{PREFIX}{name}"], np.int64) for name in _INTS
        }
        given["rate"] = np.asarray(facts[f"{PREFIX}rate"], np.float32)
        given["hour"] = np.asarray(facts[f"{PREFIX}hour"], np.int8)
        return cls(**given, **plain)


def less_promise(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of an entity without what is kept of its training rows."""
    return {name: value for name, value in facts.items() if not name.startswith(PREFIX)}


def _step(times: Ints) -> int:
    return int(np.median(np.diff(times))) if len(times) > 1 else 0


def _span(times: Ints) -> int:
    return int(times[-1] - times[0]) + _step(times) if len(times) else 0


def _edges(count: int, times: Ints | None) -> Ints:
    """Edges of the parts of training: its days (from its first row on) or a twentieth each."""
    step = 0 if times is None else _step(times)
    parts = min(PARTS, count // LEAST_PART)
    if times is not None and step > 0:
        days = -(-_span(times) // DAY_NS)
        if LEAST_DAYS <= days <= MOST_PARTS and DAY_NS // step >= LEAST_PART:
            edges = np.searchsorted(times, times[0] + DAY_NS * np.arange(days))
            return np.unique(np.append(edges, count)).astype(np.int64)
    return np.linspace(0, count, max(1, parts) + 1).astype(np.int64)


def _times_at(times: Ints, edges: Ints) -> Ints:
    """Time of each edge; of the last, a step after the last row."""
    inner: Ints = times[np.minimum(edges, len(times) - 1)]
    inner[-1] += _step(times)
    return inner


def _local_hours(times: Ints, timezone: str) -> Ints:
    _, since = Calendar(timezone).days(times.view("datetime64[ns]"))
    return np.asarray(since // HOUR_NS, np.int64)
