"""Tables in Markdown: one a protocol and data set, notes below, all data sets side by side.

The notes say who is in a table, what is missing from it, and what its marks mean.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from imdiffusion.errors import DataError
from imdiffusion_bench import columns
from imdiffusion_bench.columns import (
    LOWER_IS_BETTER,
    NOTHING,
    Table,
    amount,
    escaped,
    mean_and_std,
    numbers,
    title,
    value,
)
from imdiffusion_bench.record import Record
from imdiffusion_bench.significance import LEVEL, Comparison, compare
from imdiffusion_bench.summary import Block, Summary, VariantSummary, headline, summarise


def table(block: Block, protocol: str, metrics: Sequence[str]) -> Table:
    """One data set under one protocol, best row first.

    Raises DataError for the protocol "paper" without a random row.
    """
    check_random(block, protocol)
    names = [row.variant for row in block.comparable(metrics[0])]
    less = metrics[0] in LOWER_IS_BETTER
    found = compare(names, block.matrix(metrics[0]), lower_is_better=less)
    head = ["variant", *map(columns.heading, metrics), "≈"]
    head += ["entities", "seeds", "fit s", "score s", "rows/s", "MiB"]
    lines = []
    for row in block.ordered(metrics[0]):
        cells = [row.variant, *(_cell(block, row, name) for name in metrics)]
        cells += [mark(row, block, metrics[0], found)]
        cells += [f"{len(row.entities)} of {block.size}", f"{len(row.seeds)}"]
        cells += [amount(row.fit_s), amount(row.score_s), amount(row.rows_per_second)]
        cells += [amount(row.memory_mib)]
        lines.append(tuple(cells))
    return Table(tuple(head), tuple(lines), tuple(notes(block, metrics, found)))


def overview(summary: Summary) -> Table:
    """The first metric of every data set side by side, and its mean over the data sets.

    The mean is of rows that cover every entity of every data set; the others have none.
    """
    metric = summary.metrics[0]
    for block in summary.blocks:
        check_random(block, summary.protocol)
    blocks, sign = summary.blocks, 1 if metric in LOWER_IS_BETTER else -1
    lines: list[tuple[float, tuple[str, ...]]] = []
    for variant in dict.fromkeys(row.variant for block in blocks for row in block.rows):
        cells, means = [], []
        for block in blocks:
            row = next((row for row in block.rows if row.variant == variant), None)
            whole = row is not None and row in block.comparable(metric)
            means.append(row.measures[metric].mean if row and whole else math.nan)
            cells.append(NOTHING if row is None else _cell(block, row, metric))
        mean = math.fsum(means) / len(means)
        place = math.inf if math.isnan(mean) else sign * mean
        lines.append((place, (variant, *cells, columns.value(metric, mean))))
    lines.sort(key=lambda line: line[0])
    head = ("variant", *(block.dataset for block in summary.blocks), "mean")
    note = f"{columns.heading(metric)}, mean over entities of each data set."
    partial = f"{INCOMPLETE} over fewer entities than others have: no mean over the data sets."
    marked = any(INCOMPLETE in cell for _, cells in lines for cell in cells[1:])
    return Table(head, tuple(cells for _, cells in lines), (note, partial) if marked else (note,))


def markdown(summary: Summary) -> str:
    """A heading, a table and its notes for each data set; the protocol stands in every heading.

    Raises DataError as `table`.
    """
    parts = []
    for block in summary.blocks:
        parts.append(f"### {escaped(block.dataset)}, protocol `{summary.protocol}`")
        parts.append(str(table(block, summary.protocol, summary.metrics)))
    return "\n\n".join(parts) + "\n"


def headline_tables(
    records: Iterable[Record], *, protocol: str, metrics: Sequence[str] = ()
) -> str:
    """All data sets side by side where there are several, then each.

    metrics: its columns, the first one sorts and ranks; none = the usual ones of the protocol.
    Raises what `summarise` and `markdown` raise.
    """
    runs = list(records)
    usual = headline(runs).get(protocol) or columns.HEADLINE.get(protocol, ("none",))
    metrics = metrics or usual
    summary = summarise(runs, protocol=protocol, metrics=metrics)
    text = markdown(summary)
    if len(summary.blocks) == 1:
        return text
    return f"### All data sets, protocol `{protocol}`\n\n{overview(summary)}\n\n{text}"


def _cell(block: Block, row: VariantSummary, metric: str) -> str:
    measure = row.measures[metric]
    cross = INCOMPLETE if is_partial(block, row, metric) else ""
    return mean_and_std(metric, measure.mean, measure.std) + cross


def is_partial(block: Block, row: VariantSummary, metric: str) -> bool:
    """Whether a line has values, but not on every entity that others have."""
    return bool(row.measures[metric].by_entity) and row not in block.comparable(metric)


Fact = TypeVar("Fact", bound=Hashable)
MOST_NAMED = 5  # entities, failures or missing runs named in a note; more are counted
INCOMPLETE = "†"
CAP_WORDS = {
    "max_steps": ("step", "steps"),
    "max_epochs": ("epoch", "epochs"),
    "steps": ("step", "steps"),
    "epochs": ("epoch", "epochs"),
}


def check_random(block: Block, protocol: str) -> None:
    """DataError for point-adjusted numbers without a row of random scores beside them."""
    measured = any(row.measures[name].by_entity for row in block.rows for name in row.measures)
    if protocol == "paper" and measured and not block.has_random:
        raise DataError(
            f"the point-adjusted numbers of {block.dataset} have no random row",
            remedy="Add the variant `random` to the plan: noise alone scores high here.",
        )


def notes(block: Block, metrics: Sequence[str], comparison: Comparison) -> list[str]:
    """Plain sentences, one a line, about one table whose first metric is compared."""
    has = "A random row is" if block.has_random else "No random row is"
    return [
        *_known(block, metrics),
        *_shorter(block, metrics),
        f"{has} in the table.",
        *_caps(block),
        _test(metrics[0], comparison),
    ]


def covered(block: Block, metrics: Sequence[str]) -> list[str]:
    """Of `notes` those that are about no comparison: who is there, what is missing, what capped."""
    return [*_known(block, metrics), *_caps(block)]


def _known(block: Block, metrics: Sequence[str]) -> list[str]:
    return [_who(block), *_gaps(block), *_fewer_seeds(block), *_undefined(block, metrics)]


def _alike(found: Iterable[tuple[Fact, str]]) -> dict[Fact, str]:
    """Fact about rows -> their names: those with the same fact stand together."""
    names: dict[Fact, list[str]] = {}
    for fact, name in found:
        names.setdefault(fact, []).append(name)
    return {fact: "; ".join(each) for fact, each in names.items()}


def _caps(block: Block) -> list[str]:
    """One line for each cap on training, with the rows that have it."""
    found = _alike((_cap(row), row.variant) for row in block.rows if row.caps)
    return [f"Trained for at most {cap}: {names}." for cap, names in found.items()]


def _cap(row: VariantSummary) -> str:
    return " or ".join(f"{cap:,} {CAP_WORDS[key][cap != 1]}" for key, cap in row.caps.items())


def p_words(p: float) -> str:
    """A p as "p = 0.031", or "p < 0.001"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _who(block: Block) -> str:
    entities = (
        ", ".join(block.entities) if len(block.entities) <= MOST_NAMED else f"{len(block.entities)}"
    )
    if block.size > len(block.entities):
        part = f"of the {block.size} of {block.dataset}"
        named = len(block.entities) <= MOST_NAMED
        entities += f" ({len(block.entities)} {part})" if named else f" {part}"
    spread = "; ± is the standard deviation over seeds" if len(block.seeds) > 1 else ""
    return f"Entities: {entities}. Seeds: {numbers(block.seeds)}{spread}."


