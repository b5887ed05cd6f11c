"""Fitted models by their folder: in memory once, however many entities one of them scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from imdiffusion.errors import ModelError
from imdiffusion.live.store.checkpoint import ModelVersion

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity
    from imdiffusion.live.scorers.fitted import EntityScorer


def entity_of(detector: ImDiffusion, digest: str, likely: Iterable[str] = ()) -> Entity:
    """The entity whose version is `digest`; ModelError where there is none.

    likely: names of entities to look at first.
    """
    names = detector.entities_
    first = [one for one in likely if one in names]
    for name in dict.fromkeys([*first, *names]):
        entity = detector.entity(name)
        if entity.version == digest:
            return entity
    raise ModelError(
        f"the model folder holds no {digest}, which it is noted as",
        remedy="Restore it, or let another be fitted.",
    )


def speaker_of(
    detector: ImDiffusion, digest: str, *, name: str, likely: Iterable[str] = ()
) -> EntityScorer:
    """The scorer of that entity, under the name `name`; raises as `entity_of` does."""
    from imdiffusion.live.scorers.fitted import EntityScorer

    return EntityScorer(entity_of(detector, digest, likely), detector=name, model=digest)


class ModelCache:
    """Makes scorers of models on the disk. From any thread.

    Scorers of one folder and digest share its weights, which nothing changes; what each holds of
    its own entity's rows is its own. A model leaves memory with the last scorer that uses it.
    """

    def __init__(self, read: Callable[[str], ImDiffusion], *, offline: bool) -> None:
        """read: the detector in a folder, as its path is noted in the live state."""
        self._read, self._offline = read, offline
        self._loaded: WeakValueDictionary[tuple[str, str], Entity] = WeakValueDictionary()
        self._lock = threading.Lock()

    def scorer(self, model: ModelVersion, likely: Iterable[str] = ()) -> EntityScorer:
        """A scorer for one more entity. ModelError: the model is torn, or another than was noted.

        One that is in memory was whole when it was read, and is not read again. likely: names of
        entities that the folder may have fitted it as.
        """
        from imdiffusion.live.scorers.fitted import EntityScorer

        place = (model.path, model.digest)
        with self._lock:
            entity = self._loaded.get(place)
            if entity is None:
                entity = entity_of(self._read(model.path), model.digest, likely)
                self._loaded[place] = entity
        return EntityScorer(
            entity, detector=model.detector, offline=self._offline, model=model.digest
        )
