"""The tree of verbs, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imdiffusion import __version__, registry
from imdiffusion.cli import (
    batch,
    config,
    demo,
    detect,
    doctor,
    enroll,
    fit,
    impute,
    model,
    record,
    report,
    serve,
    watch,
)
from imdiffusion.cli.options import flag
from imdiffusion.cli.terminal import Interrupted, Terminal
from imdiffusion.errors import ImDiffusionError, UsageError

READER_GONE = 141  # as if SIGPIPE had ended us, which is what a shell expects
_GLOBAL = {"--quiet", "-q", "--verbose", "-v", "-vv"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ELSEWHERE = {"bench": "imdiffusion-bench"}  # verb -> the distribution of ours that brings it


class VerbGroup(TyperGroup):
    """Global options may stand before or after the verb; errors of the library end quietly.

    Beside its own verbs it has those that other distributions declare as entry points of the group
    `imdiffusion.commands`, each a `typer.Typer`. One is imported when it is called, or shown in the
    list of verbs.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all verbs, the library's own first."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in registry.names("commands") if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb of this name; UsageError for one whose distribution is not installed."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        if cmd_name in registry.names("commands"):
            found = typer.main.get_group(registry.load("commands", cmd_name))
            found.name, found.rich_help_panel = cmd_name, "Look inside"
            return found
        if cmd_name in ELSEWHERE:
            raise UsageError(
                f"the verb {cmd_name} is a distribution of its own, which is not installed",
                remedy=f"Install it with: pip install {ELSEWHERE[cmd_name]}.",
            )
        return None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the global options to the front, where they are declared."""
        end = args.index("--") if "--" in args else len(args)
        loud = [word for word in args[:end] if word in _GLOBAL]
        rest = [word for word in args[:end] if word not in _GLOBAL]
        try:
            return super().parse_args(ctx, [*loud, *rest, *args[end:]])
        except ImDiffusionError as error:  # a verb in the list of --help that cannot be imported
            Terminal(quiet=False, verbose=0).fail(str(error))
            raise typer.Exit(error.exit_code) from None

    def invoke(self, ctx: Any) -> Any:
        """Do what the verb does, and turn what can go wrong into one line and a code."""
        terminal = Terminal(quiet=ctx.params["quiet"], verbose=ctx.params["verbose"])
        ctx.obj = terminal
        try:
            with terminal.listening():
                result = super().invoke(ctx)
                sys.stdout.flush()
            return result
        except ImDiffusionError as error:
            terminal.fail(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt as stop:
            told = stop if isinstance(stop, Interrupted) else Interrupted()
            terminal.say("interrupted", str(told))
            raise typer.Exit(told.exit_code) from None
        except BrokenPipeError:  # for instance `imdiffusion detect … | head`
            _drop_stdout()
            raise typer.Exit(READER_GONE) from None
        except OSError as error:
            if error.errno not in _FULL:
                raise
            where = f"cannot write {error.filename or 'the output'}"
            terminal.fail(f"{where}: {os.strerror(error.errno)}. Make room, or write elsewhere.")
            _drop_stdout()
            raise typer.Exit(3) from None


def _drop_stdout() -> None:
    """Send what is still buffered nowhere: the flush at exit must not fail a second time."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


app = typer.Typer(
    name="imdiffusion",
    cls=VerbGroup,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"imdiffusion {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    help="Find anomalies in multivariate time series, and the channels that caused them.\n\n"
    "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 2 usage, 3 data, "
    "4 model or configuration, 10 anomalies found (only with --fail-on-anomaly).",
    epilog="Start with [bold]imdiffusion demo[/bold], or on your own data:\n"
    "  imdiffusion fit train.csv --model m/\n"
    "  imdiffusion detect new.csv --model m/",
)
def _imdiffusion(
    ctx: typer.Context,
    version: Annotated[
        bool,
        flag(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
    quiet: Annotated[bool, flag("--quiet", "-q", help="Only errors on stderr.")] = False,
    verbose: Annotated[
        int,
        flag(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Report what is done; -vv reports more.",
        ),
    ] = 0,
) -> None:
    """What every verb shares."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


for module, panel in (
    (demo, "Try it"),
    (doctor, "Try it"),
    (record, "Your data"),
    (fit, "Your data"),
    (enroll, "Your data"),
    (detect, "Your data"),
    (impute, "Your data"),
    (report, "Your data"),
    (watch, "Live"),
    (serve, "Live"),
):
    name = module.__name__.rpartition(".")[2]
    app.command(name, rich_help_panel=panel, epilog=module.EXAMPLES)(getattr(module, name))
app.add_typer(batch.app, name="batch", rich_help_panel="Your data")
app.add_typer(model.app, name="model", rich_help_panel="Look inside")
app.add_typer(config.app, name="config", rich_help_panel="Look inside")
