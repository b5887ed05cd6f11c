"""A data set by name: of a folder, concatenated, or generated."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from imdiffusion.errors import DataError
from imdiffusion_bench.split import Split

CONCATENATED = "-concatenated"
GENERATED = "generated"
TSB_AD_M = "tsb_ad_m"


class Source(Protocol):
    """A data set: entities by name, loaded one at a time."""

    @property
    def name(self) -> str:
        """As `open_source` takes it."""

    def entities(self) -> list[str]:
        """Names in order."""

    def load(self, entity: str) -> Split:
        """One entity."""


def needs_folder(name: str) -> bool:
    """Whether the data set of this name lies in the folder of the benchmark data."""
    return name.partition(":")[0] != GENERATED


def open_source(name: str, root: Path | None) -> Source:
    """The data set of this name.

    "SMD" is a folder under root, "SMAP-concatenated" all its entities as one series,
    "tsb_ad_m" the files of TSB-AD-M, rebuilt from root or read where root is their folder, and
    "generated:coupling=0.8,noise=0.1" comes from the generator. Raises ConfigError, DataError.
    """
    if not needs_folder(name):
        from imdiffusion_bench.generator import open_generated

        return open_generated(name)
    from imdiffusion_bench.datasets import open_dataset

    if root is None:
        raise DataError(
            f"data set {name} needs the folder of the benchmark data",
            remedy="Name it with --data or in IMDIFFUSION_DATA.",
        )
    if name == TSB_AD_M:
        from imdiffusion_bench.datasets.tsb_ad import TsbAdM

        return TsbAdM(root)
    plain = name.removesuffix(CONCATENATED)
    return open_dataset(plain, root, concatenated=plain != name)
