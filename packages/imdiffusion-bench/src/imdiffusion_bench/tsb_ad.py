"""TSB-AD-M beside what was published of it: means over files, ranks among the published methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from imdiffusion.errors import DataError
from imdiffusion_bench.columns import NOTHING
from imdiffusion_bench.datasets.tsb_ad import NAME, known_files, source_of_values
from imdiffusion_bench.record import Record
from imdiffusion_bench.summary import Block, summarise
from imdiffusion_bench.tables import Table, text_of

PROTOCOL, METRIC = "tsb_ad", "vus_pr_period"
FILES = 180  # of TSB-AD-M that are judged

# Means over all 180 files as published; two decimals where no more were. None of one's own runs.
PUBLISHED_MEANS: Mapping[str, float] = {
    "AxonAD (unverified)": 0.495,
    "StreamVAE": 0.44,
    "PaAno": 0.4263,
    "KAN-AD": 0.41,
    "xLSTMAD": 0.39,
    "TSPulse, fine-tuned": 0.39,
    "TSPulse, zero-shot": 0.36,
    "MMPAD": 0.35,
    "Time-RCD": 0.32,
    "CNN": 0.31,
    "OmniAnomaly": 0.31,
    "PCA": 0.31,
    "CATCH": 0.30,
    "Isolation Forest": 0.20,
    "TimesNet": 0.19,
    "TranAD": 0.18,
    "Anomaly Transformer": 0.12,
}


def tsb_ad_tables(records: Iterable[Record]) -> str:
    """Markdown: the mean over files with published values beside them, and over all 180.

    A variant that lacks a file of those that others have has no rank and no mean beside the
    published ones. Raises DataError where no run is of TSB-AD-M, and as `summarise`.
    """
    runs = [run for run in records if run["dataset"] == NAME]
    if not runs:
        raise DataError(
            f"no run is of the data set {NAME}",
            remedy=f"Measure it: imdiffusion bench run {NAME} --data FOLDER.",
        )
    (block,) = summarise(runs, protocol=PROTOCOL, metrics=(METRIC,)).blocks
    rows = {row.variant: row.measures[METRIC].by_entity for row in block.rows}
    parts = []
    files = [name for name in block.reference(METRIC) if name in known_files()]
    if files:
        parts.append(
            f"### {NAME}, protocol `{PROTOCOL}`, {len(files)} files beside the publication"
        )
        parts.append(text_of(_by_file(rows, files)))
    others = [name for name in block.reference(METRIC) if name not in known_files()]
    if others or not files:
        parts.append(f"### {NAME}, protocol `{PROTOCOL}`, all {len(block.entities)} files")
        parts.append(text_of(_over_all(block, rows)))
    return "\n\n".join(parts) + "\n"


def _by_file(rows: Mapping[str, Mapping[str, float]], files: Sequence[str]) -> Table:
    """Means over these files and over those of each set, beside the published ones."""
    facts = {name: known_files()[name] for name in files}
    methods = list(dict.fromkeys(name for one in facts.values() for name in one.published))
    published = {
        method: {name: one.published[method] for name, one in facts.items()} for method in methods
    }
    sets = list(dict.fromkeys(one.dataset for one in facts.values()))
    best = {name: one.best for name, one in facts.items()}
    means = {method: _mean(values, files) for method, values in published.items()}
    lines = []
    named = [(f"published {method}", values, True) for method, values in published.items()]
    for name, values, theirs in [*named, *((name, values, False) for name, values in rows.items())]:
        mean = _mean(values, files)
        rank = NOTHING if theirs else _rank(mean, list(means.values()))
        above = sum(values[file] > best[file] for file in files if file in values)
        own = [_mean(values, [f for f in files if facts[f].dataset == one]) for one in sets]
        cells = (_text(mean), rank, f"{above}", *map(_text, own))
        lines.append((-mean if math.isfinite(mean) else math.inf, (name, *cells)))
    lines.sort(key=lambda line: line[0])
    top = [_mean(best, [f for f in files if facts[f].dataset == one]) for one in sets]
    bound = ("best published on each file", _text(_mean(best, files)), NOTHING, NOTHING)
    head = ("row", "VUS-PR, mean of files", f"rank among {len(methods)} published and itself")
    columns = (*head, "files above all published", *sets)
    told = (
        f"{len(files)} of {FILES} files. Source of the published values: {source_of_values()}.",
        "Fitted on the first rows of a file as its name says, all of its rows ranked; the measure "
        "is VUS-PR in TSB-AD's definition, 250 thresholds, buffers up to the period of the first "
        "channel.",
    )
    shown = tuple(line for _, line in lines)
    return Table(columns, ((*bound, *map(_text, top)), *shown), told)


def _over_all(block: Block, rows: Mapping[str, Mapping[str, float]]) -> Table:
    files = block.entities
    found: list[tuple[str, float, str]] = []
    for name, values in rows.items():
        mean = _mean(values, files)
        whole = len(files) == FILES
        rank = _rank(mean, list(PUBLISHED_MEANS.values())) if whole else NOTHING
        found.append((name, mean, rank))
    if len(files) == FILES:
        found += [(f"published {name}", one, NOTHING) for name, one in PUBLISHED_MEANS.items()]
    found.sort(key=lambda line: -line[1] if math.isfinite(line[1]) else math.inf)
    head = (
        "row",
        "VUS-PR, mean of files",
        f"rank among {len(PUBLISHED_MEANS)} and itself",
        "files",
    )
    lines = tuple(
        (name, _text(mean), rank, str(len(rows[name])) if name in rows else f"{FILES}")
        for name, mean, rank in found
    )
    told = [
        "Published means over 180 files as their authors state them, mostly with two decimals; "
        "none was run again."
    ]
    if len(files) != FILES:
        told = [
            f"{len(files)} files are not the {FILES} of TSB-AD-M: no published mean is of them."
        ]
    return Table(head, lines, tuple(told))


def _mean(values: Mapping[str, float], files: Sequence[str]) -> float:
    """The mean over these files; NaN where one of them has no value."""
    found = [values[file] for file in files if file in values]
    return math.fsum(found) / len(files) if files and len(found) == len(files) else math.nan


def _rank(mean: float, others: Sequence[float]) -> str:
    """1 is the highest; a dash where there is no mean."""
    if not math.isfinite(mean):
        return NOTHING
    return str(1 + sum(other > mean for other in others))


def _text(number: float) -> str:
    return f"{number:.3f}" if math.isfinite(number) else NOTHING
