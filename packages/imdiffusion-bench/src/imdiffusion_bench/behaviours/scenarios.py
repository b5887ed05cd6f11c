"""The faults, the scenarios by name, and `make_series`: two parts of one, and where its faults are.

To add a scenario, write the function of its fault and a line in SCENARIOS: what it does, what of
the system it needs, and what it does to training.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats
from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion.schema import one_of
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.system import BATCH_AT, Course, Nature, Scene, batch_rows, stream
from imdiffusion_bench.behaviours.system import hours as hours_of
from imdiffusion_bench.behaviours.system import season as season_of
from imdiffusion_bench.behaviours.system import weekend as weekend_of
from imdiffusion_bench.generator.series import memory
from imdiffusion_bench.split import Cause

SPIKE_ROWS = 3
ABSURD = (-9999.0, 1e12)  # of even and of odd seeds
DIRTY_SHARE = 0.02  # of the training rows under contamination
UNIT = 1000.0
LEFT = 0.05  # where a constant of 0 goes
APART = 50  # rows between two faults in a row
EARLIER = 90  # minutes that the batch comes too early
LONGER = 3  # lengths that the batch runs on


def rows_of(name: str, length: int) -> int:
    """How many rows the fault of a scenario has, of those whose length is a dial."""
    return _ROWS.get(name, 1) * length if name != "spike" else SPIKE_ROWS


_ROWS = {"drift": 6, "silent": 2, "frozen": 2, "lag": 2, "coupling_broken": 2, "swapped": 1}


def _somewhere(scene: Scene, name: str) -> slice:
    rows = rows_of(name, scene.dials.length)
    start = scene.start(rows)
    return slice(start, start + rows)


def _one(rows: slice, *channels: int) -> list[Cause]:
    return [Cause(rows.start, rows.stop, frozenset(channels))]


def clean(scene: Scene) -> list[Cause]:
    """Nothing is wrong."""
    return []


def spike(scene: Scene) -> list[Cause]:
    """A channel is off by the size for three rows."""
    rows, (k,) = _somewhere(scene, "spike"), scene.pick()
    scene.values[rows, k] += scene.sign() * scene.size(k)
    return _one(rows, k)


def level_shift(scene: Scene) -> list[Cause]:
    """A channel stands the size higher or lower, and comes back."""
    rows, (k,) = _somewhere(scene, "level_shift"), scene.pick()
    scene.values[rows, k] += scene.sign() * scene.size(k)
    return _one(rows, k)


def variance(scene: Scene) -> list[Cause]:
    """A burst: white noise of the size comes on top of a channel."""
    rows, (k,) = _somewhere(scene, "variance"), scene.pick()
    drawn = scene.generator.standard_normal(rows.stop - rows.start)
    scene.values[rows, k] += scene.size(k) * drawn
    return _one(rows, k)


def _ramp(scene: Scene, name: str) -> list[Cause]:
    rows, (k,) = _somewhere(scene, name), scene.pick()
    count = rows.stop - rows.start
    scene.values[rows, k] += scene.sign() * scene.size(k) * np.arange(1, count + 1) / count
    return _one(rows, k)


def trend(scene: Scene) -> list[Cause]:
    """A channel leaves evenly, is the size away at the end, and comes back at once."""
    return _ramp(scene, "trend")


def drift(scene: Scene) -> list[Cause]:
    """The same as a trend, six times as slowly."""
    return _ramp(scene, "drift")


def frozen(scene: Scene) -> list[Cause]:
    """A channel stays at the value it had, which is a usual one."""
    rows, (k,) = _somewhere(scene, "frozen"), scene.pick()
    scene.values[rows, k] = scene.values[rows.start - 1, k]
    return _one(rows, k)


def silent(scene: Scene) -> list[Cause]:
    """A channel stops reporting: its values are missing."""
    rows, (k,) = _somewhere(scene, "silent"), scene.pick()
    scene.values[rows, k] = np.nan
    return _one(rows, k)


def missing_rows(scene: Scene) -> list[Cause]:
    """Rows are left out: the timestamps leap over them."""
    rows = _somewhere(scene, "missing_rows")
    scene.kept[rows] = False
    return _one(rows, *range(scene.dials.channels))


def constant_left(scene: Scene) -> list[Cause]:
    """A channel that was 0 in every row of training goes to .05."""
    rows, (k,) = _somewhere(scene, "constant_left"), scene.nature.channels("constant")
    scene.values[rows, k] = LEFT
    return _one(rows, k)


def swapped(scene: Scene) -> list[Cause]:
    """Two channels report each other's values."""
    rows, (a, b) = _somewhere(scene, "swapped"), scene.pick(2)
    scene.values[rows, [a, b]] = scene.values[rows, [b, a]]
    return _one(rows, a, b)


def unit_change(scene: Scene) -> list[Cause]:
    """A channel reports in another unit: its values times 1000."""
    rows, (k,) = _somewhere(scene, "unit_change"), scene.pick()
    scene.values[rows, k] *= UNIT
    return _one(rows, k)


