"""What a detector got wrong, worst first: events without an alarm, alarms without an event.

It reads labels, for it looks at what was scored and judged before; nothing of it goes back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.documents import write
from imdiffusion_bench.metrics import segments
from imdiffusion_bench.plan import SETS
from imdiffusion_bench.plots import CasePlot, Channel, case_figure, save_plot
from imdiffusion_bench.score_archive import Kept, kept_path, load, load_all
from imdiffusion_bench.split import Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["missed", "false alarm"]
REACH = 100  # rows: a score of `fast` reads so many on either side of its own
SHOWN = 3  # channels of a case


@dataclass(frozen=True, slots=True)
class Case:
    """Rows start to end (exclusive) of a test part: an event missed, or an alarm for nothing.

    peak       the largest score there, in units of the threshold
    departure  of the channel that departs most: its mean distance there from its mean over the
               normal test rows, in standard deviations of those
    channels   positions of those to look at, the one to look at first before the others
    distance   rows to the next label, of an alarm; 0 of an event
    weight     what cases are ranked by, largest first
    """

    kind: Kind
    dataset: str
    entity: str
    start: int
    end: int
    peak: float
    departure: float
    channels: tuple[int, ...]
    distance: int
    weight: float

    @property
    def title(self) -> str:
        """ "SMD machine-1-2, rows 100 to 149"."""
        return f"{self.dataset} {self.entity}, rows {self.start} to {self.end - 1}"


def missed(kept: Kept, split: Split) -> list[Case]:
    """The events of one entity in which no row is in alarm, worst first.

    weight: departure x (1 - peak): what stands out most and was believed least. An event in which
    no row has a score has a peak of 0. Raises DataError for scores of another length.
    """
    label, score = _known(kept, split)
    far = Departures(split, label)
    cases = []
    for start, end in segments(label):
        peak = float(score[start:end].max())
        if peak > 1.0:
            continue
        each = far.of(start, end)
        first = int(np.argmax(each))
        channels = (first, *(k for k in _implicated(kept, start, end) if k != first))[:SHOWN]
        departure = float(each[first])
        where = (split.dataset, split.entity, int(start), int(end))
        weight = departure * (1.0 - peak)
        cases.append(Case("missed", *where, peak, departure, channels, 0, weight))
    return sorted(cases, key=lambda case: -case.weight)


def false_alarms(kept: Kept, split: Split, *, reach: int = REACH) -> list[Case]:
    """The alarms of one entity with no label within `reach` rows on either side, worst first.

    Alarms with less than `reach` rows between them are one. weight: the peak. Raises DataError for
    scores of another length.
    """
    label, score = _known(kept, split)
    far = Departures(split, label)
    marked = np.flatnonzero(label)
    cases = []
    for start, end in _joined(segments(score > 1.0), reach):
        distance = _distance(marked, start, end)
        if distance < reach:
            continue
        # A long alarm is looked at where it is loudest.
        each = far.of(start, end)
        channels = _implicated(kept, start, end) or (int(np.argmax(each)),)
        peak = float(score[start:end].max())
        where = (split.dataset, split.entity, int(start), int(end))
        departure = float(each.max())
        cases.append(Case("false alarm", *where, peak, departure, channels[:SHOWN], distance, peak))
    return sorted(cases, key=lambda case: -case.weight)


def worst(cases: Iterable[Case], count: int) -> list[Case]:
    """The `count` worst, at most one of an entity: ten times one long fault teaches once."""
    found: dict[tuple[str, str], Case] = {}
    for case in cases:
        where = (case.dataset, case.entity)
        if where not in found or case.weight > found[where].weight:
            found[where] = case
    ranked = sorted(found.values(), key=lambda case: (-case.weight, case.title))
    return ranked[:count]


class Departures:
    """How far each channel of a test part is from its normal rows, in their deviations.

    A channel that never moves in normal rows is measured by its deviation over all rows.
    """

    def __init__(self, split: Split, label: NDArray[np.bool_]) -> None:
        values = np.where(split.test.observed, split.test.values, np.nan).astype(np.float64)
        normal = values[~label]
        centre = _mean(normal)
        spread = np.sqrt(_mean(np.square(normal - centre)))
        whole = np.sqrt(_mean(np.square(values - centre)))
        unit = np.where(spread > 1e-6 * whole, spread, whole)
        self._far = np.abs(values - centre) / np.where(unit > 0, unit, np.inf)

    def of(self, start: int, end: int) -> NDArray[np.float64]:
        """Mean distance (K,) over rows start to end; 0 where nothing was observed."""
        return np.nan_to_num(_mean(self._far[start:end]))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means (K,) over the observed rows of (n, K); NaN without any."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan), np.float64)


def _known(kept: Kept, split: Split) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Label and score (T,) in units of the threshold; a row without a score has 0."""
    label = np.asarray(split.truth.label(), bool)
    if kept.score.shape != label.shape:
        raise DataError(
            f"the kept scores of {split.dataset} {split.entity} are of {len(kept.score)} rows, "
            f"its label is of {len(label)}",
            remedy="Measure it again on these data.",
        )
    score = kept.score.astype(np.float64) / kept.threshold
    return label, np.where(np.isnan(score), 0.0, score)


