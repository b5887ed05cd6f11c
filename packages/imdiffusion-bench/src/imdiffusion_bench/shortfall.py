"""Published figures that were not reached, and in what the runs differ from the publication."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from imdiffusion.settings import Settings
from imdiffusion_bench import columns
from imdiffusion_bench.published import JOINED, Published, published
from imdiffusion_bench.record import Record
from imdiffusion_bench.columns import bullets, markdown
from imdiffusion_bench.summary import Block, Row, summarise

FIGURES = ("f1", "r_auc_pr")
STILL_FELL = "held-out error still fell"  # how the library warns of a training cut short
HEAD = ("data set", "figure", "published", "measured", "", "random", "`fast`", "entities")


def steps_asked(run: Record) -> int:
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
    told: list[str] = []
    for block in summarise(runs, protocol="paper", metrics=FIGURES).blocks:
        figures = published(block.dataset)
        for ours in (row for row in block.rows if row.row == "paper" and row.ok):
            own = _runs_of(ours, block, runs)
            if figures is not None:
                lines += [_line(block, ours, figures, name) for name in FIGURES]
                told.append(_differences(block, ours, own))
    if not lines:
        return ""
    return (
        "### Which published figures are reached, protocol `paper`\n\n"
        f"{markdown(HEAD, lines)}\n\n{bullets(told)}\n\n"
        "A published figure is never adjusted, and neither is one of ours."
    )


def _runs_of(row: Row, block: Block, runs: Sequence[Record]) -> list[Record]:
    return [
        run
        for run in runs
        if run["status"] == "ok"
        and (run["dataset"], run["variant"]) == (block.dataset, row.variant)
    ]


def _line(block: Block, ours: Row, figures: Published, name: str) -> list[str]:
    wanted, measured = getattr(figures, name), ours.measures[name].mean
    verdict = "reached" if measured >= wanted else f"missed by {wanted - measured:.3f}"
    others = [_mean_of(block, ours, row, name) for row in ("random", "fast")]
    if others[0] != columns.NOTHING and float(others[0]) >= measured:
        verdict += ", and random scores have more"
    return [
        block.dataset,
        columns.title(name),
        f"{wanted:.4f}",
        columns.value(name, measured),
        verdict if math.isfinite(measured) else "not measured",
        *others,
        ", ".join(ours.entities),
    ]


def _mean_of(block: Block, ours: Row, name: str, metric: str) -> str:
    """The mean of another row on the same entities; a dash where it has not all of them."""
    for row in block.rows:
        by_entity = row.measures[metric].by_entity
        if row.row == name and set(ours.measures[metric].by_entity) <= set(by_entity):
            same = [by_entity[one] for one in ours.measures[metric].by_entity]
            return columns.value(metric, math.fsum(same) / len(same) if same else math.nan)
    return columns.NOTHING


def _differences(block: Block, ours: Row, runs: Sequence[Record]) -> str:
    """What these runs did otherwise than the publication, as numbers."""
    done = [
        min(int(run["settings"]["max_steps"]) or steps_asked(run), steps_asked(run)) for run in runs
    ]
    whole = [steps_asked(run) for run in runs]
    fell = sum(any(STILL_FELL in word for word in run["warnings"]) for run in runs)
    patch = {int(run["settings"]["patch_length"]) for run in runs}
    text = (
        f"{block.dataset}: {len(ours.entities)} entities of {block.size}, "
        f"{len(ours.seeds)} of 6 seeds; "
        f"patches of {columns.numbers(patch)} rows instead of {Settings().patch_length}"
    )
    if block.dataset in JOINED:
        text += "; each entity by itself, where the publication joins all of them to one series"
    if done != whole:
        spans = sorted({min(whole), max(whole)})
        most = " to ".join(f"{steps:,}" for steps in spans)
        share = math.fsum(done) / math.fsum(whole)
        text += f"; {columns.numbers(set(done))} steps instead of up to {most} ({share:.2%})"
    return f"{text}. The held-out error was still falling at the end of {fell} of {len(runs)} runs."
