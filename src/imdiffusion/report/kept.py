"""What was promised, what was kept, and what no event tells of, as a part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from imdiffusion import wording
from imdiffusion.report import cards
from imdiffusion.report.truth import Axis

if TYPE_CHECKING:
    from imdiffusion.promise.report import PromiseReport
    from imdiffusion.results import Analysis

MOST_ENTITIES = 200  # rows of the table
MOST_SPANS = 20


def promise_section(promises: Sequence[PromiseReport], analyses: Sequence[Analysis]) -> str:
    """Promised, achieved on rows held out and on the rows of the page, and the worst hour.

    One of each entity, in the same order; nothing where there is no promise.
    """
    if not promises:
        return ""
    entities = len(promises) > 1
    shown = list(zip(promises, analyses, strict=True))[:MOST_ENTITIES]
    rows = [_row(one, analysis, entities=entities) for one, analysis in shown]
    more = len(promises) - len(rows)
    if more:
        rows.append(f'<tr><th scope="row">{wording.count(more)} more entities</th></tr>')
    where = '<th scope="col">Entity</th>' if entities else ""
    rates = sorted({one.promised for one in promises})
    promised = " to ".join(fine_share(rate) for rate in (rates[:1] + rates[1:][-1:]))
    return (
        '<details class="faults" id="promise"><summary>What was promised <span class="quiet">'
        f"{promised} of normal rows in alarm</span></summary>\n"
        f'<div class="scroll"><table>\n<thead><tr>{where}<th scope="col">Promised</th>'
        '<th scope="col">Achieved on training rows held out</th>'
        '<th scope="col">In the rows of this page</th><th scope="col">Worst hour of training</th>'
        '<th scope="col">Worst part of training</th></tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div>"
        + _unknown([one for one, _ in shown])
        + "</details>"
    )


def unalarmed_section(analyses: Sequence[Analysis]) -> str:
    """Channels that are outside their band for long and that no event names, with the reason.

    The longest spans; nothing where there is none.
    """
    found = [(analysis, one) for analysis in analyses for one in analysis.unalarmed]
    if not found:
        return ""
    longest = sorted(found, key=lambda pair: pair[1].start - pair[1].end)[:MOST_SPANS]
    rows = []
    for analysis, one in longest:
        axis = Axis(analysis.frame)
        when = cards.span_tags(axis.x(one.start), axis.x(one.end), axis.temporal)
        name = cards.breakable(one.channel)
        if len(analyses) > 1:
            name = f"{cards.breakable(str(analysis.frame.entity))}: {name}"
        rows.append(
            f'<tr><th scope="row">{name}</th><td>{when}</td>'
            f"<td>{wording.share(one.outside)} {one.side}</td><td>{escape(one.reason)}</td></tr>"
        )
    more = len(found) - len(rows)
    rest = f", the {len(rows)} longest" if more else ""
    return (
        '<details class="faults" id="unalarmed"><summary>Outside the band without an event '
        f'<span class="quiet">{wording.count(len(found))} span{"" if len(found) == 1 else "s"}'
        f'{rest}</span></summary>\n<div class="scroll"><table>\n<thead><tr>'
        '<th scope="col">Channel</th><th scope="col">When</th><th scope="col">Outside</th>'
        '<th scope="col">Why there is no event</th></tr></thead>\n<tbody>'
        + "\n".join(rows)
        + "</tbody></table></div></details>"
    )


def fine_share(value: float) -> str:
    """A share in percent, small ones too: 0.0012 is "0.12%"."""
    return f"{float(f'{100 * value:.2g}'):g}%"


def _row(one: PromiseReport, analysis: Analysis, *, entities: bool) -> str:
    achieved = "not known"
    if one.achieved is not None and one.low is not None and one.high is not None:
        span = f"{fine_share(one.low)} to {fine_share(one.high)}, {wording.count(one.rows)} rows"
        events = "" if one.events is None else f"; {one.events:.3g} events a {one.events_per}"
        achieved = f"{fine_share(one.achieved)}{_detail(span + events)}"
    scored = np.isfinite(np.asarray(analysis.score, np.float64))
    share = float(np.sum(analysis.alarm)) / max(1, int(scored.sum()))
    here = f"{fine_share(share)}{_detail(f'of {wording.count(int(scored.sum()))} rows')}"
    hour = part = wording.NOTHING
    if one.worst_hour is not None:
        at = one.worst_hour.hour
        hours = f"{at:02d}:00 to {(at + 1) % 24:02d}:00 {one.timezone}"
        hour = f"{fine_share(one.worst_hour.share)}{_detail(hours)}"
    if one.worst_part is not None:
        first, last = wording.moment(one.worst_part.start), wording.moment(one.worst_part.end)
        part = f"{fine_share(one.worst_part.share)}{_detail(f'{first} to {last}')}"
    cells = [fine_share(one.promised), achieved, here, hour, part]
    name = f'<th scope="row">{escape(str(one.entity))}</th>' if entities else ""
    return f"<tr>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _detail(text: str) -> str:
    return f'<span class="detail">{escape(text)}</span>'


def _unknown(promises: Sequence[PromiseReport]) -> str:
    """What cannot be said, and why, each reason once."""
    reasons = dict.fromkeys(reason for one in promises for reason in one.unknown)
    lines = "".join(f'<p class="quiet">Not known: {escape(reason)}.</p>' for reason in reasons)
    return lines
