"""Dropout that draws quickly: a share of 2**-16 is as fine as it needs to be."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_STEPS = 2**16


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """x with `share` of its entries zero and the others scaled to keep the mean (Srivastava 2014).

    The share is met to 2**-17.
    """
    if not training or share == 0.0:
        return x
    kept = kept_entries(x.shape, share, x.device)
    return x * kept.to(x.dtype).mul_(1.0 / (1.0 - share))


def kept_entries(shape: Sequence[int], share: float, device: torch.device) -> Tensor:
    """Which entries of such a shape dropout leaves, bool: all but `share` of them.

    Four entries come from one 64-bit draw of torch's generator: a third of the time of a training
    step on CPU went into one Bernoulli draw an entry.
    """
    entries = math.prod(shape)
    draws = torch.empty((entries + 3) // 4, dtype=torch.int64, device=device)
    parts = draws.random_(-(2**63), None).view(torch.int16)[:entries].view(shape)
    return parts >= round(share * _STEPS) - _STEPS // 2
