"""Data sets by name: public ones, a folder of one's own in their layout, generated ones.

A data set has `name`, `entities() -> list[str]` and `load(entity) -> Split`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from imdiffusion.errors import DataError
from imdiffusion.schema import one_of
from imdiffusion_bench.datasets.fetch import fetch
from imdiffusion_bench.datasets.folder import SUFFIX as CONCATENATED
from imdiffusion_bench.datasets.folder import FolderDataSet, Joined, available
from imdiffusion_bench.datasets.known import DATASETS, Known, check, listed
from imdiffusion_bench.datasets.official import OFFICIAL, import_official
from imdiffusion_bench.datasets.tsb_ad import NAME as TSB_AD_M
from imdiffusion_bench.datasets.tsb_ad import TsbAdM
from imdiffusion_bench.generator import open_generated
from imdiffusion_bench.split import Split

__all__ = [
    "CONCATENATED",
    "DATASETS",
    "GENERATED",
    "OFFICIAL",
    "TSB_AD_M",
    "DataSet",
    "FolderDataSet",
    "Joined",
    "Known",
    "available",
    "check",
    "fetch",
    "import_official",
    "listed",
    "needs_folder",
    "open_dataset",
    "open_source",
]
GENERATED = "generated"


class DataSet(Protocol):
    """A data set: entities by name, loaded one at a time."""

    @property
    def name(self) -> str:
        """As `open_source` takes it."""

    def entities(self) -> list[str]:
        """The names of its entities, in order."""

    def load(self, entity: str) -> Split:
        """Both parts of an entity, its truth unread."""


def needs_folder(name: str) -> bool:
    """Whether the data set of this name lies in the folder of the benchmark data."""
    return name.partition(":")[0] != GENERATED


def open_source(name: str, root: Path | None) -> DataSet:
    """The data set of this name.

    "SMD" is a folder under root, "SMAP-concatenated" all its entities as one series,
    "tsb_ad_m" the files of TSB-AD-M, rebuilt from root or read where root is their folder, and
    "generated:coupling=0.8,noise=0.1" comes from the generator. Raises ConfigError, DataError.
    """
    if not needs_folder(name):
        return open_generated(name)
    if root is None:
        raise DataError(
            f"data set {name} needs the folder of the benchmark data",
            remedy="Name it with --data or in IMDIFFUSION_DATA.",
        )
    return TsbAdM(root) if name == TSB_AD_M else open_dataset(name, root)


def open_dataset(name: str, root: Path) -> DataSet:
    """The data set `name` in `root`; "SMAP-concatenated" gives the joined form.

    Raises ConfigError with the nearest names for one that is neither known nor in `root`;
    DataError for a known one that is not there, and where there is no folder `root`.
    """
    plain = name.removesuffix(CONCATENATED)
    there = available(Path(root))
    if plain not in there:
        if plain not in DATASETS:
            one_of("data set", plain, {*DATASETS, *there})
        how = "copy" if plain not in OFFICIAL else "import"
        how = "fetch" if DATASETS[plain].public else how
        raise DataError(
            f"the data set {plain} is not in {root}",
            remedy=f"{how.capitalize()} it; its home: {DATASETS[plain].home}.",
        )
    dataset = FolderDataSet(Path(root), plain)
    return Joined(dataset) if plain != name else dataset
