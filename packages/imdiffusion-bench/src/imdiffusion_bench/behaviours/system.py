"""The watched system of a behaviour: a load with a season, channels that follow it, a batch.

What a channel is like (unit, sign, response, part in the batch) depends on the seed alone; training
and test part are two draws of the same process, one after the other in time.

`Scene` is its test part as faults find it: where one can be put, which channels it can hit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import ConfigError
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.generator.series import memory
from imdiffusion_bench.split import Cause

FIRST = np.datetime64("2026-03-02T00:00:00", "ns")  # a Monday
BATCH_AT = 120  # minutes after midnight
_PURPOSES = ("nature", "swing", "own", "slow", "noise", "missing", "fault")
_PARTS = ("both", "train", "test")
_WEEKEND = 0.5  # of the load of a weekday
_BEND = 0.35  # of a response that is no straight line
_SLOWEST = 0.999  # a longer memory would take longer to forget its start than to draw
_COUNTED = 100.0  # what a counter counts a row, in standard deviations of its rate
_COUNTER_FIRST = 1_000_000.0


def stream(seed: int, part: str, purpose: str, name: str = "") -> np.random.Generator:
    """The generator of one purpose in one part; none depends on what another one drew.

    name: tells apart what several scenarios draw for the same purpose.
    """
    names = [zlib.crc32(name.encode())] if name else []
    return np.random.default_rng([seed, _PARTS.index(part), _PURPOSES.index(purpose), *names])


class Nature:
    """What the channels (K,) are, drawn once for both parts.

    kind        "driven" by the load, "slow" on a course of its own, "constant" or "counter"
    unit, level one standard deviation of the signal and its middle, in the channel's unit
    sign        -1 where the channel falls as the load rises
    bent        whether its response to the load is no straight line
    batch       what the batch adds, in standard deviations; 0 = it has no part in it
    """

    def __init__(self, dials: SystemDials, seed: int, special: str | None = None) -> None:
        self.dials, self.seed = dials, seed
        draw, count = stream(seed, "both", "nature"), dials.channels
        self.names = tuple(f"c{k:03d}" for k in range(count))
        self.kind = ["driven"] * dials.driven + ["slow"] * dials.slow
        self.unit = 10.0 ** draw.uniform(-2, 2, size=count)
        self.level = self.unit * draw.uniform(4, 8, size=count)
        self.sign = draw.choice([1.0, 1.0, 1.0, -1.0], size=count)
        self.bent = np.arange(count) % 3 == 2
        gain = draw.uniform(1.5, 3.0, size=count)
        driven = np.array([kind == "driven" for kind in self.kind])
        self.batch = np.where(driven & (np.arange(count) % 2 == 0), gain, 0.0)
        if special is not None:
            self.kind[-1] = special
            self.batch[-1] = 0.0

    def channels(self, *kinds: str) -> list[int]:
        """The positions of the channels of these kinds."""
        return [k for k, kind in enumerate(self.kind) if kind in kinds]

    def course(self, part: str) -> Course:
        """The course of "train" or "test" in which nothing is wrong."""
        dials, seed = self.dials, self.seed
        train = part == "train"
        rows = dials.rows_train if train else dials.rows_test
        first = 0 if train else dials.rows_train
        step = np.timedelta64(dials.period_s, "s").astype("timedelta64[ns]")
        times = FIRST + (first + np.arange(rows)) * step
        own = np.zeros((rows, dials.channels))
        driven, slow = self.channels("driven", "counter"), self.channels("slow")
        own[:, driven] = _ar(stream(seed, part, "own"), rows, dials.temporal, len(driven))
        own[:, slow] = self._slow(part, times, len(slow))
        return Course(
            nature=self,
            times=times,
            season=season(times, dials.season),
            swing=_ar(stream(seed, part, "swing"), rows, dials.temporal, 1)[:, 0],
            batch=batch_rows(times, dials.batch_minutes),
            own=own,
            noise=dials.noise * stream(seed, part, "noise").standard_normal(own.shape),
            counted=_COUNTER_FIRST + 4 * _COUNTED * first,
        )

    def _slow(self, part: str, times: NDArray[np.datetime64], count: int) -> Floats:
        """Unit-variance courses (T, count): weather, as it were, with a warm afternoon."""
        pole = min(_SLOWEST, math.exp(-1.0 / self.dials.rows_a_day))
        drawn = _ar(stream(self.seed, part, "slow"), len(times), pole, count)
        if self.dials.season == "none":
            return drawn
        warm = math.sqrt(2) * np.sin(2 * np.pi * (hours(times) - 9) / 24)[:, None]
        return np.asarray(math.sqrt(0.5) * drawn + math.sqrt(0.5) * warm)


@dataclass(slots=True)
class Course:
    """What one part is made of. season, swing, batch (T,); own, noise (T, K); counted: a start."""

    nature: Nature
    times: NDArray[np.datetime64]
    season: Floats
    swing: Floats
    batch: Floats
    own: Floats
    noise: Floats
    counted: float

    def load(self, season: Floats | None = None) -> Floats:
        """The load (T,) of unit variance, under another season (T,) if one is given."""
        dials = self.nature.dials
        share = 0.0 if dials.season == "none" else dials.seasonality
        seasonal = self.season if season is None else season
        return np.asarray(math.sqrt(share) * seasonal + math.sqrt(1 - share) * self.swing)

    def values(self, load: Floats | None = None, batch: Floats | None = None) -> Floats:
        """The channels (T, K) in their units, under another load or batch (T,) if one is given."""
        nature, dials = self.nature, self.nature.dials
        load = self.load() if load is None else load
        batch = self.batch if batch is None else batch
        bent = (load + _BEND * (load**2 - 1)) / math.sqrt(1 + 2 * _BEND**2)
        response = np.where(nature.bent, bent[:, None], load[:, None]) * nature.sign
        signal = math.sqrt(dials.coupling) * response + math.sqrt(1 - dials.coupling) * self.own
        for k in nature.channels("slow"):
            signal[:, k] = self.own[:, k]
        signal = signal + self.noise + batch[:, None] * nature.batch
        values = nature.level + nature.unit * signal
        for k in nature.channels("constant"):
            values[:, k] = 0.0
        for k in nature.channels("counter"):
            rate = np.maximum(np.rint(_COUNTED * (4 + signal[:, k])), 0.0)
            values[:, k] = self.counted + np.cumsum(rate)
        return np.asarray(values)


def hours(times: NDArray[np.datetime64]) -> Floats:
    """Hours since midnight, with their fractions."""
    day = times.astype("datetime64[D]").astype(times.dtype)
    return np.asarray((times - day) / np.timedelta64(1, "h"), np.float64)


def weekend(times: NDArray[np.datetime64]) -> Flags:
    """Which times lie on a Saturday or a Sunday."""
    return np.asarray(~np.is_busday(times.astype("datetime64[D]")))


def season(times: NDArray[np.datetime64], rhythm: str, *, workday: bool = False) -> Floats:
    """The season of the load (T,): mean 0 and variance 1 over a week of its rhythm.

    A broad hump around one o'clock and a narrow one at eight in the evening; half of it on
    weekends where the rhythm is "weekly". workday: as if every day were one. Zeros for "none".
    """
    if rhythm == "none":
        return np.zeros(len(times))
    week = FIRST + np.arange(7 * 288) * np.timedelta64(300, "s")
    usual = _humps(week, rhythm, workday=False)
    return np.asarray((_humps(times, rhythm, workday=workday) - usual.mean()) / usual.std())


def _humps(times: NDArray[np.datetime64], rhythm: str, *, workday: bool) -> Floats:
    angle = 2 * np.pi * hours(times) / 24
    noon, evening = 2 * np.pi * 13 / 24, 2 * np.pi * 20 / 24
    height = np.exp(1.5 * (np.cos(angle - noon) - 1)) + 0.3 * np.exp(
        8 * (np.cos(angle - evening) - 1)
    )
    quiet = weekend(times) if rhythm == "weekly" and not workday else np.zeros(len(times), bool)
    return np.asarray(np.where(quiet, _WEEKEND * height, height))


def batch_rows(times: NDArray[np.datetime64], minutes: float, *, at: float = BATCH_AT) -> Floats:
    """1 where the batch runs (T,), from `at` minutes after midnight for so many; else 0."""
    minute = hours(times) * 60
    return np.asarray((minute >= at - 1e-6) & (minute < at + minutes - 1e-6), np.float64)


def _ar(generator: np.random.Generator, rows: int, pole: float, count: int) -> Floats:
    if count == 0:
        return np.zeros((rows, 0))
    return memory(generator, rows, np.tile([pole, 0.0], (count, 1)))


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
