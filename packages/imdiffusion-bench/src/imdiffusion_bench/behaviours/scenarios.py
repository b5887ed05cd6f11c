"""The scenarios by name: what each does, what of the system it needs, and what it does to training.

To add one, write a function in `faults.py` and a line here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imdiffusion import registry
from imdiffusion.errors import ConfigError
from imdiffusion_bench.behaviours import faults
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.scene import Scene
from imdiffusion_bench.split import Cause

# Why a scenario cannot exist under these dials, and the remedy; None where it can.
Obstacle = Callable[[SystemDials], tuple[str, str] | None]


def _never(dials: SystemDials) -> None:
    return None


def _needs_load(dials: SystemDials) -> tuple[str, str] | None:
    if dials.driven == 0 or dials.coupling == 0:
        return "no channel follows the load", "Set coupling above 0 and slow_share below 1."
    return None


def _needs_two(dials: SystemDials) -> tuple[str, str] | None:
    if dials.channels < 2:
        return "there is only one channel", "Set channels to 2 or more."
    return None


def _needs_ties(dials: SystemDials) -> tuple[str, str] | None:
    if dials.driven < 2:
        return "fewer than two channels follow the load", "Set channels to 2 or more."
    return _needs_load(dials)


def _needs_season(dials: SystemDials) -> tuple[str, str] | None:
    if dials.season == "none" or dials.seasonality == 0:
        return "there is no season", "Set season to daily or weekly, and seasonality above 0."
    if dials.rows_a_day < 24:
        return "a day has fewer than 24 rows", "Set period_s to 3600 or less."
    return _needs_load(dials)


def _needs_week(dials: SystemDials) -> tuple[str, str] | None:
    if dials.season != "weekly":
        return "weekends are like weekdays", "Set season to weekly."
    return _needs_season(dials)


def _needs_batch(dials: SystemDials) -> tuple[str, str] | None:
    if dials.batch_minutes * 60 < dials.period_s:
        return (
            "no row lies in the nightly batch",
            "Set batch_minutes above 0 and period_s shorter than it.",
        )
    if dials.driven == 0:
        return "no channel has a part in the batch", "Set slow_share below 1."
    return None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One behaviour. special: what the last channel is in it, where that matters.

    fault: changes the test part and says where. dirty: changes the training part, or None.
    """

    fault: Callable[[Scene], list[Cause]]
    special: str | None = None
    dirty: Callable[[Scene, list[Cause]], None] | None = None
    obstacle: Obstacle = _never

    @property
    def meaning(self) -> str:
        """What is wrong, in a sentence."""
        told = _first_line(self.fault)
        return told if self.dirty is None else f"{_first_line(self.dirty)} Test: a level shift."


def _first_line(function: Callable[..., object]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


SCENARIOS: Mapping[str, Scenario] = {
    "clean": Scenario(faults.clean),
    "spike": Scenario(faults.spike),
    "level_shift": Scenario(faults.level_shift),
    "variance": Scenario(faults.variance),
    "trend": Scenario(faults.trend),
    "drift": Scenario(faults.drift),
    "frozen": Scenario(faults.frozen),
    "silent": Scenario(faults.silent),
    "missing_rows": Scenario(faults.missing_rows),
    "constant_left": Scenario(faults.constant_left, special="constant", obstacle=_needs_two),
    "swapped": Scenario(faults.swapped, obstacle=_needs_two),
    "unit_change": Scenario(faults.unit_change),
    "lag": Scenario(faults.lag, obstacle=_needs_ties),
    "coupling_broken": Scenario(faults.coupling_broken, obstacle=_needs_ties),
    "season_missing": Scenario(faults.season_missing, obstacle=_needs_season),
    "weekend_as_weekday": Scenario(faults.weekend_as_weekday, obstacle=_needs_week),
    "batch_missing": Scenario(faults.batch_missing, obstacle=_needs_batch),
    "batch_early": Scenario(faults.batch_early, obstacle=_needs_batch),
    "batch_long": Scenario(faults.batch_long, obstacle=_needs_batch),
    "counter_reset": Scenario(faults.counter_reset, special="counter"),
    "contamination": Scenario(faults.level_shift, dirty=faults.contaminated),
    "absurd_training_value": Scenario(faults.level_shift, dirty=faults.absurd),
    "two_faults_in_a_row": Scenario(faults.two_faults_in_a_row),
}


def scenario(name: str) -> Scenario:
    """The scenario of this name; ConfigError with the nearest names if there is none."""
    if name not in SCENARIOS:
        raise ConfigError(f"unknown scenario {name!r}", remedy=registry.nearest(name, SCENARIOS))
    return SCENARIOS[name]
