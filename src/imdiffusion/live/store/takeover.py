"""What other processes of a group have left of an entity that comes to this one."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.errors import OutputError
from imdiffusion.live.store.checkpoint import ModelVersion
from imdiffusion.live.store.database import connect, storage
from imdiffusion.live.store.queries import Reader

log = logging.getLogger(__name__)

LIVE = "live.db"


@dataclass(frozen=True, slots=True)
class PeerState:
    """The states of an entity by part, as another process wrote them last.

    recorded: ns, UTC, of when. folder: of the live state they are from.
    """

    states: dict[str, bytes]
    recorded: int
    folder: Path


class PeerStates:
    """The live states in the folders beside this process's own.

    folder: its subfolders are state folders, each of one process of the group. own: the one of
    this process. They are read only, while their owners write or when they are dead.

    taken: whose states were taken over, by entity, until its model was handled.
    """

    def __init__(self, folder: Path, *, own: Path) -> None:
        self.folder, self.own = folder, own.resolve()
        self.taken: dict[str, Path] = {}

    def _others(self) -> list[Path]:
        """The live states of the others."""
        return [
            path
            for path in sorted(self.folder.glob(f"*/{LIVE}"))
            if path.parent.resolve() != self.own
        ]

    def of(self, entity: str) -> PeerState | None:
        """What was written of the entity last, by whichever other process; None if nothing was.

        A live state that cannot be read is logged and skipped.
        """
        found = [left for path in self._others() if (left := _left(path, entity)) is not None]
        return max(found, key=lambda one: one.recorded, default=None)

    def model(self, entity: str, digest: str) -> tuple[ModelVersion, Path] | None:
        """A fitted model of an entity as another process has noted it, and that one's folder: of
        the one whose state was taken, if it has it; None if none has.
        """
        first = self.taken.get(entity)
        for path in sorted(self._others(), key=lambda one: one.parent != first):
            try:
                with Reader(path) as reader:
                    noted = next((m for m in reader.models(entity) if m.digest == digest), None)
            except OutputError as error:
                log.warning("what %s knows of models cannot be read: %s", path.parent, error)
                continue
            if noted is not None:
                return noted, path.parent
        return None


def _left(path: Path, entity: str) -> PeerState | None:
    try:
        with storage(path), closing(connect(path, writes=False)) as connection:
            rows = connection.execute(
                "SELECT part, state, recorded FROM states WHERE entity = ?", (entity,)
            ).fetchall()
    except OutputError as error:
        log.warning("the state that %s has of %s cannot be read: %s", path.parent, entity, error)
        return None
    if not rows:
        return None
    states = {str(part): bytes(state) for part, state, _ in rows}
    return PeerState(states, max(int(recorded) for *_, recorded in rows), path.parent)
