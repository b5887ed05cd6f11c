"""The figures that were published, of the paper and of TSB-AD-M, and ours beside them.

Source: ImDiffusion (Chen et al., PVLDB 17, 2023), the table of detection results: point-adjusted
precision, recall and F1 over six runs with the threshold chosen on test labels, R-AUC-PR beside
them. The delay (ADD) is published as a relative figure alone. Of TSB-AD-M: means over files, and
ranks among the published methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from imdiffusion.errors import DataError
from imdiffusion.settings import Settings
from imdiffusion_bench.columns import (
    NOTHING,
    Cells,
    Table,
    bullets,
    escaped,
    markdown,
    title,
    value,
)
from imdiffusion_bench.columns import numbers as numbers_in_short
from imdiffusion_bench.datasets.tsb_ad import NAME, known_files, source_of_values
from imdiffusion_bench.record import Record
from imdiffusion_bench.summary import Block, VariantSummary, protocols, summarise
from imdiffusion_bench.tables import (
    INCOMPLETE,
    check_random,
    covered,
    is_partial,
)

SOURCE = "ImDiffusion, PVLDB 2023: six runs, thresholds chosen on test labels, whole data sets"


@dataclass(frozen=True, slots=True)
class Published:
    """One data set's published figures: shares between 0 and 1."""

    precision: float
    recall: float
    f1: float
    f1_std: float
    r_auc_pr: float


PUBLISHED = {
    "SMD": Published(0.9520, 0.9509, 0.9488, 0.0039, 0.3821),
    "PSM": Published(0.9811, 0.9753, 0.9781, 0.0072, 0.4711),
    "SWaT": Published(0.8988, 0.8465, 0.8709, 0.0124, 0.1939),
    "SMAP": Published(0.8771, 0.9618, 0.9175, 0.0095, 0.1105),
    "MSL": Published(0.8930, 0.8638, 0.8779, 0.0152, 0.2381),
    "GCP": Published(0.9771, 0.9825, 0.9774, 0.0014, 0.3957),
}

# Means over the six data sets: F1, R-AUC-PR.
PUBLISHED_MEANS = {
    "ImDiffusion": (0.9284, 0.2986),
    "OmniAnomaly": (0.8887, 0.2377),
    "InterFusion": (0.8739, 0.1962),
    "TranAD": (0.8666, 0.2127),
    "BeatGAN": (0.8560, 0.2501),
    "MTAD-GAT": (0.8211, 0.2482),
    "MAD-GAN": (0.7978, 0.2250),
    "GDN": (0.7020, 0.1756),
    "LSTM-AD": (0.6907, 0.1809),
    "MSCRED": (0.6353, 0.2052),
    "Isolation Forest": (0.5369, 0.1099),
}

# Published on all entities joined to one series.
JOINED = frozenset({"MSL", "SMAP"})

# The ensemble against its last step alone, relative: F1 and detection delay.
ENSEMBLE_F1 = 0.0073
ENSEMBLE_ADD = -0.358


def published(dataset: str) -> Published | None:
    """The figures of a data set, also of its concatenated form; None where there are none."""
    return PUBLISHED.get(dataset.removesuffix("-concatenated"))


PAPER_METRICS = ("f1", "precision", "recall", "r_auc_pr", "add", "f1_last", "add_last")
FIGURES = ("f1", "r_auc_pr")
STILL_FELL = "held-out error still fell"  # how the library warns of a training cut short
HEAD = ("data set", "figure", "published", "measured", "", "random", "`fast`", "entities")


def paper_table(records: Iterable[Record]) -> str:
    """The paper's protocol, each data set beside its published figures; then the published means.

    Raises DataError where a data set has no random row, and as `summarise`.
    """
    runs = list(records)
    known = protocols(runs).get("paper", ())
    metrics = [name for name in PAPER_METRICS if name in known] or ["f1"]
    summary = summarise(runs, protocol="paper", metrics=metrics)
    parts = []
    for block in summary.blocks:
        check_random(block, "paper")
        parts.append(f"### {escaped(block.dataset)}, protocol `paper`, beside the publication")
        parts.append(str(_beside(block, metrics)))
    means = Table(
        ("published mean over six data sets", "F1", "R-AUC-PR"),
        tuple((name, f"{f1:.4f}", f"{area:.4f}") for name, (f1, area) in PUBLISHED_MEANS.items()),
        (f"Source: {SOURCE} ({', '.join(PUBLISHED)}).",),
    )
    return "\n\n".join([*parts, str(means)]) + "\n"


