"""`imdiffusion fit`: learn what is normal and save it as a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion.cli.batch import end_with_failures
from imdiffusion.cli.input_options import Reading, reads_files
from imdiffusion.cli.options import (
    Config,
    Exclude,
    Files,
    Model,
    Overrides,
    Preset,
    Seed,
    TrainDevice,
    flag,
    span,
)
from imdiffusion.cli.terminal import Terminal, resumable

if TYPE_CHECKING:
    from imdiffusion.cli.terminal import Step

EXAMPLES = """imdiffusion fit train.csv --model m/

imdiffusion fit host-a.parquet host-b.parquet --model m/ --set window=50 --set max_steps=4000"""


@reads_files
def fit(
    ctx: typer.Context,
    files: Files,
    model: Model,
    preset: Preset = None,
    config: Config = None,
    overrides: Overrides = None,
    seed: Seed = None,
    device: TrainDevice = None,
    exclude: Exclude = None,
    resume: Annotated[
        bool, flag("--resume/--no-resume", help="Continue an interrupted identical fit.")
    ] = True,
    reading: Reading = Reading(),  # noqa: B008 - frozen
) -> None:
    """Learn from normal data and save a model. Ctrl-C is safe: the same command continues."""
    from imdiffusion.cli.setting_options import keywords

    given = keywords(config, overrides, preset=preset, seed=seed, device=device)
    spans = [span(text) for text in exclude or ()]
    _Training(ctx.obj, files, model, given, spans).fit(reading, resume=resume)


@dataclass(frozen=True, slots=True)
class _Training:
    """One fit of one model, from files to the folder it is saved in."""

    terminal: Terminal
    files: list[Path]
    model: Path
    given: dict[str, Any]
    spans: list[tuple[str | int, str | int]]

    def fit(self, reading: Reading, *, resume: bool) -> None:
        """Read, train or go on training, save."""
        from imdiffusion.cli.outputs import check_model_output

        terminal, model = self.terminal, self.model
        state = resume_folder(model)
        check_model_output(model)
        train, broken = self._read(reading)
        if not resume and state.exists():
            shutil.rmtree(state)

        from imdiffusion import ImDiffusion

        detector = ImDiffusion(**self.given)
        how = f"The state is kept in {state}: the same command continues from there."
        with resumable(how), terminal.progress() as show:
            watch = _watched(terminal, state, show)
            detector.fit(train, exclude=self.spans, checkpoint=state, on_progress=watch)
        detector.save(model)
        shutil.rmtree(state, ignore_errors=True)
        terminal.notice(_summary(detector, model))
        failed = len(detector.failed_) + len(broken)
        if failed:
            end_with_failures(terminal, failed, failed + len(detector.entities_), 3)

    def _read(self, reading: Reading) -> tuple[Any, dict[str, str]]:
        """The series, and the files of a shared model that cannot be read and are left out."""
        from imdiffusion.presets import resolve_keywords

        if len(self.files) < 2 or resolve_keywords(self.given).scope != "shared":
            return reading.frames(self.files), {}
        train, broken = reading.readable(self.files)
        for name, reason in broken.items():
            self.terminal.warn(f"{name} is left out: {reason}")
        return train, broken


def resume_folder(model: Path) -> Path:
    """Where an interrupted fit of `model` keeps its state: beside it."""
    named = model if model.name not in ("", "..") else model.resolve()
    return named.with_name(named.name + ".resume")


def _watched(
    terminal: Terminal, state: Path, show: Callable[[Step], None] | None
) -> Callable[[Step], None]:
    """`show`, and one line when a fit goes on from a saved step or cannot."""
    interrupted = any(state.rglob("training.safetensors"))
    last: dict[str, int] = {}

    def watch(step: Step) -> None:
        if interrupted and step.phase.startswith("fit") and step.phase not in last:
            if step.done > 1:
                terminal.notice(f"Continuing the interrupted fit at step {step.done - 1:,}.")
            elif not last:
                terminal.notice(f"{state} is of another fit (data or settings): starting over.")
        last[step.phase] = step.done
        if show is not None:
            show(step)

    return watch


def _summary(detector: Any, folder: Path) -> str:
    entities = f"{len(detector.entities_)} entities, " if len(detector.entities_) > 1 else ""
    return (
        f"{folder}: {entities}{len(detector.channels_)} channels, "
        f"{detector.num_parameters_:,} parameters."
    )
