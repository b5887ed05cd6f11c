"""Where live detection keeps things: one folder, and a name in it for every entity.

STATE/live.db            the live state
STATE/models/NAME/DIGEST/  models that were fitted in the background
STATE/models/given/DIGEST/ models that the configuration names, as they were when it was read
STATE/fits/NAME/         the fit of an entity that is under way: job.json, rows, resume/, log.txt
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path


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
