"""`imdiffusion config`: what can be set, what is set, and whether a file is right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdiffusion.cli.options import AsJson, Config, Overrides, Preset
from imdiffusion.cli.terminal import Terminal
from imdiffusion.errors import ImDiffusionError, ModelError

SECONDS = 3.0  # that a source or sink is looked at

app = typer.Typer(help="Show, check and describe settings.", no_args_is_help=True)


@app.command(epilog="imdiffusion config schema > imdiffusion.schema.json")
def schema(ctx: typer.Context) -> None:
    """Print the JSON Schema of the settings, with the value of each in every preset."""
    from imdiffusion.presets import schema as document

    terminal: Terminal = ctx.obj
    terminal.emit_json(document())


@app.command(epilog="imdiffusion config check imdiffusion.toml")
def check(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of settings.")],
) -> None:
    """Check a TOML file of settings, or of live detection; exit code 4 if it would be refused."""
    from imdiffusion.cli.setting_options import read_config

    terminal: Terminal = ctx.obj
    if _is_live(file):
        _check_live(terminal, file)
        return
    given = read_config(file)
    own = [name for name in given if name != "preset"]
    terminal.emit(
        f"{file} is right: preset {given.get('preset', 'fast')}"
        + (f", with its own {', '.join(own)}" if own else "")
    )


def _is_live(file: Path) -> bool:
    """Whether a file has tables of live detection; what cannot be read has not."""
    import tomllib

    from imdiffusion.live.config.parser import is_live

    try:
        return is_live(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # said by the next reader
        return False


def _check_live(terminal: Terminal, file: Path) -> None:
    """Say everything that is wrong with a live configuration, a line each, or what it holds.

    Sources and sinks are looked at; models that it names are read, and tried on the first rows.
    """
    from imdiffusion.cli.serve import check_service
    from imdiffusion.live.config.errors import ProblemsError
    from imdiffusion.live.config.parser import read_configuration

    try:
        found = read_configuration(file)
    except ProblemsError as error:
        for problem in error.problems:
            terminal.fail(f"{file}: {problem}")
        raise typer.Exit(error.exit_code) from None
    try:
        check_service(found.serve)
    except ImDiffusionError as error:
        terminal.fail(f"{file}: [serve]: {error}")
        raise typer.Exit(error.exit_code) from None
    words = [
        f"{_counted(len(found.sources), 'source')} ({', '.join(one.id for one in found.sources)})",
        _counted(len(found.sinks), "sink") + "".join(f", {one.id}" for one in found.sinks),
    ]
    from imdiffusion.live.dry_run import try_all

    looked = try_all(found, seconds=SECONDS)
    for one in looked:
        what, told = f"{one.kind} {one.id}", one.words or "nothing came of it so far"
        if one.kind == "model":
            what, told = one.id, one.told
        say = terminal.emit if one.reached else terminal.fail if one.wrong else terminal.warn
        say(f"{file}: {what}: {told}")
    if any(one.wrong for one in looked):
        raise typer.Exit(ModelError.exit_code)
    if found.models:
        words.append(_counted(len(found.models), "model"))
    away = [one.id for one in looked if not one.reached]
    if away:
        words.append(f"not there right now, which it waits for: {', '.join(away)}")
    terminal.emit(f"{file} is right: {'; '.join(words)}")


@app.command(epilog="imdiffusion config show --set window=50 > imdiffusion.toml")
def show(
    ctx: typer.Context,
    preset: Preset = None,
    config: Config = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print every setting that would be used, with its meaning, as a TOML file for --config."""
    from imdiffusion.cli.setting_options import keywords, toml
    from imdiffusion.presets import FACE, resolve_keywords

    given = keywords(config, overrides, preset=preset)
    settings = resolve_keywords(given)
    face = {name: given[name] for name in FACE}
    terminal: Terminal = ctx.obj
    if as_json:
        terminal.emit_json({**face, **settings.to_dict()})
    else:
        terminal.emit(toml(settings, face))


def _counted(number: int, what: str) -> str:
    """A number of things: "1 source", "2 sources"."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
