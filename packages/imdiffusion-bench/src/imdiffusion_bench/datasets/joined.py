"""A data set of many entities as one series: its parts one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame, concat
from imdiffusion.errors import DataError
from imdiffusion.registry import nearest
from imdiffusion_bench.datasets.folder import FolderDataSet
from imdiffusion_bench.split import Cause, Split, Truth, check_label, check_label_values

SUFFIX = "-concatenated"
ALL = "all"


class Joined:
    """The usual single-series form: entities concatenated in the order of the index, as "all".

    Nothing marks the seams, so a window may reach over one: that is how published results on MSL
    and SMAP came about. Timestamps are dropped, for they start again with every part.
    """

    def __init__(self, dataset: FolderDataSet) -> None:
        self.name = f"{dataset.name}{SUFFIX}"
        self._dataset = dataset

    def entities(self) -> list[str]:
        """One entity, "all"."""
        return [ALL]

    def load(self, entity: str) -> Split:
        """All parts, one after the other; labels are read, and joined, when they are asked for.

        Raises DataError for another entity than "all", where a part cannot be loaded, and where
        parts do not share their channels.
        """
        if entity != ALL:
            raise DataError(
                f"the data set {self.name} has no entity {entity!r}", remedy=nearest(entity, [ALL])
            )
        splits = [self._dataset.load(name) for name in self._dataset.recordings()]
        for split in splits[1:]:
            if split.train.channels != splits[0].train.channels:
                raise DataError(
                    f"{self._dataset.name} cannot be concatenated: {split.entity} has other "
                    f"channels than {splits[0].entity}",
                    remedy="Take its entities one by one.",
                )
        rows = {split.entity: split.test.length for split in splits}
        causes = _all_causes(splits)
        return Split(
            self.name,
            ALL,
            _joined([split.train for split in splits]),
            _joined([split.test for split in splits]),
            Truth(lambda: self._label(rows), causes),
            splits[0].period_s,
        )

    def _label(self, rows: dict[str, int]) -> NDArray[np.bool_]:
        parts = []
        for entity, count in rows.items():
            # Each for itself: lengths that even out would shift every label between.
            where = f"{self._dataset.name} {entity}"
            parts.append(check_label_values(self._dataset.read_label(entity), count, where))
        return check_label(np.concatenate(parts), sum(rows.values()), self.name)


def _joined(frames: Sequence[Frame]) -> Frame:
    bare = [replace(frame, timestamps=None, rows=None, zone=None) for frame in frames]
    return replace(concat(bare), entity=ALL)


def _all_causes(splits: Sequence[Split]) -> Callable[[], list[Cause]] | None:
    """Causes of every part, moved to where the part starts; None if some part has none."""
    readers = [split.truth.causes for split in splits]
    if any(reader is None for reader in readers):
        return None
    starts = [0, *accumulate(split.test.length for split in splits)]

    def read_all() -> list[Cause]:
        return [
            Cause(cause.start + start, cause.end + start, cause.channels)
            for reader, start in zip(readers, starts, strict=False)
            if reader is not None
            for cause in reader()
        ]

    return read_all
