"""What has become true since the last checkpoint, gathered until the next."""

from __future__ import annotations

from collections import Counter
from collections.abc import ItemsView, Iterator, Mapping, Sequence
from dataclasses import replace

from imdiffusion.live.engine.entity_state import EntityState
from imdiffusion.live.store.checkpoint import Checkpoint, Told
from imdiffusion.records import EventRecord
from imdiffusion.saved_state import State


class States(Mapping[tuple[str, str], State]):
    """The states of entities by (entity, part), each made as it is come to.

    Those of hundreds of entities at once would be as large as all that these hold.
    """

    def __init__(self, watched: Sequence[EntityState]) -> None:
        self.watched = {one.name: one for one in watched}

    def __getitem__(self, key: tuple[str, str]) -> State:
        return self.watched[key[0]].to_states()[key]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return (key for key, _ in self.items())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def items(self) -> ItemsView[tuple[str, str], State]:
        """Every state with its key, an entity after the other."""
        return _Each(self)


class _Each(ItemsView[tuple[str, str], State]):
    def __init__(self, states: States) -> None:
        super().__init__(states)
        self._watched = states.watched

    def __iter__(self) -> Iterator[tuple[tuple[str, str], State]]:
        for one in self._watched.values():
            yield from one.to_states().items()


class CheckpointBuilder:
    """Scores, updates, offsets and counts that wait; true when there is anything to write."""

    def __init__(self) -> None:
        self.offsets: dict[str, str] = {}
        self._told: list[Told] = []
        self._updates: list[EventRecord] = []
        self._entities: set[str] = set()
        self._forgotten: set[str] = set()
        self._counts: Counter[tuple[str, str]] = Counter()

    @property
    def rows(self) -> int:
        """Scores that wait."""
        return len(self._told)

    def __bool__(self) -> bool:
        facts = (
            self.offsets, self._told, self._updates, self._entities, self._forgotten, self._counts,
        )  # fmt: skip
        return any(facts)

    def add(self, told: Sequence[Told], updates: Sequence[EventRecord], *, details: bool) -> None:
        """Scores and updates of one entity; details: keep the values behind the scores."""
        self._told += told if details else [replace(one, cells=None) for one in told]
        self._updates += updates

    def changed(self, entity: str) -> None:
        """The states of an entity are to be written."""
        self._entities.add(entity)

    def forget(self, entity: str) -> None:
        """The states of an entity are to be dropped; `changed` after it begins them afresh."""
        self._entities.discard(entity)
        self._forgotten.add(entity)
        self.count("entities_forgotten", "", 1)

    def count(self, name: str, label: str, added: int) -> None:
        """Add to a counter; nothing is not noted."""
        if added:
            self._counts[name, label] += added

    def checkpoint(self, watched: Mapping[str, EntityState]) -> Checkpoint:
        """All of it, with the states of the entities as they are now."""
        own = [watched[name] for name in sorted(self._entities)]
        return Checkpoint(
            told=self._told,
            updates=self._updates,
            standing={one.name: one.standing() for one in own},
            forgotten=sorted(self._forgotten),
            states=States(own),
            offsets=self.offsets,
            counts=self._counts,
        )
