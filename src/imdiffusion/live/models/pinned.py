"""Models that the configuration names: taken into the state folder, and made live.

A folder is read and copied when its first entity has rows, and the copy is used. Whatever happens
to the folder afterwards, or if it is damaged at the next start, the last valid copy stays in use.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdiffusion.data.atomic import atomic_folder
from imdiffusion.errors import ImDiffusionError, ModelError
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.config.schema import ModelSection
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity
import threading
from collections.abc import Callable, Iterable
from weakref import WeakValueDictionary

from imdiffusion.live.scorers.fitted import owner_of
from imdiffusion.live.store.inserts import ModelVersion
from imdiffusion.live.store.retention import PeerStates
from imdiffusion.saved_state import State

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity
    from imdiffusion.live.scorers.fitted import EntityScorer


def state_folder(name: str) -> Path:
    """The user's state folder for one verb, by the XDG convention."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "imdiffusion" / name


def name_of(entity: str) -> str:
    """A name for files of an entity: readable, of plain letters, and never another entity's."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", entity)[:40].strip("_")
    digest = hashlib.sha256(entity.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain}-{digest}" if plain else digest


class Places:
    """The paths in a state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.live = folder / "live.db"

    def make(self) -> None:
        """Make the folders. OSError where that is impossible."""
        for path in (self.folder, self.folder / "models", self.folder / "fits"):
            path.mkdir(parents=True, exist_ok=True)

    def models(self, entity: str) -> Path:
        """The folder with the models of an entity."""
        return self.folder / "models" / name_of(entity)

    @property
    def given(self) -> Path:
        """The folder with the models that the configuration names."""
        return self.folder / "models" / "given"

    def fit(self, entity: str) -> Path:
        """The folder of the fit of an entity."""
        return self.folder / "fits" / name_of(entity)

    def model(self, path: str) -> Path:
        """The folder of a model, whose path is noted as seen from the state folder."""
        return self.folder / path


log = logging.getLogger(__name__)

NAMED = "named in the configuration"


class PinnedModels:
    """The named models of one configuration. `adopt` belongs to one thread."""

    def __init__(self, store: Store, places: Places, configuration: Configuration) -> None:
        self.store, self.places, self.configuration = store, places, configuration
        self._paths: dict[str, Path | None] = {}  # of the copies, by folder; None = refused
        self._loaded: dict[Path, ImDiffusion] = {}

    def holds(self, path: Path) -> bool:
        """Whether a model folder is one of the copies."""
        return path.parent == self.places.given

    def detector(self, path: Path) -> ImDiffusion:
        """The detector in a copy, read once for all entities that it scores. ModelError."""
        if path not in self._loaded:
            from imdiffusion import ImDiffusion

            device = str(self.configuration.keywords["device"])
            self._loaded[path] = ImDiffusion.load(path, device=device)
        return self._loaded[path]

    def adopt(self, entity: str, source: str, reader: Reader) -> None:
        """Make the named model of an entity the live one, if it is not the one named last.

        So a model that has won since, or a roll back, stands until another is named. One that is
        torn or knows no such entity is refused, said and counted: who was live before goes on.
        """
        section = self.configuration.model_for(entity, source)
        if section is None:
            return
        try:
            path = self._taken_in(section.folder)
            if path is None:  # refused before
                self.store.count({("models_refused", entity): 1})
                return
            detector = self.detector(path)
            digest = entity_in(detector, section, entity).version
        except ImDiffusionError as error:
            log.error("the model %s for %s is refused: %s", section.folder, entity, error)
            self.store.count({("models_refused", entity): 1})
            return
        last = next((one for one, why in reader.promotions(entity) if why == NAMED), None)
        if last == digest:
            return
        now = time.time_ns()
        kept = str(path.relative_to(self.places.folder))
        self.store.add_model(entity, digest, detector=str(detector.preset), path=kept, now=now)
        self.store.promote(entity, digest, reason=NAMED, now=now)
        log.info("the model %s of %s is live: %s", digest, entity, NAMED)

    def _taken_in(self, folder: str) -> Path | None:
        """The copy of a folder, made where there is none yet; None if it was refused before."""
        if folder not in self._paths:
            self._paths[folder] = None
            self._paths[folder] = copied(Path(folder), self.places.given)
        return self._paths[folder]

    def prune(self, reader: Reader) -> None:
        """Take away copies that no entity has as one of its newest models, or as the live one."""
        kept = {path.name for path in self._paths.values() if path is not None}
        count: dict[str, int] = {}
        for one in reader.models():  # the newest of each entity first
            count[one.entity] = count.get(one.entity, 0) + 1
            if one.live or count[one.entity] <= self.configuration.fit.keep:
                kept.add(Path(one.path).name)
        for path in self.places.given.iterdir() if self.places.given.is_dir() else ():
            if path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)


