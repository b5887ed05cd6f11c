"""What a source has said, read back as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from imdiffusion.live.connection.protocols import Batch, Source

Cells = dict[tuple[str, int, str], float]


def cells(batches: Iterable[Batch]) -> Cells:
    """(entity, timestamp ns, channel) -> value; NaN is left out, a second telling is an error."""
    found: Cells = {}
    for batch in batches:
        for frame in batch.frames:
            assert frame.timestamps is not None
            for row, instant in enumerate(frame.timestamps.astype(int).tolist()):
                for k, channel in enumerate(frame.channels):
                    value = float(frame.values[row, k])
                    assert math.isnan(value) != frame.observed[row, k]
                    if not math.isnan(value):
                        key = (str(frame.entity), instant, channel)
                        assert key not in found, f"{key} was told twice"
                        found[key] = value
    return found


def rejected(batches: Iterable[Batch]) -> list[str]:
    return [said for batch in batches for said in batch.rejected]


def drain(source: Source, *, until: Callable[[list[Batch]], bool] | None = None) -> list[Batch]:
    """Read until nothing comes, or until the batches so far are enough."""
    batches: list[Batch] = []
    while until is None or not until(batches):
        batch = source.read(0.0 if until is None else 30.0)
        if batch is None:
            assert until is None, f"nothing more came after {len(batches)} batches"
            break
        batches.append(batch)
    return batches
