"""`imdiffusion bench`: measure detectors on labelled data, and make tables of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import AsJson
from imdiffusion.cli.terminal import Terminal, resumable
from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench.options import (
    Again,
    Among,
    Data,
    Detectors,
    Entities,
    Every,
    Jobs,
    Keep,
    Metrics,
    Minutes,
    Out,
    PlanName,
    Plot,
    Runs,
    Scenarios,
    Seeds,
    Sets,
    Shard,
    SystemOption,
    Threads,
    Where,
    plan_of,
    question_of,
    words,
)

if TYPE_CHECKING:
    from imdiffusion_bench.behaviours import Question
    from imdiffusion_bench.record import Record
    from imdiffusion_bench.runner import State, Watch


DOCUMENTS = ("results", "behaviours", "quality")

app = typer.Typer(
    add_completion=False,
    help="Measure detectors on labelled data; tables of what was measured.",
    no_args_is_help=True,
)


@app.command(epilog="imdiffusion bench run one_liners --data data/ --out runs.jsonl --jobs 2")
def run(
    ctx: typer.Context,
    plan: PlanName = None,
    out: Out = Path("runs.jsonl"),
    data: Data = None,
    sets: Sets = None,
    entities: Entities = None,
    detectors: Detectors = None,
    seeds: Seeds = None,
    overrides: Every = None,
    shard: Shard = "1/1",
    device: Where = "auto",
    jobs: Jobs = 1,
    threads: Threads = None,
    minutes: Minutes = None,
    retry_failed: Again = False,
    keep_scores: Keep = None,
) -> None:
    """Measure what is not in the file yet; exit code 3 if a run failed. Ctrl-C is safe: the same
    command continues.
    """
    from imdiffusion_bench.runner import bench

    terminal: Terminal = ctx.obj
    wanted = plan_of(plan, sets, entities, detectors, seeds, overrides, root=data)
    how = f"{out} keeps what was measured: the same command continues."
    with resumable(how), watching(terminal) as watch:
        state = bench(
            wanted,
            out,
            root=data,
            shard=_shard(shard),
            device=device,
            jobs=jobs,
            threads=threads,
            minutes=minutes,
            retry_failed=retry_failed,
            keep_scores=keep_scores,
            watch=watch,
        )
    counts = f"{out}: {state.done} measured, {state.found} were there, {state.failed} failed"
    terminal.notice(counts + (f", {state.left} left." if state.left else "."))
    if state.failed:
        terminal.fail(
            f"{state.failed} of {state.asked} runs failed: their lines in {out} say why. "
            "--retry-failed measures them again."
        )
        raise typer.Exit(DataError.exit_code)


@app.command(epilog="imdiffusion bench tables runs.jsonl --protocol label_free > tables.md")
def tables(
    ctx: typer.Context,
    runs: Runs,
    protocol: Annotated[
        str, typer.Option(help="One of label_free, oracle and paper: a table has one.")
    ] = "label_free",
    metrics: Metrics = None,
) -> None:
    """Print tables in Markdown: means over entities, spread over seeds, significance."""
    from imdiffusion_bench.record import read
    from imdiffusion_bench.tables import headline_tables

    chosen = () if metrics is None else words("--metrics", metrics)
    ctx.obj.emit(headline_tables(read(runs), protocol=protocol, metrics=chosen))


@app.command(epilog="imdiffusion bench paper runs.jsonl")
def paper(ctx: typer.Context, runs: Runs) -> None:
    """Print the paper's table: its protocol, beside the published figures."""
    from imdiffusion_bench.published import paper_table
    from imdiffusion_bench.record import read

    ctx.obj.emit(paper_table(read(runs)))


@app.command(epilog="imdiffusion bench domains runs.jsonl --among fast,forecast_s30,joined_logs")
def domains(
    ctx: typer.Context,
    runs: Runs,
    protocol: Annotated[str, typer.Option(help="One of label_free, oracle and paper.")] = (
        "label_free"
    ),
    metric: Annotated[str, typer.Option(help="Metric that chooses and judges.")] = "vus_pr",
    among: Among = None,
) -> None:
    """Print what is chosen with each domain left out, and its value on that domain."""
    from imdiffusion_bench.aggregate import domains_table
    from imdiffusion_bench.record import read

    chosen = () if among is None else words("--among", among)
    ctx.obj.emit(domains_table(read(runs), protocol=protocol, metric=metric, among=chosen))


