"""Fitted models by their folder: in memory once, however many entities one of them speaks for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from imdiffusion.live.loading import entity_of
from imdiffusion.stream.checkpoint import ModelVersion

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity
    from imdiffusion.stream.scorer import EntityScorer


class Models:
    """Makes scorers of models on the disk. From any thread.

    Scorers of one folder and digest share its weights, which nothing changes; what each holds of
    its own entity's rows is its own. A model leaves memory with the last scorer that speaks for it.
    """

    def __init__(self, read: Callable[[str], ImDiffusion], *, hindsight: bool) -> None:
        """read: the detector in a folder, as its path is noted in the live state."""
        self._read, self._hindsight = read, hindsight
        self._loaded: WeakValueDictionary[tuple[str, str], Entity] = WeakValueDictionary()
        self._lock = threading.Lock()

    def scorer(self, model: ModelVersion, likely: Iterable[str] = ()) -> EntityScorer:
        """A scorer for one more entity. ModelError: the model is torn, or another than was noted.

        One that is in memory was whole when it was read, and is not read again. likely: names of
        entities that the folder may have fitted it as.
        """
        from imdiffusion.stream.scorer import EntityScorer

        place = (model.path, model.digest)
        with self._lock:
            entity = self._loaded.get(place)
            if entity is None:
                entity = entity_of(self._read(model.path), model.digest, likely)
                self._loaded[place] = entity
        return EntityScorer(
            entity, detector=model.detector, hindsight=self._hindsight, model=model.digest
        )
