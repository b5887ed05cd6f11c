"""`imdiffusion batch`: fit or score every entity of a folder, each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from imdiffusion.cli.input_options import Reading, bundled, reads_files
from imdiffusion.cli.options import (
    AsJson,
    Config,
    Device,
    Exclude,
    FailOnAnomaly,
    IgnoreExtra,
    Overrides,
    Preset,
    Seed,
    TrainDevice,
    end_with_anomalies,
    span,
)
from imdiffusion.cli.terminal import Terminal, resumable

if TYPE_CHECKING:
    from imdiffusion.batch import Outcome, Summary
    from imdiffusion.batch.run import Watch
    from imdiffusion.progress import Progress

FIT_EXAMPLES = "imdiffusion batch fit services/ --out models/ --jobs 8"
DETECT_EXAMPLES = """imdiffusion batch detect services/ --models models/ --out results/

imdiffusion batch detect services/ --models models/ --out results/ --backend ray://head:10001"""

app = typer.Typer(help="Many entities, each with a model of its own, here or on a Ray cluster.")

Folder = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER",
        help="One file or one folder an entity, or files of several.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """The workers; every field is an option, and a keyword of `imdiffusion.batch.fit`."""

    backend: Annotated[
        str,
        typer.Option(metavar="NAME", help="Where workers are: local, ray, or ray://HOST:PORT."),
    ] = "local"
    jobs: Annotated[
        int | None, typer.Option(help="Workers at once.", show_default="as many as fit")
    ] = None
    threads: Annotated[
        int | None, typer.Option(help="Threads of a worker.", show_default="cores by --jobs")
    ] = None
    gpus: Annotated[float, typer.Option(help="GPUs of a worker, or a fraction (ray).")] = 0.0
    retries: Annotated[
        int, typer.Option(help="How often an entity whose worker died is tried again.")
    ] = 2


# The options of `Workers`, for a verb's argument `workers`.
takes_workers = bundled(Workers, "workers")


@app.command("fit", epilog=FIT_EXAMPLES)
@takes_workers
@reads_files
def fit(
    ctx: typer.Context,
    folder: Folder,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where models go.", show_default=False),
    ],
    preset: Preset = None,
    config: Config = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: TrainDevice = None,
    exclude: Exclude = None,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    workers: Workers = Workers(),
) -> None:
    """Fit a model for every entity. Ctrl-C is safe: the same command continues."""
    from imdiffusion import batch
    from imdiffusion.cli.setting_options import keywords

    terminal: Terminal = ctx.obj
    given = keywords(config, overrides, preset=preset, seed=seed, device=device)
    with _watching(terminal, out) as watch:
        found = batch.fit(
            folder,
            out,
            exclude=[span(text) for text in exclude or ()],
            reading=reading.options(),
            watch=watch,
            **asdict(workers),
            **given,
        )
    _finish(terminal, found)


@app.command("detect", epilog=DETECT_EXAMPLES)
@takes_workers
@reads_files
def detect(
    ctx: typer.Context,
    folder: Folder,
    models: Annotated[
        Path,
        typer.Option(
            "--models", "-m", metavar="FOLDER", help="What `batch fit` made.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where results go.", show_default=False),
    ],
    as_json: AsJson = False,
    fail_on_anomaly: FailOnAnomaly = False,
    device: Device = "auto",
    ignore_extra: IgnoreExtra = False,
    reading: Reading = Reading(),  # noqa: B008 - frozen
    workers: Workers = Workers(),
) -> None:
    """Find anomalies in new data of every entity. Ctrl-C is safe: the same command continues."""
    from imdiffusion import batch

    terminal: Terminal = ctx.obj
    with _watching(terminal, out) as watch:
        found = batch.detect(
            folder,
            models,
            out,
            reading=reading.options(),
            device=device,
            ignore_extra=ignore_extra,
            watch=watch,
            **asdict(workers),
        )
    if as_json:
        terminal.emit_json(found.to_dict())
    events, rows = found.total("events"), found.total("rows")
    terminal.notice(f"{events:,} event{'' if events == 1 else 's'} in {rows:,} rows.")
    _finish(terminal, found)
    if fail_on_anomaly:
        end_with_anomalies(events)


@contextmanager
def _watching(terminal: Terminal, out: Path) -> Iterator[Watch]:
    """Shows entities done and the time left; shows each failure and warning as a line."""
    how = f"{out} keeps what is done: the same command continues."
    with resumable(how), terminal.progress("entities") as show:

        def watch(one: Outcome, step: Progress) -> None:
            if one.answer.status == "failed":
                terminal.warn(f"{one.entity}: {one.answer.reason}")
            for text in one.answer.warnings if one.answer.status == "done" else ():
                terminal.warn(f"{one.entity}: {text}")
            if show is not None:
                show(step)

        yield watch


def _finish(terminal: Terminal, found: Summary) -> None:
    terminal.notice(found.describe())
    if found.failed:
        end_with_failures(terminal, len(found.failed), len(found.outcomes), found.exit_code)


def end_with_failures(terminal: Terminal, failed: int, total: int, code: int) -> NoReturn:
    """The last line and the exit code of a call that some of its entities went through without."""
    terminal.fail(f"{failed} of {total} entities failed, see above.")
    raise typer.Exit(code)
