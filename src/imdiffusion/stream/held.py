"""Rows on their way through a row buffer: those that go out, wait, or are set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame

Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that follow each other on the grid. fresh: they do not follow the run before."""

    frame: Frame
    fresh: bool


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that was set aside: nanoseconds since the epoch, its reason, its values."""

    timestamp: int
    reason: str
    values: tuple[float, ...]


@dataclass(slots=True)
class Leap:
    """Rows at another place than the stream, by point, until it is known which place is right."""

    rows: dict[int, Row] = field(default_factory=dict)
    pushes: int = 0


@dataclass(slots=True)
class Segment:
    """Rows on their way out."""

    fresh: bool
    points: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def places_of(names: Sequence[str], channels: Sequence[str]) -> list[int]:
    """Where each of `names` stands among `channels`; -1 = nowhere."""
    place = {name: k for k, name in enumerate(channels)}
    return [place.get(name, -1) for name in names]


def moved(cells: NDArray[np.floating], places: Sequence[int]) -> Row:
    """Cells (..., K) in other places: at k what was at places[k], NaN where that is -1."""
    at = np.asarray(places, np.int64)
    wider = np.concatenate([cells, np.full((*cells.shape[:-1], 1), np.nan)], axis=-1)
    found: Row = wider[..., at].astype(np.float64)
    return found
