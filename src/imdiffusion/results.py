"""What a detector found in one entity, and the tables it is handed out as."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Reals, Singles
from imdiffusion.data.frame import Frame, table_like
from imdiffusion.scoring.event import (
    Event,
    Finding,
    Findings,
    Unalarmed,
    find_events,
    find_unalarmed,
)

if TYPE_CHECKING:
    from imdiffusion.entity import Entity
    from imdiffusion.scored_run import ScoredRun

Number = TypeVar("Number", bound=np.generic)

SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything about one scored series of T rows and K channels.

    frame: the rows on a regular grid, channels in the model's order (rows put in for gaps
    included; `frame.rows` leads back to the caller's). score (T,): above 1 = anomalous, NaN where
    nothing was observed. alarm: bool (T,), where it is above 1. events: what is wrong in these
    rows, to its own edges (`scoring.event.find_events`). channel_scores (T, K): each channel's part
    of the error, NaN where not observed. expected, lower, upper (T, K): in the caller's units.
    unalarmed: where a channel is outside its band for long and no event names it, and why.
    """

    frame: Frame
    score: Floats
    alarm: Flags
    channel_scores: Singles
    expected: Reals
    lower: Reals
    upper: Reals
    events: list[Event]
    unalarmed: list[Unalarmed] = field(default_factory=list)

    @classmethod
    def of(cls, entity: Entity, frame: Frame, runs: Sequence[ScoredRun]) -> Analysis:
        """What the runs of an entity say of the rows (T, K) of a frame."""
        score = entity.score(np.concatenate([run.errors for run in runs], axis=1))
        channel_scores = np.concatenate([run.channel_scores for run in runs])
        expected = np.concatenate([run.expected for run in runs])
        lower, upper = entity.band(expected)
        settings, values = entity.settings, np.where(frame.observed, frame.values, np.nan)
        events = find_events(
            score,
            channel_scores,
            values,
            expected,
            frame.channels,
            evidence=_joined(run.evidence for run in runs),
            findings=_findings(entity, frame, runs),
            echo=entity.echo,
            merge_gap=settings.merge_gap,
            min_length=settings.min_length,
        )
        unalarmed = find_unalarmed(
            values, lower, upper, score, events, frame.channels, judged=entity.judged
        )
        alarm = score > 1.0
        return cls(frame, score, alarm, channel_scores, expected, lower, upper, events, unalarmed)


def _joined(parts: Iterable[NDArray[Number] | None]) -> NDArray[Number] | None:
    """What runs say of their rows (T, K); None where one of them does not."""
    found = list(parts)
    known = [one for one in found if one is not None]
    return np.concatenate(known) if known and len(known) == len(found) else None


def _findings(entity: Entity, frame: Frame, runs: Sequence[ScoredRun]) -> Findings | None:
    """What the checks found in the rows of a frame; None where there are none."""
    kind, since = _joined(run.kind for run in runs), _joined(run.since for run in runs)
    if kind is None or since is None:
        return None
    times, step = frame.timestamps, frame.period
    period = None if step is None else float(step / SECOND)

    def of(code: int, ago: int, row: int) -> Finding:
        time = None if times is None else times[row]
        return entity.checks.finding(code, ago, time=time, period=period)

    return Findings(kind, since, of)


