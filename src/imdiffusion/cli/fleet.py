"""`--fleet`: what `fit` and `detect` do with a folder of entities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from imdiffusion.cli.reading import Reading, bundled
from imdiffusion.cli.terminal import Terminal, resumable
from imdiffusion.errors import UsageError

if TYPE_CHECKING:
    from imdiffusion.course import Progress
    from imdiffusion.fleet import Outcome, Summary
    from imdiffusion.fleet.tally import Watch

PANEL = "Many entities"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A folder of entities, and who works at it: every field is an option of `fit` and `detect`."""

    fleet: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="One file or one folder an entity, or files of several: each by itself.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    on: Annotated[
        str,
        typer.Option(
            metavar="ENGINE",
            help="Who works: local, ray, or ray://HOST:PORT.",
            rich_help_panel=PANEL,
        ),
    ] = "local"
    jobs: Annotated[
        int | None,
        typer.Option(help="Workers at once.", show_default="as many as fit", rich_help_panel=PANEL),
    ] = None
    threads: Annotated[
        int | None,
        typer.Option(
            help="Threads of a worker.", show_default="cores by --jobs", rich_help_panel=PANEL
        ),
    ] = None
    gpus: Annotated[
        float, typer.Option(help="GPUs of a worker, or a fraction (ray).", rich_help_panel=PANEL)
    ] = 0.0
    retries: Annotated[
        int,
        typer.Option(
            help="How often an entity whose worker died is tried again.", rich_help_panel=PANEL
        ),
    ] = 2

    def crew(self) -> dict[str, Any]:
        """The keywords of `imdiffusion.fleet.fit` and `detect` that say who works."""
        names = ("on", "jobs", "threads", "gpus", "retries")
        return {name: getattr(self, name) for name in names}


# The options of `Fleet`, for a verb's argument `many`.
knows_fleets = bundled(Fleet, "many")


def asked(many: Fleet, files: Sequence[Path] | None, **needed: Path | None) -> Path | None:
    """The folder of a fleet, or None where files are given; UsageError for both or neither.

    needed: options without which a fleet is not worked at.
    """
    if many.fleet is None:
        given = [name for name, value in many.crew().items() if value != getattr(Fleet(), name)]
        if given:
            raise UsageError(
                f"--{given[0]} is for --fleet alone", remedy=f"Leave out --{given[0]}."
            )
        if not files:
            raise UsageError("neither FILE nor --fleet is given", remedy="Name the data.")
        return None
    if files:
        raise UsageError("both FILE and --fleet are given", remedy="Name one of them.")
    for name, place in needed.items():
        if place is None:
            raise UsageError(f"--fleet needs --{name} FOLDER", remedy="Name a folder to write to.")
    return many.fleet


def refuse(**given: object) -> None:
    """UsageError for an option that is given and would do nothing."""
    for name, value in given.items():
        if value:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} does not go with this", remedy=f"Leave out --{option}.")


def fit_fleet(
    terminal: Terminal,
    folder: Path,
    out: Path,
    many: Fleet,
    reading: Reading,
    *,
    keywords: dict[str, Any],
    spans: Sequence[tuple[str | int, str | int]],
) -> None:
    """`imdiffusion fit --fleet`: one model an entity. Raises typer.Exit where one failed."""
    from imdiffusion import fleet

    with _watching(terminal, out) as watch:
        found = fleet.fit(
            folder,
            out,
            exclude=spans,
            reading=reading.options(),
            watch=watch,
            **many.crew(),
            **keywords,
        )
    _finish(terminal, found)


def detect_fleet(
    terminal: Terminal,
    folder: Path,
    models: Path,
    out: Path,
    many: Fleet,
    reading: Reading,
    *,
    as_json: bool,
    device: str,
    ignore_extra: bool,
) -> int:
    """`imdiffusion detect --fleet`: the number of events. Raises typer.Exit where one failed."""
    from imdiffusion import fleet

    with _watching(terminal, out) as watch:
        found = fleet.detect(
            folder,
            models,
            out,
            reading=reading.options(),
            device=device,
            ignore_extra=ignore_extra,
            watch=watch,
            **many.crew(),
        )
    if as_json:
        terminal.emit_json(found.to_dict())
    events, rows = found.total("events"), found.total("rows")
    terminal.notice(f"{events:,} event{'' if events == 1 else 's'} in {rows:,} rows.")
    _finish(terminal, found)
    return events


@contextmanager
def _watching(terminal: Terminal, out: Path) -> Iterator[Watch]:
    """Shows entities done and the time left; tells each failure and warning as a line."""
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
    terminal.notice(found.told())
    if found.failed:
        end_with_failures(terminal, len(found.failed), len(found.outcomes), found.exit_code)


def end_with_failures(terminal: Terminal, failed: int, total: int, code: int) -> NoReturn:
    """The last line and the exit code of a call that some of its entities went through without."""
    terminal.fail(f"{failed} of {total} entities failed, see above.")
    raise typer.Exit(code)
