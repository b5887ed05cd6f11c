"""Writes docs/results/ and docs/studies/ from the runs that are there: `python docs/results.py`.

Every page names the command that measures it again. What stands under "## Answer" in a study is
written by hand and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imdiffusion.bench.page import write_page
from imdiffusion.bench.plans import PLANS, plan
from imdiffusion.bench.record import Record, read
from imdiffusion.bench.studies import STUDIES, study
from imdiffusion.bench.tables import headline_tables, paper_table

HERE = Path(__file__).parent
RUNS, RESULTS, STUDIED = HERE / "results" / "runs", HERE / "results", HERE / "studies"
ANSWER = "## Answer"
# Page -> (title, plans whose runs it joins, how each of its parts is made).
Part = Callable[[list[Record]], str]


def _under(protocol: str) -> Part:
    return lambda records: headline_tables(records, protocol=protocol)


PAGES: dict[str, tuple[str, tuple[str, ...], tuple[Part, ...]]] = {
    "label_free": (
        "Without labels: every detector, thresholds from training data alone",
        ("one_liners", "headline_three", "peers_three"),
        (_under("label_free"), _under("oracle")),
    ),
    "paper": (
        "The paper's protocol: point-adjusted, everything chosen on test labels",
        ("paper_three", "peers_three"),
        (paper_table, _under("paper")),
    ),
    "ablations": (
        "The paper's claims, one variant at a time",
        ("ablations_three",),
        (_under("paper"), _under("label_free")),
    ),
}


def runs(*names: str) -> list[Record]:
    """The runs of these plans, as far as they were measured."""
    return list(read([path for name in names if (path := RUNS / f"{name}.jsonl").exists()]))


def source(records: list[Record], plans: tuple[str, ...]) -> str:
    """Where the numbers of a page come from, and how to measure them again."""
    commands = [
        f"imdiffusion bench run {name} --out docs/results/runs/{_file(name)}" for name in plans
    ]
    hosts = sorted({f"{one['host']['cpu']}, {one['host']['gpu'] or 'no GPU'}" for one in records})
    commits = sorted({one["commit"] or "no checkout" for one in records})
    days = sorted({one["date"][:10] for one in records})
    return (
        "```sh\n" + "\n".join([*commands, "python docs/results.py"]) + "\n```\n\n"
        f"{len(records)} runs, {days[0]} to {days[-1]}, on {'; '.join(hosts)}; "
        f"commits {', '.join(commits)} (+ = with changes)."
    )


def _file(name: str) -> str:
    return name.replace(":", "_") + ".jsonl"


def write_results() -> None:
    """One Markdown and one HTML page for each entry of PAGES whose first plan was measured."""
    for name, (title, plans, parts) in PAGES.items():
        there = tuple(one for one in plans if one in PLANS and (RUNS / _file(one)).exists())
        if plans[0] not in there:
            continue  # the others only stand beside it
        records = runs(*there)
        body = "\n\n".join(part(records).strip() for part in parts)
        text = f"# {title}\n\n{source(records, there)}\n\n{body}\n"
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
        write_page(records, RESULTS / f"{name}.html", title=title)


def write_studies() -> None:
    """One Markdown page and one plot for each study whose runs are there."""
    STUDIED.mkdir(exist_ok=True)
    for name in STUDIES:
        path, asked = STUDIED / f"{name}.md", study(name)
        file = RUNS / _file(asked.plan.name)
        if not file.exists():
            continue
        records = list(read([file]))
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = old.partition(f"{ANSWER}\n")[2].partition("\n## ")[0].strip()
        table = asked.table(records).strip()
        head, _, rest = table.partition("\n")
        (STUDIED / f"{name}.svg").write_text(asked.plot(records), encoding="utf-8")
        path.write_text(
            f"{head}\n\n{ANSWER}\n\n{kept or 'Not written yet.'}\n\n## Set-up\n\n"
            f"{len(asked.datasets)} generated data sets, {len(asked.variants)} variants, "
            f"seeds {', '.join(map(str, asked.seeds))}.\n\n"
            f"{source(records, (asked.plan.name,))}\n\n![{asked.question}]({name}.svg)\n{rest}\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    for one in PLANS:
        plan(one)  # a plan that cannot be made is an error here, not an empty page
    write_results()
    write_studies()
