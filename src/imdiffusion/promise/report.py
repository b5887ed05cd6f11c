"""What a detector promises and how its training rows kept it: `ImDiffusion.report_`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from imdiffusion.durations import DAY_NS
from imdiffusion.promise.record import HOURS, FitNotes, LeftOut, PromiseRecord
from imdiffusion.scoring.edges import flag_runs
from imdiffusion.scoring.joining import alarm_share
from imdiffusion.settings import Settings

Moment = np.datetime64 | int
OLDER = "the model is of a version that kept nothing of its training rows: fit it again"
SHOWN = 3


class WorstHour(NamedTuple):
    """hour: 3 = from 03:00 to 04:00 local; share: of its training rows in alarm; rows: how many."""

    hour: int
    share: float
    rows: int


class WorstPart(NamedTuple):
    """A day of the training, or a twentieth of it: end exclusive; share: of its rows in alarm."""

    start: Moment
    end: Moment
    share: float
    rows: int


@dataclass(frozen=True, slots=True)
class PromiseReport:
    """The promise of one entity, and how its training kept it, offline.

    promised: share of normal rows in alarm. achieved: that share among the `rows` training rows
    from `start` to `end` (exclusive) that are judged by others: in closed form every row
    is judged by a law and thresholds of other blocks, and a network by rows held out from its
    training. low, high: its 95 % interval for rows like those; they depend on their neighbours and
    say as much as `independent` ones would. events: runs of alarms among them, joined over
    `merge_gap`, for each `events_per`.
    worst_hour (local to `timezone`, over two days at least) and worst_part are of all training
    rows. aside: what was not learned from; absurd: how many values. calendar: why there is none.
    counters: channels read as rates; context: channels that only condition others; constant, empty:
    channels that never moved, or had no value. unknown: what cannot be said, and why; what rests on
    it is None.
    """

    entity: str | None
    promised: float
    achieved: float | None
    low: float | None
    high: float | None
    rows: int
    independent: float | None
    start: Moment | None
    end: Moment | None
    events: float | None
    events_per: str
    worst_hour: WorstHour | None
    timezone: str
    worst_part: WorstPart | None
    aside: tuple[LeftOut, ...]
    absurd: int
    calendar: str
    counters: tuple[str, ...]
    context: tuple[str, ...]
    constant: tuple[str, ...]
    empty: tuple[str, ...]
    unknown: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON facts: times as text (UTC), the same names."""
        facts = {name: _plain(value) for name, value in asdict(self).items()}
        for name in ("worst_hour", "worst_part"):
            one = getattr(self, name)
            facts[name] = None if one is None else {k: _plain(v) for k, v in one._asdict().items()}
        facts["aside"] = [
            {
                **{k: v for k, v in part._asdict().items() if k != "time_ns"},
                "time": None if part.time_ns is None else _text(_moment(part.time_ns, part.row)),
            }
            for part in self.aside
        ]
        return facts

    def lines(self) -> list[tuple[str, str]]:
        """What there is to tell, as (term, text)."""
        told = [("promised", f"{percent(self.promised)} of normal rows in alarm")]
        if self.achieved is not None and self.low is not None and self.high is not None:
            told.append(
                (
                    "achieved",
                    f"{percent(self.achieved)} of {self.rows:,} training rows, judged by other "
                    f"rows ({percent(self.low)} to {percent(self.high)}; they are "
                    f"worth {self.independent:,.0f} independent ones)",
                )
            )
            told.append(("measured", f"{_text(self.start)} to {_text(self.end)}, offline"))
        if self.events is not None:
            told.append(("events", f"{self.events:.3g} a {self.events_per}"))
        if self.worst_hour is not None:
            hour, share, rows = self.worst_hour
            span = f"{hour:02d}:00 to {(hour + 1) % HOURS:02d}:00 {self.timezone}"
            text = f"{span}: {percent(share)} of {rows:,} rows" if share else "none has an alarm"
            told.append(("worst hour", text))
        if self.worst_part is not None:
            start, end, share, rows = self.worst_part
            span = f"{_text(start)} to {_text(end)}"
            text = f"{span}: {percent(share)} of {rows:,} rows" if share else "none has an alarm"
            told.append(("worst part of training", text))
        return told + self._set_aside() + [("not known", reason) for reason in self.unknown]

    def _set_aside(self) -> list[tuple[str, str]]:
        told = [("left out", _told(part)) for part in self.aside[:SHOWN]]
        more = len(self.aside) - SHOWN
        if more > 0:
            told.append(("left out", f"{more} more; {self.absurd} absurd values in all"))
        if self.calendar:
            told.append(("no calendar", self.calendar))
        for term, names in (
            ("read as rates", self.counters),
            ("only condition others", self.context),
            ("constant in training", self.constant),
            ("without any value in training", self.empty),
        ):
            if names:
                told.append((term, _some(names)))
        return told

    def __str__(self) -> str:
        lines = self.lines()
        width = max(len(term) for term, _ in lines)
        head = [] if self.entity is None else [f"entity {self.entity}"]
        return "\n".join(head + [f"{term:<{width}}  {text}" for term, text in lines])


