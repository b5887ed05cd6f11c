"""Entities of the same channels that share one network: how they are fitted, and how one joins.

Weights are shared; scaler, units and thresholds are always an entity's own, and a small
embedding tells the network whose window it sees. An entity that joins later has no embedding: the
network knows windows without one too (`training.UNOWNED`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.diffusion.networks import SharedDenoiser, new_shared
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError, DataWarning
from imdiffusion.fitting import check, find_counters, prepare, without
from imdiffusion.progress import FitJob, Progress
from imdiffusion.promise.record import less_promise
from imdiffusion.series_imputer import NOBODY
from imdiffusion.settings import Settings
from imdiffusion.training import Trainer

log = logging.getLogger(__name__)

MOST_LENGTH = (
    4.0  # a shared network trains at most so many times as long as one entity (docs/log.md)
)


class FailureLog:
    """The entities of a call: who cannot be used is left out, and named with the reason."""

    def __init__(self, verb: str) -> None:
        self.verb = verb  # "fitted" or "enrolled"
        self._errors: dict[str, DataError | ConfigError] = {}

    @contextmanager
    def calling(self, name: str | None) -> Iterator[None]:
        """Whatever is wrong with an entity's data within this is its own trouble."""
        try:
            yield
        except (DataError, ConfigError) as error:
            self._errors[str(name)] = error.with_traceback(None)  # which would hold its rows

    def failed(self, sound: Sized) -> dict[str, str]:
        """Why an entity was left out, by name, each told as a DataWarning.

        Raises where no entity is sound: the error of all, or one that names the first of them.
        """
        told = {name: str(error) for name, error in self._errors.items()}
        if told and not len(sound):
            name, first = next(iter(self._errors.items()))
            if len(set(told.values())) == 1:
                raise first
            raise DataError(
                f"none of the {len(told)} entities can be {self.verb}; {name!r}: {first.what}",
                remedy=first.remedy,
            )
        for name, reason in told.items():
            warnings.warn(
                f"entity {name!r} is left out and not {self.verb}: {reason}",
                DataWarning,
                stacklevel=4,
            )
        return told


def fit_shared(
    series: Mapping[str | None, Callable[[], Frame]], job: FitJob
) -> tuple[dict[str | None, Entity], dict[str, str]]:
    """Fit entities that share one network: they, and why others could not be fitted, by name.

    series: reads an entity's rows. An entity that cannot be read or fitted, or has other channels
    than most, is left out with a DataWarning: the others become bit for bit what they would be
    without it. Raises DataError or ConfigError where none is left.
    """
    settings, device = job.settings, job.device or torch.device("cpu")
    frames, failed = _sound(series, job)
    width = next(iter(frames.values())).width
    shared = new_shared(settings, width, len(frames), seed=job.seed, device=device)
    counters = _agreed(list(frames.values()), settings)
    ready = [
        prepare(frame, job, shared=shared, number=number, counters=counters)
        for number, frame in enumerate(frames.values(), start=1)
    ]
    length = min(MOST_LENGTH, math.sqrt(len(frames)))
    parts = [one.part() for one in ready]
    history = Trainer(shared, parts, job, device=device, length=length).fit()
    del parts  # the rows that only training needs
    entities = []
    for one in ready:
        entities.append(one.calibrated(history))
        if job.on_progress is not None:
            job.on_progress(Progress("calibrate", len(entities), len(ready)))
    log.info("%d entities share %d parameters", len(ready), entities[0].num_parameters)
    return dict(zip(frames, entities, strict=True)), failed


def _agreed(frames: Sequence[Frame], settings: Settings) -> Counters:
    """The channels that are counters for most entities, which is said."""
    several = [find_counters(frame, settings) for frame in frames]
    counters = Counters.agreed(several).of(frames[0])
    counters.say(" of most entities")
    return counters


