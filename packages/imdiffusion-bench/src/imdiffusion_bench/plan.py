"""What is to be measured: variants of detectors, on entities of data sets, with seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imdiffusion.settings import Scalar
from imdiffusion_bench.sources import CONCATENATED


@dataclass(frozen=True, slots=True)
class Variant:
    """A row of a table: its name there, the detector behind it, and settings over its preset.

    row: a preset ("fast", "paper"), a baseline ("mahalanobis_30") or a peer ("timesead:gdn").
    """

    name: str
    row: str
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Data sets x entities x variants x seeds, under one name.

    entities: for each data set the entities that count; a data set that is absent here: all.
    own: for each data set settings of its own, for variants of row "paper" that do not set them;
    they hold for its concatenated form too.
    """

    name: str
    datasets: tuple[str, ...]
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...] = (0,)
    entities: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)

    def resolved(self, variant: Variant, dataset: str) -> Variant:
        """The variant as this data set has it."""
        own = self.own.get(dataset) or self.own.get(dataset.removesuffix(CONCATENATED))
        if variant.row != "paper" or not own:
            return variant
        return Variant(variant.name, variant.row, {**own, **variant.settings})
