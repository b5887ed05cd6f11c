"""Writes the numbers of docs/studies/quality.md from the runs: `python docs/quality.py`.

What stands under "## Answer" is written by hand and kept. What the labels allow is read from the
data in IMDIFFUSION_DATA; without them it is kept as it stands.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from imdiffusion.bench.ceilings import HOPELESS, METRICS, SLIPS, best_rows, hopeless, slipped
from imdiffusion.bench.columns import title
from imdiffusion.bench.record import Record, read
from imdiffusion.bench.sources import open_source
from imdiffusion.data.atomic import atomic_path

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "results" / "runs", HERE / "studies" / "quality.md"
MISSING = HERE.parent / "benchmarks" / "results" / "missing.json"
SETS = ("SMD", "GCP", "ASD", "MSL", "SMAP")
# Whose test labels were looked at while the default was chosen.
DEVELOPMENT = {
    "SMD": {f"machine-1-{number}" for number in range(2, 9)},
    "GCP": {f"service{number}" for number in range(10)},
    "ASD": {f"omi-{number}" for number in range(1, 5)},
}
PROMISED = 0.01
ANSWER, ALLOWED = "## Answer", "## What the labels allow"
QUESTION = "# Does `fast` rank and flag better than every one-liner, without labels?"
SET_UP = """## Set-up

One default for all sets. Test labels of the development part (SMD machine-1-2 to 1-8, GCP service0
to 9, ASD omi-1 to omi-4) chose among the variants that [the log](../log.md) lists; nothing was
chosen on the rest, but MSL and SMAP were printed beside. Protocol `label_free`, every row with the
same promise of one normal row in a hundred.

```sh
imdiffusion bench run one_liners --out docs/results/runs/one_liners.jsonl
imdiffusion bench run headline --out docs/results/runs/headline.jsonl
python docs/quality.py
```"""
Values = dict[str, dict[str, float]]  # data set -> entity -> mean over seeds


def values(records: Iterable[Record], row: str, metric: str) -> Values:
    """A metric of a row under the label-free protocol; runs without it are left out."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in records:
        if one["row"] == row and one["status"] == "ok":
            value = one["metrics"]["label_free"].get(metric)
            if value is not None:
                found[one["dataset"]][one["entity"]].append(value)
    return {
        name: {entity: float(np.mean(seeds)) for entity, seeds in entities.items()}
        for name, entities in found.items()
    }


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown, first column to the left."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean_of(entities: Iterable[float]) -> str:
    """Three digits, or a dash where there is nothing."""
    kept = list(entities)
    return f"{np.mean(kept):.3f}" if kept else "–"


def compared(records: list[Record], metric: str) -> str:
    """`fast` on the development part, the rest and all, beside the best row of each set."""
    rows = sorted({one["row"] for one in records} - {"fast"})
    mine = values(records, "fast", metric)
    others = {row: values(records, row, metric) for row in rows}
    lines = []
    for name in SETS:
        own = mine.get(name, {})
        known = DEVELOPMENT.get(name, set())
        means = {
            row: float(np.mean(list(found[name].values())))
            for row, found in others.items()
            if found.get(name)
        }
        best = max(means, key=means.__getitem__)
        ceiling = [
            max(found[name][entity] for found in others.values() if entity in found.get(name, {}))
            for entity in own
        ]
        lines.append(
            [
                f"{name} ({len(own)})",
                mean_of(own[e] for e in own if e in known),
                mean_of(own[e] for e in own if e not in known),
                f"**{mean_of(own.values())}**",
                f"{means[best]:.3f} {best}",
                f"{means['standardised_mean']:.3f}",
                mean_of(ceiling),
                f"{means['random']:.3f}",
            ]
        )
    head = ["set (entities)", "development", "rest", "all", "best row", "standardised_mean"]
    return table([*head, "best row of each entity, by its labels", "random"], lines)


