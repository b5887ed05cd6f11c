"""`imdiffusion detect`: find events in new data, and say which channels caused them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from imdiffusion.cli.input_options import Reading, reads_files
from imdiffusion.cli.options import (
    AsJson,
    Device,
    FailOnAnomaly,
    Files,
    IgnoreExtra,
    Model,
    end_with_anomalies,
)
from imdiffusion.cli.terminal import Terminal

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
    fail_on_anomaly: FailOnAnomaly = False,
    device: Device = "auto",
    ignore_extra: IgnoreExtra = False,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Find anomalies in new data: when, how strong, and which channels."""
    outputs = _Outputs(as_json, out, scores)
    events = _detected(ctx.obj, files, model, reading, outputs, device, ignore_extra)
    if fail_on_anomaly:
        end_with_anomalies(events)


class _Outputs(NamedTuple):
    """Where events and scores go beside the terminal."""

    as_json: bool
    events: Path | None
    scores: Path | None


def _detected(
    terminal: Terminal,
    files: list[Path],
    model: Path,
    reading: Reading,
    outputs: _Outputs,
    device: str,
    ignore_extra: bool,
) -> int:
    """Score files with one model, and tell; the number of events."""
    from imdiffusion.cli.input_options import analyses_of, load, matched
    from imdiffusion.cli.outputs import check_output

    for path in (outputs.events, outputs.scores):
        if path is not None:
            check_output(path, inputs=files)
    detector = load(model, device)
    frames = matched(detector, reading.frames(files), files)
    with terminal.progress() as show:
        analyses = analyses_of(
            detector.analyze(frames, ignore_extra=ignore_extra, on_progress=show)
        )

    from imdiffusion.cli.outputs import event_cells, event_records, summary
    from imdiffusion.data.writing import write_table
    from imdiffusion.results import event_table, score_table

    if outputs.scores is not None:
        write_table(score_table(analyses), outputs.scores)
    if outputs.events is not None:
        write_table(event_table(analyses, "pyarrow"), outputs.events)
    counted = summary(analyses)
    if outputs.as_json:
        terminal.emit_json({"events": event_records(analyses), "summary": counted})
    elif counted["events"]:
        terminal.emit_table(*event_cells(analyses))
    terminal.notice(
        f"{counted['events']} event{'' if counted['events'] == 1 else 's'} in "
        f"{counted['rows']:,} rows; {counted['anomalous']:,} rows score above 1."
    )
    return counted["events"]
