"""What entities bring to a training: their rows, their windows, their held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imdiffusion.data.windows import Rows, starts, window_batches
from imdiffusion.diffusion.imputer import Imputer
from imdiffusion.settings import Settings


@dataclass(frozen=True, slots=True)
class Part:
    """What one entity brings to a training: scaled, compressed rows, and its own imputer."""

    imputer: Imputer
    train: Rows
    held: Rows


def window_starts(
    parts: Sequence[Rows], settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First rows of all training windows that show anything, in the parts' rows one after another.

    And the number of each window's entity in a shared network, from 1.
    """
    found, owners, offset = [], [], 0
    for number, rows in enumerate(parts, start=1):
        first = starts(len(rows), settings.window, settings.train_stride)
        seen = np.concatenate([[0], rows.observed.any(axis=1).cumsum()])
        first = first[seen[first + settings.window] > seen[first]]
        found.append(first + offset)
        owners.append(np.full(len(first), number, np.int64))
        offset += len(rows)
    return np.concatenate(found), np.concatenate(owners)


def squares(part: Part, length: int, device: torch.device) -> tuple[float, int]:
    """Sum of squared imputation errors of a part's held-out rows, last step, and their number."""
    covered = part.imputer.covered()
    total, count = 0.0, 0
    for batch in window_batches([part.held], length=length, stride=length, batch=16):
        x0 = torch.from_numpy(batch.values).to(device)
        observed = torch.from_numpy(batch.observed).to(device)
        keys = torch.from_numpy(batch.keys).to(device)
        estimate = x0
        for _, estimate in part.imputer(x0, observed, keys):  # noqa: B007
            pass
        target = observed & covered
        total += float((estimate - x0)[target].double().square().sum())
        count += int(target.sum())
    return total, count