def _beside(block: Block, metrics: Sequence[str]) -> Table:
    head = ("row", "P", "R", "F1", "F1 std", "R-AUC-PR", "ADD (rows)", "entities", "seeds")
    lines = []
    figures = published(block.dataset)
    if figures is not None:
        numbers = (figures.precision, figures.recall, figures.f1, figures.f1_std, figures.r_auc_pr)
        shares = tuple(f"{number:.4f}" for number in numbers)
        lines.append(("published ImDiffusion", *shares, NOTHING, "all", "6"))
    notes = [] if figures else ["The paper has no figures for this data set."]
    for row in block.ordered(metrics[0]):
        cells = [_mean_cell(block, row, name) for name in ("precision", "recall", "f1")]
        std = row.measures["f1"].std if "f1" in row.measures else math.nan
        cells += [value("f1", std)]
        cells += [_mean_cell(block, row, name) for name in ("r_auc_pr", "add")]
        cells += [f"{len(row.entities)} of {block.size}", f"{len(row.seeds)}"]
        lines.append((row.variant, *cells))
        notes += _ensemble(row)
    if any(INCOMPLETE in cell for line in lines for cell in line):
        notes.append(f"{INCOMPLETE} over fewer entities than other rows have.")
    shown = [name for name in metrics if not name.endswith("_last")]  # baselines have no steps
    return Table(head, tuple(lines), (*notes, *covered(block, shown)))


def _ensemble(row: VariantSummary) -> list[str]:
    """How the vote of several steps does against the last step alone, beside the paper's claim."""
    changes = []
    claims = (("f1", "f1_last", "F1", ENSEMBLE_F1), ("add", "add_last", "ADD", ENSEMBLE_ADD))
    for whole, last, name, claim in claims:
        if whole not in row.measures or last not in row.measures:
            continue
        both = row.measures[whole].by_entity, row.measures[last].by_entity
        if both[0].keys() != both[1].keys() or not row.measures[last].mean > 0:
            continue
        change = row.measures[whole].mean / row.measures[last].mean - 1
        changes.append(f"{name} {change:+.2%} (published {claim:+.2%})")
    return (
        [f"{row.variant}, ensemble against its last step: {', '.join(changes)}."] if changes else []
    )


def _mean_cell(block: Block, row: VariantSummary, metric: str) -> str:
    if metric not in row.measures:
        return NOTHING
    cross = INCOMPLETE if is_partial(block, row, metric) else ""
    return value(metric, row.measures[metric].mean) + cross


