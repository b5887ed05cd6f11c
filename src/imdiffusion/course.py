"""The course of a training: how long it is, its learning rate, its progress and its history."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from imdiffusion.settings import Settings


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a long call stands: `done` of `total` (0 = unknown) steps, rows or points."""

    phase: str
    done: int
    total: int
    info: dict[str, float] = field(default_factory=dict)


OnProgress = Callable[[Progress], None]


@dataclass(slots=True)
class History:
    """What happened: step, training loss and held-out RMSE of each check, and how it ended."""

    step: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    holdout_rmse: list[float] = field(default_factory=list)
    best_step: int = 0
    converged: bool = False
    seconds: float = 0.0
    earlier_seconds: float = 0.0  # those of them that went into calls before, which were cut off

    def to_dict(self) -> dict[str, Any]:
        """As JSON facts."""
        return asdict(self)


def total_steps(settings: Settings, epoch_steps: int) -> int:
    """Steps until one of the limits; 0 = only patience ends the training."""
    limits = [settings.max_steps, settings.max_epochs * epoch_steps]
    return min((limit for limit in limits if limit), default=0)


def learning_rate(settings: Settings, step: int, epoch: int, total: int) -> float:
    """The rate at a step: constant, dropped tenfold after named epochs, or warmed-up cosine."""
    rate = settings.learning_rate
    if settings.lr_schedule == "step":
        return float(rate * 0.1 ** sum(epoch >= drop for drop in settings.lr_drops))
    if settings.lr_schedule == "cosine" and total:
        warm = max(1, total // 20)
        if step < warm:
            return rate * (step + 1) / warm
        return rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    return rate
