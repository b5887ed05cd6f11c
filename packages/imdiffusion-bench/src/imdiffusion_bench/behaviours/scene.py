"""The test part as faults find it: where one can be put, which channels it can hit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imdiffusion.errors import ConfigError
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.system import Course, Flags, Floats, Nature, hours, weekend
from imdiffusion_bench.split import Cause

LEAD = 150  # rows before a fault: a window that is full, and some more
REST = 60  # rows after it


@dataclass(slots=True)
class Scene:
    """A test part that faults change. values (T, K), NaN = missing; kept (T,): rows handed over."""

    nature: Nature
    course: Course
    values: Floats
    kept: Flags
    generator: np.random.Generator

    @property
    def dials(self) -> SystemDials:
        """The dials of the system."""
        return self.nature.dials

    def pick(self, count: int = 1) -> list[int]:
        """So many different channels that follow the load, or others where there are too few."""
        for kinds in (("driven",), ("driven", "slow")):
            known = self.nature.channels(*kinds)
            if len(known) >= count:
                return [int(k) for k in self.generator.choice(known, size=count, replace=False)]
        raise ConfigError(
            f"the system has too few channels for a fault of {count}",
            remedy="Set the dial channels higher.",
        )

    def start(self, rows: int) -> int:
        """Where a fault of so many rows begins: by day on a weekday, where there are such rows."""
        first, last = room(self.dials, rows)
        starts = np.arange(first, last + 1)
        if self.dials.season != "none":
            times = self.course.times[starts]
            hour = hours(times)
            busy = (hour >= 8) & (hour < 16) & ~weekend(times)
            starts = starts[busy] if busy.any() else starts
        return int(self.generator.choice(starts))

    def run(self, wanted: Callable[[Course], Flags], before: int = 0, after: int = 0) -> slice:
        """One of the unbroken runs of rows (T,) that `wanted` marks, with room around it."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], wanted(self.course), [0]]).astype(int)))
        first = min(LEAD, len(self.values) // 4)
        runs = [
            (start, end)
            for start, end in edges.reshape(-1, 2).tolist()
            if start - before >= first and end + after < len(self.values)
        ]
        if not runs:
            raise ConfigError(
                "the test part has no such time of day or week with rows around it",
                remedy="Set the dial rows_test higher: a week of rows has them all.",
            )
        return slice(*runs[int(self.generator.integers(len(runs)))])

    def sign(self) -> float:
        """1 or -1."""
        return float(self.generator.choice([-1.0, 1.0]))

    def size(self, k: int) -> float:
        """The size of a fault of channel k, in its unit."""
        return float(self.dials.size * self.nature.unit[k])

    def repaint(self, rows: slice, values: Floats) -> list[Cause]:
        """Take these rows from other values (T, K); the fault is of the channels that change."""
        changed = (self.values[rows] != values[rows]).any(axis=0)
        self.values[rows] = values[rows]
        return [Cause(rows.start, rows.stop, frozenset(np.flatnonzero(changed).tolist()))]


def room(dials: SystemDials, rows: int) -> tuple[int, int]:
    """The first and the last row at which a fault of so many rows can begin; ConfigError."""
    first = min(LEAD, dials.rows_test // 4)
    last = dials.rows_test - rows - min(REST, dials.rows_test // 10)
    if last < first:
        raise ConfigError(
            f"a fault of {rows} rows does not fit into a test part of {dials.rows_test}",
            remedy="Set the dial length lower, or rows_test higher.",
        )
    return first, last
