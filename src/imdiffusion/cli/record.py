"""`imdiffusion record`: sample this host into a Parquet file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.options import flag
from imdiffusion.cli.terminal import Terminal
from imdiffusion.errors import UsageError

EXAMPLES = """imdiffusion record --out train.parquet --duration 1h

imdiffusion record --out train.parquet --duration 1h --resume"""

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")


@dataclass(frozen=True, slots=True)
class _Rows:
    done: int
    total: int
    phase: str = "record"
    info: dict[str, float] = field(default_factory=dict)


def record(
    ctx: typer.Context,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FILE", help="Parquet file.", show_default=False),
    ],
    interval: Annotated[float, typer.Option(min=0.01, help="Seconds between samples.")] = 0.5,
    duration: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long: 90s, 30m, 1h or 1h30m; until Ctrl-C if not given.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, flag("--resume", help="Continue an interrupted or a shorter recording.")
    ] = False,
) -> None:
    """Record the metrics of this host: processor, memory, disk, network, scheduler."""
    from imdiffusion.cli.outputs import check_output
    from imdiffusion.live.sources.host import record as sample_host

    terminal: Terminal = ctx.obj
    seconds = None if duration is None else parse_duration(duration)
    check_output(out, (".parquet",))
    wanted = None if seconds is None else round(seconds / interval)
    with terminal.progress("rows") as show:
        rows = sample_host(
            out,
            interval=interval,
            duration=seconds,
            resume=resume,
            on_progress=show and (lambda done, total: show(_Rows(done, total or 0))),
        )
    terminal.notice(f"{out}: {rows:,} rows, one every {interval:g} s.")
    if wanted is not None and rows < wanted:
        terminal.notice(
            f"Interrupted before {wanted:,} rows: the same command with --resume continues."
        )
        raise typer.Exit(130)


def parse_duration(text: str, option: str = "--duration") -> float:
    """Seconds of "90", "90s", "30m", "1h30m" or "2d"; UsageError for anything else."""
    parts = _PART.findall(text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text or seconds <= 0:
        raise UsageError(
            f"{option} {text!r} is not a length of time", remedy="For instance 90s, 30m or 1h30m."
        )
    return seconds
