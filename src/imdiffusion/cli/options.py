"""Options that several verbs share, each declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imdiffusion.devices import check_device
from imdiffusion.errors import ConfigError, UsageError

READING = "Reading files"
ANOMALIES_FOUND = 10  # the exit code

Files = Annotated[
    list[Path],
    typer.Argument(
        help="CSV (.csv, .csv.gz), Parquet or JSON lines; several files are several entities.",
        metavar="FILE",
        show_default=False,
    ),
]
Model = Annotated[
    Path, typer.Option("--model", "-m", help="Folder of the saved model.", show_default=False)
]


def device_option(help: str, **more: Any) -> Any:
    """The option --device: its name is checked before anything else is done."""
    return typer.Option(
        "--device", help=help, metavar="auto|cpu|cuda[:N]", callback=_known_device, **more
    )


def _known_device(name: str | None) -> str | None:
    try:
        return name if name is None else check_device(name)
    except ConfigError as error:
        raise UsageError(f"--device: {error.what}", remedy=error.remedy) from None


TrainDevice = Annotated[str | None, device_option("Where to train.", show_default="auto")]
Device = Annotated[str, device_option("Where the network is computed.")]


def flag(*names: str, help: str, **more: Any) -> Any:
    """An option that is there or not: the help shows no type for it to take."""
    return typer.Option(*names, help=help, metavar="", **more)


IgnoreExtra = Annotated[
    bool,
    flag(
        "--ignore-extra",
        help="Leave out channels the model does not know, instead of refusing them.",
        rich_help_panel=READING,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one setting; repeat for more (`imdiffusion config show` lists them).",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="TOML file of settings; --set and the other options win over it.",
        show_default=False,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Row of settings to start from.", show_default="fast"),
]
Seed = Annotated[int | None, typer.Option(help="Seed of all randomness.", show_default="0")]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="START..END",
        help="Leave a bad span (times or rows, end exclusive) out of training; repeatable.",
        show_default=False,
    ),
]
FailOnAnomaly = Annotated[
    bool, flag("--fail-on-anomaly", help="Exit with 10 if there is any event.")
]
AsJson = Annotated[bool, flag("--json", help="Print one JSON document on stdout.")]


def span(text: str) -> tuple[str | int, str | int]:
    """`START..END` as a pair of ISO times, or of row positions where both are whole numbers.

    Raises UsageError if it is neither.
    """
    start, dots, end = (part.strip() for part in text.partition(".."))
    if not (dots and start and end):
        raise UsageError(
            f"--exclude {text!r} is not START..END",
            remedy="For instance 2026-01-05T10:00Z..2026-01-05T11:30Z, or rows: 1200..1500.",
        )
    if start.isdigit() and end.isdigit():
        return int(start), int(end)
    return start, end


def end_with_anomalies(events: int) -> None:
    """The exit code of `--fail-on-anomaly`, where there is any event. Raises typer.Exit."""
    if events:
        raise typer.Exit(ANOMALIES_FOUND)
