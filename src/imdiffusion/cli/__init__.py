"""The command line: one file a verb, nothing heavy imported before a verb needs it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from types import FrameType

__all__ = ["main"]


def _terminate(number: int, frame: FrameType | None) -> None:
    from imdiffusion.cli.terminal import Interrupted

    raise Interrupted(exit_code=128 + number)  # ends like Ctrl-C: state saved, drafts removed


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks and exit with its code; `arguments` default to the process's.

    Raises SystemExit always: 0 done, 2 usage, 3 data, 4 model or configuration, 10 anomalies
    found, 130 interrupted.
    """
    from typer.main import get_command

    from imdiffusion.cli.app import app

    signal.signal(signal.SIGTERM, _terminate)
    get_command(app)(args=arguments, prog_name="imdiffusion")
