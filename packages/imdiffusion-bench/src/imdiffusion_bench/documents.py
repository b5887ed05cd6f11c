"""Documents made of runs: pages of results and studies, their index, behaviours, speed.

`imdiffusion bench document NAME` writes one; `docs` is the folder of documents, with the runs in
`results/runs`. Every page names the command that measures it again, and what of its plans is not
measured yet. A page of results whose runs are gone goes too. What stands under "## Answer" is
written by hand and kept, and so is the page of a study.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion import baselines
from imdiffusion.data.atomic import atomic_path
from imdiffusion.errors import DataError
from imdiffusion_bench.aggregate import against_base, kinds_table, steps_joined
from imdiffusion_bench.behaviours import SCENARIOS
from imdiffusion_bench.behaviours.config import meanings
from imdiffusion_bench.behaviours.running import current
from imdiffusion_bench.behaviours.table import plot, tables
from imdiffusion_bench.columns import markdown
from imdiffusion_bench.datasets import GENERATED
from imdiffusion_bench.plan import THREE
from imdiffusion_bench.plots import Chart, Line, charts_figure, save_plot
from imdiffusion_bench.published import paper_table, shortfall
from imdiffusion_bench.record import Record, files_in, read, read_document, there
from imdiffusion_bench.runner import gaps
from imdiffusion_bench.studies import STUDIES, named_plan, study
from imdiffusion_bench.tables import headline_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANSWER = "## Answer"
UNWRITTEN = "Not written yet."
FURTHER = (
    *("composite_f1", "affiliation_f1", "vus_roc", "alarm_share_normal", "delay_at_1_a_day"),
    *("hit_top1", "hit_100"),
)
ADJUSTED = (
    *("f1", "precision", "recall", "f1_threshold"),
    *("pa_k_f1", "pa_k_auc", "r_auc_pr", "add"),
)
Part = Callable[[list[Record]], str]
Pick = Callable[[Record], bool]


def _under(protocol: str, *metrics: str) -> Part:
    return lambda records: headline_tables(records, protocol=protocol, metrics=metrics)


def _every(record: Record) -> bool:
    return True


def _on_three(run: Record) -> bool:
    """Three entities a set, three seeds."""
    return run["entity"] in THREE.get(run["dataset"], ()) and run["seed"] < 3


def _papers_own(run: Record) -> bool:
    """Of the one-liners, those that are among the paper's baselines, and chance."""
    other = run["detector"] in baselines.names() and run["detector"] not in (
        "random",
        "isolation_forest",
    )
    return _on_three(run) and not other


def _against(records: list[Record]) -> str:
    """The claims as a user would judge them, then as the paper did."""
    both = (("label_free", "vus_pr"), ("paper", "f1"))
    return "\n\n".join(against_base(records, protocol=one, metric=metric) for one, metric in both)


# Runs whose detectors are no part of this package any more: what is said instead of a command.
ARCHIVED = {
    "peers_three": "`peers_three`: methods of TSB-AD 1.5 and timesead 0.0.2, run by wrappers that "
    "this package no longer has; [the benchmark](../benchmark.md#detectors-of-other-packages) says "
    "how detectors of other packages are measured."
}
# Page -> (title, plans whose runs it joins, how each of its parts is made, which runs it takes).
PAGES: dict[str, tuple[str, tuple[str, ...], tuple[Part, ...], Pick]] = {
    "label_free": (
        "Without labels: every detector, thresholds from training data alone",
        ("one_liners", "headline", "peers_three", "paper_three"),
        (_under("label_free"), _under("label_free", *FURTHER), _under("oracle")),
        _every,
    ),
    "kinds": (
        "Kinds of anomaly, each on a generated set of its own",
        ("kinds",),
        (kinds_table,),
        _every,
    ),
    "parts": (
        "What each part of `fast` is worth: one left out at a time, on the part that chose",
        ("parts",),
        (_under("label_free"),),
        _every,
    ),
    "trade": (
        "Quality against speed: what the default of `fast` was chosen from",
        ("trade",),
        (_under("label_free"),),
        _every,
    ),
    "paper": (
        "The paper's protocol: point-adjusted, everything chosen on test labels",
        ("paper_three", "peers_three", "headline", "one_liners"),
        (paper_table, shortfall, steps_joined, _under("paper", *ADJUSTED)),
        _papers_own,
    ),
    "concatenated": (
        "MSL and SMAP with all entities joined to one series, as published",
        ("concatenated",),
        (
            paper_table,
            _under("paper", "f1", "f1_last", "f1_fixed", "r_auc_pr"),
            _under("label_free"),
        ),
        _every,
    ),
    "causes": (
        "What keeps `paper` from its published figures: one difference at a time",
        ("causes",),
        (steps_joined, _under("paper"), _under("label_free")),
        _every,
    ),
    "ablations": (
        "The paper's claims, one variant at a time",
        ("ablations_three",),
        (_against, steps_joined, _under("paper"), _under("label_free")),
        _every,
    ),
    "peers": (
        "The paper's baselines, as other packages have them, beside `fast` and the one-liners",
        ("peers_three", "headline", "one_liners"),
        (_under("label_free"), _under("oracle"), _under("paper")),
        _on_three,
    ),
}