@app.command(epilog="imdiffusion bench tsb runs.jsonl")
def tsb(ctx: typer.Context, runs: Runs) -> None:
    """Print TSB-AD-M's table: its protocol, beside the published values."""
    from imdiffusion_bench.published import tsb_ad_tables
    from imdiffusion_bench.record import read

    ctx.obj.emit(tsb_ad_tables(read(runs)))


@app.command(epilog="imdiffusion bench study gratings runs.jsonl --plot gratings.svg")
def study(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study by name.")],
    runs: Runs,
    plot: Plot = None,
) -> None:
    """Print a study's table, and draw its plot; `bench run study:NAME` measures it."""
    from imdiffusion_bench.plots import check_plot, save_plot
    from imdiffusion_bench.record import read
    from imdiffusion_bench.studies import study as study_of

    if plot is not None:
        check_plot(plot)
    found, records = study_of(name), list(read(runs))
    ctx.obj.emit(found.table(records))
    if plot is not None:
        save_plot(found.plot(records), plot)


@app.command(epilog="imdiffusion bench plans")
def plans(ctx: typer.Context) -> None:
    """List the plans: what each of them measures."""
    from imdiffusion_bench.datasets import GENERATED
    from imdiffusion_bench.plan import PLANS
    from imdiffusion_bench.studies import STUDIES, named_plan

    terminal: Terminal = ctx.obj
    rows = []
    for name in (*PLANS, *(f"study:{one}" for one in STUDIES)):
        plan = named_plan(name)
        some = "named" if plan.entities else "all"
        generated = sum(one.startswith(GENERATED) for one in plan.datasets)
        sets = f"{generated} generated" if generated else ", ".join(plan.datasets)
        rows.append([name, sets, some, str(len(plan.variants)), str(len(plan.seeds))])
    terminal.emit_table(["plan", "data sets", "entities", "variants", "seeds"], rows)


@app.command(epilog="imdiffusion bench names")
def names(ctx: typer.Context) -> None:
    """List what --detectors and --metrics take: every detector and every metric."""
    from imdiffusion_bench import detectors
    from imdiffusion_bench.protocols import metric_names

    terminal: Terminal = ctx.obj
    terminal.emit_table(
        ["detector", "what it is"], [(one, detectors.description(one)) for one in detectors.names()]
    )
    terminal.emit("")
    terminal.emit_table(["metric", "in tables", "protocols"], metric_names())


@app.command(epilog="imdiffusion bench pack docs/results/runs/*.jsonl")
def pack(ctx: typer.Context, runs: Runs) -> None:
    """Move the runs of each FILE.jsonl into FILE.jsonl.xz, a tenth of it; every verb reads both."""
    from imdiffusion_bench.record import pack as packed

    terminal: Terminal = ctx.obj
    for path in runs:
        terminal.notice(f"{packed(path)} written.")


@app.command(epilog="imdiffusion bench document quality")
def document(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(DOCUMENTS)}.")],
    docs: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the documents; runs in results/runs.")
    ] = Path("docs"),
) -> None:
    """Write a document of this repository from its runs; what is written by hand is kept."""
    from imdiffusion.schema import nearest
    from imdiffusion_bench import documents, quality

    writers: dict[str, Callable[[Path], None]] = {
        "results": documents.write_results,
        "behaviours": documents.write_behaviours,
        "quality": quality.write_quality,
    }
    if name not in writers:
        raise UsageError(f"there is no document {name!r}", remedy=nearest(name, writers))
    writers[name](docs)
    ctx.obj.notice(f"{name} written.")


@app.command("import", epilog="imdiffusion bench import PSM RANSynCoders/data --data data/")
def import_(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SET", help="PSM, SMD, SWaT or WADI.")],
    source: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the official files.")],
    data: Data = None,
) -> None:
    """Convert your own copy of a data set's official files into the benchmark's layout."""
    from imdiffusion_bench.datasets import import_official

    terminal: Terminal = ctx.obj
    terminal.notice(f"{import_official(name, source, _root(data))} written.")


