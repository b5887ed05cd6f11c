"""`imdiffusion detect`: find events in new data, and say which channels caused them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.options import AsJson, Device, Files, IgnoreExtra, Model, flag
from imdiffusion.cli.reading import Reading, reads_files
from imdiffusion.cli.terminal import Terminal

ANOMALIES_FOUND = 10
EXAMPLES = """imdiffusion detect new.parquet --model m/

imdiffusion detect new.csv --model m/ --json --fail-on-anomaly | jq '.events[0].channels'"""


@reads_files
def detect(
    ctx: typer.Context,
    files: Files,
    model: Model,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Also write the events: .csv, .csv.gz, .parquet or .jsonl.",
            show_default=False,
        ),
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write the score of every row.", show_default=False),
    ] = None,
    fail_on_anomaly: Annotated[
        bool, flag("--fail-on-anomaly", help="Exit with 10 if there is any event.")
    ] = False,
    device: Device = "auto",
    ignore_extra: IgnoreExtra = False,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Find anomalies in new data: when, how strong, and which channels."""
    from imdiffusion.cli.outputs import check_output
    from imdiffusion.cli.scoring import analyses_of, load, matched

    terminal: Terminal = ctx.obj
    for path in (out, scores):
        if path is not None:
            check_output(path, inputs=files)
    detector = load(model, device)
    frames = matched(detector, reading.frames(files), files)
    with terminal.progress() as show:
        analyses = analyses_of(
            detector.analyze(frames, ignore_extra=ignore_extra, on_progress=show)
        )

    from imdiffusion.cli.events import event_cells, event_records, summary
    from imdiffusion.data.files import write_table
    from imdiffusion.results import event_table, score_table

    if scores is not None:
        write_table(score_table(analyses), scores)
    if out is not None:
        write_table(event_table(analyses, "pyarrow"), out)
    counted = summary(analyses)
    if as_json:
        terminal.emit_json({"events": event_records(analyses), "summary": counted})
    elif counted["events"]:
        terminal.emit_table(*event_cells(analyses))
    terminal.notice(
        f"{counted['events']} event{'' if counted['events'] == 1 else 's'} in "
        f"{counted['rows']:,} rows; {counted['anomalous']:,} rows score above 1."
    )
    if fail_on_anomaly and counted["events"]:
        raise typer.Exit(ANOMALIES_FOUND)
