"""What passes between the stages of an entity: estimates, scored runs, and its calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion.scoring.error import NormalScale

Floats = NDArray[np.float32]
Number = TypeVar("Number", bound=np.generic)
NOBODY = 0  # the number in a shared model of an entity that joined it later


@dataclass(frozen=True, slots=True)
class Estimates:
    """A run of n rows: seen (n, K) scaled, estimates (n, S, K) scaled, target bool (n, K)."""

    seen: Floats
    estimates: Floats
    target: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run of n rows: errors (S, n), channel_scores (n, K), expected (n, K) in caller's units.

    kind (n, K): what checks beside the views found in a channel, a code of `checks`; since (n, K):
    how many rows before its own that began; None: there are no checks.
    `errors` are those of the ensemble's steps; `step_errors`, where they were asked for, of all.
    evidence (n, K): what each row by itself has against each channel, beyond normal, where a view
    says so; NaN where not observed.
    """

    errors: Floats
    channel_scores: Floats
    expected: NDArray[np.float64]
    step_errors: Floats | None = None
    kind: NDArray[np.int8] | None = None
    evidence: Floats | None = None
    since: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.channel_scores)

    def join(self, other: ScoredRun) -> ScoredRun:
        """These rows, then those."""
        return ScoredRun(
            np.concatenate([self.errors, other.errors], axis=1),
            np.concatenate([self.channel_scores, other.channel_scores]),
            np.concatenate([self.expected, other.expected]),
            _both(self.step_errors, other.step_errors, axis=1),
            _both(self.kind, other.kind),
            _both(self.evidence, other.evidence),
            _both(self.since, other.since),
        )

    def slice(self, start: int, stop: int | None = None) -> ScoredRun:
        """Rows start to stop."""
        part = slice(start, stop)
        return ScoredRun(
            self.errors[:, part],
            self.channel_scores[part],
            self.expected[part],
            None if self.step_errors is None else self.step_errors[:, part],
            None if self.kind is None else self.kind[part],
            None if self.evidence is None else self.evidence[part],
            None if self.since is None else self.since[part],
        )


def _both(
    one: NDArray[Number] | None, other: NDArray[Number] | None, *, axis: int = 0
) -> NDArray[Number] | None:
    return None if one is None or other is None else np.concatenate([one, other], axis=axis)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What normal rows say: units of errors, residual band (2, K), thresholds.

    online: the thresholds of scores online; None = there are none.
    """

    units: NormalScale
    band: Floats
    thresholds: list[float]
    online: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it: arrays, and JSON facts."""
        return {
            "error_scale": self.units.scale,
            "view_unit": self.units.view,
            "view_past": self.units.recent,
            "band": self.band,
            "thresholds": self.thresholds,
            "online_thresholds": self.online,
        }

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_dict` describes."""
        scale, view, past, band = (
            np.array(facts[name], np.float32)
            for name in ("error_scale", "view_unit", "view_past", "band")
        )
        online = facts.get("online_thresholds")  # models from before it have none
        return cls(NormalScale(scale, view, past), band, facts["thresholds"], online)