def event_table(analyses: Sequence[Analysis], kind: str) -> Any:
    """One row an event, as a table of the caller's kind.

    Columns: entity (only where one has a name), start, end (exclusive), peak, duration (seconds;
    rows where there are no timestamps), score, the lists channels, shares, expected, seen and
    kinds, the most responsible channel first; and reason, a sentence (`scoring.event.Event`).
    """
    rows = [(a, e) for a in analyses for e in a.events]
    timed = any(a.frame.timestamps is not None for a in analyses)
    columns: dict[str, Any] = {}
    if any(a.frame.entity is not None for a in analyses):
        columns["entity"] = [a.frame.entity for a, _ in rows]
    for name in ("start", "end", "peak"):
        times = [moment(a.frame, getattr(e, name)) for a, e in rows]
        columns[name] = np.array(times, dtype="datetime64[ns]" if timed else np.int64)
    columns["duration"] = np.array([duration(a.frame, e) for a, e in rows], dtype=np.float64)
    columns["score"] = np.array([e.score for _, e in rows], dtype=np.float64)
    for name in ("channels", "shares", "expected", "seen", "kinds"):
        columns[name] = [list(getattr(e, name)) for _, e in rows]
    columns["reason"] = [e.reason for _, e in rows]
    return table_like(kind, columns)


def score_table(analyses: Sequence[Analysis]) -> Any:
    """Score of each of the caller's own rows, as a pyarrow table.

    Columns: entity (only where one has a name), timestamp (or position), score, alarm.
    """
    parts: dict[str, list[Any]] = {}
    named = any(a.frame.entity is not None for a in analyses)
    for a in analyses:
        frame = a.frame
        own = slice(None) if frame.rows is None else frame.rows >= 0
        index = np.arange(len(a.score))[own]
        if named:
            parts.setdefault("entity", []).append(np.repeat(str(frame.entity), len(index)))
        time = index if frame.timestamps is None else frame.timestamps[own]
        parts.setdefault("timestamp", []).append(time)
        parts.setdefault("score", []).append(a.score[own])
        parts.setdefault("alarm", []).append(a.alarm[own])
    return table_like("pyarrow", {name: np.concatenate(runs) for name, runs in parts.items()})


def moment(frame: Frame, row: int) -> np.datetime64 | int:
    """Timestamp of a row, or its position; one row past the end is one period later."""
    if frame.timestamps is None or row < len(frame):
        return frame.time_of(row)
    end: np.datetime64 = frame.timestamps[-1] + (frame.period or np.timedelta64(0, "ns"))
    return end


def duration(frame: Frame, event: Event) -> float:
    """Length of an event in seconds, or in rows where there are no timestamps."""
    start, end = moment(frame, event.start), moment(frame, event.end)
    if isinstance(start, np.datetime64) and isinstance(end, np.datetime64):
        return float((end - start) / SECOND)
    return float(event.end - event.start)


def imputation_table(analyses: Sequence[Analysis], kind: str) -> Any:
    """Long table, one row for each time and channel of the caller's own rows.

    Columns: entity (only where one has a name), timestamp (or position), channel, value, expected,
    lower, upper, observed.
    """
    parts: dict[str, list[Any]] = {}
    named = any(a.frame.entity is not None for a in analyses)
    for a in analyses:
        frame, channels = a.frame, len(a.frame.channels)
        own = slice(None) if frame.rows is None else frame.rows >= 0
        index = np.arange(len(frame.values))[own]
        time = index if frame.timestamps is None else frame.timestamps[own]
        if named:
            names = np.repeat(str(frame.entity), len(index) * channels)
            parts.setdefault("entity", []).append(names)
        parts.setdefault("timestamp", []).append(np.repeat(time, channels))
        parts.setdefault("channel", []).append(np.tile(np.array(frame.channels), len(index)))
        values = np.where(frame.observed, frame.values, np.nan)
        for name, column in (
            ("value", values),
            ("expected", a.expected),
            ("lower", a.lower),
            ("upper", a.upper),
            ("observed", frame.observed),
        ):
            parts.setdefault(name, []).append(column[own].reshape(-1))
    return table_like(kind, {name: np.concatenate(runs) for name, runs in parts.items()})


def tables(found: Any, make: Callable[[Sequence[Analysis], str], Any]) -> Any:
    """One table of the caller's kind for one analysis, a dict of tables for a dict."""
    if isinstance(found, dict):
        return {name: make([one], one.frame.kind) for name, one in found.items()}
    return make([found], found.frame.kind)
