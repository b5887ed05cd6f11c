"""A made-up series that slow causes drive, and the ways into the closed-form views of a fit"""

import numpy as np

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.linear import LinearStream


def series(rows: int, seed: int, channels: int = 6) -> np.ndarray:
    """Channels (rows, channels) that three slow causes drive, each with noise of its own; the
    mixture is the same for every seed.
    """
    rng = np.random.default_rng(seed)
    mixture = np.random.default_rng(9).normal(size=(3, channels))
    causes = np.zeros((rows, 3))
    push = rng.normal(size=(rows, 3))
    for t in range(1, rows):
        causes[t] = 0.9 * causes[t - 1] + push[t]
    return causes @ mixture + 0.5 * rng.normal(size=(rows, channels))


def entity_of(fitted: ImDiffusion) -> Entity:
    """The one entity of a fitted detector."""
    return fitted.entity()


def rows_of(entity: Entity, values: np.ndarray) -> Rows:
    """Values (T, K), NaN = missing, as the entity reads them."""
    return entity.rows(Frame(values, ~np.isnan(values), None, entity.channels))


def stream_of(entity: Entity) -> LinearStream:
    """A fresh stream of the entity's views."""
    assert entity.linear is not None
    return entity.linear_stream(entity.linear)
