"""Writes what a program knows into docs/behaviours.md: `python docs/behaviours.py`.

The scenarios and the dials come from the code, the results from docs/results/runs/behaviours.json,
where that is there; what is written by hand around them is kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from imdiffusion_bench.behaviours import SCENARIOS
from imdiffusion_bench.behaviours.config import meanings
from imdiffusion_bench.behaviours.plot import plot
from imdiffusion_bench.behaviours.table import tables

from imdiffusion.data.atomic import atomic_path

HERE = Path(__file__).parent
PAGE, RUN, PLOT = (
    HERE / "behaviours.md",
    HERE / "results" / "runs" / "behaviours.json",
    HERE / "results" / "behaviours.svg",
)
COMMAND = (
    "imdiffusion bench behaviours --detectors linear,fast,forecast_s30,mahalanobis_30,random "
    "--seeds 0 --json > docs/results/runs/behaviours.json"
)


def scenarios() -> str:
    """A row for each scenario: what is wrong in it."""
    rows = [f"| `{name}` | {one.meaning} |" for name, one in SCENARIOS.items()]
    return "\n".join(["| scenario | what is wrong |", "| --- | --- |", *rows])


def dials() -> str:
    """A row for each dial: its default, its meaning and its range."""
    rows = [f"| `{name}` | {usual} | {told} |" for name, (usual, told) in meanings().items()]
    return "\n".join(["| dial | usual | what it is |", "| --- | --- | --- |", *rows])


def results() -> str:
    """The plot and the tables of the run that is there, and how it was made."""
    made = f"```sh\n{COMMAND}\npython docs/behaviours.py\n```"
    if not RUN.exists():
        return f"Not measured yet. These two fill this section:\n\n{made}"
    document = json.loads(RUN.read_text(encoding="utf-8"))
    host = document["host"]
    where = f"{host['cpu']}, {host['gpu'] or 'no GPU'}"
    told = f"{document['date'][:10]}, on {where}; commit {document['commit'] or 'no checkout'}."
    drawn = f"![{len(SCENARIOS)} scenarios, a mark a detector](results/{PLOT.name})"
    deeper = tables(document).strip().replace("\n## ", "\n### ")
    return f"{made}\n\n{told}\n\n{drawn}\n\n{deeper}"


def page(text: str) -> str:
    """The page with its three parts written anew; each stands between two comments."""
    for name, part in (("scenarios", scenarios()), ("dials", dials()), ("results", results())):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not marks.search(text):
            raise SystemExit(f"{PAGE} has no place for the {name}: <!-- {name} --> is missing")
        text = marks.sub(lambda found, part=part: f"{found[1]}{part}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    written = page(PAGE.read_text(encoding="utf-8"))
    with atomic_path(PAGE) as draft:
        draft.write_text(written, encoding="utf-8")
    if RUN.exists():
        with atomic_path(PLOT) as draft:
            draft.write_text(plot(json.loads(RUN.read_text(encoding="utf-8"))), encoding="utf-8")
