"""Ways to make alarms of a score, judged by events: thresholds, and what comes after them.

Scores are those that runs kept (`kept.py`), in units of their threshold. Labels are read only to
judge, except under `ACHIEVED`, which moves each threshold by them until every row raises as many
false alarms: what is left to compare then is the order of the scores, not the calibration.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring.event import spans
from imdiffusion_bench.metrics.events import alarm_share_normal, event
from imdiffusion_bench.metrics.segments import Flags
from imdiffusion_bench.score_archive import THRESHOLD, Kept

Floats = NDArray[np.floating]
Rule = Callable[[Floats, Flags], Flags]  # score in thresholds (T,), label (T,) -> alarm (T,)
SHARE = 0.01  # of the normal rows in alarm, under `ACHIEVED`


def joined(gap: int, peak: float = THRESHOLD) -> Rule:
    """Rows above the threshold, joined over at most `gap` quiet ones; runs below `peak` dropped."""

    def rule(score: Floats, label: Flags) -> Flags:
        alarm = np.zeros(len(score), bool)
        for start, end in spans(score, merge_gap=gap):
            alarm[start:end] = score[start:end].max() >= peak
        return alarm

    return rule


def achieved(share: float = SHARE) -> Rule:
    """The threshold, by the labels, above which just this share of the normal rows lies."""

    def rule(score: Floats, label: Flags) -> Flags:
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
