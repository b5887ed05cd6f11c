"""`imdiffusion watch`: watch this host, without any configuration."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import Overrides, Preset, flag
from imdiffusion.cli.record import parse_duration
from imdiffusion.cli.terminal import Terminal

if TYPE_CHECKING:
    from imdiffusion.live.config.configuration import Configuration
    from imdiffusion.live.connection.protocols import Sink

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
    from imdiffusion.cli.live_view import Json, Lines, Pane

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
