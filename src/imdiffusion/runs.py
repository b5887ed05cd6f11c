"""What passes between the stages of an entity: estimates, scored runs, and its calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring.error import Units

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Estimates:
    """A run of n rows: seen (n, K) scaled, estimates (n, S, K) scaled, target bool (n, K)."""

    seen: Floats
    estimates: Floats
    target: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run of n rows: errors (S, n), channel_scores (n, K), expected (n, K) in caller's units.

    `errors` are those of the ensemble's steps; `step_errors`, where they were asked for, of all.
    """

    errors: Floats
    channel_scores: Floats
    expected: NDArray[np.float64]
    step_errors: Floats | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What normal rows say: units of errors, residual band (2, K), thresholds.

    arrival: the thresholds of scores at arrival; None = there are none.
    """

    units: Units
    band: Floats
    thresholds: list[float]
    arrival: list[float] | None = None
