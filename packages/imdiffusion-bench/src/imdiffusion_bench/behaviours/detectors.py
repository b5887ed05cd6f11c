"""The detectors that behaviours are measured of: presets by their public face, and one-liners."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion import ImDiffusion, baselines, presets, registry
from imdiffusion.baselines.simple import Random
from imdiffusion.data.frame import Frame
from imdiffusion.data.grid import regularize
from imdiffusion.errors import ConfigError
from imdiffusion.scoring.event import Event, find_events
from imdiffusion.settings import Scalar
from imdiffusion_bench import detectors
from imdiffusion_bench.behaviours.measuring import Floats, Told, Verdict
from imdiffusion_bench.behaviours.series import TestPart

# What stands in a table unless others are asked for; `linear` where the table of presets has it.
USUAL = (
    "fast",
    "linear",
    "mahalanobis_30",
    "mahalanobis",
    "zscore_30",
    "squared_difference",
    "random",
)
# A training of `paper` to its own end takes hours, and is no part of what a behaviour asks.
CAPPED: Mapping[str, Mapping[str, Scalar]] = {"paper": {"max_epochs": 1, "max_steps": 60}}
CONTEXT = 60  # rows up to and with the one that a one-liner scores at arrival


class Fitted(Protocol):
    """A detector that was fitted on the training part of a scenario."""

    def verdict(self, part: TestPart) -> Verdict:
        """What it says of a test part."""


Fit = Callable[[Frame], Fitted]


def known(name: str) -> bool:
    """Whether a detector of this name exists in this version."""
    return name in presets.PRESETS or name in baselines.names()


def settings_of(name: str, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings of a detector that are not its own, with `given` put over them.

    A one-liner takes its threshold from all of its training scores. Raises ConfigError for an
    unknown detector or setting.
    """
    if not known(name):
        remedy = registry.nearest(name, (*presets.PRESETS, *baselines.names()))
        raise ConfigError(f"unknown detector {name!r}", remedy=remedy)
    usual = CAPPED.get(name, {}) if name in presets.PRESETS else {"calibrate_on": "all"}
    settings = {**usual, **given}
    detectors.settings_of(name, settings)  # checks
    return settings


def knows(name: str, setting: str) -> bool:
    """Whether a detector has a setting of this name."""
    return setting in detectors.settings_of(name, {})


def fitter(name: str, settings: Mapping[str, Scalar], *, seed: int, device: str = "auto") -> Fit:
    """A function that fits the detector on a training part; `settings` as of `settings_of`."""
    if name in presets.PRESETS:
        return lambda train: _Preset(name, settings, seed, device, train)
    return lambda train: _OneLiner(name, settings, seed, train)


class _Preset:
    """A preset through what any user can call: fit, decision_function, analyze."""

    def __init__(
        self, name: str, settings: Mapping[str, Scalar], seed: int, device: str, train: Frame
    ) -> None:
        given: dict[str, Any] = dict(settings)
        self.detector = ImDiffusion(preset=name, seed=seed, device=device, **given).fit(train)

    def verdict(self, part: TestPart) -> Verdict:
        analysis = self.detector.analyze(part.frame)
        arrival = self.detector.decision_function(part.frame, at="arrival")
        place = _places(analysis.frame, part)
        return Verdict(
            alarm=_on_grid(analysis.alarm.astype(np.float64), place, part) > 0,
            arrival=_on_grid(arrival, part.positions, part),
            events=_told(analysis.events, place, part.frame.channels),
            promised=float(self.detector.settings_.alarm_rate),
        )


class _OneLiner:
    """A row of the baselines' table with the label-free threshold that the benchmark gives it."""

    def __init__(self, name: str, settings: Mapping[str, Scalar], seed: int, train: Frame) -> None:
        self.settings = detectors.settings_of(name, settings)
        self.row = detectors.make(name, self.settings, seed=seed)
        self.row.fit(regularize(train))

    def verdict(self, part: TestPart) -> Verdict:
        frame = regularize(part.frame)
        place = _places(frame, part)
        found = self.row.score(frame)
        channel_scores = found.channel_scores
        nothing = np.full(frame.values.shape, np.nan)
        events = find_events(
            found.score,
            np.zeros(nothing.shape) if channel_scores is None else channel_scores,
            np.where(frame.observed, frame.values, np.nan),
            nothing,
            frame.channels,
            merge_gap=presets.PAPER.merge_gap,
        )
        named = () if channel_scores is None else frame.channels
        return Verdict(
            alarm=_on_grid(found.score, place, part) > 1.0,
            arrival=_on_grid(self._arrival(frame, found.score), place, part),
            events=_told(events, place, named),
            promised=float(self.settings["alarm_rate"]),
        )

    def _arrival(self, frame: Frame, hindsight: Floats) -> Floats:
        """Each row's score from the CONTEXT rows that end with it."""
        if isinstance(getattr(self.row, "detector", None), Random):
            return hindsight  # it reads no row: what it draws hangs on how many there are
        score = np.full(frame.length, np.nan)
        for row in range(frame.length):
            cut = frame.slice(max(0, row + 1 - CONTEXT), row + 1)
            score[row] = self.row.score(cut).score[-1]
        return score


def _told(
    events: Sequence[Event], place: NDArray[np.int64], channels: tuple[str, ...]
) -> tuple[Told, ...]:
    """Events in rows of the whole grid and positions of channels; none that `channels` lacks."""
    number = {name: k for k, name in enumerate(channels)}
    return tuple(
        Told(
            int(place[one.start]),
            int(place[one.end - 1]) + 1,
            float(one.score),
            tuple(number[name] for name in one.channels if name in number),
        )
        for one in events
    )


def _places(frame: Frame, part: TestPart) -> NDArray[np.int64]:
    """The row of the whole grid of each row of a frame that has timestamps."""
    if frame.timestamps is None:
        return np.arange(frame.length, dtype=np.int64)
    nanoseconds = (frame.timestamps - part.times[0]).astype(np.int64)
    return np.asarray(np.rint(nanoseconds / (part.period_s * 1e9)), np.int64)


def _on_grid(values: Floats, place: NDArray[np.int64], part: TestPart) -> Floats:
    """Values of rows at their places in the whole grid, NaN where there is none."""
    grid = np.full(len(part.times), math.nan)
    grid[place] = values
    return grid
