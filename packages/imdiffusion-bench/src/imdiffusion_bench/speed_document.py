"""Writes docs/studies/speed.md and its figure from runs and measurements: `python docs/speed.py`.

What stands under "## Answer" is written by hand and kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from imdiffusion_bench.record import Record, read
from imdiffusion_bench.studies.drawing import Chart, Line, figure
from quality import table

from imdiffusion.data.atomic import atomic_path

HERE = Path(__file__).parent
RUNS, PAGE = HERE / "results" / "runs" / "trade.jsonl", HERE / "studies" / "speed.md"
MEASURED = HERE.parent / "benchmarks" / "results"
ANSWER = "## Answer"
QUESTION = "# What does speed cost in quality, and where does time go?"
SET_UP = """## Set-up

Variants of `fast`, one change each, on two entities of each part that chose the default (SMD
machine-1-2 and 1-3, GCP service0 and 1, ASD omi-1 and 2), seed 0, protocol `label_free`, one
thread. The rest are the programs of `benchmarks/`, on both cores of an otherwise idle machine.

```sh
imdiffusion bench run trade --out docs/results/runs/trade.jsonl
make bench
python docs/speed.py
```"""


def variants(records: list[Record]) -> list[dict[str, Any]]:
    """Of each variant its means over sets of means over entities, and its speed; the best first."""
    found = []
    for name in dict.fromkeys(one["variant"] for one in records):
        own = [one for one in records if one["variant"] == name and one["status"] == "ok"]
        sets = sorted({one["dataset"] for one in own})

        def mean(metric: str, own: list[Record] = own, sets: list[str] = sets) -> float:
            each = [
                np.mean(
                    [o["metrics"]["label_free"][metric] for o in own if o["dataset"] == data_set]
                )
                for data_set in sets
            ]
            return float(np.mean(each))

        seconds = sum(one["seconds"]["score"] for one in own)
        found.append(
            {
                "variant": name,
                **{metric: mean(metric) for metric in ("vus_pr", "auc_pr", "event_f1")},
                "fit": float(np.mean([one["seconds"]["fit"] for one in own])),
                "rate": sum(one["rows"]["test"] for one in own) / seconds,
                "entities": len(own),
            }
        )
    return sorted(found, key=lambda one: -one["vus_pr"])


def trade(found: list[dict[str, Any]]) -> str:
    """The table of quality against speed; `fast` in bold."""
    rows = []
    for one in found:
        name = f"**{one['variant']}**" if one["variant"] == "fast" else one["variant"]
        quality = [f"{one[metric]:.3f}" for metric in ("vus_pr", "auc_pr", "event_f1")]
        rows.append(
            [name, *quality, f"{one['fit']:.1f}", f"{one['rate']:,.0f}", str(one["entities"])]
        )
    return table(["variant", "VUS-PR", "AUC-PR", "event F1", "fit s", "rows/s", "entities"], rows)


def drawn(found: list[dict[str, Any]]) -> str:
    """The same as a figure, random scores apart: points scored a second across, VUS-PR up."""
    lines = tuple(
        Line(one["variant"], ((one["rate"], one["vus_pr"], float("nan")),))
        for one in found
        if one["variant"] != "random"
    )
    ticks = tuple((float(rate), f"{rate:,}") for rate in (2_000, 5_000, 10_000, 20_000, 40_000))
    chart = Chart(
        "Quality against speed, one thread",
        "rows scored a second",
        "VUS-PR, mean of three sets",
        lines,
        log_x=True,
        ticks=ticks,
        style="points",
    )
    return figure([chart], title=QUESTION.removeprefix("# "))


def measured(name: str) -> tuple[str, list[dict[str, Any]]]:
    """Where and when a program of benchmarks/ measured last, and what."""
    kept = json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))
    machine = kept["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['day']}"
    return f"`benchmarks/{name}.py`, {where}, commit {machine['commit']}.", kept["rows"]


def section(title: str, name: str) -> str:
    """The rows of one program as a table under a title."""
    source, rows = measured(name)
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[_cell(row.get(key)) for key in head] for row in rows]
    return f"## {title}\n\n{table([key.replace('_', ' ') for key in head], lines)}\n\n{source}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Write page and figure; the answer stays as it is."""
    found = variants(list(read([RUNS])))
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"{ANSWER}\n\nNot answered yet."
    answer = old[old.index(ANSWER) :].split("\n## ", 2)
    kept = ("## " + answer[0].removeprefix("## ")).rstrip()
    parts = [
        QUESTION,
        kept,
        SET_UP,
        f"## Quality against speed\n\n![Quality against speed](speed.svg)\n\n{trade(found)}",
        section("Whole series and single points: `detection.py`", "detection"),
        section("Live: `latency.py`", "latency"),
        section("Against channels and window: `scaling.py`", "scaling"),
        section("Memory against length: `memory.py`", "memory"),
        section("Distance from the machine's roof: `roofline.py`", "roofline"),
    ]
    with atomic_path(PAGE.with_suffix(".svg")) as draft:
        draft.write_text(drawn(found), encoding="utf-8")
    with atomic_path(PAGE) as draft:
        draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
