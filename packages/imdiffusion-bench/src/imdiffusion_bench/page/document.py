"""The benchmark's page as a whole: one file, its sections, its lists; nothing from outside."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError
from imdiffusion_bench import columns
from imdiffusion_bench.columns import NOTHING
from imdiffusion_bench.notes import INCOMPLETE
from imdiffusion_bench.page.plots import KINDS, kind, means_plot, ranks_plot, speed_plot
from imdiffusion_bench.page.style import STYLE
from imdiffusion_bench.page.svg import safe
from imdiffusion_bench.record import Record
from imdiffusion_bench.summary import Block, Summary, headline, summarise
from imdiffusion_bench.tables import Table, comparison, overview, table

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write_page(
    records: Iterable[Record], path: str | Path, *, title: str, notes: Sequence[str] = ()
) -> Path:
    """Write one offline HTML page about these runs to `path`, atomically. notes: under its title.

    A section a protocol; in it, for each data set, the table of `tables.table`, the means with
    their seeds, the mean ranks with Nemenyi's critical difference, and quality against speed. A
    data set without a random row has no point-adjusted table: the page says so in its place.

    Raises DataError without runs or for runs of one variant that do not fit together;
    MissingExtraError without scipy; OutputError if the file cannot be written.
    """
    runs = list(records)
    if not runs:
        raise DataError("a page about no runs", remedy="Run `imdiffusion bench run` first.")
    summaries = [
        summarise(runs, protocol=name, metrics=metrics) for name, metrics in headline(runs).items()
    ]
    sections = "\n".join(_section(one) for one in summaries)
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{safe(title.replace('`', ''))}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"{_header(runs, title, summaries, notes)}\n<main>\n{sections}\n{_failures(runs)}\n"
        f"{_machines(runs)}\n</main>\n<footer><p>Written by imdiffusion. ± and the lines around "
        "means are one standard deviation over seeds; hollow dots and "
        f"{INCOMPLETE} are means over fewer entities.</p></footer>\n</body>\n</html>\n"
    )
    target = Path(path)
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8")
    return target


def _prose(note: str) -> str:
    """A note as HTML: what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", safe(note))


def _header(
    runs: Sequence[Record], title: str, summaries: Sequence[Summary], notes: Sequence[str]
) -> str:
    failed = sum(run["status"] != "ok" for run in runs)
    # where no run went well there is no protocol, and still something missing
    first = summaries[0] if summaries else summarise(runs, protocol="none", metrics=("none",))
    missing = sum(len(row.lacking) for block in first.blocks for row in block.rows)
    facts = {
        "runs": len(runs),
        "data sets": len({run["dataset"] for run in runs}),
        "entities": len({(run["dataset"], run["entity"]) for run in runs}),
        "variants": len({run["variant"] for run in runs}),
        "failed": failed,
        "missing": missing,
    }
    dates = sorted(str(run["date"])[:10] for run in runs if run.get("date"))
    period = f'<p class="quiet">Measured {safe(_span(dates))}.</p>' if dates else ""
    period += "".join(f'\n<p class="quiet">{_prose(note)}</p>' for note in notes)
    figures = "".join(
        f"<div><dt>{name}</dt><dd>{count:,}</dd></div>" for name, count in facts.items()
    )
    links = [
        f'<li><a href="#{_anchor(one.protocol)}">{safe(_name(one.protocol))}</a></li>'
        for one in summaries
    ]
    links += ['<li><a href="#failures">Failures</a></li>'] if failed else []
    links += ['<li><a href="#machines">Versions and machines</a></li>']
    return (
        f"<header>\n<h1>{_prose(title)}</h1>\n{period}\n"
        f'<dl class="figures">{figures}</dl>\n'
        f'<nav aria-label="Sections"><ul>{"".join(links)}</ul></nav>\n</header>'
    )


def _span(dates: Sequence[str]) -> str:
    return dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"


def _name(protocol: str) -> str:
    return f"Protocol {protocol.replace('_', ' ')}"


def _anchor(protocol: str) -> str:
    return "protocol-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in protocol)


def _section(summary: Summary) -> str:
    """One protocol: what it means, all data sets side by side, then each."""
    lead = columns.PROTOCOLS.get(summary.protocol, "")
    place = _anchor(summary.protocol)
    parts = [
        f'<section aria-labelledby="{place}">',
        f'<h2 id="{place}">{safe(_name(summary.protocol))}</h2>',
    ]
    parts += [f'<p class="lead">{safe(lead)}</p>'] if lead else []
    if len(summary.blocks) > 1:
        parts.append(_overview(summary))
    parts += [_block(block, summary) for block in summary.blocks]
    return "\n".join([*parts, "</section>"])


def _overview(summary: Summary) -> str:
    try:
        found = overview(summary)
    except DataError as error:
        return f'<p class="notice">No overview of all data sets: {safe(str(error))}</p>'
    caption = f"All data sets, {_name(summary.protocol).lower()}"
    return f"<section>\n<h3>All data sets</h3>\n{_table(found, caption)}\n</section>"