def runs_of(docs: Path, plan: str) -> Path:
    """The file of a plan's runs; it need not be there."""
    return docs / "results" / "runs" / f"{plan.replace(':', '_')}.jsonl"


def measured(docs: Path, plan: str) -> list[Record]:
    """The runs of a plan; none where it was not measured."""
    path = runs_of(docs, plan)
    return list(read([path])) if there(path) else []


def entities(docs: Path) -> dict[str, list[str]]:
    """The entities of each data set, as far as any run is of it."""
    found: dict[str, dict[str, None]] = {}
    for path in files_in(docs / "results" / "runs"):
        for run in read([path]):
            found.setdefault(run["dataset"], {})[run["entity"]] = None
    return {name: list(each) for name, each in found.items()}


def source(docs: Path, name: str, records: list[Record], plans: tuple[str, ...]) -> str:
    """Where the numbers of a page come from, and how to measure them again."""
    commands = [
        f"imdiffusion bench run {one}{_data(one)} --out docs/results/runs/{runs_of(docs, one).name}"
        for one in plans
        if one not in ARCHIVED
    ]
    hosts = sorted({f"{one['host']['cpu']}, {one['host']['gpu'] or 'no GPU'}" for one in records})
    commits = sorted({one["commit"] or "no checkout" for one in records})
    days = sorted({one["date"][:10] for one in records})
    return (
        "```sh\n" + "\n".join([*commands, f"imdiffusion bench document {name}"]) + "\n```\n\n"
        f"{len(records)} runs, {days[0]} to {days[-1]}, on {'; '.join(hosts)}; "
        f"commits {', '.join(commits)} (+ = with changes).\n\n"
        "The committed files hold these runs: the commands measure what they lack. With an `--out` "
        f"that is not there yet they measure all of it again, some {_hours(records)} on one core."
    )


def _data(name: str) -> str:
    """The option that names the data folder, where a plan reads one."""
    made = all(one.startswith(GENERATED) for one in named_plan(name).datasets)
    return "" if made else " --data DATA"


def _hours(records: list[Record]) -> str:
    """What these runs took together, one at a time; a fit that several share counts once."""
    seconds = 0.0
    for run in records:
        took = {**run.get("seconds", {})}
        if run.get("fit_shared"):
            took.pop("fit", None)
        seconds += sum(took.values())
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"


def answer_in(page: Path) -> str:
    """What was written by hand under "## Answer" of a page; "" where it is not there."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    return text.partition(f"{ANSWER}\n")[2].partition("\n## ")[0].strip()


def write(path: Path, text: str) -> None:
    """Write a document, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_results(docs: Path) -> None:
    """A page for each entry of PAGES whose first plan was measured, one for each study, an index.

    Raises OutputError where one cannot be written; the old one is whole then.
    """
    known = entities(docs)
    for name, (title, plans, parts, taken) in PAGES.items():
        page = docs / "results" / f"{name}.md"
        made_of = tuple(one for one in plans if there(runs_of(docs, one)))
        if plans[0] not in made_of:  # the others only stand beside it
            page.unlink(missing_ok=True)
            continue
        records = [run for run in read([runs_of(docs, one) for one in made_of]) if taken(run)]
        body = "\n\n".join(part(records).strip() for part in parts)
        kept = answer_in(page)
        answer = f"{ANSWER}\n\n{kept}\n\n## Tables\n\n" if kept else ""
        notes = "\n".join(
            f"- {ARCHIVED.get(one) or gaps(named_plan(one), measured(docs, one), known)}"
            for one in plans
        )
        head = f"# {title}\n\n{source(docs, 'results', records, made_of)}\n\n{notes}"
        write(page, f"{head}\n\n{answer}{body}\n")
    _write_studies(docs)
    _write_index(docs)