def _sound(
    series: Mapping[str | None, Callable[[], Frame]], job: FitJob
) -> tuple[dict[str | None, Frame], dict[str, str]]:
    """The frames that can share a network, channels in one order, and why the others cannot.

    Who has a say in which channels these are must itself be sound.
    """
    roll, frames = FailureLog("fitted"), dict[str | None, Frame]()
    for name, read in series.items():
        with roll.calling(name):
            frame = without(read(), job.spans)
            check(frame, job.settings)
            frames[name] = frame
    votes = Counter(frozenset(frame.channels) for frame in frames.values())
    most = votes.most_common(1)[0][0] if votes else frozenset()  # of as many, those of the first
    order = next((one.channels for one in frames.values() if set(one.channels) == most), ())
    sound: dict[str | None, Frame] = {}
    for name, frame in frames.items():
        with roll.calling(name):
            sound[name] = _in_order(frame, order, "use scope='entity'")
    return sound, roll.failed(sound)


def _in_order(frame: Frame, channels: tuple[str, ...], otherwise: str) -> Frame:
    """The frame with a shared model's channels in its order. DataError where it has others."""
    more = [name for name in frame.channels if name not in set(channels)]
    less = [name for name in channels if name not in set(frame.channels)]
    if more or less:
        both = (
            f"{what} {_some(names)}" for what, names in (("has", more), ("lacks", less)) if names
        )
        raise DataError(
            f"entity {frame.entity!r} has other channels than the shared model: it "
            f"{' and '.join(both)}",
            remedy=f"Its entities have the same channels: leave it out, or {otherwise}.",
        )
    if frame.channels != channels:
        warnings.warn(
            f"channels of entity {frame.entity!r} are in another order than the shared model's; "
            "they were put into that one",
            DataWarning,
            stacklevel=2,
        )
    return frame.select(channels)


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more


def enroll(
    members: Mapping[str | None, Entity],
    series: Mapping[str, Callable[[], Frame]],
    *,
    spans: Sequence[tuple[Any, Any]] = (),
) -> tuple[dict[str | None, Entity], dict[str, str]]:
    """Entities scaled and calibrated on rows of their own, under the network of the members.

    series: reads an entity's rows, a window at least, of the shared model's channels; an entity
    keeps its embedding. Returns those that joined, and why others could not, by name, with a
    DataWarning. Raises DataError or ConfigError where none can.
    """
    roll, joined = FailureLog("enrolled"), dict[str | None, Entity]()
    some = next(iter(members.values()))
    for name, read in series.items():
        with roll.calling(name):
            like = members.get(name) or fallback_entity([some], name)
            joined[name] = _enrolled(like, without(read(), spans))
    return joined, roll.failed(joined)


def _enrolled(like: Entity, frame: Frame) -> Entity:
    shared = shared_denoiser_of(like)
    ready = prepare(
        _in_order(frame, like.channels, "give it its channels"),
        FitJob(like.settings, like.seed, like.imputer.device),
        shared=shared,
        number=like.number,
        counters=like.counters,
    )
    return ready.calibrated(like.history)


def fallback_entity(members: Sequence[Entity], name: str | None) -> Entity:
    """An entity without any rows of its own yet: scaled and calibrated as the median of the others.

    Of use where the channels mean the same everywhere; `enroll` it after its first hours.
    """
    like, facts = members[0], [less_promise(member.to_dict()) for member in members]
    middle = {
        key: np.median([one[key] for one in facts], axis=0).astype(value.dtype)
        for key, value in facts[0].items()
        if isinstance(value, np.ndarray)
    }
    thresholds = {
        key: np.median([one[key] for one in facts], axis=0).tolist()
        for key in ("thresholds", "online_thresholds")
        if all(one[key] is not None for one in facts)
    }
    own = {**facts[0], **middle, **thresholds, "name": name, "number": NOBODY}
    shared, device = shared_denoiser_of(like), like.imputer.device
    return Entity.restore(own, like.settings, seed=like.seed, network=shared, device=device)


def shared_denoiser_of(member: Entity) -> SharedDenoiser:
    """The network that a member shares. ConfigError where it has one of its own."""
    network = None if member.series is None else member.series.network
    if not isinstance(network, SharedDenoiser):
        raise ConfigError(
            "this model has a network for each entity: none can join",
            remedy="Fit with scope='shared'.",
        )
    return network
