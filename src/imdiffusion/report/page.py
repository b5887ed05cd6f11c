"""One HTML file that opens anywhere, offline: scores, events, channels seen against expected."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion.arrays import Floats
from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import UsageError
from imdiffusion.report import cards
from imdiffusion.report.kept import promise_section, unalarmed_section
from imdiffusion.report.payload import packed, packed_timeline
from imdiffusion.report.thinning import Thinning, thinning
from imdiffusion.report.truth import Axis, Fault, Found, Known, found_events, known_faults
from imdiffusion.scoring.channels import by_share

if TYPE_CHECKING:
    from imdiffusion.promise.report import PromiseReport
    from imdiffusion.results import Analysis

__all__ = ["Fault", "write_report"]

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
