"""`imdiffusion enroll`: let entities join a shared model, without training."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.batch import end_with_failures
from imdiffusion.cli.input_options import Reading, reads_files
from imdiffusion.cli.options import AsJson, Device, Files, Model, span
from imdiffusion.cli.terminal import Terminal
from imdiffusion.errors import ConfigError, OutputError, UsageError

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion

EXAMPLES = """imdiffusion enroll web3.csv web4.csv --model services/

imdiffusion enroll new.parquet --entity-column host --model services/ --out services-2/"""


@reads_files
def enroll(
    ctx: typer.Context,
    files: Files,
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FOLDER",
            help="Where the larger model goes.",
            show_default="into --model",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START..END",
            help="Leave a bad span (times or rows, end exclusive) out; repeatable.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
    device: Device = "auto",
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Add entities to a model of scope=shared by their first rows; no other scores change."""
    from imdiffusion.cli.input_options import load
    from imdiffusion.cli.outputs import check_model_output

    terminal: Terminal = ctx.obj
    spans, target = [span(text) for text in exclude or ()], out or model
    check_model_output(target)
    with _alone(target):
        detector = load(model, device)
        if detector.settings_.scope != "shared":
            raise ConfigError(
                f"{model} is no shared model: each of its entities has a network of its own",
                remedy="Fit one with --set scope=shared, or fit the new entities by themselves.",
            )
        known = set(detector.entities_)
        frames, broken = reading.readable(files)
        for name, reason in broken.items():
            terminal.warn(f"{name} is left out: {reason}")
        detector.enroll(frames, exclude=spans)
        detector.save(target)
    joined = [name for name in frames if name not in detector.failed_]
    failures = broken | detector.failed_
    told = {
        "model": str(target),
        "enrolled": [name for name in joined if name not in known],
        "calibrated_anew": [name for name in joined if name in known],
        "failures": failures,
        "entities": len(detector.entities_),
    }
    _tell(terminal, told, detector, as_json=as_json)
    if failures:
        end_with_failures(terminal, len(failures), len(failures) + len(joined), 3)


def _tell(
    terminal: Terminal, told: dict[str, Any], detector: ImDiffusion, *, as_json: bool
) -> None:
    if as_json:
        terminal.emit_json(told)
    anew = f", {len(told['calibrated_anew'])} calibrated again" if told["calibrated_anew"] else ""
    terminal.notice(
        f"{told['model']}: {len(told['enrolled'])} enrolled{anew}; now {told['entities']} "
        f"entities, {len(detector.channels_)} channels."
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Be the only call that adds to a model, so that none undoes what another one added.

    Held by an advisory lock on the folder, which a kill releases; none where there is no folder
    yet. Raises UsageError where another call holds it or has just replaced the folder.
    """
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(held), folder.stat())
        except (BlockingIOError, FileNotFoundError):
            same = False
        except OSError as error:
            raise OutputError(
                f"the model {folder} cannot be locked: {error.strerror}",
                remedy="Write to a new folder: --out FOLDER.",
            ) from error
        if not same:
            raise UsageError(
                f"another call adds to {folder}", remedy="Wait for it, or end it."
            ) from None
        yield
    finally:
        os.close(held)