def _implicated(kept: Kept, start: int, end: int) -> tuple[int, ...]:
    """Channels by their share of the error over these rows, largest first; () without any."""
    shares = kept.shares
    if shares is None:
        return ()
    return tuple(int(k) for k in np.argsort(-shares[start:end].mean(axis=0), kind="stable"))


def _joined(spans: NDArray[np.int64], gap: int) -> list[tuple[int, int]]:
    """Spans [start, end) with less than `gap` rows between two made one."""
    found: list[tuple[int, int]] = []
    for start, end in spans.tolist():
        if found and start - found[-1][1] < gap:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found


def _distance(marked: NDArray[np.int64], start: int, end: int) -> int:
    """Rows between [start, end) and the next of the marked rows; 0 where one is in it."""
    after = int(np.searchsorted(marked, start))
    if after < len(marked) and marked[after] < end:
        return 0
    near: Sequence[int] = [
        *([int(marked[after]) - end] if after < len(marked) else []),
        *([start - int(marked[after - 1]) - 1] if after else []),
    ]
    return min(near)


# -- docs/studies/gallery.md

VARIANT = "fast"
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


def collect_cases(folder: Path, root: Path | None) -> Found:
    """Judge every kept run of the default; those of the worst cases are held, no others."""
    found, seen = Found(), set[tuple[str, str]]()
    heads = [run.run for run in load_all(folder) if run.run["variant"] == VARIANT]
    if not heads:
        raise DataError(
            f"{folder} holds no run of {VARIANT!r}", remedy="Keep the scores of the plan headline."
        )
    count = Counter(int(head["seed"]) for head in heads)
    found.seed = min(count, key=lambda seed: (-count[seed], seed))
    for head in heads:
        if head["seed"] != found.seed:
            continue
        run = load(kept_path(folder, head["id"]))
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


def drawing(case: Case, run: Kept, split: Split) -> Figure:
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
        Channel(
            split.test.channels[k],
            "" if share is None else f"{share[k]:.0%} of the error",
            values[span, k].astype(np.float64),
            None if run.expected is None else run.expected[span, k].astype(np.float64),
        )
        for k in case.channels
    )
    return case_figure(
        CasePlot(
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
        f"--out {folder}/runs.jsonl\n"
        f"imdiffusion bench document gallery --data DATA --scores {folder}\n```",
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


def write_gallery(docs: Path, folders: Sequence[Path], root: Path | None) -> None:
    """The page and its plots from one folder of kept scores; plots of an earlier page go.

    What is written by hand below a plot is kept as long as its heading stays the same, and the
    heading holds the score: another score is another case, to be looked at again. Raises UsageError
    for more or fewer folders than one.
    """
    if len(folders) != 1:
        raise UsageError(
            "one folder of kept scores is needed",
            remedy="Name what `bench run headline --keep-scores FOLDER` filled with --scores.",
        )
    page = docs / "studies" / "gallery.md"
    plots = page.parent / page.stem
    plots.mkdir(parents=True, exist_ok=True)
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    found = collect_cases(folders[0], root)
    cases = chosen(found)
    for name, case in cases:
        where = (case.dataset, case.entity)
        drawn = drawing(case, found.runs[where], found.splits[where])
        save_plot(drawn, plots / f"{name}.svg")
    for path in set(plots.glob("*.svg")) - {plots / f"{name}.svg" for name, _ in cases}:
        path.unlink()
    write(page, page_of(found, written(before), folders[0].name))
