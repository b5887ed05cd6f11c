"""What is said, and where: data on stdout; notices, warnings, errors and bars on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from imdiffusion.errors import ImDiffusionWarning

MOST_BARS = 6  # of many entities only the last few are shown


class Step(Protocol):
    """What the detector tells its progress callback; `info` holds losses and the like."""

    @property
    def phase(self) -> str:
        """What is being done."""

    @property
    def done(self) -> int:
        """Steps or points done."""

    @property
    def total(self) -> int:
        """Steps or points in all."""

    @property
    def info(self) -> Mapping[str, float]:
        """Measured values worth a glance."""


class Bars:
    """Draws every phase the detector reports; a context manager that owns the live display.

    unit: what phases other than `fit`, which counts steps, count.
    """

    def __init__(self, console: Console, unit: str) -> None:
        self._unit = unit
        self._phase = ""
        self._task: TaskID | None = None
        self._done = self._first = 0
        self._began = self._last = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[told]}"),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            redirect_stdout=False,  # which is for data
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def show(self, step: Step) -> None:
        """Draw one report; a new phase, or the next series, gets a new bar below the old one."""
        if self._task is None or step.phase != self._phase or step.done < self._done:
            self._task = self._add(step)
        self._done, self._last = step.done, time.monotonic()
        self._progress.update(
            self._task,
            completed=step.done,
            total=step.total or None,
            told=self._told(step),
            note="  ".join(f"{name} {value:.4g}" for name, value in step.info.items()),
        )

    def _add(self, step: Step) -> TaskID:
        # What was done since the report before took this long; a resumed fit starts above 0.
        self._phase, self._began = step.phase, self._last
        self._first = step.done - 1 if step.phase.startswith("fit") else 0
        for old in self._progress.task_ids[: 1 - MOST_BARS]:
            self._progress.remove_task(old)
        return self._progress.add_task(step.phase, total=step.total or None, told="", note="")

    def _told(self, step: Step) -> str:
        """ "1,200/2,000  35 steps/s  0:00:23 left"."""
        unit = "steps" if step.phase.startswith("fit") else self._unit
        seconds = max(self._last - self._began, 1e-6)
        speed = max(step.done - self._first, 0) / seconds
        counted = f"{step.done:,}" + (f"/{step.total:,}" if step.total else "")
        rate = f"{speed:,.{1 if speed < 100 else 0}f} {unit}/s"
        if not speed or not step.total:
            return f"{counted}  {rate}"
        if step.done >= step.total:
            return f"{counted}  {rate}  in {_clock(seconds)}"
        return f"{counted}  {rate}  {_clock((step.total - step.done) / speed)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with the sentence that says how to go on."""

    def __init__(
        self, how: str = "No file was left half-written.", *, exit_code: int = 130
    ) -> None:
        super().__init__(how)
        self.exit_code = exit_code


@contextmanager
def resumable(how: str) -> Iterator[None]:
    """Within this, being interrupted ends with the line `how`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        raise Interrupted(how, exit_code=getattr(stop, "exit_code", 130)) from None


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # one way out for rich and plain output: see VerbGroup


class _LogLines(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        self._terminal.say(record.levelname.lower(), self.format(record), style="dim")


class Terminal:
    """Both output streams of one command, and how talkative it is.

    `quiet` leaves errors alone on stderr; `verbose` is 1 for progress of the library in words,
    2 for everything it logs.
    """

    def __init__(self, *, quiet: bool = False, verbose: int = 0) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.out = _Stdout(highlight=False, emoji=False)
        self.err = Console(stderr=True, highlight=False, emoji=False)
        self._warned: set[str] = set()

    # -- stdout

    def emit(self, text: str) -> None:
        """One piece of data on stdout, at once: a full disk is told before "done" is."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def emit_json(self, document: Any) -> None:
        """One JSON document on stdout; the caller has replaced what JSON cannot say by None."""
        self.emit(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False))

    def emit_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table: drawn on a terminal, aligned plain columns in a pipe or a file."""
        if not sys.stdout.isatty():
            self.emit("\n".join(_aligned(columns, rows)))
            return
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for name in columns:
            table.add_column(name, overflow="fold", no_wrap=name != columns[-1])
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self.out.print(table)

    # -- stderr

    def say(self, kind: str, text: str, *, style: str = "") -> None:
        """One line on stderr, `kind: text`, whatever `quiet` is."""
        label = (f"{kind}: ", style) if kind else ("", "")
        self.err.print(Text.assemble(label, " ".join(text.splitlines())), soft_wrap=True)

    def notice(self, text: str) -> None:
        """One line about what is going on; not under `quiet`."""
        if not self.quiet:
            self.say("", text)

    def warn(self, text: str) -> None:
        """One line about something accepted but worth knowing, once a text; not under `quiet`."""
        if not self.quiet and text not in self._warned:
            self._warned.add(text)
            self.say("warning", text, style="bold yellow")

    def fail(self, text: str) -> None:
        """The one line that says why the command did not do what was asked."""
        self.say("error", text, style="bold red")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Show the library's warnings and, if verbose, its log as lines on stderr."""
        logger, handler = logging.getLogger("imdiffusion"), _LogLines(self)
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(self.verbose, 2)])

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, ImDiffusionWarning):
                self.warn(str(message))
            else:  # of a dependency: nothing a user of the command can act on
                logger.info("%s: %s", category.__name__, message)

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", ImDiffusionWarning)
                warnings.showwarning = show
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    @contextmanager
    def progress(self, unit: str = "points") -> Iterator[Callable[[Step], None] | None]:
        """A callback that draws progress bars, or None without a terminal.

        `unit` names what is counted; the phase `fit` always counts steps.
        """
        if self.quiet or not sys.stderr.isatty():
            yield None
            return

        with Bars(self.err, unit) as bars:
            yield bars.show


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    table = [[cell.replace("\n", "; ") for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
    for row in table:
        yield "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