def _write_studies(docs: Path) -> None:
    """One Markdown page and one plot for each study whose runs are there."""
    for name in STUDIES:
        asked = study(name)
        records = measured(docs, asked.plan.name)
        if not records:
            continue
        path = docs / "studies" / f"{name}.md"
        head, _, rest = asked.table(records).strip().partition("\n")
        write(
            path,
            f"{head}\n\n{ANSWER}\n\n{answer_in(path) or UNWRITTEN}\n\n## Set-up\n\n"
            f"{len(asked.datasets)} generated data sets, {len(asked.variants)} variants, "
            f"seeds {', '.join(map(str, asked.seeds))}.\n\n"
            f"{source(docs, 'results', records, (asked.plan.name,))}\n\n"
            f"![{asked.question}]({name}.svg)\n{rest}\n",
        )
        save_plot(asked.plot(records), path.with_suffix(".svg"))


def _write_index(docs: Path) -> None:
    """A line for each page of results, and for each study."""
    pages = [
        f"- [{title}]({name}.md)"
        for name, (title, *_) in PAGES.items()
        if (docs / "results" / f"{name}.md").exists()
    ]
    asked = [
        f"- [{study(name).question}](../studies/{name}.md)"
        for name in STUDIES
        if (docs / "studies" / f"{name}.md").exists()
    ]
    write(
        docs / "results" / "README.md",
        "# Results\n\nEach page names the command that measures it again; the runs are in `runs/`, "
        "a JSON line each, packed by `imdiffusion bench pack`. What rows, metrics and protocols "
        "are: [the benchmark](../benchmark.md).\n\n"
        + "\n".join(pages)
        + "\n\n## Studies on generated data\n\n"
        + "\n".join(asked)
        + "\n\nFurther: [fourteen sets without labels: `fast`, `linear`, the one-liners]"
        "(../studies/quality.md), [alarms](../studies/flagging.md), "
        "[speed](../studies/speed.md).\n",
    )


# -- docs/behaviours.md: what the code has, and the run in results/runs/behaviours.json

BEHAVIOURS_COMMAND = (
    "imdiffusion bench behaviours --detectors linear,fast,forecast_s30,mahalanobis_30,random "
    "--seeds 0 --json > docs/results/runs/behaviours.json"
)


def write_behaviours(docs: Path) -> None:
    """The three parts of docs/behaviours.md that a program knows, and the plot of its run.

    Each part stands between two comments; what is written by hand around them is kept. Raises
    DataError where a place is missing.
    """
    page, run = docs / "behaviours.md", docs / "results" / "runs" / "behaviours.json"
    found = read_document(run)
    found = None if found is None else current(found)
    scenarios = [[f"`{name}`", one.meaning] for name, one in SCENARIOS.items()]
    dials = [[f"`{name}`", *told] for name, told in meanings().items()]
    parts = {
        "scenarios": markdown(["scenario", "what is wrong"], scenarios, numbers=False),
        "dials": markdown(["dial", "usual", "what it is"], dials, numbers=False),
        "results": _behaviours_results(found),
    }
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marks.search(text):
            raise DataError(
                f"{page} has no place for the {name}: <!-- {name} --> is missing",
                remedy="Write both comments at its place.",
            )
        whole = f"<!-- {name} -->\n{part}\n<!-- end of {name} -->"
        text = marks.sub(whole.replace("\\", r"\\"), text)
    write(page, text)
    if found is not None:
        save_plot(plot(found), docs / "results" / "behaviours.svg")