def _gaps(block: Block) -> list[str]:
    """Runs that failed, and what rows lack of the seeds that they were run with."""
    lines: list[str] = []
    lacking: list[tuple[tuple[str, str], str]] = []
    for row in block.rows:
        missing = [f"{entity} seed {seed}" for entity, seed in row.lacking]
        due = row.ok + len(row.failed) + len(missing)
        if missing:
            lacking.append(((f"{len(missing)} of {due} runs", _some(missing)), row.variant))
        if row.failed:
            lines.append(f"Failed: {len(row.failed)} of {due} runs of {row.variant}: {_why(row)}.")
    for (count, which), names in _alike(lacking).items():
        each = " each" if ";" in names else ""
        lines.append(f"Missing: {count}{each} of {names} ({which}).")
    return lines


def _fewer_seeds(block: Block) -> list[str]:
    """The rows that lack a seed wholly."""
    found = _alike((row.tried, row.variant) for row in block.rows if row.missing != row.lacking)
    return [
        f"Run with {'seed' if len(seeds) == 1 else 'seeds'} {numbers(seeds)} alone: {names}."
        for seeds, names in found.items()
    ]


def _why(row: VariantSummary) -> str:
    """The reasons of a row's failures, each once, with the runs it ended."""
    found: dict[str, dict[str, list[int]]] = {}
    for one in row.failed:
        error = f"{one['error'].get('type', 'error')}: {one['error'].get('message', '')}"
        reason = f"{one['stage']}, {_short(error)}"
        found.setdefault(reason, {}).setdefault(one["entity"], []).append(one["seed"])
    return _some(
        [
            f"{reason} ({_some([f'{name} seed {numbers(seeds)}' for name, seeds in runs.items()])})"
            for reason, runs in found.items()
        ]
    )