def hits(records: list[Record]) -> str:
    """How often the channel with the largest share of an event is one that its label names."""
    rows = ("fast", "zscore", "zscore_30", "mahalanobis", "moving_variance", "squared_difference")
    found = {row: values(records, row, "hit_top1") for row in rows}
    named = [name for name in SETS if found["fast"].get(name)]
    lines = [[name, *(mean_of(found[row][name].values()) for row in rows)] for name in named]
    return table(["set", *(f"`{row}`" for row in rows)], lines)


def absent() -> str:
    """What is lost when channels are away at scoring time, as `benchmarks/missing.py` found it."""
    if not MISSING.exists():
        return "Not measured yet."
    lines, rows = [], json.loads(MISSING.read_text(encoding="utf-8"))["rows"]
    for one in rows:
        if one["entity"] != "mean":
            continue
        line = [f"{one['set']} ({sum(row['set'] == one['set'] for row in rows) - 1})"]
        for row in ("fast", "mahalanobis_30_refitted"):
            whole = one[f"{row}_0"]
            line += [f"{whole:.3f}"]
            line += [f"{one[f'{row}_{share}'] / whole - 1:+.1%}" for share in (20, 50)]
        lines.append(line)
    head = ["set (entities)", "`fast`, whole", "20 % absent", "50 % absent"]
    told = "`mahalanobis_30` fitted without them: whole"
    return table([*head, told, "20 % absent", "50 % absent"], lines)


def beside_paper(records: list[Record], capped: list[Record]) -> str:
    """The `paper` preset, its training cut short, beside `fast` on the entities it was run on."""
    metrics, rows = ("vus_pr", "auc_pr", "event_f1"), ("fast", "paper", "random")
    lines = []
    for name in SETS:
        there = values(capped, "paper", "vus_pr").get(name, {})
        line = [f"{name} ({len(there)})"]
        for metric in metrics:
            for row in rows:
                runs = capped if row == "paper" else records
                own = values(runs, row, metric).get(name, {})
                line.append(mean_of(own[entity] for entity in there if entity in own))
        lines.append(line)
    names = [f"`{row}`" if row != "random" else row for row in rows]
    head = [f"{title(metric)}: {row}" for metric in metrics for row in names]
    trained = sorted({one["variant"] for one in capped if one["row"] == "paper"})
    seeds = sorted({one["seed"] for one in capped if one["row"] == "paper"})
    return (
        f"{table(['set (entities)', *head], lines)}\n\nThe row is `{'`, `'.join(trained)}`, seeds "
        f"{', '.join(map(str, seeds))} as far as measured, its threshold from held-out rows. Whole "
        "trainings take hours an entity here; [paper.md](../results/paper.md) has its own protocol."
    )


def seeds(records: list[Record]) -> str:
    """Standard deviation over seeds of the mean over entities, for the seeds that are whole."""
    lines = []
    for name in SETS:
        by_seed: dict[int, list[float]] = defaultdict(list)
        for one in records:
            if one["row"] == "fast" and one["dataset"] == name and one["status"] == "ok":
                by_seed[one["seed"]].append(one["metrics"]["label_free"]["vus_pr"])
        most = max(map(len, by_seed.values()))
        whole = [float(np.mean(found)) for found in by_seed.values() if len(found) == most]
        spread = f"{np.std(whole, ddof=1):.4f}" if len(whole) > 1 else "–"
        lines.append([name, str(len(whole)), ", ".join(f"{one:.3f}" for one in whole), spread])
    return table(["set", "seeds", "VUS-PR of each", "standard deviation"], lines)


def alarms(records: list[Record]) -> str:
    """Shares of normal test rows in alarm."""
    lines, every = [], []
    found = values(records, "fast", "alarm_share_normal")
    for name in (*SETS, "all"):
        shares = every if name == "all" else list(found.get(name, {}).values())
        every = every if name == "all" else every + shares
        near = [PROMISED / 3 <= share <= PROMISED * 3 for share in shares]
        lines.append(
            [name, f"{np.median(shares):.4f}", f"{max(shares):.3f}", f"{100 * np.mean(near):.0f} %"]
        )
    return table(["set", "median", "worst", "within a factor of 3"], lines)


