"""The scorer of one entity out of a model folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from imdiffusion.errors import ModelError

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.stream.scorer import EntityScorer


def speaker_of(
    detector: ImDiffusion,
    digest: str,
    *,
    name: str,
    hindsight: bool = False,
    likely: Iterable[str] = (),
) -> EntityScorer:
    """The scorer of the entity whose version is `digest`; ModelError where there is none.

    name: under which it speaks. likely: names of entities to look at first.
    """
    from imdiffusion.stream.scorer import EntityScorer, version

    entities = detector._need_fit()
    first = [one for one in likely if one in entities]
    for key in dict.fromkeys([*first, *entities]):
        if version(entities[key]) == digest:
            return EntityScorer(entities[key], detector=name, hindsight=hindsight)
    raise ModelError(
        f"the model folder holds no {digest}, which it is noted as",
        remedy="Restore it, or let another be fitted.",
    )
