"""`imdiffusion detect`: find events in new data, and say which channels caused them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from imdiffusion.cli.fleet import Fleet, asked, detect_fleet, knows_fleets, refuse
from imdiffusion.cli.options import AsJson, Device, IgnoreExtra, MaybeFiles, Model, flag
from imdiffusion.cli.reading import Reading, reads_files
from imdiffusion.cli.terminal import Terminal

ANOMALIES_FOUND = 10
EXAMPLES = """imdiffusion detect new.parquet --model m/

imdiffusion detect new.csv --model m/ --json --fail-on-anomaly | jq '.events[0].channels'

imdiffusion detect --fleet services/ --model models/ --out results/ --on ray://head:10001"""


@knows_fleets
@reads_files
def detect(
    ctx: typer.Context,
    model: Model,
    files: MaybeFiles = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Also write the events: .csv, .csv.gz, .parquet or .jsonl; "
            "with --fleet: the folder of all results.",
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
    many: Fleet = Fleet(),  # noqa: B008 - frozen
) -> None:
    """Find anomalies in new data: when, how strong, and which channels."""
    folder = asked(many, files, out=out)
    if folder is None or out is None:
        outputs = _Outputs(as_json, out, scores)
        events = _detected(ctx.obj, files or [], model, reading, outputs, device, ignore_extra)
    else:
        refuse(scores=scores)
        events = detect_fleet(
            ctx.obj,
            folder,
            model,
            out,
            many,
            reading,
            as_json=as_json,
            device=device,
            ignore_extra=ignore_extra,
        )
    if fail_on_anomaly and events:
        raise typer.Exit(ANOMALIES_FOUND)


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
    from imdiffusion.cli.outputs import check_output
    from imdiffusion.cli.scoring import analyses_of, load, matched

    for path in (outputs.events, outputs.scores):
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
