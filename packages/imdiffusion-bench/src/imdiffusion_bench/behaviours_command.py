"""`imdiffusion bench behaviours`: faults as a user thinks of them, and how detectors meet each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import AsJson
from imdiffusion.cli.terminal import Terminal, resumable
from imdiffusion.errors import DataError
from imdiffusion_bench.options import Every, Where

if TYPE_CHECKING:
    from imdiffusion.settings import Scalar
    from imdiffusion_bench.behaviours import Question

EXAMPLES = """imdiffusion bench behaviours --plot behaviours.svg

imdiffusion bench behaviours --detectors fast,random --scenarios spike,frozen --seeds 0-2

imdiffusion bench behaviours --dials channels=100,season=none,missing=0.1 --set alarm_rate=0.01"""

Detectors = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Presets and baselines by name (`bench names`), instead of the usual; paper is "
        "capped in training.",
        show_default=False,
    ),
]
Scenarios = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Only these scenarios.", show_default=False)
]
SystemOption = Annotated[
    str,
    typer.Option(
        "--dials",
        metavar="KEY=VALUE,...",
        help="What the system is like: channels, period_s, rows_train, rows_test, season, "
        "coupling, noise, missing, batch_minutes, size, length and others (docs/behaviours.md).",
        show_default=False,
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Also draw: .svg or .png.",
        show_default=False,
    ),
]


def behaviours(
    ctx: typer.Context,
    detectors: Detectors = None,
    scenarios: Scenarios = None,
    dials: SystemOption = "",
    seeds: Annotated[str, typer.Option(metavar="0-5", help="Seeds of series and detectors.")] = "0",
    overrides: Every = None,
    device: Where = "auto",
    as_json: AsJson = False,
    plot: Plot = None,
) -> None:
    """Measure how detectors meet faults such as a frozen sensor or a missing batch: found or not,
    how late, where, which channel, and what was told for nothing. Markdown; exit code 3 if a run
    failed.
    """
    from imdiffusion_bench.behaviours import table
    from imdiffusion_bench.behaviours.running import document
    from imdiffusion_bench.plots import check_plot, save_plot

    terminal: Terminal = ctx.obj
    if plot is not None:
        check_plot(plot)
    question = asked_question(detectors, scenarios, dials, seeds, overrides, device=device)
    for name in question.absent:
        terminal.warn(f"{name} is not measured: this version has no detector of that name")
    with resumable("Nothing was written; ask for fewer --scenarios or --seeds at a time."):
        records = _measured(terminal, question)
    whole = document(question, records)
    if as_json:
        terminal.emit_json(whole)
    else:
        terminal.emit(table.tables(whole).rstrip("\n"))
    if plot is not None:
        terminal.notice(f"{save_plot(table.plot(whole), plot)} written.")
    failed = sum(one["status"] == "failed" for one in records)
    if failed:
        terminal.fail(f"{failed} of {len(records)} runs failed: what was printed says why.")
        raise typer.Exit(DataError.exit_code)


def asked_question(
    detectors: str | None,
    scenarios: str | None,
    dials: str,
    seeds: str,
    overrides: Sequence[str] | None,
    *,
    device: str,
) -> Question:
    """What the options ask for. Raises UsageError or ConfigError for what they cannot say."""
    from imdiffusion_bench.asked import seeds_of, words
    from imdiffusion_bench.behaviours import SCENARIOS, Question, read_system
    from imdiffusion_bench.behaviours.detectors import USUAL
    from imdiffusion_bench.behaviours.scenarios import scenario

    names = USUAL if detectors is None else words("--detectors", detectors)
    asked = tuple(SCENARIOS) if scenarios is None else words("--scenarios", scenarios)
    for one in asked:
        scenario(one)
    question = Question(names, asked, read_system(dials), seeds_of(seeds), device=device)
    return Question(
        names,
        asked,
        question.dials,
        question.seeds,
        _settings(question.present, overrides or ()),
        device,
    )


def _settings(detectors: Iterable[str], pairs: Sequence[str]) -> Mapping[str, dict[str, Scalar]]:
    """The settings of `--set`, each for the detectors that have it; one has it at least."""
    from imdiffusion.cli.keywords import assignments
    from imdiffusion_bench.behaviours.detectors import knows, settings_of

    given: dict[str, Any] = assignments(pairs)
    names = tuple(detectors)
    found = {
        name: {key: value for key, value in given.items() if knows(name, key)} for name in names
    }
    for key, value in given.items():
        if names and not any(key in settings for settings in found.values()):
            settings_of(names[0], {key: value})  # raises, and says what is near
    return found


def _measured(terminal: Terminal, question: Question) -> list[dict[str, Any]]:
    from imdiffusion.course import Progress
    from imdiffusion_bench.behaviours.running import run_behaviours

    records = []
    with terminal.progress("runs") as show:
        for record in run_behaviours(question):
            records.append(record)
            if show is not None:
                show(Progress(record["detector"], len(records), question.total))
    return records
