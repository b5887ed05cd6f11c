"""What every verb that scores does first: load the model, give each series its entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imdiffusion.cli.input_options import stem

if TYPE_CHECKING:
    from imdiffusion.data.frame import Frame
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.promise.report import PromiseReport
    from imdiffusion.results import Analysis


def load(model: Path, device: str) -> ImDiffusion:
    """The saved detector; ModelError or ConfigError if it cannot be used here."""
    from imdiffusion import ImDiffusion

    return ImDiffusion.load(model, device=device)


def matched(
    detector: ImDiffusion, frames: Frame | dict[str, Frame], files: Sequence[Path]
) -> Frame | dict[str, Frame]:
    """A single unnamed series is the entity of its file's name, where the model has several."""
    if isinstance(frames, dict) or frames.entity is not None or len(detector.entities_) == 1:
        return frames
    return replace(frames, entity=stem(files[0]))


def analyses_of(found: Analysis | Mapping[str, Analysis]) -> list[Analysis]:
    """What `ImDiffusion.analyze` returns, as one analysis an entity."""
    return list(found.values()) if isinstance(found, Mapping) else [found]


def promises_of(detector: ImDiffusion, analyses: Sequence[Analysis]) -> list[PromiseReport]:
    """What is promised of the analysed entities; nothing where one is not of the model's own."""
    found = detector.report_
    if not isinstance(found, dict):
        return [found] * len(analyses)
    names = [analysis.frame.entity for analysis in analyses]
    return [found[name] for name in names] if set(names) <= set(found) else []


def about(detector: ImDiffusion, model: Path | None = None) -> dict[str, str]:
    """Facts on the detector for a report."""
    from imdiffusion import __version__

    settings = detector.settings_
    facts: dict[str, Any] = {"model": model} if model is not None else {}
    facts |= {
        "preset": detector.preset,
        "seed": detector.seed,
        "channels": len(detector.channels_),
        "parameters": f"{detector.num_parameters_:,}",
        "window": f"{settings.window} rows",
        **(
            {"events a day on normal rows, at most": f"{settings.alarms_per_day:g}"}
            if settings.alarms_per_day
            else {"expected share of normal rows in alarm": f"{settings.alarm_rate:g}"}
        ),
        "imdiffusion": __version__,
    }
    return {name: str(value) for name, value in facts.items()}
