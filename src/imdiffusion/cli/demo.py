"""`imdiffusion demo`: the whole job on a real recording, beside the faults really injected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import Overrides, Seed, TrainDevice
from imdiffusion.cli.terminal import Terminal

if TYPE_CHECKING:
    from imdiffusion.data.files import Recording
    from imdiffusion.report.cards import Found, Known
    from imdiffusion.results import Analysis

EXAMPLES = "imdiffusion demo --out report.html"
# A promise of one row in a thousand would leave four of 3,600: too strict for a quarter of an hour.
ALARM_RATE = 0.01


def demo(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="HTML report to write.")
    ] = Path("report.html"),
    seed: Seed = None,
    device: TrainDevice = None,
    overrides: Overrides = None,
) -> None:
    """Fit and detect on a bundled recording of a real host; compare with the faults injected."""
    from imdiffusion.cli.outputs import check_output
    from imdiffusion.cli.setting_options import keywords

    terminal: Terminal = ctx.obj
    check_output(out, (".html", ".htm"))
    given = {"alarm_rate": ALARM_RATE, **keywords(None, overrides, seed=seed, device=device)}

    from imdiffusion.data.files import recording

    real = recording()
    terminal.notice(_told_recording(real))
    terminal.notice(
        f"Promised: {100 * given['alarm_rate']:g} % of the normal rows in alarm (alarm_rate)."
    )
    detector, analysis = _fitted(terminal, real, given)

    from imdiffusion.cli.input_options import about, promises_of
    from imdiffusion.report.cards import Fault, found_events, known_faults
    from imdiffusion.report.page import write_report

    faults = [Fault(one.start, one.end, one.kind, one.description) for one in real.faults]
    events = found_events([analysis])
    known = known_faults(faults, [analysis], events)
    terminal.emit_table(*_events(analysis, known))
    terminal.emit("")
    terminal.emit_table(*_faults(known))
    terminal.emit("")
    terminal.emit(_counts(analysis, events, known))
    reach = detector.settings_.reach
    if reach and detector.settings_.networked:
        terminal.notice(
            f"A score reads up to {reach} rows on either side of its own: the final score of a row "
            "would be known as much later live."
        )
    facts = {**_facts(real), **about(detector)}
    write_report(
        out,
        [analysis],
        title=real.about["title"],
        faults=faults,
        about=facts,
        promises=promises_of(detector, [analysis]),
    )
    terminal.notice(f"Open {out} in a browser to look closer.")


def _fitted(terminal: Terminal, real: Recording, given: dict[str, Any]) -> tuple[Any, Analysis]:
    """A detector fitted on the training part, and its analysis of the test part."""
    from imdiffusion import ImDiffusion
    from imdiffusion.wording import duration

    detector = ImDiffusion(**given)
    began = time.monotonic()
    with terminal.progress() as show:
        detector.fit(real.train, on_progress=show)
        fitted = time.monotonic()
        analysis = detector.analyze(real.test, on_progress=show)
    scored = time.monotonic() - fitted
    terminal.notice(
        f"Fitted in {duration(fitted - began)}; scored {len(analysis.score):,} rows in "
        f"{duration(scored)} ({len(analysis.score) / scored:,.0f} a second)."
    )
    return detector, analysis


def _told_recording(real: Recording) -> str:
    rows, channels = real.train.values.shape
    return (
        f"{real.about['title']} ({real.about['date']}). Training on {rows:,} rows of {channels} "
        f"channels, then detecting in {len(real.test.values):,} rows; no label is used."
    )


def _facts(real: Recording) -> dict[str, str]:
    host = real.about["host"]
    return {
        "recorded": f"{real.about['date']}, one row every {real.about['interval_seconds']:g} s",
        "host": f"{host['cores']} cores, {host['memory_bytes'] / 2**30:.0f} GiB, {host['os']}",
    }


def _events(
    analysis: Analysis, known: Sequence[Known]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of events, each with the faults that were on at the time."""
    from imdiffusion.cli.outputs import event_cells

    columns, rows = event_cells([analysis])
    met = [
        ", ".join(one.fault.kind for one in known if any(f.event is event for f in one.met))
        for event in analysis.events
    ]
    return ("fault", *columns), [
        (kind or "none", *row) for kind, row in zip(met, rows, strict=True)
    ]


def _faults(known: Sequence[Known]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of injected faults: found or missed, and how late."""
    from imdiffusion.wording import duration, moment

    rows: list[tuple[str, ...]] = []
    for one in known:
        found = "missed"
        if one.met:
            found = f"after {duration(one.delay)}" if one.delay else "at once"
        lasts = duration(one.end - one.start)
        rows.append((one.fault.kind, moment(one.fault.start), lasts, found, one.fault.description))
    return ("fault", "start", "lasts", "found", "what was done"), rows


def _counts(analysis: Analysis, events: Sequence[Found], known: Sequence[Known]) -> str:
    """How many faults were found, and how often there was an alarm without a fault.

    An event has the rows that carry the evidence; the alarm around it also those whose score, which
    looks over windows, is above 1 because of them.
    """
    import numpy as np

    from imdiffusion.report.cards import Axis
    from imdiffusion.scoring.event import rows_in

    found = sum(bool(one.met) for one in known)
    false = len(events) - len({event.number for one in known for event in one.met})
    axis = Axis(analysis.frame)
    x = axis.origin + axis.offsets()
    calm = np.all([(x < one.start) | (x >= one.end) for one in known], axis=0)
    told = rows_in(analysis.events, len(analysis.alarm))
    return (
        f"Faults found: {found} of {len(known)}. Events: {len(events)}, of which {false} met no "
        f"fault. Rows in events: {told.mean():.1%}; of the rows outside the faults "
        f"{told[calm].mean():.1%}, and {analysis.alarm[calm].mean():.1%} with a score above 1."
    )
