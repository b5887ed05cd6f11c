"""Checks beside the views: absence, hours unusual for their time, and changes unlike the rest.

What they find no view can see: a channel that stops, freezes or leaves its only value, rows that
stop coming, a noon peak or a nightly batch that did not come, a flag that changes without its cause
or is in a state hardly ever seen with the others'. Each has its own share of the promise and lifts
a row above 1 on its own; a row is judged by the rows up to it alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Singles
from imdiffusion.data.windows import Rows
from imdiffusion.saved_state import State
from imdiffusion.scoring.absence import AbsenceModel, AbsenceMonitor
from imdiffusion.scoring.absence_fit import KINDS, MISSING, describe
from imdiffusion.scoring.changes import KINDS as CHANGED
from imdiffusion.scoring.changes import ChangeModel, ChangeStream
from imdiffusion.scoring.event import Finding
from imdiffusion.scoring.hours import HardHours, HourStream, HourTest
from imdiffusion.scoring.news import NewsFilter
from imdiffusion.scoring.scan import trailing_means
from imdiffusion.settings import Settings

RECENT = 64  # rows that say how many values are missing of late
# Of the promise; what is left of it the joins of the views have (`scoring.joining`).
ABSENCE_SHARE, HOURS_SHARE, CHANGES_SHARE = 0.15, 0.15, 0.05
HOURS = 16  # the code of an unusual hour among the kinds of absence
# Name and words of every kind that is no absence, by its code; {when}: what its time is.
FURTHER: dict[int, tuple[str, str]] = {
    HOURS: ("unusual_hour", "unusual {when}"),
    **CHANGED,
}


@dataclass(frozen=True, slots=True)
class CheckRun:
    """What n rows are told: score (n,), above 1 where a check has found something, and by channel
    the kind (n, K), a code of `scoring.absence.KINDS` or `FURTHER`, 0 where there is none, and
    since (n, K), how many rows before its own an absence began.
    """

    score: Singles
    kind: NDArray[np.int8]
    since: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class RowChecks:
    """The fitted checks. absence, hours, changes: None where the settings or the rows have none.

    reason: why there is no check of hours although one was asked for. hard: at what times of day
    scores are always higher, None where they are not.
    """

    absence: AbsenceModel | None = None
    hours: HourTest | None = None
    reason: str = ""
    changes: ChangeModel | None = None
    hard: HardHours | None = None

    @classmethod
    def fit(
        cls, rows: Rows, settings: Settings, *, rate: float
    ) -> tuple[RowChecks, Singles | None]:
        """The checks fitted on normal, scaled rows, and the course of these rows, (T, K) or None:
        as `course` gives it, but of each day from the other days. rate: the whole promise.

        Raises ConfigError for a time zone or country that is not known, MissingExtraError for a
        country without the package `holidays`.
        """
        values = rows.values.astype(np.float64)
        absence = hours = course = changes = None
        reason = ""
        if settings.absence:
            absence = AbsenceModel.fit(values, rows.observed, alarm_rate=rate * ABSENCE_SHARE)
        if settings.changes:
            changes = ChangeModel.fit(values, rows.observed)
        if settings.calendar == "auto":
            if rows.times is None or len(rows) < 2:
                reason = "the rows have no timestamps"
            else:
                hours, reason, usual = HourTest.fit(
                    rows.times,
                    values,
                    rows.observed,
                    timezone=settings.timezone,
                    country=settings.country or None,
                )
                if hours is not None:
                    course = np.nan_to_num(usual).astype(np.float32)
        return cls(absence, hours, reason, changes), course

    def course(self, rows: Rows) -> Singles | None:
        """What is usual at the time of each row (n, K), scaled; None where there is no calendar."""
        if self.hours is None or rows.times is None:
            return None
        expected = self.hours.profile.course(rows.times.view("datetime64[ns]"))
        return expected.astype(np.float32)

    def ease(self, rows: Rows) -> Singles:
        """What the join and the sparse evidence of rows are divided by, (n, 2); 1 at most times."""
        if self.hard is None or rows.times is None:
            return np.ones((len(rows), 2), np.float32)
        return self.hard.at(rows.times.view("datetime64[ns]")).astype(np.float32)

    def finding(
        self, code: int, since: int, *, time: np.datetime64 | None, period: float | None
    ) -> Finding:
        """What a code of `CheckRun` says of a channel at a row, with its name and in words.

        since: of that row. time: the row's, UTC. period: seconds from row to row; None = unknown.

        >>> RowChecks().finding(MISSING, 33, time=None, period=60.0).words
        'missing for 34 rows (34 min)'
        """
        if code in KINDS:
            return Finding(KINDS[code][0], describe(code, since, period), lasting=True)
        name, words = FURTHER[code]
        when = ""
        if "{when}" in words and self.hours is not None and time is not None:
            when = self.hours.profile.describe(time)
        return Finding(name, words.format(when=when or "for its time"))

    def at_rate(self, rate: float) -> RowChecks:
        """The same checks under another promise."""
        if self.absence is None:
            return self
        return replace(self, absence=self.absence.with_alarm_rate(rate * ABSENCE_SHARE))

    def to_dict(self) -> dict[str, Any]:
        """Arrays and JSON facts, under names that begin with `checks_`."""
        facts: dict[str, Any] = {"checks_reason": self.reason}
        if self.absence is not None:
            facts |= {f"checks_absence_{n}": v for n, v in self.absence.to_dict().items()}
        if self.hours is not None:
            facts |= {f"checks_{n}": v for n, v in self.hours.to_dict().items()}
        if self.hard is not None:
            facts |= {f"checks_hard_{n}": v for n, v in self.hard.to_dict().items()}
        if self.changes is not None:
            facts |= {f"checks_changes_{n}": v for n, v in self.changes.to_dict().items()}
        return facts

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> RowChecks:
        """The checks that `to_dict` describes."""
        prefix = "checks_"
        own = {n.removeprefix(prefix): v for n, v in facts.items() if n.startswith(prefix)}
        absence, changes, hard = (
            {n.removeprefix(name): v for n, v in own.items() if n.startswith(name)}
            for name in ("absence_", "changes_", "hard_")
        )
        return cls(
            AbsenceModel.from_dict(absence) if absence else None,
            HourTest.from_dict(own) if "hours_test_width" in own else None,
            str(own.get("reason", "")),
            ChangeModel.from_dict(changes) if changes else None,
            HardHours.from_dict(hard) if hard else None,
        )


def less_course(rows: Rows, course: Singles | None) -> Rows:
    """Rows less what is usual at their time."""
    if course is None:
        return rows
    left = np.where(rows.observed, rows.values - course, np.float32(0.0))
    return replace(rows, values=left)


class GapStream:
    """How long a gap must be to be none of those that come of values missing at random of late.

    Where a share q of the values of the last rows is missing, a channel misses r values in a row
    with probability q^r; of K channels one does so at the rate of a promise p where
    r = log(p / K) / log(q).
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.held = np.empty(0)  # the share that was missing in each of the last rows

    def push(self, observed: Flags) -> Floats:
        """The next rows: values (n,) that a channel must miss in a row to have stopped."""
        before = len(self.held)
        held = np.concatenate([self.held, 1.0 - observed.mean(axis=1)])
        means = trailing_means(held, (1, 4, 16, RECENT))[before:]
        share = means[:, 0]
        for wider in means.T[1:]:  # as far as there are rows
            share = np.where(np.isnan(wider), share, wider)
        self.held = held[max(0, len(held) - RECENT + 1) :].copy()
        share = np.clip(share, 1e-9, 1.0 - 1e-9)
        return np.asarray(np.log(self.rate / observed.shape[1]) / np.log(share))

    def to_state(self) -> State:
        """The shares of the last rows."""
        return State("gaps", arrays={"held": self.held})

    @classmethod
    def from_state(cls, state: State, like: GapStream) -> GapStream:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        stream = cls(like.rate)
        stream.held = state.check("gaps").array("held", np.float64)
        return stream


