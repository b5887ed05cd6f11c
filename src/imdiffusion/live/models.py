"""Fitted models by their folder: in memory once, however many entities one of them speaks for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from imdiffusion.errors import ModelError
from imdiffusion.live.places import Places
from imdiffusion.stream.checkpoint import ModelVersion

if TYPE_CHECKING:
    from imdiffusion.entity import Entity
    from imdiffusion.stream.scorer import EntityScorer


class Models:
    """Makes scorers of models on the disk. From any thread.

    Scorers of one folder and digest share its weights, which nothing changes; what each holds of
    its own entity's rows is its own. A model leaves memory with the last scorer that speaks for it.
    """

    def __init__(self, places: Places, *, device: str, hindsight: bool) -> None:
        self._places, self._device, self._hindsight = places, device, hindsight
        self._loaded: WeakValueDictionary[tuple[str, str], Entity] = WeakValueDictionary()
        self._lock = threading.Lock()

    def scorer(self, model: ModelVersion) -> EntityScorer:
        """A scorer for one more entity. ModelError: the model is torn, or another than was noted.

        One that is in memory was whole when it was read, and is not read again.
        """
        from imdiffusion.stream.scorer import EntityScorer

        place = (model.path, model.digest)
        with self._lock:
            known = self._loaded.get(place)
            entity = self._read(model.path) if known is None else known
            scorer = EntityScorer(
                entity,
                detector=model.detector,
                hindsight=self._hindsight,
                model=None if known is None else model.digest,
            )
            if scorer.model != model.digest:
                raise ModelError(
                    f"the model in {model.path} is {scorer.model}, not {model.digest}",
                    remedy="Restore it, or let another be fitted.",
                )
            self._loaded[place] = entity
        return scorer

    def _read(self, path: str) -> Entity:
        from imdiffusion import ImDiffusion

        detector = ImDiffusion.load(self._places.model(path), device=self._device)
        return next(iter(detector._need_fit().values()))
