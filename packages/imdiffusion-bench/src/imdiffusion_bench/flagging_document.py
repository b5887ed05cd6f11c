"""Writes docs/studies/flagging.md from kept scores: `python docs/flagging.py FOLDER FOLDER...`.

The folders are what `imdiffusion bench run PLAN --keep-scores FOLDER` filled. What stands under
"## Answer" is written by hand and kept. The data are in IMDIFFUSION_DATA.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import numpy as np
from imdiffusion_bench import score_archive
from imdiffusion_bench.flagging import PROMISED, RULES, Table, collect, mean_f1, median_share
from imdiffusion_bench.score_archive import Kept
from imdiffusion_bench.sources import open_source
from numpy.typing import NDArray

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError, UsageError

PAGE = Path(__file__).parent / "studies" / "flagging.md"
SETS = ("SMD", "GCP", "ASD", "MSL", "SMAP")
QUESTION = "# Who raises the right alarms: event F1 under six rules"
ANSWER = "## Answer"
RULE = """\
Event F1: a run of rows in alarm is right if it meets a labelled one. Every variant promises that
one normal row in a hundred is in alarm, from training rows alone. *As promised*: rows above that
threshold. *Joined*: runs of alarm with so few quiet rows between them are one, for that is how they
reach a person. *Peak*: joined runs that never reach so many thresholds are dropped. *At an achieved
1%*: each threshold is moved, by the labels, until just one normal row in a hundred is in alarm. No
detector could do that, but it shows who would be right at the same price. The last table has the
price that each variant really asks as promised."""


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown, first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_rule(found: Table, rule: str) -> str:
    """Event F1 of each variant in each set, the best mean first."""
    lines = []
    for variant, sets in found.items():
        means = [mean_f1(sets[name], rule) for name in SETS]
        lines.append((float(np.mean(means)), variant, means))
    best = [max(line[2][place] for line in lines) for place in range(len(SETS))]
    return table(
        ["variant", *SETS, "mean"],
        (
            [
                variant,
                *(
                    f"**{one:.3f}**" if one == most else f"{one:.3f}"
                    for one, most in zip(means, best, strict=True)
                ),
                f"{mean:.3f}",
            ]
            for mean, variant, means in sorted(lines, reverse=True)
        ),
    )


def prices(found: Table) -> str:
    """Median share of normal rows in alarm, as promised."""
    lines = (
        [v, *(f"{median_share(sets[name]):.4f}" for name in SETS)] for v, sets in found.items()
    )
    return table(["variant", *SETS], sorted(lines))


def runs_of(folders: Iterable[Path]) -> Iterator[Kept]:
    """All kept runs of all folders."""
    for folder in folders:
        yield from score_archive.load_all(folder)


def how_to(seeds: Mapping[str, set[int]]) -> str:
    """The commands that keep these scores and write the page."""
    runs = (
        f"imdiffusion bench run {name} --seeds {','.join(map(str, sorted(own)))} --data DATA "
        f"--out {name}.jsonl --keep-scores scores"
        for name, own in sorted(seeds.items())
    )
    lines = [*runs, "IMDIFFUSION_DATA=DATA python docs/flagging.py scores"]
    return "```sh\n" + "\n".join(lines) + "\n```"


def main(words: Iterable[str]) -> None:
    """Write the page from the folders that are named."""
    folders = [Path(word) for word in words]
    data = os.environ.get("IMDIFFUSION_DATA")
    if not folders or not data:
        raise UsageError(
            "folders of kept scores and IMDIFFUSION_DATA are needed",
            remedy="Run `python docs/flagging.py FOLDER...`.",
        )

    @cache
    def label_of(dataset: str, entity: str) -> NDArray[np.bool_]:
        return open_source(dataset, Path(data)).load(entity).truth.label()

    heads: list[str] = []
    seeds: dict[str, set[int]] = {}

    def noting(runs: Iterable[Kept]) -> Iterator[Kept]:
        for run in runs:
            heads.append(str(run.run["commit"]))
            seeds.setdefault(str(run.run["plan"]), set()).add(int(run.run["seed"]))
            yield run

    found = collect(noting(runs_of(folders)), label_of)
    counts = {variant: sum(map(len, sets.values())) for variant, sets in found.items()}
    if len(set(counts.values())) != 1 or any(set(sets) != set(SETS) for sets in found.values()):
        raise DataError(f"not every variant has all entities: {counts}")
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    answer = before.partition(f"{ANSWER}\n")[2].partition("\n## ")[0].strip() or "Not written yet."
    parts = [
        QUESTION,
        f"{ANSWER}\n\n{answer}",
        "## Set-up",
        how_to(seeds),
        f"{next(iter(counts.values()))} entities, one seed a variant; commits "
        f"{', '.join(sorted(set(heads)))}.",
        RULE,
        *(f"## {rule[0].upper()}{rule[1:]}\n\n{by_rule(found, rule)}" for rule in RULES),
        f"## Normal rows in alarm {PROMISED}, median over entities\n\n{prices(found)}",
    ]
    with atomic_path(PAGE) as path:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
