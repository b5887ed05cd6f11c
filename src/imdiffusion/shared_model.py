"""Entities of the same channels that share one network: how they are fitted, and how one joins.

Weights are shared; scaler, units and thresholds are always an entity's own, and a small
embedding tells the network whose window it sees. An entity that joins later has no embedding: the
network knows windows of no entity too (`training.UNOWNED`).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imdiffusion.calibrating import calibrate
from imdiffusion.course import OnProgress, Progress
from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.spans import span_positions
from imdiffusion.diffusion.networks import new_network
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.diffusion.shared_denoiser import SharedDenoiser
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError, DataWarning
from imdiffusion.fitting import check, find_counters, prepare
from imdiffusion.promise.record import less_promise
from imdiffusion.runs import NOBODY
from imdiffusion.settings import Settings
from imdiffusion.training import Trainer

log = logging.getLogger(__name__)

MOST_LENGTH = (
    4.0  # a shared network trains at most so many times as long as one entity (docs/log.md)
)


def new_shared(
    settings: Settings, channels: int, entities: int, *, seed: int, device: torch.device
) -> SharedDenoiser:
    """An untrained network for so many entities; its weights depend on the seed alone."""
    size = settings.entity_embedding
    network = new_network(settings, channels, seed, None, embedding=size)
    with private_rng(seed_from(seed, "embeddings")):
        return SharedDenoiser(network, entities, size).to(device)


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
    series: Mapping[str | None, Callable[[], Frame]],
    settings: Settings,
    *,
    spans: Sequence[tuple[Any, Any]] = (),
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[dict[str | None, Entity], dict[str, str]]:
    """Fit entities that share one network: they, and why others could not be fitted, by name.

    series: reads an entity's rows. spans: what to leave out, as in `fit_entities`. An entity that
    cannot be read or fitted, or has other channels than most, is left out with a DataWarning: the
    others become bit for bit what they would be without it. Raises DataError or ConfigError where
    none is left.
    """
    frames, failed = _sound(series, settings, spans)
    shared = new_shared(
        settings, next(iter(frames.values())).width, len(frames), seed=seed, device=device
    )
    excluded = [span_positions(frame, spans) for frame in frames.values()]
    counters = _agreed(list(frames.values()), settings, excluded)
    ready = [
        prepare(
            frame,
            settings,
            excluded=out,
            seed=seed,
            device=device,
            shared=shared,
            number=number,
            counters=counters,
        )
        for number, (frame, out) in enumerate(zip(frames.values(), excluded, strict=True), start=1)
    ]
    history = Trainer(
        shared,
        [one.part for one in ready if one.part is not None],
        settings,
        seed=seed,
        device=device,
        length=min(MOST_LENGTH, math.sqrt(len(frames))),
        checkpoint=checkpoint,
        on_progress=on_progress,
    ).fit()
    for done, one in enumerate(ready, start=1):
        one.entity.history = history
        calibrate(one.entity, one.rows, one.split)
        if on_progress is not None:
            on_progress(Progress("calibrate", done, len(ready)))
    log.info("%d entities share %d parameters", len(ready), ready[0].entity.num_parameters)
    return {name: one.entity for name, one in zip(frames, ready, strict=True)}, failed


def _agreed(
    frames: Sequence[Frame], settings: Settings, excluded: Sequence[NDArray[np.bool_]]
) -> Counters:
    """The channels that are counters for most entities, which is said."""
    each = zip(frames, excluded, strict=True)
    several = [find_counters(frame, settings, excluded=out) for frame, out in each]
    counters = Counters.agreed(several).of(frames[0])
    counters.say(" of most entities")
    return counters


def _sound(
    series: Mapping[str | None, Callable[[], Frame]],
    settings: Settings,
    spans: Sequence[tuple[Any, Any]],
) -> tuple[dict[str | None, Frame], dict[str, str]]:
    """The frames that can share a network, channels in one order, and why the others cannot.

    Who has a say in which channels these are must itself be sound.
    """
    roll, frames = FailureLog("fitted"), dict[str | None, Frame]()
    for name, read in series.items():
        with roll.calling(name):
            frame = read()
            check(frame, settings, excluded=span_positions(frame, spans))
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
            frame = read()
            like = members.get(name) or fallback_entity([some], name)
            joined[name] = _enrolled(like, frame, excluded=span_positions(frame, spans))
    return joined, roll.failed(joined)


def _enrolled(like: Entity, frame: Frame, *, excluded: NDArray[np.bool_]) -> Entity:
    frame = _in_order(frame, like.channels, "give it its channels")
    ready = prepare(
        frame,
        like.settings,
        excluded=excluded,
        seed=like.seed,
        device=like.device,
        shared=shared_denoiser_of(like),
        number=like.number,
        counters=like.counters,
    )
    ready.entity.history = like.history
    calibrate(ready.entity, ready.rows, ready.split)
    return ready.entity


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
    return Entity.restore(
        own, shared_denoiser_of(like), like.settings, seed=like.seed, device=like.device
    )


def restore_shared(
    facts: Sequence[dict[str, Any]],
    weights: dict[str, Tensor],
    settings: Settings,
    *,
    seed: int,
    device: torch.device,
) -> list[Entity]:
    """The entities of a shared model from what was saved of each and of their network."""
    channels, table = len(facts[0]["channels"]), weights["entities.weight"]
    shared = new_shared(settings, channels, len(table) - 1, seed=seed, device=device)
    shared.load_state_dict(weights)
    shared.eval()
    return [Entity.restore(one, shared, settings, seed=seed, device=device) for one in facts]


def shared_denoiser_of(member: Entity) -> SharedDenoiser:
    """The network that a member shares. ConfigError where it has one of its own."""
    if not member.settings.networked or not isinstance(member.network, SharedDenoiser):
        raise ConfigError(
            "this model has a network for each entity: none can join",
            remedy="Fit with scope='shared'.",
        )
    return member.network