def uncapped_steps(run: Record) -> int:
    """Steps that the training of this run would have had without its cap on steps."""
    settings = run["settings"]
    rows = run["rows"]["train"] * (1 - float(settings["holdout"]))
    windows = max(1, int((rows - settings["window"]) // max(1, settings["train_stride"])) + 1)
    return int(math.ceil(windows / settings["batch_size"]) * settings["max_epochs"])


def shortfall(records: Iterable[Record]) -> str:
    """A line a published figure: reached or missed, with random scores and `fast` beside it.

    Below the table the differences of each data set, counted in its runs; nothing where no run of
    the row `paper` is of a data set with published figures.
    """
    runs = list(records)
    lines: list[list[str]] = []
    notes: list[str] = []
    for block in summarise(runs, protocol="paper", metrics=FIGURES).blocks:
        figures = published(block.dataset)
        for ours in (row for row in block.rows if row.detector == "paper" and row.ok):
            if figures is not None:
                place = (block.dataset, ours.variant)
                own = [run for run in runs if (run["dataset"], run["variant"]) == place]
                lines += [_line(block, ours, figures, name) for name in FIGURES]
                notes.append(_differences(block, ours, [o for o in own if o["status"] == "ok"]))
    if not lines:
        return ""
    return (
        "### Which published figures are reached, protocol `paper`\n\n"
        f"{markdown(HEAD, lines)}\n\n{bullets(notes)}\n\n"
        "A published figure is never adjusted, and neither is one of ours."
    )


def _line(block: Block, ours: VariantSummary, figures: Published, name: str) -> list[str]:
    wanted, measured = getattr(figures, name), ours.measures[name].mean
    verdict = "reached" if measured >= wanted else f"missed by {wanted - measured:.3f}"
    others = [_mean_of(block, ours, row, name) for row in ("random", "fast")]
    if others[0] != NOTHING and float(others[0]) >= measured:
        verdict += ", and random scores have more"
    return [
        block.dataset,
        title(name),
        f"{wanted:.4f}",
        value(name, measured),
        verdict if math.isfinite(measured) else "not measured",
        *others,
        ", ".join(ours.entities),
    ]


def _mean_of(block: Block, ours: VariantSummary, name: str, metric: str) -> str:
    """The mean of another row on the same entities; a dash where it has not all of them."""
    for row in block.rows:
        by_entity = row.measures[metric].by_entity
        if row.detector == name and set(ours.measures[metric].by_entity) <= set(by_entity):
            same = [by_entity[one] for one in ours.measures[metric].by_entity]
            return value(metric, math.fsum(same) / len(same) if same else math.nan)
    return NOTHING


def _differences(block: Block, ours: VariantSummary, runs: Sequence[Record]) -> str:
    """What these runs did otherwise than the publication, as numbers."""
    whole = [uncapped_steps(run) for run in runs]
    caps = [int(run["settings"]["max_steps"]) for run in runs]
    done = [min(cap or steps, steps) for cap, steps in zip(caps, whole, strict=True)]
    fell = sum(any(STILL_FELL in word for word in run["warnings"]) for run in runs)
    patch = {int(run["settings"]["patch_length"]) for run in runs}
    text = (
        f"{block.dataset}: {len(ours.entities)} entities of {block.size}, "
        f"{len(ours.seeds)} of 6 seeds; "
        f"patches of {numbers_in_short(patch)} rows instead of {Settings().patch_length}"
    )
    if block.dataset in JOINED:
        text += "; each entity by itself, where the publication joins all of them to one series"
    if done != whole:
        spans = sorted({min(whole), max(whole)})
        most = " to ".join(f"{steps:,}" for steps in spans)
        share = math.fsum(done) / math.fsum(whole)
        text += f"; {numbers_in_short(set(done))} steps instead of up to {most} ({share:.2%})"
    return f"{text}. The held-out error was still falling at the end of {fell} of {len(runs)} runs."


PROTOCOL, METRIC = "tsb_ad", "vus_pr_period"
FILES = 180  # of TSB-AD-M that are judged

# Means over all 180 files as published; two decimals where no more were. None of one's own runs.
TSB_AD_MEANS: Mapping[str, float] = {
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
    heading, parts = f"### {NAME}, protocol `{PROTOCOL}`", []
    files = [name for name in block.reference(METRIC) if name in known_files()]
    if files:
        parts += [f"{heading}, {len(files)} files beside the publication", _by_file(rows, files)]
    if not files or set(block.reference(METRIC)) > set(files):
        parts += [f"{heading}, all {len(block.entities)} files", _over_all(block.entities, rows)]
    return "\n\n".join(map(str, parts)) + "\n"


_Rows = Mapping[str, Mapping[str, float]]  # name of a line -> file -> value


def _by_file(rows: _Rows, files: Sequence[str]) -> Table:
    """Means over these files and over those of each set, beside the published ones."""
    facts = [known_files()[name] for name in files]
    theirs: dict[str, dict[str, float]] = {}
    for one in facts:
        for method, figure in one.published.items():
            theirs.setdefault(f"published {method}", {})[one.file] = figure
    best = {one.file: one.best for one in facts}
    means = [_mean(values, files) for values in theirs.values()]
    sets: dict[str, list[str]] = {}
    for one in facts:
        sets.setdefault(one.dataset, []).append(one.file)

    def cells(values: Mapping[str, float], *middle: str) -> Cells:
        own = (_mean(values, each) for each in sets.values())
        return (value(METRIC, _mean(values, files)), *middle, *(value(METRIC, one) for one in own))

    lines = []
    for name, values in [*theirs.items(), *rows.items()]:
        mean = _mean(values, files)
        above = str(sum(values[file] > best[file] for file in files if file in values))
        rank = NOTHING if name in theirs else _rank(mean, means)
        lines.append((_place(mean), (name, *cells(values, rank, above))))
    lines.sort(key=lambda line: line[0])
    top = ("best published on each file", *cells(best, NOTHING, NOTHING))
    head = ("row", "VUS-PR, mean of files", f"rank among {len(means)} published and itself")
    notes = (
        f"{len(files)} of {FILES} files. Source of the published values: {source_of_values()}.",
        "Fitted on the first rows of a file as its name says, all of its rows ranked; the measure "
        "is VUS-PR in TSB-AD's definition, 250 thresholds, buffers up to the period of the first "
        "channel.",
    )
    shown = (top, *(line for _, line in lines))
    return Table((*head, "files above all published", *sets), shown, notes)


def _over_all(files: Sequence[str], rows: _Rows) -> Table:
    """Means over all files; beside the published ones where these are all of them."""
    whole = len(files) == FILES
    lines = []
    for name, values in rows.items():
        mean = _mean(values, files)
        rank = _rank(mean, list(TSB_AD_MEANS.values())) if whole else NOTHING
        lines.append((_place(mean), (name, value(METRIC, mean), rank, str(len(values)))))
    note = f"{len(files)} files are not the {FILES} of TSB-AD-M: no published mean is of them."
    if whole:
        for name, mean in TSB_AD_MEANS.items():
            cells = (f"published {name}", value(METRIC, mean), NOTHING, f"{FILES}")
            lines.append((_place(mean), cells))
        note = (
            f"Published means over {FILES} files as their authors state them, mostly with two "
            "decimals; none was run again."
        )
    lines.sort(key=lambda line: line[0])
    head = ("row", "VUS-PR, mean of files", f"rank among {len(TSB_AD_MEANS)} and itself", "files")
    return Table(head, tuple(line for _, line in lines), (note,))


def _mean(values: Mapping[str, float], files: Sequence[str]) -> float:
    """The mean over these files; NaN where one of them has no value."""
    found = [values[file] for file in files if file in values]
    return math.fsum(found) / len(files) if files and len(found) == len(files) else math.nan


def _place(mean: float) -> float:
    """What lines are sorted by: the highest mean first, none last."""
    return -mean if math.isfinite(mean) else math.inf


def _rank(mean: float, others: Sequence[float]) -> str:
    """1 is the highest; a dash where there is no mean."""
    return str(1 + sum(other > mean for other in others)) if math.isfinite(mean) else NOTHING
