"""`imdiffusion impute`: what every point should have been."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.input_options import Reading, reads_files
from imdiffusion.cli.options import Device, Files, IgnoreExtra, Model
from imdiffusion.cli.terminal import Terminal

EXAMPLES = "imdiffusion impute gaps.csv --model m/ --out filled.parquet"


@reads_files
def impute(
    ctx: typer.Context,
    files: Files,
    model: Model,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Long table to write: .csv, .csv.gz, .parquet or .jsonl.",
            show_default=False,
        ),
    ],
    device: Device = "auto",
    ignore_extra: IgnoreExtra = False,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Write the expected value, its band, and whether it was missing, for every point."""
    from imdiffusion.cli.input_options import analyses_of, load, matched
    from imdiffusion.cli.outputs import check_output

    terminal: Terminal = ctx.obj
    check_output(out, inputs=files)
    detector = load(model, device)
    frames = matched(detector, reading.frames(files), files)

    with terminal.progress() as show:
        analyses = analyses_of(
            detector.analyze(frames, ignore_extra=ignore_extra, on_progress=show)
        )

    from imdiffusion.data.writing import write_table
    from imdiffusion.results import imputation_table

    table = imputation_table(analyses, "pyarrow")
    write_table(table, out)
    terminal.notice(f"{out}: {len(table):,} points.")
