"""Writes docs/results/ and docs/studies/ from the runs that are there: `python docs/results.py`.

Every page names the command that measures it again, and what of its plans is not measured yet. A
page of results whose runs are gone goes too. What stands under "## Answer" is written by hand and
kept, and so is the page of a study.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imdiffusion_bench.aggregate import against_base, steps_joined
from imdiffusion_bench.kinds import kinds_table
from imdiffusion_bench.missing_runs import gaps
from imdiffusion_bench.page import write_page
from imdiffusion_bench.plans import PLANS, THREE, plan
from imdiffusion_bench.record import Record, read
from imdiffusion_bench.shortfall import shortfall
from imdiffusion_bench.sources import GENERATED
from imdiffusion_bench.studies import STUDIES, study
from imdiffusion_bench.tables import headline_tables, paper_table

from imdiffusion import baselines
from imdiffusion.data.atomic import atomic_path

HERE = Path(__file__).parent
RUNS, RESULTS, STUDIED = HERE / "results" / "runs", HERE / "results", HERE / "studies"
ANSWER = "## Answer"
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
    other = run["row"] in baselines.names() and run["row"] not in ("random", "isolation_forest")
    return _on_three(run) and not other


def _against(records: list[Record]) -> str:
    """The claims as a user would judge them, then as the paper did."""
    both = (("label_free", "vus_pr"), ("paper", "f1"))
    return "\n\n".join(against_base(records, protocol=one, metric=metric) for one, metric in both)


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


def runs_of(plan: str) -> Path:
    """The file of a plan's runs; it need not be there."""
    return RUNS / f"{plan.replace(':', '_')}.jsonl"


def entities() -> dict[str, list[str]]:
    """The entities of each data set, as far as any run in RUNS is of it."""
    found: dict[str, dict[str, None]] = {}
    for path in sorted(RUNS.glob("*.jsonl")):
        for run in read([path]):
            found.setdefault(run["dataset"], {})[run["entity"]] = None
    return {name: list(each) for name, each in found.items()}


def missing(plans: tuple[str, ...]) -> list[str]:
    """What of these plans is measured and what is not, a line each."""
    known = entities()
    lines = []
    for name in plans:
        runs = list(read([runs_of(name)])) if runs_of(name).exists() else []
        lines.append(gaps(plan(name), runs, known))
    return lines


def source(records: list[Record], plans: tuple[str, ...]) -> str:
    """Where the numbers of a page come from, and how to measure them again."""
    commands = [
        f"imdiffusion bench run {name}{_data(name)} --out docs/results/runs/{runs_of(name).name}"
        for name in plans
    ]
    hosts = sorted({f"{one['host']['cpu']}, {one['host']['gpu'] or 'no GPU'}" for one in records})
    commits = sorted({one["commit"] or "no checkout" for one in records})
    days = sorted({one["date"][:10] for one in records})
    return (
        "```sh\n" + "\n".join([*commands, "python docs/results.py"]) + "\n```\n\n"
        f"{len(records)} runs, {days[0]} to {days[-1]}, on {'; '.join(hosts)}; "
        f"commits {', '.join(commits)} (+ = with changes).\n\n"
        "The committed files hold these runs: the commands measure what they lack. With an `--out` "
        f"that is not there yet they measure all of it again, some {_hours(records)} on one core."
    )


def _data(name: str) -> str:
    """The option that names the data folder, where a plan reads one."""
    made = all(one.startswith(GENERATED) for one in plan(name).datasets)
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


def _answer(page: str) -> str:
    """What was written by hand under "## Answer"."""
    return page.partition(f"{ANSWER}\n")[2].partition("\n## ")[0].strip()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_results() -> None:
    """One Markdown and one HTML page for each entry of PAGES whose first plan was measured."""
    for name, (title, plans, parts, taken) in PAGES.items():
        there = tuple(one for one in plans if runs_of(one).exists())
        if plans[0] not in there:  # the others only stand beside it
            for suffix in ("md", "html"):
                (RESULTS / f"{name}.{suffix}").unlink(missing_ok=True)
            continue
        records = [run for run in read([runs_of(one) for one in there]) if taken(run)]
        body = "\n\n".join(part(records).strip() for part in parts)
        page = RESULTS / f"{name}.md"
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        kept = _answer(before)
        answer = f"{ANSWER}\n\n{kept}\n\n## Tables\n\n" if kept else ""
        notes = missing(plans)
        listed = "\n".join(f"- {note}" for note in notes)
        plots = f"The same tables with plots: [{name}.html]({name}.html)."
        head = f"# {title}\n\n{source(records, there)}\n\n{listed}\n\n{plots}"
        _write(page, f"{head}\n\n{answer}{body}\n")
        further = f"What the numbers say, and further tables, stand in {name}.md beside this page."
        write_page(records, RESULTS / f"{name}.html", title=title, notes=[*notes, further])


def write_index() -> None:
    """A line for each page of results, and for each study."""
    pages = [f"- [{title}]({name}.md)" for name, (title, *_) in PAGES.items() if _made(name)]
    asked = [
        f"- [{study(name).question}](../studies/{name}.md)"
        for name in STUDIES
        if (STUDIED / f"{name}.md").exists()
    ]
    _write(
        RESULTS / "README.md",
        "# Results\n\nEach page names the command that measures it again; the runs are in `runs/`, "
        "a JSON line each. What rows, metrics and protocols are: [the benchmark](../benchmark.md)."
        "\n\n"
        + "\n".join(pages)
        + "\n\n## Studies on generated data\n\n"
        + "\n".join(asked)
        + "\n\nFurther: [fourteen sets without labels: `fast`, `linear`, the one-liners]"
        "(../studies/quality.md), [alarms](../studies/flagging.md), "
        "[speed](../studies/speed.md).\n",
    )


def _made(name: str) -> bool:
    return (RESULTS / f"{name}.md").exists()


def write_studies() -> None:
    """One Markdown page and one plot for each study whose runs are there."""
    STUDIED.mkdir(exist_ok=True)
    for name in STUDIES:
        path, asked = STUDIED / f"{name}.md", study(name)
        file = runs_of(asked.plan.name)
        if not file.exists():
            continue
        records = list(read([file]))
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        kept = _answer(old)
        table = asked.table(records).strip()
        head, _, rest = table.partition("\n")
        _write(STUDIED / f"{name}.svg", asked.plot(records))
        _write(
            path,
            f"{head}\n\n{ANSWER}\n\n{kept or 'Not written yet.'}\n\n## Set-up\n\n"
            f"{len(asked.datasets)} generated data sets, {len(asked.variants)} variants, "
            f"seeds {', '.join(map(str, asked.seeds))}.\n\n"
            f"{source(records, (asked.plan.name,))}\n\n![{asked.question}]({name}.svg)\n{rest}\n",
        )


if __name__ == "__main__":
    for one in PLANS:
        plan(one)  # a plan that cannot be made is an error here, not an empty page
    write_results()
    write_studies()
    write_index()
