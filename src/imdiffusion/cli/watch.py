"""`imdiffusion watch`: watch this host, without any configuration."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from imdiffusion.cli.options import Overrides, Preset, flag
from imdiffusion.cli.record import parse_duration
from imdiffusion.cli.terminal import Terminal
from imdiffusion.durations import SECOND_NS
from imdiffusion.errors import OutputError
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.sinks.stdout import StdoutSink
from imdiffusion.records import EventRecord, Record, ScoreRecord

if TYPE_CHECKING:
    from imdiffusion.live.config.configuration import Configuration
    from imdiffusion.live.connection.protocols import Sink

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


EXAMPLES = """imdiffusion watch

imdiffusion watch --json --duration 10m > records.jsonl

imdiffusion watch --interval 5 --alarms-per-day 2"""


def watch(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between rows.")] = 1.0,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the live state: rows, records and models.",
            show_default="imdiffusion/watch in the user's state folder",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the entity.", show_default="this host's")] = "",
    alarms_per_day: Annotated[
        float, typer.Option(min=0.0, help="Budget of events a day; 0 = alarm_rate.")
    ] = 0.0,
    fit: Annotated[
        bool, flag("--fit/--no-fit", help="Fit models in the background, of the rows that came.")
    ] = True,
    fit_rows: Annotated[int, typer.Option(min=40, help="Rows needed for the first model.")] = 1_200,
    refit: Annotated[str, typer.Option(metavar="TIME", help="Time from fit to fit.")] = "24h",
    preset: Preset = None,
    overrides: Overrides = None,
    as_json: Annotated[bool, flag("--json", help="Print every record as a line of JSON.")] = False,
    rows: Annotated[bool, flag("--rows", help="Print a line for every row, too.")] = False,
    duration: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End after this time: 90s, 30m, 1h.", show_default=False),
    ] = None,
) -> None:
    """Watch this host: a baseline scores after ten minutes, a fitted model once it is better."""
    from imdiffusion.cli.setting_options import assignments
    from imdiffusion.live.detection import Detection
    from imdiffusion.live.models.pinned import Places, state_folder

    terminal: Terminal = ctx.obj
    detector = {**assignments(overrides), **({} if preset is None else {"preset": preset})}
    configuration = _configuration(
        detector, interval=interval, name=name, alarms_per_day=alarms_per_day,
        enabled=fit, rows=fit_rows, refit=parse_duration(refit, "--refit"),
    )  # fmt: skip
    seconds = None if duration is None else parse_duration(duration)
    places = Places(state or state_folder("watch"))
    stop, gone = threading.Event(), threading.Event()

    def nobody_reads() -> None:
        gone.set()
        stop.set()

    sink, view = _shown(terminal, nobody_reads, as_json=as_json, rows=rows)
    detection = Detection(configuration, places, sinks={"terminal": sink})
    terminal.notice(f"Watching this host, a row every {interval:g} s; kept in {places.folder}.")
    with stopped(stop, threading.Event(), after=seconds), view:
        detection.run(stop, reload=threading.Event())
    if gone.is_set():
        raise BrokenPipeError


def _shown(
    terminal: Terminal, gone: Callable[[], None], *, as_json: bool, rows: bool
) -> tuple[Sink, AbstractContextManager[object]]:
    """The sink that says what was found, and what shows it on a terminal."""

    if as_json:
        return Json(gone), nullcontext()
    if not sys.stdout.isatty():
        return Lines(terminal.emit, rows=rows, gone=gone), nullcontext()
    pane = Pane(terminal.out, rows=rows, gone=gone)
    return pane, pane


def _configuration(
    detector: dict[str, Any],
    *,
    interval: float,
    name: str,
    alarms_per_day: float,
    enabled: bool,
    rows: int,
    refit: float,
) -> Configuration:
    """What `serve` would read from a file that watches this host."""
    from imdiffusion.live.config.configuration import Configuration, Connector, conflicts

    made = Configuration(
        detector=detector,
        sources=(Connector("source", "host", "host", {"interval": interval, "name": name}),),
    )
    made = replace(
        made,
        stream=replace(made.stream, interval=interval),
        alerts=replace(made.alerts, alarms_per_day=alarms_per_day),
        fit=replace(
            made.fit, enabled=enabled, rows=rows, refit=refit,
            most_rows=max(rows, made.fit.most_rows),
        ),
    )  # fmt: skip
    for _, error in conflicts(made):
        raise error
    return made


@contextmanager
def stopped(
    stop: threading.Event, reload: threading.Event, *, after: float | None = None
) -> Iterator[None]:
    """Within, SIGTERM, SIGINT and the end of a time set `stop`, SIGHUP sets `reload`."""
    from imdiffusion.live.engine.engine import stopped_by_signals

    def ask(number: int, frame: FrameType | None) -> None:
        reload.set()

    timer = threading.Timer(after or 0.0, stop.set)
    timer.daemon = True
    before = signal.signal(signal.SIGHUP, ask)
    if after is not None:
        timer.start()
    try:
        with stopped_by_signals(stop):
            yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGHUP, before)