def copied(folder: Path, place: Path, *, name: str = "") -> Path:
    """A copy of a model folder under `place`, once. ModelError: it is not whole.

    name: of the copy; empty = by its contents. OutputError where it cannot be written.
    """
    from imdiffusion.checkpoint import CONFIG, MANIFEST, WEIGHTS, read_model

    read_model(folder)
    # The manifest holds the sha256 of all else.
    path = place / (name or hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()[:16])
    if path.is_dir():
        read_model(path)
        return path
    place.mkdir(parents=True, exist_ok=True)
    with atomic_folder(path) as draft:
        for file in (CONFIG, MANIFEST, WEIGHTS):
            shutil.copyfile(folder / file, draft / file)
        read_model(draft)  # it may have been written again in between
    return path


def entity_in(detector: ImDiffusion, section: ModelSection, entity: str) -> Entity:
    """The fitted entity that a section means for a live one; ModelError where there is none."""
    return detector.entity(_chosen(section, detector.entities_, entity))


def _chosen(section: ModelSection, known: Collection[str | None], entity: str) -> str | None:
    """The name in a folder that a section means for a live entity; ModelError: there is none."""
    wanted = section.of or entity
    if wanted in known:
        return wanted
    if len(known) == 1 and not section.of:
        return next(iter(known))
    shown = ", ".join(str(name) for name in list(known)[:8])
    raise ModelError(
        f"{section.folder} has no entity {wanted!r}",
        remedy=f'It has: {shown}. Say which one is meant: of = "...".',
    )


def known_channels(section: ModelSection) -> dict[str | None, tuple[str, ...]]:
    """The channels of every entity in a folder, which is read whole. ModelError: it is torn."""
    from imdiffusion import ImDiffusion
    from imdiffusion.online import need_online

    detector = ImDiffusion.load(section.folder, device="cpu")
    entities = {name: detector.entity(name) for name in detector.entities_}
    known = {name: entity.channels for name, entity in entities.items()}
    if section.of and section.of not in known:
        _chosen(section, known, section.of)
    for entity in entities.values():
        need_online(entity)
    return known


def fit_of(
    section: ModelSection,
    known: Mapping[str | None, tuple[str, ...]],
    entity: str,
    channels: Sequence[str],
) -> tuple[bool, str]:
    """Whether rows of these channels fit the model that is to score them, and in words."""
    try:
        own = known[_chosen(section, known, entity)]
    except ModelError as error:
        return False, str(error)
    there = [name for name in own if name in set(channels)]
    missing = [name for name in own if name not in set(channels)]
    new = [name for name in channels if name not in set(own)]
    told = f"{entity} has {len(there)} of its {len(own)} channels"
    told += f", not {', '.join(missing)}" if missing else ""
    told += f", and others: {', '.join(new)}" if new else ""
    return bool(there), told


# -- fitted models that come with an entity from another process of its group
#
# What comes is a copy in the own state folder: the other process, where it lives, takes its models
# away as newer ones come. One that is torn, or gone by then, is refused, and the baseline goes on.

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


# -- fitted models by their folder: in memory once, however many entities one of them scores


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
