"""The numbers of docs/studies/quality.md and of the README, from the runs of the plan `fourteen`.

What stands under "## Answer" is written by hand and kept. What the labels allow is read from the
data; without them it is kept as it stands.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError
from imdiffusion_bench.aggregate import DOMAIN_OF, domains_table
from imdiffusion_bench.columns import markdown, title
from imdiffusion_bench.datasets import open_source
from imdiffusion_bench.documents import ANSWER, UNWRITTEN, measured, write
from imdiffusion_bench.label_bounds import HOPELESS, best_rows, hopeless, slipped
from imdiffusion_bench.plan import FOURTEEN as SETS
from imdiffusion_bench.record import Record
from imdiffusion_bench.significance import holm, signed_rank_p

PLACE = re.compile(r"(<!-- fourteen -->\n).*?(<!-- end of fourteen -->)", re.DOTALL)
OURS = ("fast", "linear")
JOINED = ("joined_logs", "standardised_mean")  # of several one-liners
PROMISED = 0.01
LEAD, SHORTFALL = 0.05, 0.02  # what was asked for
ASKED = (
    f"Asked of `fast`: {LEAD} above the best single one-liner, above `joined_logs`, and on no set "
    f"more than {SHORTFALL} below the best row."
)
# Set -> VUS-PR of the network alone, mean of five seeds (docs/studies/quality.md at 0aa6d81), and
# what was aimed at.
FORMER = {
    "SMD": (0.603, 0.64),
    "GCP": (0.524, 0.58),
    "ASD": (0.670, 0.68),
    "MSL": (0.417, 0.52),
    "SMAP": (0.381, 0.43),
}
ALLOWED = "## What the labels allow"
QUESTION = "# Does `fast` rank and flag better than every one-liner, on any data, without labels?"
LAST = (
    "All of it again in other columns: `imdiffusion bench tables docs/results/runs/fourteen.jsonl`."
    " The network alone, before the views in closed form stood beside it, over five sets and five "
    "seeds: [label_free.md](../results/label_free.md), [parts.md](../results/parts.md), "
    "[kinds.md](../results/kinds.md), [flagging.md](flagging.md), [gallery.md](gallery.md)."
)
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Values = dict[str, dict[str, dict[str, float]]]  # row -> data set -> entity -> value
Means = dict[str, dict[str, float]]  # row -> data set -> mean over its entities


def common(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """The runs of the entities that every row of a set has; and, by set, what is left out."""
    good = [one for one in records if one["status"] == "ok" and one["dataset"] in SETS]
    has: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in good:
        has[one["dataset"]][one["detector"]].add(one["entity"])
    kept, told = {}, []
    for name in SETS:
        rows = has.get(name)
        if not rows:
            told.append(f"{name}: no run.")
            continue
        every = set.union(*rows.values())
        kept[name] = set.intersection(*rows.values())
        for entity in sorted(every - kept[name]):
            lacking = sorted(row for row, entities in rows.items() if entity not in entities)
            told.append(f"{name} {entity}: no run of {', '.join(lacking)}.")
    return [one for one in good if one["entity"] in kept[one["dataset"]]], told


def values(records: Iterable[Record], metric: str) -> Values:
    """A metric under the label-free protocol, where it is defined."""
    found: Values = defaultdict(lambda: defaultdict(dict))
    for one in records:
        value = one["metrics"]["label_free"].get(metric)
        if value is not None:
            found[one["detector"]][one["dataset"]][one["entity"]] = float(value)
    return {
        row: {name: each[name] for name in SETS if each.get(name)} for row, each in found.items()
    }


def means(found: Values) -> Means:
    """The means over entities."""
    return {
        row: {name: float(np.mean(list(entities.values()))) for name, entities in each.items()}
        for row, each in found.items()
    }


def overall(one: Mapping[str, float]) -> float:
    """The mean over the sets; NaN where one is not there."""
    return float(np.mean([one.get(name, np.nan) for name in SETS]))


def singles(found: Mapping[str, object]) -> list[str]:
    """The one-liners that are one detector."""
    return [row for row in found if row not in (*OURS, *JOINED, "random")]


def ordered(found: Means) -> list[str]:
    """Rows, the best mean over sets first, those without one last."""
    return sorted(found, key=lambda row: -np.nan_to_num(overall(found[row]), nan=-1.0))


def number(value: float | None) -> str:
    """Three digits, or a dash where there is nothing."""
    return "–" if value is None or np.isnan(value) else f"{value:.3f}"


def ranking(records: list[Record], metric: str) -> str:
    """A line a row, a column a set, the best of each in bold; then what `fast` lacks of it."""
    found = means(values(records, metric))
    columns = {
        row: np.array([*(one.get(name, np.nan) for name in SETS), overall(one)])
        for row, one in found.items()
    }
    best = best_of(columns.values())
    lines = [
        [f"`{row}`", *(bold(one, one == top) for one, top in zip(columns[row], best, strict=True))]
        for row in ordered(found)
    ]
    others = best_of(columns[row] for row in found if row not in OURS)
    gaps = columns.get("fast", np.nan) - others
    lines.append(["`fast` less the best one-liner here", *map(signed, gaps)])
    return f"{markdown(['row', *SETS, 'mean'], lines)}\n\n{leads(found)}"


def best_of(columns: Iterable[Floats]) -> Floats:
    """The largest of each place; NaN where no column has anything."""
    best = np.full(len(SETS) + 1, np.nan)
    for column in columns:
        best = np.fmax(best, column)
    return best


def bold(value: float, best: bool) -> str:
    """Three digits, in bold where it is the best."""
    return f"**{number(value)}**" if best else number(value)


def signed(value: float) -> str:
    """With its sign; a dash where there is nothing."""
    return "–" if np.isnan(value) else f"{value:+.3f}"


def leads(found: Means) -> str:
    """How far `fast` and `linear` are above the one-liners in the mean, and where below."""
    whole = {row: overall(one) for row, one in found.items() if not np.isnan(overall(one))}
    alone = max(singles(whole), key=whole.__getitem__, default="")
    told = []
    for row in (row for row in OURS if row in whole and alone):
        gap = signed(whole[row] - whole[alone])
        text = f"- `{row}`: {gap} to the best single one-liner, `{alone}`"
        if "joined_logs" in whole:
            text += f", {signed(whole[row] - whole['joined_logs'])} to `joined_logs`"
        below = [
            f"{name} ({signed(lack)}, `{best}`)"
            for name, (best, lack) in behind(found, row).items()
            if lack < -SHORTFALL
        ]
        told.append(
            f"{text}; more than {SHORTFALL} below the best row on {', '.join(below) or 'no set'}."
        )
    return "\n".join(told)


def behind(found: Means, row: str) -> dict[str, tuple[str, float]]:
    """Set -> the best row there, and how far this one is below it."""
    best = {
        name: max((one for one in found if name in found[one]), key=lambda one: found[one][name])
        for name in found[row]
    }
    return {name: (one, found[row][name] - found[one][name]) for name, one in best.items()}


def alarms(records: list[Record]) -> str:
    """Normal test rows in alarm: the median by set, then how many entities keep the promise."""
    found = values(records, "alarm_share_normal")
    order = [
        *(row for row in OURS if row in found),
        *(row for row in ordered(means(values(records, "vus_pr"))) if row not in OURS),
    ]
    medians, kept = [], []
    for row in order:
        middle = [
            float(np.median(list(found[row][name].values()))) if name in found[row] else np.nan
            for name in SETS
        ]
        held = sum(one <= 3 * PROMISED for one in middle)
        medians.append([f"`{row}`", *(number(one) for one in middle), f"{held} of {len(SETS)}"])
        shares = [np.array(list(entities.values())) for entities in found[row].values()]
        every = np.concatenate(shares)
        cells = [
            f"{share:.0%}"
            for rule in (at_most, within)
            for share in (rule(every).mean(), np.mean([rule(one).mean() for one in shares]))
        ]
        kept.append([f"`{row}`", str(len(every)), number(float(np.median(every))), *cells])
    rules = ("at most 3 times", "mean of sets", "within a factor of 3", "mean of sets")
    head = ["row", "entities", "median", *rules]
    return (
        f"{markdown(['median of a set', *SETS, 'at most .03'], medians)}\n\n"
        f"{markdown(head, kept)}\n\n`random` finds nothing, and shows how well "
        "a promise can be kept on so few rows."
    )


def at_most(shares: Floats) -> Flags:
    """Not more than three times the promise."""
    return shares <= 3 * PROMISED


def within(shares: Floats) -> Flags:
    """Not less than a third of the promise either."""
    return at_most(shares) & (shares >= PROMISED / 3)


def worth(records: list[Record]) -> str:
    """`linear` against `fast`: what the network is worth, by set."""
    metrics = ("vus_pr", "auc_pr", "event_f1")
    found = {metric: values(records, metric) for metric in metrics}
    both = found["vus_pr"]
    sets = [name for name in SETS if all(name in both.get(row, {}) for row in OURS)]
    pairs = {name: [both[row][name] for row in ("fast", "linear")] for name in sets}
    differences = {
        name: np.array([a[e] - b[e] for e in a if e in b]) for name, (a, b) in pairs.items()
    }
    tested = [name for name in sets if len(differences[name]) > 5]  # fewer cannot reach .05
    adjusted = dict(
        zip(tested, holm([signed_rank_p(differences[name]) for name in tested]), strict=True)
    )
    lines = []
    for name in sets:
        gap = differences[name]
        cells = [
            mean_of(found[metric], row, name) for metric in metrics for row in ("linear", "fast")
        ]
        counts = [f"{(gap > 0).sum()}", f"{(gap < 0).sum()}", number(adjusted.get(name))]
        lines.append([f"{name} ({len(gap)})", DOMAIN_OF[name], *cells, *counts])
    if len(sets) == len(SETS):
        totals = [
            number(overall(means(found[metric])[row]))
            for metric in metrics
            for row in ("linear", "fast")
        ]
        every = np.concatenate(list(differences.values()))
        lines.append(
            ["mean of sets", "", *totals, f"{(every > 0).sum()}", f"{(every < 0).sum()}", ""]
        )
    heads = [f"{title(metric)}: `{row}`" for metric in metrics for row in ("linear", "fast")]
    head = ["set (entities)", "domain", *heads, "better: `fast`", "`linear`", "p"]
    return (
        f"{markdown(head, lines)}\n\nBetter by VUS-PR, in entities; p: Wilcoxon's signed ranks "
        f"over the entities of a set, Holm over the {len(tested)} sets with six or more."
    )


def mean_of(found: Values, row: str, name: str) -> str:
    """The mean of a row on a set."""
    entities = found.get(row, {}).get(name, {})
    return number(float(np.mean(list(entities.values()))) if entities else None)


def former(records: list[Record]) -> str:
    """The first five sets beside what the network alone had there, and what was aimed at."""
    found = means(values(records, "vus_pr"))
    lines = []
    for name, (network, aim) in FORMER.items():
        today = found.get("fast", {}).get(name, np.nan)
        linear = found.get("linear", {}).get(name, np.nan)
        cells = [*map(number, (network, linear, today)), signed(today - network)]
        lines.append([name, *cells, f"{aim:.2f}", signed(today - aim)])
    head = ["set", "the network alone", "`linear`", "`fast` today", "difference"]
    head += ["aim", "to the aim"]
    return (
        f"{markdown(head, lines)}\n\nVUS-PR. The network alone: mean of five seeds, this page at "
        "commit 0aa6d81. Not more than .01 below it was asked."
    )


def in_short(records: list[Record]) -> str:
    """The table of the README: a line a set, the best single one-liner of each beside ours."""
    found = means(values(records, "vus_pr"))
    rows = [row for row in (*OURS, *JOINED[:1], "random") if row in found]
    whole = {row: overall(found[row]) for row in singles(found)}
    alone = max(whole, key=lambda row: np.nan_to_num(whole[row], nan=-1.0))
    lines = []
    for name in SETS:
        best = max(singles(found), key=lambda row: found[row].get(name, -1.0))
        cells = [number(found[row].get(name)) for row in rows]
        own = [number(found[alone].get(name)), f"{number(found[best].get(name))} `{best}`"]
        lines.append([name, *cells[:-1], *own, cells[-1]])
    means_of = [number(overall(found[row])) for row in rows]
    lines.append(["mean of sets", *means_of[:-1], number(whole[alone]), "–", means_of[-1]])
    heads = [f"`{row}`" for row in rows[:-1]]
    return markdown(["VUS-PR", *heads, f"`{alone}`", "best one-liner of the set", "random"], lines)


def hits(records: list[Record]) -> str:
    """How often the channel with the largest share of an event is one that its label names."""
    found = means(values(records, "hit_top1"))
    named = [name for name in SETS if any(name in one for one in found.values())]
    rows = sorted(found, key=lambda row: -np.mean([found[row].get(name, 0.0) for name in named]))
    lines = [[f"`{row}`", *(number(found[row].get(name)) for name in named)] for row in rows]
    return markdown(["row", *named], lines)


def ceilings(records: list[Record], root: Path) -> str:
    """What all rows together reach, and what a score would that is the label itself, but late."""
    ours, best = means(values(records, "vus_pr"))["fast"], best_rows(records, "vus_pr")
    lines = []
    for name in (name for name in SETS if name in best):
        source = open_source(name, root)
        slips = slipped(source, sorted(best[name]))
        late = [number(slips[f"the label, {rows} rows late"]["vus_pr"]) for rows in (10, 30)]
        top = number(float(np.mean(list(best[name].values()))))
        lost = f"{len(hopeless(best[name]))} of {len(best[name])}"
        lines.append([name, number(ours.get(name)), top, *late, lost])
    head = [
        "set",
        "`fast`",
        "best row of each entity, by its labels",
        "the label, 10 rows late",
        "30 rows late",
    ]
    return (
        f"VUS-PR. No row reaches {HOPELESS:.1f} on the entities of the last column.\n\n"
        + markdown([*head, "lost to all"], lines)
    )


def set_up(records: list[Record], told: list[str]) -> str:
    """Where the numbers come from."""
    commits: dict[str, set[str]] = defaultdict(set)
    for one in records:
        whose = f"`{one['detector']}`" if one["detector"] in OURS else "one-liners"
        commits[whose].add(one["commit"] or "no checkout")
    at = "; ".join(f"{whose} {', '.join(sorted(each))}" for whose, each in sorted(commits.items()))
    days = sorted({one["date"][:10] for one in records})
    count = {
        name: len({one["entity"] for one in records if one["dataset"] == name}) for name in SETS
    }
    sizes = ", ".join(f"{name} {number}" for name, number in count.items())
    left = "\n\nNot counted:\n\n" + "\n".join(f"- {one}" for one in told) if told else ""
    return (
        "## Set-up\n\nOne default for all sets, one seed, protocol `label_free`: thresholds from "
        "training data alone, labels read once, to measure; every row promises one normal row in a "
        "hundred. One-liners learn from every training row. A set's value is the mean over its "
        "entities, and the mean is that over sets: "
        f"{sum(count.values())} entities ({sizes}).\n\n"
        "```sh\nimdiffusion bench run fourteen --data DATA --out docs/results/runs/fourteen.jsonl\n"
        "imdiffusion bench domains docs/results/runs/fourteen.jsonl\n"
        "imdiffusion bench document quality --data DATA\n```\n\n"
        f"{len(records)} runs, {' to '.join(dict.fromkeys((days[0], days[-1])))}; "
        f"commits: {at} (+ = with changes).{left}"
    )


def _section(page: str, heading: str) -> str:
    """What stands under a heading."""
    found = page.partition(f"{heading}\n")[2].partition("\n## ")[0].strip()
    return found.removesuffix(LAST).strip() or UNWRITTEN


def write_quality(docs: Path, root: Path | None) -> None:
    """The page, and the table of the README beside the folder `docs`.

    Raises DataError where the README has no place for it.
    """
    page, readme = docs / "studies" / "quality.md", docs.parent / "README.md"
    records, told = common(measured(docs, "fourteen"))
    before = page.read_text(encoding="utf-8") if page.exists() else ""
    allowed = _section(before, ALLOWED) if root is None else ceilings(records, root)
    parts = [
        QUESTION,
        f"{ANSWER}\n\n{_section(before, ANSWER)}",
        set_up(records, told),
        f"## VUS-PR, buffer 100\n\n{ASKED}\n\n{ranking(records, 'vus_pr')}",
        f"## VUS-PR, buffer 10\n\n{ranking(records, 'vus_pr_10')}",
        f"## AUC-PR\n\n{ranking(records, 'auc_pr')}",
        f"## Normal test rows in alarm, {PROMISED:.0%} promised\n\n{alarms(records)}",
        f"## Event F1 at the promise\n\n{ranking(records, 'event_f1')}",
        f"## `linear` against `fast`: what the network is worth\n\n{worth(records)}",
        f"## The first five sets, before and now\n\n{former(records)}",
        f"## Choices judged elsewhere\n\n{domains_table(records).strip()}",
        f"## Top channel of an event, where labels name its channels\n\n{hits(records)}",
        f"{ALLOWED}\n\n{allowed}",
        LAST,
    ]
    write(page, "\n\n".join(parts) + "\n")
    text = readme.read_text(encoding="utf-8")
    if not PLACE.search(text):
        raise DataError(
            f"{readme} has no place for the table: <!-- fourteen --> is missing",
            remedy="Write <!-- fourteen --> and <!-- end of fourteen --> at its place.",
        )
    write(readme, PLACE.sub(lambda marks: f"{marks[1]}{in_short(records)}\n{marks[2]}", text))
