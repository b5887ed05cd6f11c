"""The part of the page that is plain HTML and can be read without JavaScript."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imdiffusion.arrays import Floats, Ints
from imdiffusion.errors import UsageError

if TYPE_CHECKING:
    from imdiffusion.data.frame import Frame
    from imdiffusion.results import Analysis
    from imdiffusion.scoring.event import Event
import re
from collections.abc import Iterable, Mapping
from html import escape

from imdiffusion import wording

if TYPE_CHECKING:
    from imdiffusion.results import Analysis


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault known to have happened, shown beside what was detected.

    `start` (inclusive) and `end` (exclusive) are times in UTC, or row positions. A fault of
    one entity names it; `entity=None` holds for all.
    """

    start: np.datetime64 | int
    end: np.datetime64 | int
    kind: str
    description: str = ""
    entity: str | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """The x of one frame: seconds since 1970 where it has timestamps, else row positions."""

    frame: Frame

    @property
    def temporal(self) -> bool:
        """Whether x is time."""
        return self.frame.timestamps is not None

    @property
    def step(self) -> float:
        """Seconds (or rows) from one row to the next; 1 where it cannot be known."""
        period = self.frame.period
        return 1.0 if period is None else float(period / np.timedelta64(1, "ns")) * 1e-9

    @property
    def origin(self) -> float:
        """x of the first row."""
        stamps = self.frame.timestamps
        return 0.0 if stamps is None else stamps[0].astype("datetime64[ns]").astype(np.int64) / 1e9

    def offsets(self) -> Floats:
        """x of every row (T,) counted from `origin`: exact to the nanosecond."""
        stamps = self.frame.timestamps
        if stamps is None:
            return np.arange(len(self.frame.values), dtype=np.float64)
        nanoseconds: Ints = (stamps - stamps[0]).astype("timedelta64[ns]").astype(int)
        return nanoseconds / 1e9

    def x(self, index: int) -> float:
        """x of one row; one past the last is where the last row ends."""
        stamps, last = self.frame.timestamps, len(self.frame.values) - 1
        if index > last:
            return self.x(last) + self.step
        if stamps is None:
            return float(index)
        return self.origin + int((stamps[index] - stamps[0]).astype("timedelta64[ns]")) / 1e9

    def span(self, event: Event) -> tuple[float, float]:
        """x where an event starts and where its last row ends."""
        return self.x(event.start), self.x(event.end - 1) + self.step

    def at(self, value: np.datetime64 | int) -> float:
        """x of a time or a row position; UsageError for a time where the frame has none."""
        if not isinstance(value, np.datetime64):
            return self.x(max(int(value), 0))
        if not self.temporal:
            raise UsageError(
                f"a fault is given by the time {value}, but the data has no timestamps",
                remedy="Give faults as row positions, or data with a timestamp column.",
            )
        return int(value.astype("datetime64[ns]").astype(np.int64)) / 1e9


@dataclass(frozen=True, slots=True)
class Found:
    """An event placed on x, numbered through the whole page."""

    number: int  # from 1, in order of time
    entity: int  # index of its analysis
    event: Event
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Known:
    """A fault placed on x, with the events that overlap it."""

    fault: Fault
    entity: int | None
    start: float
    end: float
    met: tuple[Found, ...]

    @property
    def delay(self) -> float:
        """Seconds or rows from the fault's start to the first event's; 0 where it was earlier."""
        return max(0.0, self.met[0].start - self.start)


def found_events(analyses: Sequence[Analysis]) -> list[Found]:
    """All events of all entities in order of time, numbered from 1."""
    placed = [
        (*Axis(analysis.frame).span(event), index, event)
        for index, analysis in enumerate(analyses)
        for event in analysis.events
    ]
    placed.sort(key=lambda item: item[:3])
    return [
        Found(number, entity, event, start, end)
        for number, (start, end, entity, event) in enumerate(placed, start=1)
    ]


def known_faults(
    faults: Sequence[Fault], analyses: Sequence[Analysis], events: Sequence[Found]
) -> list[Known]:
    """`faults` in order of time, each with the events that overlap it.

    Raises UsageError for a fault whose entity or kind of time the analyses do not have.
    """
    entities = {analysis.frame.entity: index for index, analysis in enumerate(analyses)}
    placed = []
    for fault in faults:
        entity = None
        if fault.entity is not None:
            if fault.entity not in entities:
                raise UsageError(
                    f"a fault names the entity {fault.entity!r}, which is not in this report",
                    remedy=f"Known entities: {', '.join(sorted(map(str, entities)))}.",
                )
            entity = entities[fault.entity]
        axis = Axis(analyses[entity or 0].frame)
        start, end = axis.at(fault.start), axis.at(fault.end)
        met = tuple(
            one
            for one in events
            if one.start < end and one.end > start and entity in (None, one.entity)
        )
        placed.append(Known(fault, entity, start, end, met))
    return sorted(placed, key=lambda known: (known.start, known.end))


