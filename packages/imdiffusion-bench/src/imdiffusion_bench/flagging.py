"""Ways to make alarms of a score, judged by events: thresholds, and what comes after them.

Scores are those that runs kept (`kept.py`), in units of their threshold. Labels are read only to
judge, except under `ACHIEVED`, which moves each threshold by them until every row raises as many
false alarms: what is left to compare then is the order of the scores, not the calibration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np

from imdiffusion.arrays import Flags, Reals
from imdiffusion.errors import DataError, UsageError
from imdiffusion.scoring.event import spans
from imdiffusion_bench.columns import markdown
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.documents import ANSWER, UNWRITTEN, answer_in, write
from imdiffusion_bench.metrics.events import alarm_share_normal, event
from imdiffusion_bench.plan import SETS
from imdiffusion_bench.score_archive import THRESHOLD, Kept, load_all

Rule = Callable[[Reals, Flags], Flags]  # score in thresholds (T,), label (T,) -> alarm (T,)
SHARE = 0.01  # of the normal rows in alarm, under `ACHIEVED`


def joined(gap: int, peak: float = THRESHOLD) -> Rule:
    """Rows above the threshold, joined over at most `gap` quiet ones; runs below `peak` dropped."""

    def rule(score: Reals, label: Flags) -> Flags:
        alarm = np.zeros(len(score), bool)
        for start, end in spans(score, merge_gap=gap):
            alarm[start:end] = score[start:end].max() >= peak
        return alarm

    return rule


def achieved(share: float = SHARE) -> Rule:
    """The threshold, by the labels, above which just this share of the normal rows lies."""

    def rule(score: Reals, label: Flags) -> Flags:
        normal = score[~label]
        if not len(normal):
            return score > THRESHOLD
        return np.asarray(score > np.quantile(normal, 1.0 - share, method="higher"))

    return rule


PROMISED = "as promised"
ACHIEVED = f"at an achieved {SHARE:.0%}, by labels"
RULES: dict[str, Rule] = {
    PROMISED: joined(0),
    "joined over 5 rows": joined(5),
    "joined over 20 rows": joined(20),
    "joined over 100 rows": joined(100),
    "joined over 100 rows, peak 1.15": joined(100, 1.15),
    ACHIEVED: achieved(),
}


@dataclass
class Flagged:
    """Event F1 of every rule, and the share of normal rows in alarm as promised, by entity."""

    f1: dict[str, float] = field(default_factory=dict)
    share: float = np.nan


def judge(run: Kept, label: Flags) -> Flagged:
    """All rules on one run. Rows without a score are not in alarm."""
    units = np.asarray(run.score, np.float64) / run.threshold
    score = np.nan_to_num(units, nan=0.0, posinf=float(np.finfo(np.float64).max))
    alarms = {name: rule(score, label) for name, rule in RULES.items()}
    found = {name: event(label, alarm).f1 for name, alarm in alarms.items()}
    return Flagged(found, alarm_share_normal(label, alarms[PROMISED]))


Table = dict[str, dict[str, dict[str, Flagged]]]  # variant -> data set -> entity


def collect(runs: Iterable[Kept], label_of: Callable[[str, str], Flags]) -> Table:
    """Judge kept runs; of several seeds of a variant and entity the lowest counts."""
    found: Table = defaultdict(lambda: defaultdict(dict))
    seeds: dict[tuple[str, str, str], int] = {}
    for run in runs:
        head = run.run
        where = (str(head["variant"]), str(head["dataset"]), str(head["entity"]))
        seed = int(head["seed"])
        if where in seeds and seeds[where] <= seed:
            continue
        seeds[where] = seed
        found[where[0]][where[1]][where[2]] = judge(run, label_of(where[1], where[2]))
    return {variant: dict(sets) for variant, sets in found.items()}


def mean_f1(entities: Mapping[str, Flagged], rule: str) -> float:
    """Mean over entities."""
    return float(np.mean([one.f1[rule] for one in entities.values()]))


def median_share(entities: Mapping[str, Flagged]) -> float:
    """Median over entities of the share of normal rows in alarm; those without one are left out."""
    return float(np.nanmedian([one.share for one in entities.values()]))


# -- docs/studies/flagging.md

QUESTION = "# Who raises the right alarms: event F1 under six rules"
RULE = """\
Event F1: a run of rows in alarm is right if it meets a labelled one. Every variant promises that
one normal row in a hundred is in alarm, from training rows alone. *As promised*: rows above that
threshold. *Joined*: runs of alarm with so few quiet rows between them are one, for that is how they
reach a person. *Peak*: joined runs that never reach so many thresholds are dropped. *At an achieved
1%*: each threshold is moved, by the labels, until just one normal row in a hundred is in alarm. No
detector could do that, but it shows who would be right at the same price. The last table has the
price that each variant really asks as promised."""


def by_rule(found: Table, rule: str) -> str:
    """Event F1 of each variant in each set, the best mean first."""
    lines = []
    for variant, sets in found.items():
        means = [mean_f1(sets[name], rule) for name in SETS]
        lines.append((float(np.mean(means)), variant, means))
    best = [max(line[2][place] for line in lines) for place in range(len(SETS))]
    return markdown(
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
    return markdown(["variant", *SETS], sorted(lines))


def how_to(seeds: Mapping[str, set[int]]) -> str:
    """The commands that keep these scores and write the page."""
    runs = (
        f"imdiffusion bench run {name} --seeds {','.join(map(str, sorted(own)))} --data DATA "
        f"--out {name}.jsonl --keep-scores scores"
        for name, own in sorted(seeds.items())
    )
    lines = [*runs, "imdiffusion bench document flagging --data DATA --scores scores"]
    return "```sh\n" + "\n".join(lines) + "\n```"


def write_flagging(docs: Path, folders: Sequence[Path], root: Path | None) -> None:
    """The page, from the folders that `bench run --keep-scores` filled and the data in `root`.

    What stands under "## Answer" is written by hand and kept. Raises UsageError without a folder
    or data, DataError where a variant lacks an entity that another one has.
    """
    if not folders or root is None:
        raise UsageError(
            "folders of kept scores and the data folder are needed",
            remedy="Name them with --scores and --data.",
        )
    heads: list[str] = []
    seeds: dict[str, set[int]] = {}

    @cache
    def label_of(dataset: str, entity: str) -> Flags:
        return open_source(dataset, root).load(entity).truth.label()

    def noting(runs: Iterable[Kept]) -> Iterator[Kept]:
        for run in runs:
            heads.append(str(run.run["commit"]))
            seeds.setdefault(str(run.run["plan"]), set()).add(int(run.run["seed"]))
            yield run

    found = collect(noting(chain.from_iterable(map(load_all, folders))), label_of)
    counts = {variant: sum(map(len, sets.values())) for variant, sets in found.items()}
    if len(set(counts.values())) != 1 or any(set(sets) != set(SETS) for sets in found.values()):
        raise DataError(
            f"not every variant has all entities: {counts}",
            remedy="Keep the scores of whole plans.",
        )
    page = docs / "studies" / "flagging.md"
    parts = [
        QUESTION,
        f"{ANSWER}\n\n{answer_in(page) or UNWRITTEN}",
        "## Set-up",
        how_to(seeds),
        f"{next(iter(counts.values()))} entities, one seed a variant; commits "
        f"{', '.join(sorted(set(heads)))}.",
        RULE,
        *(f"## {rule[0].upper()}{rule[1:]}\n\n{by_rule(found, rule)}" for rule in RULES),
        f"## Normal rows in alarm {PROMISED}, median over entities\n\n{prices(found)}",
    ]
    write(page, "\n\n".join(parts) + "\n")
