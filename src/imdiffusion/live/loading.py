"""The scorer of one entity out of a model folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from imdiffusion.errors import ModelError

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity
    from imdiffusion.stream.scorer import EntityScorer


def entity_of(detector: ImDiffusion, digest: str, likely: Iterable[str] = ()) -> Entity:
    """The entity whose version is `digest`; ModelError where there is none.

    likely: names of entities to look at first.
    """
    from imdiffusion.state import version

    entities = detector._need_fit()
    first = [one for one in likely if one in entities]
    for key in dict.fromkeys([*first, *entities]):
        if version(entities[key]) == digest:
            return entities[key]
    raise ModelError(
        f"the model folder holds no {digest}, which it is noted as",
        remedy="Restore it, or let another be fitted.",
    )


def speaker_of(
    detector: ImDiffusion, digest: str, *, name: str, likely: Iterable[str] = ()
) -> EntityScorer:
    """The scorer of that entity, which speaks as `name`; raises as `entity_of` does."""
    from imdiffusion.stream.scorer import EntityScorer

    return EntityScorer(entity_of(detector, digest, likely), detector=name, model=digest)