@app.command(epilog="imdiffusion bench fetch SMD --data data/")
def fetch(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SET", help="SMD or PSM.")],
    data: Data = None,
    base: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror, instead of the official home.")
    ] = None,
    limit_mib: Annotated[int, typer.Option(help="Stop above this size.")] = 2048,
) -> None:
    """Download a data set from its official public home and convert it; resumes."""
    from imdiffusion_bench.datasets import fetch as download

    terminal: Terminal = ctx.obj
    with resumable("The same command continues."), terminal.progress("bytes") as show:
        folder = download(name, _root(data), base=base, limit_mib=limit_mib, on_progress=show)
    terminal.notice(f"{folder} written.")


@app.command(epilog="imdiffusion bench check --data data/")
def check(ctx: typer.Context, data: Data = None) -> None:
    """Verify the checksums of every data set that is in the folder, or in its list."""
    from imdiffusion_bench.datasets import available, listed
    from imdiffusion_bench.datasets import check as verify

    terminal: Terminal = ctx.obj
    root = _root(data)
    rows = [[name, str(verify(root, name))] for name in sorted({*available(root), *listed(root)})]
    terminal.emit_table(["data set", "files verified"], rows)


def _root(data: Path | None) -> Path:
    if data is None:
        raise UsageError(
            "no data folder is named", remedy="Give --data FOLDER or set IMDIFFUSION_DATA."
        )
    return data


def _shard(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not part.isdecimal() or not parts.isdecimal():
        raise UsageError(f"--shard {text} is no part", remedy="Write I/N, for instance 1/4.")
    return int(part), int(parts)


EXAMPLES = """imdiffusion bench behaviours --plot behaviours.svg

imdiffusion bench behaviours --detectors fast,random --scenarios spike,frozen --seeds 0-2

imdiffusion bench behaviours --dials channels=100,season=none,missing=0.1 --set alarm_rate=0.01"""


@app.command(epilog=EXAMPLES)
def behaviours(
    ctx: typer.Context,
    detectors: Detectors = None,
    scenarios: Scenarios = None,
    dials: SystemOption = "",
    seeds: Annotated[str, typer.Option(metavar="0-5", help="Seeds of series and detectors.")] = "0",
    overrides: Every = None,
    device: Where = "auto",
    as_json: AsJson = False,
    plot: Plot = None,
) -> None:
    """Measure how detectors meet faults such as a frozen sensor or a missing batch: found or not,
    how late, where, which channel, and false events. Markdown; exit code 3 if a run
    failed.
    """
    from imdiffusion_bench.behaviours import table
    from imdiffusion_bench.behaviours.measuring import document
    from imdiffusion_bench.plots import check_plot, save_plot

    terminal: Terminal = ctx.obj
    if plot is not None:
        check_plot(plot)
    question = question_of(detectors, scenarios, dials, seeds, overrides, device=device)
    with resumable("Nothing was written; ask for fewer --scenarios or --seeds at a time."):
        records = _measured(terminal, question)
    whole = document(question, records)
    if as_json:
        terminal.emit_json(whole)
    else:
        terminal.emit(table.tables(whole).rstrip("\n"))
    if plot is not None:
        terminal.notice(f"{save_plot(table.plot(whole), plot)} written.")
    failed = sum(one["status"] == "failed" for one in records)
    if failed:
        terminal.fail(f"{failed} of {len(records)} runs failed for the printed reasons.")
        raise typer.Exit(DataError.exit_code)


def _measured(terminal: Terminal, question: Question) -> list[dict[str, Any]]:
    from imdiffusion.progress import Progress
    from imdiffusion_bench.behaviours.measuring import run_behaviours

    records = []
    with terminal.progress("runs") as show:
        for record in run_behaviours(question):
            records.append(record)
            if show is not None:
                show(Progress(record["detector"], len(records), question.total))
    return records


@contextmanager
def watching(terminal: Terminal) -> Iterator[Watch]:
    """A callback that shows runs done and the time left, and says each failure in a line."""
    from imdiffusion.progress import Progress

    with terminal.progress("runs") as show:

        def watch(state: State, record: Record | None) -> None:
            if record is not None and record["status"] == "failed":
                where = f"{record['dataset']} {record['entity']} {record['variant']}"
                terminal.warn(f"{where}: {record['stage']} failed: {record['error']['message']}")
            if show is not None:
                show(Progress("bench", state.done + state.failed, state.asked - state.found))

        yield watch
