"""Models that the configuration names: taken into the state folder, and made live.

A folder is read and copied when its first entity has rows, and the copy is used. Whatever happens
to the folder afterwards, or if it is damaged at the next start, the last valid copy stays in use.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdiffusion.data.atomic import atomic_folder
from imdiffusion.errors import ImDiffusionError, ModelError
from imdiffusion.live.config.configuration import Configuration
from imdiffusion.live.config.schema import ModelSection
from imdiffusion.live.models.paths import Places
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader

if TYPE_CHECKING:
    from imdiffusion.detector import ImDiffusion
    from imdiffusion.entity import Entity

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
