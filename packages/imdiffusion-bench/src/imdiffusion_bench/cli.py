"""`imdiffusion bench`: measure detectors on labelled data, and make tables of what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.terminal import Terminal, resumable
from imdiffusion.errors import DataError, UsageError
from imdiffusion_bench.behaviours_command import EXAMPLES as OF_BEHAVIOURS
from imdiffusion_bench.behaviours_command import behaviours
from imdiffusion_bench.options import (
    Again,
    Among,
    Data,
    Entities,
    Every,
    Jobs,
    Keep,
    Metrics,
    Minutes,
    Out,
    PlanName,
    Rows,
    Runs,
    Seeds,
    Sets,
    Shard,
    Threads,
    Where,
)

app = typer.Typer(
    help="Measure detectors on labelled data; tables of what was measured.", no_args_is_help=True
)
app.command(epilog=OF_BEHAVIOURS)(behaviours)


@app.command(epilog="imdiffusion bench run one_liners --data data/ --out runs.jsonl --jobs 2")
def run(
    ctx: typer.Context,
    plan: PlanName = None,
    out: Out = Path("runs.jsonl"),
    data: Data = None,
    sets: Sets = None,
    entities: Entities = None,
    rows: Rows = None,
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
    from imdiffusion_bench.asked import asked_plan
    from imdiffusion_bench.runner import bench
    from imdiffusion_bench.watching import watching

    terminal: Terminal = ctx.obj
    asked = asked_plan(plan, sets, entities, rows, seeds, overrides, root=data)
    how = f"{out} keeps what was measured: the same command continues."
    with resumable(how), watching(terminal) as watch:
        state = bench(
            asked,
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
    told = f"{out}: {state.done} measured, {state.found} were there, {state.failed} failed"
    terminal.notice(told + (f", {state.left} left." if state.left else "."))
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
    from imdiffusion_bench.asked import words
    from imdiffusion_bench.record import read
    from imdiffusion_bench.tables import headline_tables

    terminal: Terminal = ctx.obj
    chosen = () if metrics is None else words("--metrics", metrics)
    terminal.emit(headline_tables(list(read(runs)), protocol=protocol, metrics=chosen))


@app.command(epilog="imdiffusion bench paper runs.jsonl")
def paper(ctx: typer.Context, runs: Runs) -> None:
    """Print the paper's table: its protocol, beside the published figures."""
    from imdiffusion_bench.record import read
    from imdiffusion_bench.tables import paper_table

    terminal: Terminal = ctx.obj
    terminal.emit(paper_table(list(read(runs))))


@app.command(epilog="imdiffusion bench domains runs.jsonl --among fast,forecast_s30,joined_logs")
def domains(
    ctx: typer.Context,
    runs: Runs,
    protocol: Annotated[str, typer.Option(help="One of label_free, oracle and paper.")] = (
        "label_free"
    ),
    metric: Annotated[str, typer.Option(help="What chooses and judges.")] = "vus_pr",
    among: Among = None,
) -> None:
    """Print what is chosen with each domain left out, and its value on that domain."""
    from imdiffusion_bench.asked import words
    from imdiffusion_bench.domains import domains_table
    from imdiffusion_bench.record import read

    terminal: Terminal = ctx.obj
    chosen = () if among is None else words("--among", among)
    terminal.emit(domains_table(read(runs), protocol=protocol, metric=metric, among=chosen))


@app.command(epilog="imdiffusion bench tsb runs.jsonl")
def tsb(ctx: typer.Context, runs: Runs) -> None:
    """Print TSB-AD-M's table: its protocol, beside the published values."""
    from imdiffusion_bench.record import read
    from imdiffusion_bench.tsb_ad import tsb_ad_tables

    terminal: Terminal = ctx.obj
    terminal.emit(tsb_ad_tables(read(runs)))


@app.command(epilog="imdiffusion bench study gratings runs.jsonl --plot gratings.svg")
def study(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A study by name.")],
    runs: Runs,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw: .svg or .png.")
    ] = None,
) -> None:
    """Print a study's table, and draw its plot; `bench run study:NAME` measures it."""
    from imdiffusion_bench.plots import check_plot, save_plot
    from imdiffusion_bench.record import read
    from imdiffusion_bench.studies import study as named

    terminal: Terminal = ctx.obj
    if plot is not None:
        check_plot(plot)
    asked, records = named(name), list(read(runs))
    terminal.emit(asked.table(records))
    if plot is not None:
        save_plot(asked.plot(records), plot)


@app.command(epilog="imdiffusion bench plans")
def plans(ctx: typer.Context) -> None:
    """List the plans: what each of them measures."""
    from imdiffusion_bench.plans import PLANS, plan
    from imdiffusion_bench.sources import GENERATED
    from imdiffusion_bench.studies import STUDIES

    terminal: Terminal = ctx.obj
    rows = []
    for name in (*PLANS, *(f"study:{one}" for one in STUDIES)):
        asked = plan(name)
        some = "named" if asked.entities else "all"
        generated = sum(one.startswith(GENERATED) for one in asked.datasets)
        sets = f"{generated} generated" if generated else ", ".join(asked.datasets)
        rows.append([name, sets, some, str(len(asked.variants)), str(len(asked.seeds))])
    terminal.emit_table(["plan", "data sets", "entities", "variants", "seeds"], rows)


@app.command(epilog="imdiffusion bench names")
def names(ctx: typer.Context) -> None:
    """List what --detectors and --metrics take: every detector and every metric."""
    from imdiffusion_bench import detectors
    from imdiffusion_bench.protocols import metric_names

    terminal: Terminal = ctx.obj
    terminal.emit_table(["detector", "what it is"], [(one, detectors.said(one)) for one in detectors.names()])
    terminal.emit("")
    terminal.emit_table(["metric", "in tables", "protocols"], metric_names())


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
