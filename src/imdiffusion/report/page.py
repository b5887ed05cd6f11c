"""One HTML file that opens anywhere, offline: scores, events, channels seen against expected."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from imdiffusion import wording
from imdiffusion.report import cards
from imdiffusion.report.cards import Axis

if TYPE_CHECKING:
    from imdiffusion.promise.report import PromiseReport
    from imdiffusion.results import Analysis
import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from imdiffusion.arrays import Floats
from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import UsageError
from imdiffusion.report.cards import Fault, Found, Known, found_events, known_faults
from imdiffusion.report.payload import Thinning, packed, packed_timeline, thinning
from imdiffusion.scoring.event import by_share

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


MOST_CELLS = 5_000_000  # rows x channels of a page; about 7 bytes each, and 5 s to open at most
SCRIPTS = ("format", "decode", "view", "paint", "charts", "channels", "page")  # in this order
NO_FACTS: Mapping[str, str] = MappingProxyType({})


def write_report(
    path: str | Path,
    analyses: Sequence[Analysis],
    *,
    title: str,
    faults: Sequence[Fault] = (),
    about: Mapping[str, str] = NO_FACTS,
    promises: Sequence[PromiseReport] = (),
) -> Path:
    """Write one offline HTML page about `analyses` (one an entity) to `path`, atomically.

    `faults` are shown beside the events; `about` are facts about the model and its settings;
    `promises` what `ImDiffusion.report_` says of the analysed entities, in their order.
    The page holds all its data, asks no network for anything, and needs a browser of 2023 or
    newer. Series of more than five million values in all are thinned away from the events.

    Raises UsageError if `analyses` is empty, mixes data with and without timestamps, or does
    not fit the faults; OutputError if the file cannot be written.
    """
    if not analyses:
        raise UsageError("a report of no analysis", remedy="Analyze at least one entity.")
    if len({Axis(analysis.frame).temporal for analysis in analyses}) > 1:
        raise UsageError(
            "a report cannot mix data with and without timestamps",
            remedy="Write one report for each.",
        )
    target = Path(path)
    events = found_events(analyses)
    known = known_faults(faults, analyses, events)
    plans = _plans(analyses)
    head, tail = _text("page/template.html").split("<!-- data -->\n")
    words = _words(title, analyses, events, known, about, plans)
    words["promise"] = promise_section(promises, analyses) + unalarmed_section(analyses)
    with atomic_path(target) as draft, Path(draft).open("w", encoding="utf-8") as page:
        page.write(Template(head).substitute(words))
        for entity, (analysis, plan) in enumerate(zip(analyses, plans, strict=True)):
            for name, blob in _blobs(analysis, plan):
                page.write(f'<script type="text/plain" id="e{entity}{name}">{blob}</script>\n')
        page.write(Template(tail).substitute(words))
    return target


def _plans(analyses: Sequence[Analysis]) -> list[Thinning]:
    """How many rows of each entity the page shows: each has the same share of the cells."""
    plans = []
    for analysis in analyses:
        rows, channels = analysis.frame.values.shape
        budget = max(2000, MOST_CELLS // (len(analyses) * max(1, channels)))
        plans.append(thinning(rows, budget, ((e.start, e.end) for e in analysis.events)))
    return plans


def _blobs(analysis: Analysis, plan: Thinning) -> Iterator[tuple[str, str]]:
    """(id after the entity's, text) of the timeline and of each channel."""
    x = Axis(analysis.frame).offsets()[plan.positions() if plan.coarsest > 1 else slice(None)]
    yield "", packed_timeline(x, plan.extremes(np.asarray(analysis.score)))
    values, observed = analysis.frame.values, analysis.frame.observed
    for k in range(len(analysis.frame.channels)):
        seen = np.where(observed[:, k], values[:, k], np.nan)
        expected = plan.extremes(analysis.expected[:, k])
        lower = plan.lowest(analysis.lower[:, k])
        upper = plan.highest(analysis.upper[:, k])
        yield f"c{k}", packed(plan.extremes(seen), expected, lower, upper)


def _words(
    title: str,
    analyses: Sequence[Analysis],
    events: Sequence[Found],
    faults: Sequence[Known],
    about: Mapping[str, str],
    plans: Sequence[Thinning],
) -> dict[str, str]:
    """What the template asks for, escaped where it comes from outside."""
    temporal = Axis(analyses[0].frame).temporal
    style = _text("vendor/uPlot.min.css") + "\n" + _text("page/page.css") + _text("page/chrome.css")
    library = _text("vendor/uPlot.iife.min.js").split("\n", 1)[1]  # less its address
    own = "".join(_text(f"page/{name}.js") for name in SCRIPTS)
    script = library + '\n(() => {\n"use strict";\n' + own + "})();\n"
    return {
        "title": escape(title),
        "policy": _policy(style, script),
        "style": style,
        "script": script,
        "licence": escape(_text("vendor/LICENSE-uplot.txt").strip()).replace("--", "- -"),
        "period": cards.period_line(analyses),
        "figures": cards.key_figures(analyses, events, faults),
        "about": cards.about_list(about),
        "events": cards.event_list(events, analyses, faults, temporal),
        "faults": cards.fault_table(faults, temporal, entities=len(analyses) > 1),
        "thinned": _thinned(max(plan.coarsest for plan in plans)),
        "facts": _json(_facts(analyses, events, faults)),
    }


def _thinned(rows: int) -> str:
    if rows == 1:
        return ""
    return f"Away from events up to {rows:,} rows are drawn as their lowest and highest value."


def _policy(style: str, script: str) -> str:
    """A policy that lets this page's own style and script work, and nothing else."""
    digests = (hashlib.sha256(text.encode()).digest() for text in (style, script))
    own_style, own_script = (base64.b64encode(digest).decode() for digest in digests)
    return (
        f"default-src 'none'; script-src 'sha256-{own_script}'; style-src 'sha256-{own_style}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _facts(
    analyses: Sequence[Analysis], events: Sequence[Found], faults: Sequence[Known]
) -> dict[str, Any]:
    """What page.js needs beside the series."""
    return {
        "temporal": Axis(analyses[0].frame).temporal,
        "entities": [
            {
                "name": analysis.frame.entity or "",
                "origin": Axis(analysis.frame).origin,
                "step": Axis(analysis.frame).step,
                "channels": list(analysis.frame.channels),
                "shares": [round(float(part), 5) for part in overall_shares(analysis)],
            }
            for analysis in analyses
        ],
        "events": [_event_facts(one, analyses[one.entity]) for one in events],
        "faults": [
            {
                "entity": known.entity,
                "start": known.start,
                "end": known.end,
                "kind": known.fault.kind,
            }
            for known in faults
        ],
    }


def _event_facts(found: Found, analysis: Analysis) -> dict[str, Any]:
    place = {channel: index for index, channel in enumerate(analysis.frame.channels)}
    axis, event = Axis(analysis.frame), found.event
    return {
        "entity": found.entity,
        "start": found.start,
        "end": found.end,
        "score": _plain(event.score),
        "peak": axis.x(event.peak),
        "channels": [place[channel] for channel in event.channels],
        "shares": [round(float(part), 5) for part in event.shares],
        "seen": [_plain(value) for value in event.seen],
        "expected": [_plain(value) for value in event.expected],
    }


def overall_shares(analysis: Analysis) -> Floats:
    """Each channel's part (K,) of the score in alarm, or of the whole score where none is."""
    scores = np.nan_to_num(np.asarray(analysis.channel_scores, dtype=np.float64))
    rows = scores[np.asarray(analysis.alarm, dtype=np.bool_)]
    return by_share((rows if len(rows) else scores).sum(axis=0))[1]


def _plain(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _json(facts: dict[str, Any]) -> str:
    """JSON that cannot end its own script element, whatever the names in it are."""
    text = json.dumps(facts, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(name: str) -> str:
    """A file of this room: page/... or vendor/..."""
    return files("imdiffusion.report").joinpath(*name.split("/")).read_text(encoding="utf-8")