def ceilings(records: list[Record], root: Path) -> str:
    """What a score that is the label itself, but slipped, would have; and the best of all rows."""
    ours = {metric: values(records, "fast", metric) for metric in METRICS}
    best = {metric: best_rows(records, metric) for metric in METRICS}
    others = {metric: best_rows(records, metric, without=("fast",)) for metric in METRICS}
    lines, lost = [], []
    for name in SETS:
        source = open_source(name, root)
        slips = slipped(source, source.entities())
        rows = {
            "`fast`": {metric: mean_of(ours[metric].get(name, {}).values()) for metric in METRICS},
            "best one-liner of each entity, by its labels": {
                metric: mean_of(others[metric][name].values()) for metric in METRICS
            },
            "best of all rows of each entity, by its labels": {
                metric: mean_of(best[metric][name].values()) for metric in METRICS
            },
            **{slip: {key: f"{one:.3f}" for key, one in slips[slip].items()} for slip in SLIPS},
        }
        lines += [[name, row, *(each[metric] for metric in METRICS)] for row, each in rows.items()]
        none = hopeless(best["vus_pr"][name])
        share = len(none) / len(best["vus_pr"][name])
        kept = [one for entity, one in best["vus_pr"][name].items() if entity not in none]
        shown = ", ".join(none[:8]) + (", ..." if len(none) > 8 else "")
        lost.append(
            f"- {name}: {len(none)} of {len(best['vus_pr'][name])} entities ({share:.0%})"
            + (f": {shown}. The best of all rows on the others: {mean_of(kept)}." if none else ".")
        )
    told = f"No row, `fast` included, has a VUS-PR of {HOPELESS:.1f} on:\n\n" + "\n".join(lost)
    return f"{table(['set', 'score', *map(title, METRICS)], lines)}\n\n{told}"


def _section(page: str, heading: str) -> str:
    """What stands under a heading."""
    found = page.partition(f"{heading}\n")[2].partition("\n## ")[0].strip()
    return found.partition("\n\nSignificance and every row:")[0] or "Not written yet."


def main() -> None:
    """Write the page."""
    records = list(read([RUNS / "one_liners.jsonl", RUNS / "headline.jsonl"]))
    capped = list(read([RUNS / "paper_three.jsonl"]))
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    answer = _section(before, ANSWER)
    root = os.environ.get("IMDIFFUSION_DATA")
    allowed = ceilings(records, Path(root)) if root else _section(before, ALLOWED)
    parts = [
        QUESTION,
        f"{ANSWER}\n\n{answer}",
        SET_UP,
        f"## VUS-PR, buffer 100\n\n{compared(records, 'vus_pr')}",
        f"## AUC-PR\n\n{compared(records, 'auc_pr')}",
        f"## Event F1 at the label-free threshold\n\n{compared(records, 'event_f1')}",
        f"## F1 of rows at the label-free threshold\n\n{compared(records, 'f1')}",
        f"## Normal test rows in alarm, {PROMISED:.0%} promised\n\n{alarms(records)}",
        f"## Spread over seeds\n\n{seeds(records)}",
        f"## Top channel of an event, where labels name its channels\n\n{hits(records)}",
        f"## Channels absent at scoring time, VUS-PR\n\n{absent()}\n\nThree draws of whole "
        "channels, entities whose labels chose the default: `benchmarks/missing.py`.",
        f"## The `paper` preset on the same protocol\n\n{beside_paper(records, capped)}",
        f"{ALLOWED}\n\n{allowed}",
        "Significance and every row: [label_free.md](../results/label_free.md). Kinds of anomaly, "
        "each on its own: [kinds.md](../results/kinds.md). What each part of `fast` is worth: "
        "[parts.md](../results/parts.md). Other rules for alarms: "
        "[flagging.md](flagging.md). The worst events missed and the worst "
        "false alarms: [gallery.md](gallery.md).",
    ]
    with atomic_path(PAGE) as path:
        path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
