"""Writes docs/studies/gallery.md and its plots from kept scores: `python docs/gallery.py FOLDER`.

FOLDER is what `imdiffusion bench run headline --keep-scores FOLDER` filled; of several seeds the
one with most entities counts, then the lowest. The data are in IMDIFFUSION_DATA. What is written by
hand below a plot is kept as long as its heading stays the same, and the heading holds the score:
another score is another case, to be looked at again.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from imdiffusion_bench import score_archive
from imdiffusion_bench.failures import REACH, Case, false_alarms, missed, worst
from imdiffusion_bench.page.strips import Strip, Strips, strips
from imdiffusion_bench.score_archive import Kept
from imdiffusion_bench.sources import open_source
from imdiffusion_bench.split import Split

from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError, UsageError

PAGE = Path(__file__).parent / "studies" / "gallery.md"
VARIANT = "fast"
SETS = ("SMD", "GCP", "ASD", "MSL", "SMAP")
EACH = 2  # cases of a kind and a set: ten of each kind over the five sets
AROUND, MOST_ROWS = 250, 3000  # rows drawn on either side of a case; rows of a case drawn
NOT_SEEN = "Not looked at yet."
QUESTION = "# What does `fast` miss, and what does it raise for nothing?"
RULE = f"""\
The rule that picks them has no eye. An **event missed** is a run of labelled rows none of which is
in alarm at the label-free threshold; its weight is departure x (1 - peak): the departure is the
mean distance of its farthest channel from that channel's normal test rows, in their standard
deviations, the peak the largest score in units of the threshold. A **false alarm** is a run of rows
in alarm (gaps below {REACH} rows closed) at least {REACH} rows from any label: a score reads so
many on either side. Its weight is its peak. Of each entity the heaviest counts, and of each of the
five sets the {EACH} heaviest of either kind are drawn, for weights do not compare across sets: a
channel that hardly ever moves, as SMD has, departs by thousands of deviations. Drawn of an event
are the channel that departs farthest and those with the largest shares of the error, of an alarm
those with the largest shares."""


@dataclass
class Found:
    """All cases of a folder, and what is needed to draw the worst of them."""

    missed: list[Case] = field(default_factory=list)
    false_alarms: list[Case] = field(default_factory=list)
    events: int = 0
    judged: int = 0
    seed: int = 0
    states: set[str] = field(default_factory=set)
    runs: dict[tuple[str, str], Kept] = field(default_factory=dict)
    splits: dict[tuple[str, str], Split] = field(default_factory=dict)


def collect(folder: Path, root: Path | None) -> Found:
    """Judge every kept run of the default; those of the worst cases are held, no others."""
    found, seen = Found(), set[tuple[str, str]]()
    heads = [run.run for run in score_archive.load_all(folder) if run.run["variant"] == VARIANT]
    if not heads:
        raise DataError(
            f"{folder} holds no run of {VARIANT!r}", remedy="Keep the scores of the plan headline."
        )
    count = Counter(int(head["seed"]) for head in heads)
    found.seed = min(count, key=lambda seed: (-count[seed], seed))
    for head in heads:
        if head["seed"] != found.seed:
            continue
        run = score_archive.load(score_archive.kept_path(folder, head["id"]))
        where = (run.run["dataset"], run.run["entity"])
        if where in seen:
            raise DataError(
                f"{folder} holds two runs of {where[0]} {where[1]}",
                remedy="Keep the scores of one state of the settings in a folder.",
            )
        seen.add(where)
        split = open_source(where[0], root).load(where[1])
        label = split.truth.label()
        found.judged += 1
        found.states.add(str(run.run["commit"]))
        found.events += int(np.sum(np.diff(np.concatenate([[0], label.astype(np.int8)])) == 1))
        found.missed += missed(run, split)
        found.false_alarms += false_alarms(run, split)
        found.runs[where], found.splits[where] = run, split
        drawn = {(one.dataset, one.entity) for _, one in chosen(found)}
        found.runs = {key: one for key, one in found.runs.items() if key in drawn}
        found.splits = {key: one for key, one in found.splits.items() if key in drawn}
    return found


def chosen(found: Found) -> list[tuple[str, Case]]:
    """(name of its plot, case): the worst of both kinds in order."""
    kinds = (("missed", found.missed), ("alarm", found.false_alarms))
    return [
        (f"{name}_{dataset}_{place}", case)
        for name, cases in kinds
        for dataset in SETS
        for place, case in enumerate(
            worst([one for one in cases if one.dataset == dataset], EACH), start=1
        )
    ]


def drawing(case: Case, run: Kept, split: Split) -> str:
    """The plot of a case."""
    rows = len(run.score)
    end = min(case.end, case.start + MOST_ROWS)
    if case.end > end:  # around the loudest row of what is too long to draw
        loudest = case.start + int(np.nanargmax(run.score[case.start : case.end]))
        start = max(case.start, loudest - MOST_ROWS // 2)
        end = min(case.end, start + MOST_ROWS)
    else:
        start = case.start
    span = slice(max(0, start - AROUND), min(rows, end + AROUND))
    shares = run.shares
    share = None if shares is None else shares[case.start : case.end].mean(axis=0)
    values = np.where(split.test.observed, split.test.values, np.nan)
    channels = tuple(
        Strip(
            split.test.channels[k],
            "" if share is None else f"{share[k]:.0%} of the error",
            values[span, k].astype(np.float64),
            None if run.expected is None else run.expected[span, k].astype(np.float64),
        )
        for k in case.channels
    )
    return strips(
        Strips(
            case.title,
            span.start,
            channels,
            np.where(np.isnan(run.score[span]), 0.0, run.score[span].astype(np.float64)),
            run.threshold,
            split.truth.label()[span],
        )
    )


def heading(case: Case) -> str:
    """The heading of a case, which tells it from any other."""
    if case.kind == "missed":
        return f"### {case.title}: score up to {case.peak:.2f} of its threshold"
    return f"### {case.title}: score up to {case.peak:.3g} times its threshold"


def facts(case: Case, split: Split) -> str:
    """What the program can say of a case."""
    length = f"{case.end - case.start:,} rows"
    if case.kind == "missed":
        channel = split.test.channels[case.channels[0]]
        return (
            f"{length}; channel `{channel}` is {case.departure:.1f} deviations from its normal rows"
        )
    return f"{length}; the next label is {case.distance:,} rows away"


def written(page: str) -> dict[str, str]:
    """Heading -> what was written by hand below its plot."""
    said = {}
    for part in page.split("\n### ")[1:]:
        head, _, rest = part.partition("\n")
        text = rest.partition(")\n")[2].partition("\n## ")[0].strip()
        if text and text != NOT_SEEN:
            said[f"### {head}"] = text
    return said


def page_of(found: Found, said: Mapping[str, str], folder: str) -> str:
    """The page: its rule, and each case with its plot and its sentence."""
    lost = len(found.missed)
    parts = [
        QUESTION,
        f"```sh\nimdiffusion bench run headline --seeds {found.seed} --keep-scores {folder} "
        f"--out {folder}/runs.jsonl\npython docs/gallery.py {folder}\n```",
        f"Row `{VARIANT}`, seed {found.seed}, protocol `label_free`; commits "
        f"{', '.join(sorted(found.states))}; {found.judged} entities. Of "
        f"{found.events} events {lost} have no row in alarm; {len(found.false_alarms)} alarms are "
        f"{REACH} rows or more from any label.",
        RULE,
    ]
    sections = {"missed": "## Events missed", "alarm": "## False alarms"}
    for name, case in chosen(found):
        if (section := sections.pop(name.partition("_")[0], None)) is not None:
            parts.append(section)
        head = heading(case)
        parts.append(f"{head}\n\n{facts(case, found.splits[case.dataset, case.entity])}.")
        parts.append(f"![{case.title}](gallery/{name}.svg)\n\n{said.get(head, NOT_SEEN)}")
    return "\n\n".join(parts) + "\n"


def write(found: Found, page: Path, folder: str) -> None:
    """The page and its plots; plots of an earlier page go."""
    plots = page.parent / page.stem
    plots.mkdir(parents=True, exist_ok=True)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    cases = chosen(found)
    for name, case in cases:
        where = (case.dataset, case.entity)
        _write(plots / f"{name}.svg", drawing(case, found.runs[where], found.splits[where]))
    for path in set(plots.glob("*.svg")) - {plots / f"{name}.svg" for name, _ in cases}:
        path.unlink()
    _write(page, page_of(found, written(before), folder))


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def main(words: Iterable[str]) -> None:
    """Write the page from the folder that is named."""
    given = list(words)
    if len(given) != 1:
        raise UsageError(
            "no folder of kept scores is named", remedy="Run `python docs/gallery.py FOLDER`."
        )
    folder = Path(given[0])
    data = os.environ.get("IMDIFFUSION_DATA")
    write(collect(folder, Path(data) if data else None), PAGE, folder.name)


if __name__ == "__main__":
    main(sys.argv[1:])