def promise_report(facts: Mapping[str, Any], settings: Settings) -> PromiseReport:
    """The report of an entity from its fitted state, `Entity.to_dict`, also of an older model."""
    record = PromiseRecord.from_dict(facts)
    told = facts.get("fit_notes")
    notes = FitNotes() if told is None else FitNotes.from_dict(told)
    rate = float(facts.get("alarm_rate", settings.alarm_rate))
    unknown = [OLDER] if told is None or record is None else []
    found = None
    if record is not None:
        unknown += _unknown(record, rate) + _doubts(record, rate)
        found = None if record.reason or rate > record.least else record
    measured = np.asarray(facts.get("linear_measured", np.ones(len(facts["channels"]), bool)))
    still = {*notes.constant, *notes.empty}
    return PromiseReport(
        facts["name"],
        rate,
        **_measured(found, rate, settings.merge_gap, settings.min_length),
        worst_hour=None if found is None else _worst_hour(found, rate),
        timezone=settings.timezone,
        worst_part=None if found is None else _worst_part(found, rate),
        aside=notes.aside,
        absurd=notes.absurd,
        calendar="it is off" if settings.calendar == "off" else str(facts.get("checks_reason", "")),
        counters=tuple((facts.get("counters") or {}).get("channels", ())),
        context=tuple(
            name
            for name, judged in zip(facts["channels"], measured, strict=True)
            if not judged and name not in still
        ),
        constant=notes.constant,
        empty=notes.empty,
        unknown=tuple(unknown),
    )


def _unknown(record: PromiseRecord, rate: float) -> list[str]:
    """Why something is not known of what was achieved."""
    if record.reason:
        return [record.reason]
    if rate > record.least:
        return [
            f"what was achieved of a promise above {record.least:.3g}: the model keeps the "
            f"{len(record.rate):,} training rows that come into alarm first"
        ]
    if not record.held_rows:
        return ["what was achieved: all training rows had a part in what judges them"]
    return []


def _doubts(record: PromiseRecord, rate: float) -> list[str]:
    if record.checks_rate is None or record.checks_rate == rate:
        return []
    return [
        f"alarms of absence and of the calendar at this promise: they are counted as under that of "
        f"the fit, {record.checks_rate:g}, if at all"
    ]


def _measured(
    record: PromiseRecord | None, rate: float, merge_gap: int, min_length: int
) -> dict[str, Any]:
    """The fields of a report about the rows that are judged by others."""
    names = ("achieved", "low", "high", "independent", "start", "end", "events")
    blank: dict[str, Any] = {**dict.fromkeys(names), "rows": 0, "events_per": "1,000 rows"}
    if record is None or not record.held_rows:
        return blank
    total = int(record.edges[-1])
    alarm = np.zeros(total - record.held, bool)
    rows = record.row[record.alarm(rate)]
    alarm[rows[rows >= record.held] - record.held] = True
    share = alarm_share(alarm, record.held_rows)
    runs = sum(b - a >= min_length for a, b in flag_runs(alarm, merge_gap))
    start, end = _moment(record.held_time, record.held), _end(record)
    per, size = "1,000 rows", record.held_rows / 1000
    if record.held_time is not None and int(record.edge_times[-1]) > record.held_time:
        per, size = "day", (int(record.edge_times[-1]) - record.held_time) / DAY_NS
    return {
        **dict(zip(names, (*share, start, end, runs / size), strict=True)),
        "rows": record.held_rows,
        "events_per": per,
    }


def _worst_hour(record: PromiseRecord, rate: float) -> WorstHour | None:
    if not len(record.hour_rows):
        return None
    hours = record.hour[record.alarm(rate)].astype(np.int64)
    count = np.bincount(hours, minlength=HOURS)
    share = count / np.maximum(record.hour_rows, 1)
    hour = int(share.argmax())
    return WorstHour(hour, float(share[hour]), int(record.hour_rows[hour]))


def _worst_part(record: PromiseRecord, rate: float) -> WorstPart | None:
    if len(record.scored) < 2:
        return None
    rows = record.row[record.alarm(rate)]
    part = np.searchsorted(record.edges, rows, side="right") - 1
    count = np.bincount(part, minlength=len(record.scored))
    # Of a part that hardly has a row, the share says nothing.
    enough = record.scored >= 0.25 * np.median(record.scored)
    share = np.where(enough, count / np.maximum(record.scored, 1), 0.0)
    worst = int(share.argmax())
    times = record.edge_times
    start, end = (
        _moment(int(times[k]) if len(times) else None, int(record.edges[k]))
        for k in (worst, worst + 1)
    )
    return WorstPart(start, end, float(share[worst]), int(record.scored[worst]))


def _end(record: PromiseRecord) -> Moment:
    last = int(record.edge_times[-1]) if len(record.edge_times) else None
    return _moment(last, int(record.edges[-1]))


def _moment(time_ns: int | None, row: int) -> Moment:
    return row if time_ns is None else np.datetime64(time_ns, "ns")


def percent(share: float) -> str:
    """A share as people read it: 0.00123 is "0.12 %"."""
    return f"{float(f'{100 * share:.2g}'):g} %"


def _text(moment: Moment | None) -> str:
    if isinstance(moment, np.datetime64):
        return str(moment.astype("datetime64[s]")).replace("T", " ")
    return f"row {moment:,}" if moment is not None else "–"


def _plain(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return _text(value).replace(" ", "T") + "Z"
    return list(value) if isinstance(value, tuple) else value


def _told(part: LeftOut) -> str:
    where = f"row {part.row:,}"
    if part.time_ns is not None:
        where += f" ({_text(_moment(part.time_ns, part.row))})"
    what = "" if part.value is None else f"{part.value:g} "
    long = "" if part.rows == 1 else f", {part.rows:,} rows"
    return f"{part.why}: {what}in {part.channel!r}, {where}{long}"


def _some(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
