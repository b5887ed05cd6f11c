"""How far a benchmark is: one live line on a terminal, and a line for each failure."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn

from imdiffusion.cli.terminal import Terminal

if TYPE_CHECKING:
    from imdiffusion_bench.record import Record
    from imdiffusion_bench.shift import State, Watch

BAR = 20  # characters


@contextmanager
def watching(terminal: Terminal) -> Iterator[Watch]:
    """A callback that shows runs done, what is being done, and the time left.

    Failures are told as lines wherever stderr goes, unless the terminal is quiet.
    """

    def tell(record: Record | None) -> None:
        if record is not None and record["status"] == "failed":
            where = f"{record['dataset']} {record['entity']} {record['variant']}"
            terminal.warn(f"{where}: {record['stage']} failed: {record['error']['message']}")

    if terminal.quiet or not sys.stderr.isatty():
        yield lambda state, record: tell(record)
        return
    columns = (
        TextColumn("bench"),
        BarColumn(bar_width=BAR),
        TextColumn("{task.fields[runs]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[doing]}", style="dim"),
    )
    with Progress(*columns, console=terminal.err, redirect_stdout=False) as bar:
        task = bar.add_task("bench", total=None, runs="", left="", doing="")

        def watch(state: State, record: Record | None) -> None:
            tell(record)
            completed, left = state.asked - state.left, _clock(state.seconds_left)
            runs = f"{completed:,}/{state.asked:,} runs"
            # What is being done gets what the rest leaves of the line: else all would be cut.
            room = max(0, terminal.err.width - BAR - len(f"bench  {runs} {left}  "))
            bar.update(
                task,
                total=state.asked,
                completed=completed,
                runs=runs,
                left=left,
                doing="; ".join(state.doing.values())[:room],
            )

        yield watch


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} left"
