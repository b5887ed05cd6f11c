"""`imdiffusion model`: look into a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.options import AsJson
from imdiffusion.cli.terminal import Terminal

if TYPE_CHECKING:
    from imdiffusion.promise.report import PromiseReport

app = typer.Typer(help="Look into a saved model.", no_args_is_help=True)


@app.callback()
def _model() -> None:
    """Look into a saved model."""


@app.command(epilog="imdiffusion model show m/ --json")
def show(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of the saved model.")],
    as_json: AsJson = False,
) -> None:
    """Check a model's files against their sha256 and show what it was fitted with and on."""
    from imdiffusion.checkpoint import read_model
    from imdiffusion.promise.report import promise_report
    from imdiffusion.settings import Settings

    config, entities, weights = read_model(folder)
    settings = Settings(**config["settings"])
    reports = [promise_report(entity, settings) for entity in entities]
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    document: dict[str, Any] = {
        "model": str(folder),
        "sha256": "ok",
        "bytes": sum((folder / name).stat().st_size for name in names),
        "files": names,
        "tensors": len(weights),
        "config": config,
        "entities": [
            {
                "name": entity["name"],
                "channels": entity["channels"],
                "thresholds": entity["thresholds"],
                "period_ns": entity["period_ns"],
                "history": entity["history"],
                "promise": report.to_dict(),
            }
            for entity, report in zip(entities, reports, strict=True)
        ],
    }
    terminal: Terminal = ctx.obj
    if as_json:
        terminal.emit_json(document)
        return
    terminal.emit_table(("model", str(folder)), _facts(document))
    terminal.emit("")
    terminal.emit_table(
        ("entity", "channels", "thresholds", "row", "trained", "names"), _entities(entities)
    )
    terminal.emit("")
    terminal.emit_table(*_promises(reports))
    terminal.emit("")
    terminal.emit_table(("setting", "value", "from"), _settings(config))


def _facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    from imdiffusion.wording import number

    size = f"{number(document['bytes'])}B in {len(document['files'])} files"
    config = document["config"]
    known = [(name, str(config[name])) for name in ("version", "preset", "seed")]
    return [("sha256 of each file", "matches"), ("size", size), *known]


def _entities(entities: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    from imdiffusion.wording import duration

    rows: list[tuple[str, ...]] = []
    for entity in entities:
        history, period = entity["history"], entity["period_ns"]
        steps = history["step"][-1] if history["step"] else 0
        settled = "" if history["converged"] else ", not settled"
        rows.append(
            (
                entity["name"] or "(one, unnamed)",
                str(len(entity["channels"])),
                " ".join(f"{value:.4g}" for value in entity["thresholds"]),
                "–" if period is None else f"every {duration(period / 1e9)}",
                f"{steps:,} steps in {duration(history['seconds'])}{settled}",
                ", ".join(entity["channels"]),
            )
        )
    return rows


def _promises(reports: list[PromiseReport]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of what was promised: all there is to tell of one entity, a row of many."""
    from imdiffusion.promise.report import percent

    if len(reports) == 1:
        return ("promise", ""), [*reports[0].lines()]
    rows: list[tuple[str, ...]] = [
        (
            one.entity or "(unnamed)",
            percent(one.promised),
            "–" if one.achieved is None else percent(one.achieved),
            "–" if one.events is None else f"{one.events:.3g} a {one.events_per}",
            "; ".join(one.unknown),
        )
        for one in reports
    ]
    return ("entity", "promised", "achieved", "events", "not known"), rows


def _settings(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    own = config["overrides"]
    return [
        (name, str(value), "set by hand" if name in own else config["preset"])
        for name, value in config["settings"].items()
    ]
