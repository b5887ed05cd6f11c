"""Data sets: public ones by name, or a folder of one's own in the same layout.

A data set has `name`, `entities() -> list[str]` and `load(entity) -> Split`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from imdiffusion.errors import ConfigError, DataError
from imdiffusion.registry import nearest
from imdiffusion_bench.datasets.checksums import check, listed
from imdiffusion_bench.datasets.fetch import fetch
from imdiffusion_bench.datasets.folder import FolderDataSet, available
from imdiffusion_bench.datasets.joined import SUFFIX, Joined
from imdiffusion_bench.datasets.known import DATASETS, Known
from imdiffusion_bench.datasets.official import OFFICIAL, import_official
from imdiffusion_bench.split import Split

__all__ = [
    "DATASETS",
    "OFFICIAL",
    "DataSet",
    "FolderDataSet",
    "Joined",
    "Known",
    "available",
    "check",
    "fetch",
    "import_official",
    "listed",
    "open_dataset",
]


class DataSet(Protocol):
    """What the benchmark needs of a data set."""

    name: str

    def entities(self) -> list[str]:
        """The names of its entities, in order."""
        ...

    def load(self, entity: str) -> Split:
        """Both parts of an entity, its truth unread."""
        ...


def open_dataset(name: str, root: Path, *, concatenated: bool = False) -> DataSet:
    """The data set `name` in `root`; "SMAP-concatenated" or `concatenated` give the joined form.

    Raises ConfigError with the nearest names for one that is neither known nor in `root`;
    DataError for a known one that is not there, and where there is no folder `root`.
    """
    plain = name.removesuffix(SUFFIX)
    there = available(Path(root))
    if plain not in there:
        if plain not in DATASETS:
            raise ConfigError(
                f"unknown data set {plain!r}", remedy=nearest(plain, {*DATASETS, *there})
            )
        how = "copy" if plain not in OFFICIAL else "import"
        how = "fetch" if DATASETS[plain].public else how
        raise DataError(
            f"the data set {plain} is not in {root}",
            remedy=f"{how.capitalize()} it; its home: {DATASETS[plain].home}.",
        )
    dataset = FolderDataSet(Path(root), plain)
    return Joined(dataset) if concatenated or plain != name else dataset