class CheckStream:
    """The checks over one series that is pushed in pieces, under a promise."""

    def __init__(self, checks: RowChecks, *, rate: float) -> None:
        self._gaps = GapStream(rate * ABSENCE_SHARE)
        self._monitor = self._news = None
        if checks.absence is not None:
            self._monitor = AbsenceMonitor(checks.absence)
            self._news = NewsFilter(checks.absence.channels)
        self._hours = None if checks.hours is None else HourStream(checks.hours)
        self._level = 1.0 if checks.hours is None else checks.hours.level(rate * HOURS_SHARE)
        self._changes = (
            None
            if checks.changes is None
            else ChangeStream(checks.changes, rate=rate * CHANGES_SHARE)
        )

    def push(self, rows: Rows) -> CheckRun:
        """The next rows."""
        score = np.zeros(len(rows), np.float32)
        kind = np.zeros(rows.values.shape, np.int8)
        since = np.zeros(rows.values.shape, np.int32)
        values = rows.values.astype(np.float64)
        if self._monitor is not None and self._news is not None:
            run = self._monitor.push(values, rows.observed)
            gone, nothing = run.kind == MISSING, run.all_missing > 1.0
            stopped = gone & (run.since + 1 >= self._gaps.push(rows.observed)[:, None])
            news = stopped | self._news.push(np.where(gone, np.int8(0), run.kind), run.since)
            news |= gone & nothing[:, None]
            np.maximum(score, run.all_missing, out=score)
            if news.any() or nothing.any():
                kind[:] = np.where(news, run.kind, np.int8(0))
                since[:] = np.where(news, run.since, 0)
                np.maximum(score, np.where(news, run.score, 0.0).max(axis=1), out=score)
                # Rows without any value are about every channel, also where its own gap is no
                # news yet.
                silent = nothing[:, None] & self._monitor.live & (kind == 0)
                kind[silent] = MISSING
                since[:] = np.where(silent, run.all_since[:, None], since)
        if self._hours is not None and rows.times is not None:
            size, far = self._hours.push(rows.times, values, rows.observed)
            unusual = np.nan_to_num(size / self._level).astype(np.float32)
            kind[(unusual > 1.0)[:, None] & far & (kind == 0)] = HOURS
            np.maximum(score, unusual, out=score)
        if self._changes is not None:
            found = self._changes.push(values, rows.observed)
            own = kind[:, found.channel]
            kind[:, found.channel] = np.where(own == 0, found.kind, own)
            np.maximum(score, found.score.max(axis=1, initial=0.0), out=score)
        return CheckRun(score, kind, since)

    def to_state(self) -> State:
        """Where each check stands."""
        checks = {
            "gaps": self._gaps,
            "absence": self._monitor,
            "news": self._news,
            "hours": self._hours,
            "changes": self._changes,
        }
        parts = {name: one.to_state() for name, one in checks.items() if one is not None}
        return State("checks", parts=parts)

    @classmethod
    def from_state(cls, state: State, like: CheckStream) -> CheckStream:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        stream = copy(like)
        stream._gaps = GapStream.from_state(state.check("checks").part("gaps"), like._gaps)
        if like._monitor is not None and like._news is not None:
            stream._monitor = AbsenceMonitor.from_state(state.part("absence"), like._monitor)
            stream._news = NewsFilter.from_state(state.part("news"), like._news)
        if like._hours is not None:
            stream._hours = HourStream.from_state(state.part("hours"), like._hours)
        if like._changes is not None:
            stream._changes = ChangeStream.from_state(state.part("changes"), like._changes)
        return stream
