"""Progress bars for a terminal: one bar a phase, with its speed and the time left."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from imdiffusion.cli.terminal import Step


MOST_BARS = 6  # of many entities only the last few are shown


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        if not speed:
            return Text("")
        return Text(f"{speed:,.{1 if speed < 100 else 0}f} {task.fields['unit']}/s")


class Bars:
    """Draws every phase the detector reports; a context manager that owns the live display."""

    def __init__(self, console: Console, unit: str) -> None:
        self._unit = unit
        self._phase = ""
        self._done = 0
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _SpeedColumn(),
            TimeRemainingColumn(),
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
            self._phase = step.phase
            unit = "steps" if step.phase.startswith("fit") else self._unit
            self._task = self._progress.add_task(step.phase, total=step.total, unit=unit, note="")
            for old in self._progress.task_ids[:-MOST_BARS]:
                self._progress.remove_task(old)
        self._done = step.done
        note = "  ".join(f"{name} {value:.4g}" for name, value in step.info.items())
        self._progress.update(self._task, completed=step.done, total=step.total or None, note=note)
