"""`imdiffusion report`: one HTML page about what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.input_options import Reading, reads_files
from imdiffusion.cli.options import Device, Files, IgnoreExtra, Model
from imdiffusion.cli.terminal import Terminal

EXAMPLES = "imdiffusion report new.parquet --model m/ --out report.html"


@reads_files
def report(
    ctx: typer.Context,
    files: Files,
    model: Model,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")
    ] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option(help="Title of the page.", show_default=False)
    ] = None,
    device: Device = "auto",
    ignore_extra: IgnoreExtra = False,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Detect, and write one offline HTML page: scores, events, channels seen and expected."""
    from imdiffusion.cli.input_options import about, analyses_of, load, matched, promises_of
    from imdiffusion.cli.outputs import check_output

    terminal: Terminal = ctx.obj
    check_output(out, (".html", ".htm"))
    detector = load(model, device)
    frames = matched(detector, reading.frames(files), files)
    with terminal.progress() as show:
        analyses = analyses_of(
            detector.analyze(frames, ignore_extra=ignore_extra, on_progress=show)
        )

    from imdiffusion.report.page import write_report

    name = title or f"Anomalies in {', '.join(path.name for path in files)}"
    write_report(
        out,
        analyses,
        title=name,
        about=about(detector, model),
        promises=promises_of(detector, analyses),
    )
    events = sum(len(analysis.events) for analysis in analyses)
    terminal.notice(f"{out}: {events} event{'' if events == 1 else 's'}.")