def lag(scene: Scene) -> list[Cause]:
    """A channel follows the load a third of the length too late."""
    rows, (k,) = _somewhere(scene, "lag"), scene.pick()
    late = max(2, scene.dials.length // 3)
    load = scene.course.load()
    behind = np.concatenate([np.full(late, load[0]), load[:-late]])
    return _as_under(scene, rows, k, behind)


def coupling_broken(scene: Scene) -> list[Cause]:
    """A channel follows a load of its own, of the usual range and pace."""
    rows, (k,) = _somewhere(scene, "coupling_broken"), scene.pick()
    pole = scene.dials.temporal
    own = memory(scene.generator, len(scene.values), np.array([[pole, 0.0]]))[:, 0]
    return _as_under(scene, rows, k, own)


def _as_under(scene: Scene, rows: slice, k: int, load: Floats) -> list[Cause]:
    scene.values[rows, k] = scene.course.values(load=load)[rows, k]
    return _one(rows, k)


def season_missing(scene: Scene) -> list[Cause]:
    """The noon peak is missing: from 9 to 16 o'clock the season stays at most where it was at 9."""

    def noon(course: Course) -> Flags:
        hour = hours_of(course.times)
        weekday = ~weekend_of(course.times)
        return np.asarray((hour >= 9) & (hour < 16) & weekday)

    rows, season = scene.run(noon), scene.course.season.copy()
    season[rows] = np.minimum(season[rows], season[rows.start])
    return scene.repaint(rows, scene.course.values(load=scene.course.load(season)))


def weekend_as_weekday(scene: Scene) -> list[Cause]:
    """A Saturday or Sunday from 7 to 22 o'clock has the load of a weekday."""

    def awake(course: Course) -> Flags:
        hour = hours_of(course.times)
        return np.asarray((hour >= 7) & (hour < 22) & weekend_of(course.times))

    rows = scene.run(awake)
    workday = season_of(scene.course.times, scene.dials.season, workday=True)
    return scene.repaint(rows, scene.course.values(load=scene.course.load(workday)))


def _running(course: Course) -> Flags:
    return np.asarray(course.batch > 0)


def batch_missing(scene: Scene) -> list[Cause]:
    """The nightly batch does not run."""
    rows = scene.run(_running)
    return scene.repaint(rows, scene.course.values(batch=np.zeros(len(scene.values))))


def batch_early(scene: Scene) -> list[Cause]:
    """The nightly batch runs an hour and a half too early, and not at its time."""
    minutes = scene.dials.batch_minutes
    early = math.ceil(EARLIER * 60 / scene.dials.period_s)
    run = scene.run(_running, before=early)
    moved = batch_rows(scene.course.times, minutes, at=BATCH_AT - EARLIER)
    rows = slice(run.start - early, run.stop)
    return scene.repaint(rows, scene.course.values(batch=moved))


def batch_long(scene: Scene) -> list[Cause]:
    """The nightly batch does not end: it runs on for three times its length."""
    usual = scene.course.batch > 0
    longest = math.ceil(scene.dials.batch_minutes * 60 / scene.dials.period_s)
    run = scene.run(lambda course: usual, after=LONGER * longest)
    rows = slice(run.stop, run.stop + LONGER * (run.stop - run.start))
    return scene.repaint(rows, scene.course.values(batch=np.ones(len(scene.values))))


def counter_reset(scene: Scene) -> list[Cause]:
    """A counter begins again at 0; from then on it counts as before."""
    start, (k,) = scene.start(1), scene.nature.channels("counter")
    scene.values[start:, k] -= scene.values[start, k]
    return _one(slice(start, start + 1), k)


def two_faults_in_a_row(scene: Scene) -> list[Cause]:
    """One absurd value in a channel, and 50 rows later a level shift in another one."""
    length = scene.dials.length
    start = scene.start(1 + APART + length)
    a, b = scene.pick(2) if len(scene.nature.channels("driven", "slow")) > 1 else scene.pick() * 2
    scene.values[start, a] += 100 * scene.size(a)
    rows = slice(start + APART, start + APART + length)
    scene.values[rows, b] += scene.sign() * scene.size(b)
    return [*_one(slice(start, start + 1), a), *_one(rows, b)]


def contaminated(scene: Scene, faults: list[Cause]) -> None:
    """Training: two per cent of its rows lie in level shifts, each of one channel."""
    total = max(1, round(DIRTY_SHARE * len(scene.values)))
    count = max(1, round(total / scene.dials.length))
    length = max(1, total // count)
    for start in np.linspace(0, len(scene.values) - length, count + 2).astype(int)[1:-1]:
        (k,) = scene.pick()
        scene.values[start : start + length, k] += scene.sign() * scene.size(k)


def absurd(scene: Scene, faults: list[Cause]) -> None:
    """Training: one value of the channel at fault is -9999 (even seeds) or 1e12 (odd ones)."""
    row = int(scene.generator.integers(len(scene.values)))
    for k in faults[0].channels:
        scene.values[row, k] = ABSURD[scene.nature.seed % 2]


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
        fault = _first_line(self.fault)
        return fault if self.dirty is None else f"{_first_line(self.dirty)} Test: a level shift."


def _first_line(function: Callable[..., object]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


SCENARIOS: Mapping[str, Scenario] = {
    "clean": Scenario(clean),
    "spike": Scenario(spike),
    "level_shift": Scenario(level_shift),
    "variance": Scenario(variance),
    "trend": Scenario(trend),
    "drift": Scenario(drift),
    "frozen": Scenario(frozen),
    "silent": Scenario(silent),
    "missing_rows": Scenario(missing_rows),
    "constant_left": Scenario(constant_left, special="constant", obstacle=_needs_two),
    "swapped": Scenario(swapped, obstacle=_needs_two),
    "unit_change": Scenario(unit_change),
    "lag": Scenario(lag, obstacle=_needs_ties),
    "coupling_broken": Scenario(coupling_broken, obstacle=_needs_ties),
    "season_missing": Scenario(season_missing, obstacle=_needs_season),
    "weekend_as_weekday": Scenario(weekend_as_weekday, obstacle=_needs_week),
    "batch_missing": Scenario(batch_missing, obstacle=_needs_batch),
    "batch_early": Scenario(batch_early, obstacle=_needs_batch),
    "batch_long": Scenario(batch_long, obstacle=_needs_batch),
    "counter_reset": Scenario(counter_reset, special="counter"),
    "contamination": Scenario(level_shift, dirty=contaminated),
    "absurd_training_value": Scenario(level_shift, dirty=absurd),
    "two_faults_in_a_row": Scenario(two_faults_in_a_row),
}


def scenario(name: str) -> Scenario:
    """The scenario of this name; ConfigError with the nearest names if there is none."""
    return SCENARIOS[one_of("scenario", name, SCENARIOS)]


@dataclass(frozen=True, slots=True)
class TestPart:
    """A test part without a word of where its faults are: all that a detector gets to score.

    times (T,) is the whole grid of rows; positions[i] is the row of that grid of row i of `frame`.
    """

    __test__ = False  # not a class of tests, whatever pytest may think

    frame: Frame
    times: NDArray[np.datetime64]
    positions: NDArray[np.int64]
    period_s: int


@dataclass(frozen=True, slots=True)
class Series:
    """One scenario made for one seed.

    train, test: what a detector gets; rows that are left out are not in `test`. normal (T, K) is
    the test part had nothing happened. times (T,) and the faults are of the whole grid of rows;
    positions[i] is the row of that grid of row i of `test`.
    """

    scenario: str
    train: Frame
    test: Frame
    normal: Floats
    times: NDArray[np.datetime64]
    positions: NDArray[np.int64]
    faults: tuple[Cause, ...]
    period_s: int

    @property
    def unlabelled(self) -> TestPart:
        """The test part without its faults."""
        return TestPart(self.test, self.times, self.positions, self.period_s)


def make_series(name: str, dials: SystemDials, *, seed: int = 0) -> Series:
    """The series of a scenario: the same dials and seed, the same bits.

    Training and test part are two draws of one system. All scenarios of a seed share both draws
    but for what is wrong, save that the last channel of some is a constant or a counter.

    Raises ConfigError for an unknown scenario, and for one that cannot exist under these dials.
    """
    one = scenario(name)
    found = one.obstacle(dials)
    if found is not None:
        raise ConfigError(f"{name} cannot exist: {found[0]}", remedy=found[1])
    nature = Nature(dials, seed, one.special)
    test, train = _scene(nature, "test", name), _scene(nature, "train", name)
    normal = test.values.copy()
    try:
        faults = one.fault(test)
    except ConfigError as error:  # there is no room for it
        raise ConfigError(f"{name} cannot exist: {error.what}", remedy=error.remedy) from error
    if one.dirty is not None:
        one.dirty(train, faults)
    for part, of in (("train", train), ("test", test)):
        unseen = stream(seed, part, "missing").random(of.values.shape) < dials.missing
        of.values[unseen] = np.nan
        if part == "test":
            normal[unseen] = np.nan
    return Series(
        scenario=name,
        train=_frame(train),
        test=_frame(test),
        normal=normal,
        times=test.course.times,
        positions=np.flatnonzero(test.kept).astype(np.int64),
        faults=tuple(faults),
        period_s=dials.period_s,
    )


def _scene(nature: Nature, part: str, name: str) -> Scene:
    course = nature.course(part)
    values = course.values()
    kept = np.ones(len(values), dtype=np.bool_)
    return Scene(nature, course, values, kept, stream(nature.seed, part, "fault", name))


def _frame(scene: Scene) -> Frame:
    values = scene.values[scene.kept]
    return Frame(
        values=values,
        observed=~np.isnan(values),
        timestamps=scene.course.times[scene.kept],
        channels=scene.nature.names,
        kind="pyarrow",
    )
