"""From records to cells: one detector under one scenario over its seeds, and over all scenarios."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imdiffusion_bench.metrics.segments import NAN

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cell:
    """Records of one detector, of one scenario or several; numbers are NaN without a value."""

    records: tuple[Record, ...]

    @property
    def ok(self) -> list[Record]:
        """Those that went well."""
        return [one for one in self.records if one["status"] == "ok"]

    @property
    def failed(self) -> list[Record]:
        """Those that did not."""
        return [one for one in self.records if one["status"] == "failed"]

    @property
    def impossible(self) -> list[Record]:
        """Those of scenarios that cannot exist under the dials."""
        return [one for one in self.records if one["status"] == "impossible"]

    @property
    def faults(self) -> list[Record]:
        """The measures of every fault."""
        return [fault for one in self.ok for fault in one["faults"]]

    def count(self, name: str) -> tuple[int, int]:
        """How often a yes-or-no measure of the faults is yes, and how often it is defined."""
        values = _known(fault[name] for fault in self.faults)
        return int(sum(values)), len(values)

    def median(self, name: str) -> float:
        """The median of a measure over the faults that have it."""
        return _median(_known(fault[name] for fault in self.faults))

    def worst_edge(self) -> float:
        """The median over found faults of the larger error of both edges, in rows."""
        pairs = [(fault["start_error"], fault["end_error"]) for fault in self.faults]
        return _median([max(abs(a), abs(b)) for a, b in pairs if a is not None and b is not None])

    def outside(self, name: str) -> float:
        """The mean of a measure of the rows outside the faults."""
        values = _known(one["outside"][name] for one in self.ok)
        return float(np.mean(values)) if values else NAN


def cells(records: Iterable[Record], key: Callable[[Record], Any]) -> dict[Any, Cell]:
    """Records gathered by what `key` says of each, in their order."""
    found: dict[Any, list[Record]] = {}
    for one in records:
        found.setdefault(key(one), []).append(one)
    return {where: Cell(tuple(some)) for where, some in found.items()}


def by_both(records: Iterable[Record]) -> dict[tuple[str, str], Cell]:
    """(detector, scenario) -> cell."""
    return cells(records, lambda one: (one["detector"], one["scenario"]))


def names(records: Sequence[Record], key: str) -> list[str]:
    """The detectors or scenarios of records, in the order in which they first stand."""
    return list(dict.fromkeys(one[key] for one in records))


def _known(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else NAN
