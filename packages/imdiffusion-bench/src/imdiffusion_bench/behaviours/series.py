"""`make_series`: the two parts of one scenario, and where its faults are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.scenarios import scenario
from imdiffusion_bench.behaviours.scene import Scene
from imdiffusion_bench.behaviours.system import Floats, Nature, stream
from imdiffusion_bench.split import Cause


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
    asked = scenario(name)
    found = asked.obstacle(dials)
    if found is not None:
        raise ConfigError(f"{name} cannot exist: {found[0]}", remedy=found[1])
    nature = Nature(dials, seed, asked.special)
    test, train = _scene(nature, "test", name), _scene(nature, "train", name)
    normal = test.values.copy()
    try:
        faults = asked.fault(test)
    except ConfigError as error:  # there is no room for it
        raise ConfigError(f"{name} cannot exist: {error.what}", remedy=error.remedy) from error
    if asked.dirty is not None:
        asked.dirty(train, faults)
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