def _short(text: str, most: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _some(named: list[str]) -> str:
    more = len(named) - MOST_NAMED
    return "; ".join(named[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def _undefined(block: Block, metrics: Sequence[str]) -> list[str]:
    lines, found = [], []
    for metric in metrics:
        rows = [row for row in block.rows if row.measures[metric].undefined]
        if rows and not block.reference(metric):
            lines.append(f"Not defined in any run: {title(metric)}.")
            continue
        found += [
            f"{title(metric)} in {row.measures[metric].undefined} of {row.ok} runs of {row.variant}"
            for row in rows
        ]
    return lines + ([f"Not defined, and in no mean: {'; '.join(found)}."] if found else [])


def _shorter(block: Block, metrics: Sequence[str]) -> list[str]:
    """Rows that cover fewer entities: not ranked; and everybody's mean where all can be."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        ranked = block.comparable(metric)
        whole = len(block.reference(metric))
        for row in block.rows:
            covered = len(row.measures[metric].by_entity)
            if covered and row not in ranked:
                found.setdefault(f"{row.variant} ({covered} of {whole})", []).append(title(metric))
    if not found:
        return []
    every = tuple(map(title, metrics)) if len(metrics) > 1 else ()
    partial = "; ".join(
        f"{who} in {'all columns' if which == every else ', '.join(which)}"
        for which, who in _alike((tuple(which), who) for who, which in found.items()).items()
    )
    lines = [f"{INCOMPLETE} over fewer entities, not ranked: {partial}."]
    shared, means = block.common(metrics[0])
    if shared and len(shared) < len(block.reference(metrics[0])):
        each = "; ".join(f"{name} {value(metrics[0], mean)}" for name, mean in means.items())
        lines.append(f"{title(metrics[0])} on the {_entities(len(shared))} that all have: {each}.")
    return lines


def _entities(count: int) -> str:
    return "one entity" if count == 1 else f"{count} entities"


def _test(metric: str, comparison: Comparison) -> str:
    if comparison.note:
        return f"{title(metric)}: {comparison.note}."
    text = (
        f"≈ marks what does not differ from the best in {title(metric)}: Wilcoxon's signed-rank "
        f"test over {comparison.entities} entities, Holm's correction over "
        f"{len(comparison.pairs)} pairs, level {LEVEL:g}."
    )
    if comparison.friedman is not None:
        text += f" Friedman's test over all: {p_words(comparison.friedman[1])}."
    if comparison.critical_difference is not None:
        text += (
            f" Nemenyi's critical difference of mean ranks: {comparison.critical_difference:.2f}."
        )
    return text


def mark(row: VariantSummary, block: Block, metric: str, comparison: Comparison) -> str:
    """The row's place: "best"; "≈", does not differ from it; "", does; "†", covers fewer entities.

    A dash where there is no test, or no value.
    """
    ranked = block.comparable(metric)
    if row not in ranked:
        return INCOMPLETE if row.measures[metric].by_entity else NOTHING
    if row is ranked[0]:
        return "best"
    if comparison.note:
        return NOTHING
    return "≈" if row.variant in comparison.like(ranked[0].variant) else ""
