"""Progress bars for a terminal: one bar a phase, with its speed and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

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
