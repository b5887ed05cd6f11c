"""Entities of the same channels that share one network: how they are fitted, and how one joins.

Weights are the fleet's; scaler, units and thresholds are always an entity's own, and a small
embedding tells the network whose window it sees. An entity that joins later has no embedding: the
network knows windows of nobody's too (`training.UNOWNED`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imdiffusion.calibrating import calibrate
from imdiffusion.course import OnProgress, Progress
from imdiffusion.data.frame import Frame
from imdiffusion.data.spans import span_positions
from imdiffusion.diffusion.denoisers import new_network
from imdiffusion.diffusion.fleet import NOBODY, Fleet
from imdiffusion.diffusion.noise import private_rng, seed_from
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.fitting import prepare
from imdiffusion.settings import Settings
from imdiffusion.training import Trainer

log = logging.getLogger(__name__)

MOST_LENGTH = 4.0  # a fleet trains at most so many times as long as one entity (docs/log.md)


def new_fleet(
    settings: Settings, channels: int, entities: int, *, seed: int, device: torch.device
) -> Fleet:
    """An untrained network for so many entities; its weights hang on the seed alone."""
    size = settings.entity_embedding
    network = new_network(settings, channels, seed, None, embedding=size)
    with private_rng(seed_from(seed, "embeddings")):
        return Fleet(network, entities, size).to(device)


def fit_fleet(
    frames: Iterable[Frame],
    settings: Settings,
    *,
    spans: Sequence[tuple[Any, Any]] = (),
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[Entity]:
    """Fit entities that share one network; spans: what to leave out, as in `fit_entities`.

    Raises DataError where channels differ or one entity cannot be fitted, naming it.
    """
    series = list(frames)
    channels = series[0].channels
    for frame in series:
        if frame.channels != channels:
            raise DataError(
                f"entity {frame.entity!r} has other channels than entity {series[0].entity!r}",
                remedy="A fleet shares its channels: leave it out, or use scope='entity'.",
            )
    fleet = new_fleet(settings, len(channels), len(series), seed=seed, device=device)
    ready = [
        prepare(
            frame,
            settings,
            excluded=span_positions(frame, spans),
            seed=seed,
            device=device,
            fleet=fleet,
            number=number,
        )
        for number, frame in enumerate(series, start=1)
    ]
    history = Trainer(
        fleet,
        [one.part for one in ready],
        settings,
        seed=seed,
        device=device,
        length=min(MOST_LENGTH, math.sqrt(len(series))),
        checkpoint=checkpoint,
        on_progress=on_progress,
    ).fit()
    for done, one in enumerate(ready, start=1):
        one.entity.history = history
        calibrate(one.entity, one.rows, one.split)
        if on_progress is not None:
            on_progress(Progress("calibrate", done, len(ready)))
    log.info(
        "a fleet of %d entities shares %d parameters", len(ready), ready[0].entity.num_parameters
    )
    return [one.entity for one in ready]


def enroll(like: Entity, frame: Frame, *, excluded: NDArray[np.bool_]) -> Entity:
    """An entity scaled and calibrated on these rows alone, under a network that is there already.

    like: the member itself, or a `guest`. frame: a window of rows at least, in its channels.
    """
    if frame.channels != like.channels:
        raise DataError(
            f"entity {frame.entity!r} has other channels than the fleet",
            remedy=f"A fleet shares its channels: {', '.join(like.channels)}.",
        )
    ready = prepare(
        frame,
        like.settings,
        excluded=excluded,
        seed=like.seed,
        device=like.device,
        fleet=_fleet_of(like),
        number=like.number,
    )
    ready.entity.history = like.history
    calibrate(ready.entity, ready.rows, ready.split)
    return ready.entity


def guest(members: Sequence[Entity], name: str | None) -> Entity:
    """An entity without any rows of its own yet: scaled and calibrated as the fleet's median is.

    Of use where the channels mean the same everywhere; `enroll` it after its first hours.
    """
    like, facts = members[0], [member.to_dict() for member in members]
    middle = {
        key: np.median([one[key] for one in facts], axis=0).astype(value.dtype)
        for key, value in facts[0].items()
        if isinstance(value, np.ndarray)
    }
    thresholds = {
        key: np.median([one[key] for one in facts], axis=0).tolist()
        for key in ("thresholds", "arrival_thresholds")
        if all(one[key] is not None for one in facts)
    }
    own = {**facts[0], **middle, **thresholds, "name": name, "number": NOBODY}
    return Entity.restore(own, _fleet_of(like), like.settings, seed=like.seed, device=like.device)


def restore_fleet(
    facts: Sequence[dict[str, Any]],
    weights: dict[str, Tensor],
    settings: Settings,
    *,
    seed: int,
    device: torch.device,
) -> list[Entity]:
    """The members of a fleet from what was saved of each and of their network."""
    channels, table = len(facts[0]["channels"]), weights["entities.weight"]
    fleet = new_fleet(settings, channels, len(table) - 1, seed=seed, device=device)
    fleet.load_state_dict(weights)
    return [Entity.restore(one, fleet, settings, seed=seed, device=device) for one in facts]


def _fleet_of(member: Entity) -> Fleet:
    if not isinstance(member.network, Fleet):
        raise ConfigError(
            "this model has a network for each entity: none can join",
            remedy="Fit with scope='fleet'.",
        )
    return member.network