def _behaviours_results(document: dict[str, Any] | None) -> str:
    """The plot and the tables of the run that is there, and how it was made."""
    made = f"```sh\n{BEHAVIOURS_COMMAND}\nimdiffusion bench document behaviours\n```"
    if document is None:
        return f"Not measured yet. These two fill this section:\n\n{made}"
    host = document["host"]
    where = f"{host['cpu']}, {host['gpu'] or 'no GPU'}"
    told = f"{document['date'][:10]}, on {where}; commit {document['commit'] or 'no checkout'}."
    drawn = f"![{len(SCENARIOS)} scenarios, a mark a detector](results/behaviours.svg)"
    deeper = tables(document).strip().replace("\n## ", "\n### ")
    return f"{made}\n\n{told}\n\n{drawn}\n\n{deeper}"


# -- docs/studies/speed.md: runs of the plan `trade`, and what the programs of benchmarks/ measured

SPEED_QUESTION = "# What does speed cost in quality, and where does time go?"
SPEED_SET_UP = """## Set-up

Variants of `fast`, one change each, on two entities of each part that chose the default (SMD
machine-1-2 and 1-3, GCP service0 and 1, ASD omi-1 and 2), seed 0, protocol `label_free`, one
thread. The rest are the programs of `benchmarks/`, on both cores of an otherwise idle machine.

```sh
imdiffusion bench run trade --out docs/results/runs/trade.jsonl
make bench
imdiffusion bench document speed
```"""


SPEED_SECTIONS = {
    "Whole series and single points: `detection.py`": "detection",
    "Live: `latency.py`": "latency",
    "Against channels and window: `scaling.py`": "scaling",
    "Memory against length: `memory.py`": "memory",
    "Distance from the machine's roof: `roofline.py`": "roofline",
}


def speed_variants(records: list[Record]) -> list[dict[str, Any]]:
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


def _trade_table(found: list[dict[str, Any]]) -> str:
    """The table of quality against speed; `fast` in bold."""
    rows = []
    for one in found:
        name = f"**{one['variant']}**" if one["variant"] == "fast" else one["variant"]
        quality = [f"{one[metric]:.3f}" for metric in ("vus_pr", "auc_pr", "event_f1")]
        rows.append(
            [name, *quality, f"{one['fit']:.1f}", f"{one['rate']:,.0f}", str(one["entities"])]
        )
    return markdown(
        ["variant", "VUS-PR", "AUC-PR", "event F1", "fit s", "rows/s", "entities"], rows
    )


def _trade_plot(found: list[dict[str, Any]]) -> Figure:
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
    return charts_figure([chart], title=SPEED_QUESTION.removeprefix("# "))


def _ledger(folder: Path, name: str) -> tuple[str, list[dict[str, Any]]]:
    """Where and when a program of benchmarks/ measured last, and what."""
    kept = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    machine = kept["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['day']}"
    return f"`benchmarks/{name}.py`, {where}, commit {machine['commit']}.", kept["rows"]


def _section(folder: Path, title: str, name: str) -> str:
    """The rows of one program as a table under a title."""
    where, rows = _ledger(folder, name)
    head = list(dict.fromkeys(key for row in rows for key in row))
    lines = [[_cell(row.get(key)) for key in head] for row in rows]
    return f"## {title}\n\n{markdown([key.replace('_', ' ') for key in head], lines)}\n\n{where}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_speed(docs: Path) -> None:
    """The page and its figure; the programs' measurements are in benchmarks/results beside docs."""
    found = speed_variants(measured(docs, "trade"))
    page, folder = docs / "studies" / "speed.md", docs.parent / "benchmarks" / "results"
    drawn = "## Quality against speed\n\n![Quality against speed](speed.svg)\n\n"
    parts = [
        SPEED_QUESTION,
        f"{ANSWER}\n\n{answer_in(page) or UNWRITTEN}",
        SPEED_SET_UP,
        f"{drawn}{_trade_table(found)}",
        *(_section(folder, title, name) for title, name in SPEED_SECTIONS.items()),
    ]
    write(page, "\n\n".join(parts) + "\n")
    save_plot(_trade_plot(found), page.with_suffix(".svg"))
