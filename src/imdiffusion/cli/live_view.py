"""What `watch` shows: lines of what changes, or on a terminal a table that is kept up to date."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imdiffusion.durations import SECOND_NS
from imdiffusion.errors import OutputError
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.sinks.stdout import StdoutSink
from imdiffusion.records import EventRecord, Record, ScoreRecord

BARS = "▁▂▃▄▅▆▇█"
WIDTH = 40  # scores of an entity that are drawn
LOUD = 2.0  # the score that fills a bar: half of it is anomalous
LEADING = 3  # channels of an event that are named
STYLES = {"ready": "green", "degraded": "yellow", "stale": "red", "warming": "cyan"}
REMEMBERED = 10_000  # keys, so that nothing that is sent again is said again
REDRAW = 0.5  # seconds


@dataclass(slots=True)
class _Entity:
    """What was said last of an entity."""

    state: str = ""
    detector: str = ""
    model: str = ""
    score: float = math.nan
    rows: int = 0
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=WIDTH))
    ongoing: set[str] = field(default_factory=set)


class Lines(Closing):
    """A sink that says a line whenever something changes. Keeps the seam of a sink.

    say: takes a line. rows: also say one for every row. gone: called when the output is closed.
    """

    takes = frozenset({"score", "event"})

    def __init__(self, say: Callable[[str], None], *, rows: bool, gone: Callable[[], None]) -> None:
        self.refused = 0
        self.entities: dict[str, _Entity] = {}
        self._say, self._rows, self._gone = say, rows, gone
        self._seen: dict[tuple[object, ...], None] = {}
        self._lines: list[str] = []

    def open(self) -> None:
        """Nothing to open."""

    def send(self, records: Sequence[Record]) -> None:
        """Take records."""
        for record in records:
            if record.key in self._seen:
                continue
            self._seen[record.key] = None
            if len(self._seen) > REMEMBERED:
                del self._seen[next(iter(self._seen))]
            if isinstance(record, EventRecord):
                self._take_event(record)
            else:
                self._take_score(record)

    def _take_score(self, record: ScoreRecord) -> None:
        if record.mode != "online":
            return
        one = self.entities.setdefault(record.entity, _Entity())
        one.rows += 1
        one.score = record.score
        one.scores.append(record.score)
        when = clock(record.timestamp)
        if (record.state, record.model) != (one.state, one.model):
            before = f"was {one.state} with {one.detector}" if one.state else "first row"
            self._lines.append(
                f"{when}  {record.entity}  {record.state} with {record.detector} ({before})"
            )
            one.state, one.detector, one.model = record.state, record.detector, record.model
        if self._rows:
            shown = "no score" if math.isnan(record.score) else f"score {record.score:.2f}"
            words = (when, record.entity, shown, record.state, record.detector)
            self._lines.append("  ".join(words))

    def _take_event(self, record: EventRecord) -> None:
        one = self.entities.setdefault(record.entity, _Entity())
        ongoing = record.status == "ongoing"
        (one.ongoing.add if ongoing else one.ongoing.discard)(record.id)
        self._lines.append(event_line(record))

    def flush(self) -> None:
        """Say what was sent. OutputError: the output is closed."""
        lines, self._lines = self._lines, []
        try:
            for line in lines:
                self._say(line)
        except BrokenPipeError as error:
            self._gone()
            raise OutputError("the output is closed") from error

    def close(self) -> None:
        """Nothing to let go of."""


class Pane(Lines):
    """Lines, and below them a table of all entities on a terminal; `with` shows it."""

    def __init__(self, console: Console, *, rows: bool, gone: Callable[[], None]) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._drawn = 0.0
        super().__init__(lambda line: console.print(Text(line)), rows=rows, gone=gone)

    def flush(self) -> None:
        """Say what was sent, and redraw the table."""
        super().flush()
        if time.monotonic() - self._drawn >= REDRAW:
            self._drawn = time.monotonic()
            self._live.update(table(self.entities), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


class Json(StdoutSink):
    """Every record as a line of JSON. gone: called when the output is closed."""

    def __init__(self, gone: Callable[[], None]) -> None:
        super().__init__()
        self._gone = gone

    def flush(self) -> None:
        """Write what was sent. OutputError: the output is closed."""
        try:
            super().flush()
        except OutputError:
            self._gone()
            raise


def clock(timestamp: int) -> str:
    """A time in ns as ISO 8601 to the second, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp // SECOND_NS))


def event_line(record: EventRecord) -> str:
    """An event's update in a line: what became of it, how bad, which channels.

    The reason stands in the place of the channels where a check found more than numbers say.
    """
    verb = {"ongoing": "begins" if record.update == 0 else "continues"}.get(
        record.status, record.status
    )
    told = (
        [record.reason]
        if any(record.kinds)
        else [
            f"{channel} {share:.0%}, seen {seen:.4g} (expected {expected:.4g})"
            for channel, share, seen, expected in zip(
                record.channels[:LEADING], record.shares, record.seen, record.expected, strict=False
            )
        ]
    )
    head = f"{clock(record.start)}  {record.entity}  event {record.id} {verb}"
    return f"{head}, peak {record.score:.2f}, {record.detector}: {'; '.join(told)}"


def bars(scores: Sequence[float]) -> str:
    """Scores as bars of a line; a blank where there is none."""
    top = len(BARS) - 1
    return "".join(
        " " if math.isnan(score) else BARS[min(top, max(0, round(score / LOUD * top)))]
        for score in scores
    )


def table(entities: dict[str, _Entity]) -> Table:
    """All entities, those with events first."""
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for name in ("entity", "state", "detector", "score", "last rows", "events", "rows"):
        drawn.add_column(name, justify="right" if name in ("score", "events", "rows") else "left")
    for name in sorted(entities, key=lambda name: (not entities[name].ongoing, name)):
        one = entities[name]
        loud = "bold red" if one.score > 1.0 else ""
        drawn.add_row(
            Text(name),
            Text(one.state, STYLES.get(one.state, "")),
            Text(one.detector),
            Text("-" if math.isnan(one.score) else f"{one.score:.2f}", loud),
            Text(bars(one.scores), loud),
            Text(str(len(one.ongoing) or ""), "bold red"),
            Text(str(one.rows)),
        )
    return drawn