def _block(block: Block, summary: Summary) -> str:
    metric = summary.metrics[0]
    head = f"<section>\n<h3>{safe(block.dataset)}</h3>\n"
    try:
        found = table(block, summary.protocol, summary.metrics)
    except DataError as error:
        return f'{head}<p class="notice">Not shown: {safe(str(error))}</p>\n</section>'
    name = columns.title(metric)
    caption = f"{block.dataset}, {_name(summary.protocol).lower()}, sorted by {name}"
    tested = comparison(block, metric)
    plots = [
        _figure(
            columns.heading(metric),
            "mean over entities; dots are seeds, lines one standard deviation over them",
            means_plot(block, metric),
        ),
        _figure(
            "Mean rank, 1 is best",
            "lines are half Nemenyi's critical difference to either side: rows differ where they "
            "do not overlap; bars at the right join rows that do not differ",
            ranks_plot(block, metric, tested),
        ),
        _figure(
            f"{name} against speed",
            "test rows scored a second, logarithmic",
            speed_plot(block, metric),
        ),
    ]
    return (
        f"{head}{_table(found, caption)}\n{_legend(block)}\n"
        f'<div class="plots">\n{"".join(plots)}</div>\n</section>'
    )


def _legend(block: Block) -> str:
    used = {kind(row) for row in block.rows}
    keys = [
        f'<li><i class="{name}"></i>{told}</li>' for name, told in KINDS.items() if name in used
    ]
    return f'<ul class="legend" aria-label="Colours of the plots">{"".join(keys)}</ul>'


def _figure(name: str, told: str, plot: str) -> str:
    if not plot:
        return ""
    return (
        f"<figure><figcaption>{safe(name)}<span>{safe(told)}</span></figcaption>\n{plot}</figure>\n"
    )


def _table(found: Table, caption: str) -> str:
    head = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in found.head)
    for sign in "↑↓":  # an arrow stays with its last word
        head = head.replace(f" {sign}", f"&nbsp;{sign}")
    lines = []
    for first, *cells in found.lines:
        mark = "best" if "best" in cells else "partial" if INCOMPLETE in cells else ""
        style = f' class="{mark}"' if mark else ""
        inside = "".join(f"<td>{safe(cell)}</td>" for cell in cells)
        lines.append(f'<tr{style}><th scope="row">{safe(first)}</th>{inside}</tr>')
    notes = "".join(f"<li>{_prose(note)}</li>" for note in found.notes)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(caption)}">'
        f"<table><caption>{safe(caption)}</caption>\n"
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>"
        f'\n<ul class="notes">{notes}</ul>'
    )


def _listing(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    """A table of words, the last column as wide as it needs."""
    top = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
    body = []
    for line in lines:
        cells = "".join(f"<td>{safe(cell)}</td>" for cell in line[:-1])
        body.append(f'<tr>{cells}<td class="wide">{safe(line[-1])}</td></tr>')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(caption)}">'
        f'<table class="text"><caption>{safe(caption)}</caption>\n'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


def _failures(runs: Sequence[Record]) -> str:
    failed = [run for run in runs if run["status"] != "ok"]
    if not failed:
        return ""
    lines = []
    for run in failed:
        error = run.get("error") or {}
        told = f"{error.get('type', 'error')}: {error.get('message', '')}"
        names = [str(run[key]) for key in ("variant", "dataset", "entity", "seed")]
        lines.append([*names, str(run.get("stage", NOTHING)), told[:600]])
    head = ("variant", "data set", "entity", "seed", "stage", "error")
    caption = f"{len(failed):,} of {len(runs):,} runs failed; none of them is in any mean"
    return (
        '<section aria-labelledby="failures"><h2 id="failures">Failures</h2>\n'
        f"{_listing(head, lines, caption)}</section>"
    )


def _machines(runs: Sequence[Record]) -> str:
    """What the runs were made with, each combination once, the most frequent first."""
    counted = Counter(
        json.dumps(
            {key: run.get(key) for key in ("host", "device", "threads", "commit", "versions")},
            sort_keys=True,
        )
        for run in runs
    )
    lines = []
    for text, count in counted.most_common():
        made = json.loads(text)
        host = made["host"] or {}
        machine = f"{host.get('cpu') or 'unknown'}, {host.get('cores') or NOTHING} cores"
        if host.get("memory_gib"):
            machine += f", {host['memory_gib']} GiB"
        machine += f", {host['gpu']}" if host.get("gpu") else ""
        versions = ", ".join(f"{name} {one}" for name, one in (made["versions"] or {}).items())
        where = f"{made['device'] or NOTHING}, threads: {made['threads'] or NOTHING}"
        lines.append([f"{count:,}", machine, where, made["commit"] or NOTHING, versions])
    head = ("runs", "machine", "device", "commit", "versions")
    return (
        '<section aria-labelledby="machines"><h2 id="machines">Versions and machines</h2>\n'
        f"{_listing(head, lines, 'What the runs were made with')}</section>"
    )