MOST_CHANNELS = 5  # rows of an event card; the charts beside it show the others
ENOUGH_SHARE = 0.9  # and fewer where these explain this much of the event


def time_tag(x: float, temporal: bool, *, short: bool = False) -> str:
    """A `<time>` element, or plain text for a row position; `short` leaves the date away."""
    if not temporal:
        return wording.moment(round(x))
    stamp = np.datetime64(round(x * 1000), "ms")
    text = wording.moment(stamp)
    return f'<time datetime="{wording.iso(stamp)}">{text[11:] if short else text}</time>'


def span_tags(start: float, end: float, temporal: bool) -> str:
    """Start – end, without the second date where it is the same day."""
    same_day = temporal and int(start // 86400) == int(end // 86400)
    return f"{time_tag(start, temporal)} – {time_tag(end, temporal, short=same_day)}"


def length(span: float, temporal: bool) -> str:
    """A duration, or a number of rows."""
    return wording.duration(span) if temporal else f"{wording.count(round(span))} rows"


def period_line(analyses: Sequence[Analysis]) -> str:
    """First to last moment of all analyses, and how long that is."""
    axes = [Axis(analysis.frame) for analysis in analyses]
    temporal = axes[0].temporal
    start = min(axis.origin for axis in axes)
    end = max(axis.x(len(axis.frame.values)) for axis in axes)
    zone = " UTC" if temporal else ""
    return f"{span_tags(start, end, temporal)}{zone} · {length(end - start, temporal)}"


def key_figures(
    analyses: Sequence[Analysis], events: Sequence[Found], faults: Sequence[Known]
) -> str:
    """The few numbers that a reader wants first, as a definition list."""
    rows = sum(len(analysis.score) for analysis in analyses)
    alarms = sum(int(np.sum(analysis.alarm)) for analysis in analyses)
    cells = sum(analysis.frame.observed.size for analysis in analyses)
    missing = 1 - sum(int(np.sum(analysis.frame.observed)) for analysis in analyses) / max(1, cells)
    widths = sorted({len(analysis.frame.channels) for analysis in analyses})
    channels = "–".join(wording.count(width) for width in (widths[:1] + widths[1:][-1:]))
    figures = [(wording.count(len(events)), "event" if len(events) == 1 else "events")]
    if faults:
        met = sum(bool(known.met) for known in faults)
        figures.append((f"{met} of {len(faults)}", "known faults met by an event"))
    figures.append((wording.share(alarms / max(1, rows)), "of rows in alarm"))
    figures.append((f"{wording.count(rows)} × {channels}", "rows × channels"))
    if len(analyses) > 1:
        figures.append((wording.count(len(analyses)), "entities"))
    figures.append((wording.share(missing) if missing else "none", "missing"))
    return definitions((label, value) for value, label in figures)


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """`<div><dt><dd></div>` for each (term, text), escaped."""
    return "\n".join(
        f"<div><dt>{escape(term)}</dt><dd>{escape(text)}</dd></div>" for term, text in pairs
    )


def about_list(about: Mapping[str, str]) -> str:
    """What the caller says about the model, as a definition list; nothing for an empty one."""
    if not about:
        return ""
    return f'<dl class="about">\n{definitions((str(k), str(v)) for k, v in about.items())}\n</dl>'


def event_card(
    found: Found, analyses: Sequence[Analysis], faults: Sequence[Known], temporal: bool
) -> str:
    """One event: when, how strong, which channels, what was seen against expected."""
    event = found.event
    entity = analyses[found.entity].frame.entity
    met = ", ".join(dict.fromkeys(known.fault.kind for known in faults if found in known.met))
    notes = ""
    if len(analyses) > 1:
        notes += f'<span class="where">{escape(str(entity))}</span> '
    if met:
        notes += f'<span class="truth">during known fault: {escape(met)}</span>'
    return (
        f'<li class="card" id="event-{found.number}" data-event="{found.number - 1}">\n'
        f'<h3><button type="button" class="open"><span class="nth">{found.number}</span>'
        f" {span_tags(found.start, found.end, temporal)}</button></h3>\n"
        f'<p class="facts"><span>{length(found.end - found.start, temporal)}</span> '
        f'<span>peak score <strong class="peak">{wording.number(event.score)}</strong></span>'
        f"{' ' + notes if notes else ''}</p>\n{reason_line(found)}{channel_table(found)}</li>"
    )


def reason_line(found: Found) -> str:
    """What the event is, in a sentence, where it says more than the channels below it do."""
    reason = found.event.reason if any(found.event.kinds) else ""
    return f'<p class="reason">{escape(reason)}</p>\n' if reason else ""


def channel_table(found: Found) -> str:
    """The channels that make most of an event, as a table."""
    event = found.event
    rows: list[str] = []
    told = 0.0
    kinds = dict(zip(event.channels, event.kinds, strict=False))
    for channel, part, seen, expected in zip(
        event.channels, event.shares, event.seen, event.expected, strict=True
    ):
        if len(rows) == MOST_CHANNELS or told >= ENOUGH_SHARE or not part > 0:
            break
        told += part
        rows.append(
            f'<tr><th scope="row">{breakable(channel)}{kind_mark(kinds.get(channel, ""))}</th>'
            f'<td class="part">{share_bar(part)} '
            f"<span>{wording.share(part)}</span></td>"
            f"<td>{wording.number(seen)}</td><td>{wording.number(expected)}</td></tr>"
        )
    others = len(event.channels) - len(rows)
    rest = f"; {wording.share(1 - told)} in {others} others" if others and told < 0.995 else ""
    return (
        f'<table><caption class="hidden">Channels of event {found.number} at its peak{rest}'
        '</caption>\n<thead><tr><th scope="col">Channel</th><th scope="col">Share</th>'
        '<th scope="col">Seen</th><th scope="col">Expected</th></tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table>\n"
    )


def kind_mark(kind: str) -> str:
    """What a check found in a channel, beside its name; nothing where none found anything."""
    return f' <span class="kind">{escape(kind.replace("_", " "))}</span>' if kind else ""


def share_bar(part: float) -> str:
    """A small bar filled to `part`; the number stands beside it."""
    filled = f'<rect width="{part:.1%}" height="100%"/>'
    return f'<svg class="share" aria-hidden="true">{filled}</svg>'


def breakable(name: str) -> str:
    """A name, escaped, that may be wrapped after its punctuation."""
    return "<wbr>".join(escape(part) for part in re.findall(r".+?(?:[_./:-]+|$)", name, re.DOTALL))


def event_list(
    found: Sequence[Found], analyses: Sequence[Analysis], faults: Sequence[Known], temporal: bool
) -> str:
    """All event cards, or a sentence where there is none."""
    if not found:
        return '<p class="none">No row scored above the threshold in this period.</p>'
    cards = "\n".join(event_card(one, analyses, faults, temporal) for one in found)
    return f'<ol class="cards">\n{cards}\n</ol>'


def fault_table(faults: Sequence[Known], temporal: bool, *, entities: bool) -> str:
    """Known faults with the event that met each and how late; nothing where none is known."""
    if not faults:
        return ""
    rows = []
    for known in faults:
        fault = known.fault
        links = ", ".join(
            f'<a href="#event-{one.number}">event {one.number}</a>' for one in known.met
        )
        result = f"{links}" if links else '<span class="missed">no event</span>'
        late = wording.NOTHING
        if known.met:
            late = length(known.delay, temporal) if known.delay else "at once"
        detail = fault.description and f'<span class="detail">{escape(fault.description)}</span>'
        where = f"<td>{escape(fault.entity or 'all')}</td>" if entities else ""
        rows.append(
            f'<tr><th scope="row">{escape(fault.kind)}{detail}</th>{where}'
            f"<td>{span_tags(known.start, known.end, temporal)}</td>"
            f"<td>{result}</td><td>{late}</td></tr>"
        )
    met = sum(bool(known.met) for known in faults)
    where = '<th scope="col">Entity</th>' if entities else ""
    return (
        f'<details class="faults" id="faults"><summary>Known faults <span class="quiet">'
        f"{met} of {len(faults)} met by an event</span></summary>\n"
        f'<div class="scroll"><table>\n<thead><tr><th scope="col">Fault</th>{where}'
        '<th scope="col">When</th><th scope="col">Met by</th>'
        '<th scope="col">After</th></tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div></details>"
    )
