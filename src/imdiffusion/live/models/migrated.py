"""Fitted models that come with an entity from another process of its group.

What comes is a copy in the own state folder: the other process, where it lives, takes its models
away as newer ones come. One that is torn, or gone by then, is refused, and the baseline goes on.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from imdiffusion.errors import ImDiffusionError, ModelError
from imdiffusion.live.models.paths import Places
from imdiffusion.live.models.pinned import copied
from imdiffusion.live.scorers.scored_row import owner_of
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.live.store.takeover import PeerStates
from imdiffusion.saved_state import State

log = logging.getLogger(__name__)

CAME = "it came with the entity"


class MigratedModels:
    """The models of entities that come to this process. Belongs to the engine's thread."""

    def __init__(self, store: Store, places: Places, peers: PeerStates, *, baseline: str) -> None:
        self.store, self.places, self.peers, self.baseline = store, places, peers, baseline

    def adopt(self, entity: str, reader: Reader, state: State | None) -> None:
        """Make the fitted model live that an entity's scorer had last, as its state says, wherever
        that was.

        One that is noted here already is made live only where the entity has just come: else
        another has won since. One that cannot be had is said and counted.
        """
        came = entity in self.peers.taken
        detector, digest = ("", "") if state is None else owner_of(state)
        try:
            if digest and detector != self.baseline:
                self._make_live(entity, digest, reader, came=came)
        except ImDiffusionError as error:
            log.error("the model %s of %s does not come with it: %s", digest, entity, error)
            self.store.count({("models_refused", entity): 1})
        finally:
            self.peers.taken.pop(entity, None)

    def _make_live(self, entity: str, digest: str, reader: Reader, *, came: bool) -> None:
        noted = {one.digest: one for one in reader.models(entity)}
        if digest in noted:
            if came and not noted[digest].live:
                self.store.promote(entity, digest, reason=CAME, now=time.time_ns())
            return
        found = self.peers.model(entity, digest)
        if found is None:
            raise ModelError(
                "no other process of the group has noted it", remedy="Another will be fitted."
            )
        model, theirs = found
        folder = (theirs / model.path).resolve()
        if not folder.is_relative_to(theirs.resolve()):
            raise ModelError(f"it is noted as {model.path}, outside of {theirs}")
        path = self._copied(entity, digest, folder)
        # As old as it is: the next fit is due when it would have been.
        self.store.add_model(entity, digest, detector=model.detector, path=path, now=model.made)
        self.store.promote(entity, digest, reason=CAME, now=time.time_ns())
        log.info("the model %s of %s has come from %s", digest, entity, folder)

    def _copied(self, entity: str, digest: str, folder: Path) -> str:
        """Take a folder in; its path as seen from the state folder."""
        if folder.parent.name == self.places.given.name:  # it may score others as well
            path = copied(folder, self.places.given)
        else:
            path = copied(folder, self.places.models(entity), name=digest)
        return str(path.relative_to(self.places.folder))
