"""Which channels an anomaly is about: the share that each has in it, their order, which lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from imdiffusion.arrays import Floats, Reals
from imdiffusion.scoring.finding import LEADING, Finding, sentence


class Causes(NamedTuple):
    """All K channels of an event, the most responsible first.

    shares (K,) sum to 1; expected and seen (K,): values at its peak in the caller's units; kinds
    (K,): what a check found, "" = nothing; reason: all of it in one sentence.
    """

    channels: tuple[str, ...]
    shares: tuple[float, ...]
    expected: tuple[float, ...]
    seen: tuple[float, ...]
    kinds: tuple[str, ...]
    reason: str


def by_share(parts: Reals) -> tuple[list[int], Floats]:
    """Positions of channels by their parts (K,) of an error, largest first, and the shares (K,).

    Shares sum to 1; they are equal where no channel has a part.

    >>> by_share(np.array([1.0, 3.0, np.nan]))
    ([1, 0, 2], array([0.25, 0.75, 0.  ]))
    """
    known = np.nan_to_num(np.asarray(parts, np.float64))
    total = float(known.sum())
    shares = known / total if total > 0 else np.full(len(known), 1.0 / max(1, len(known)))
    return np.argsort(-shares, kind="stable").tolist(), shares


def leading(parts: Reals) -> frozenset[int]:
    """Positions of the fewest channels that hold half of the error; none where there is none."""
    if not np.nan_to_num(np.asarray(parts, np.float64)).sum() > 0:
        return frozenset()
    order, shares = by_share(parts)
    held = np.cumsum(shares[order])
    return frozenset(order[: int(np.searchsorted(held, LEADING - 1e-9)) + 1])


def causes_of(
    parts: Reals,
    expected: Reals,
    seen: Reals,
    channels: Sequence[str],
    found: Mapping[int, Finding],
) -> Causes:
    """The causes of an event of which each channel has this part (K,); found: by channel."""
    order, share = by_share(parts)
    names, shares = tuple(channels[k] for k in order), tuple(share[order].tolist())
    cells = [tuple(np.asarray(one, np.float64)[order].tolist()) for one in (expected, seen)]
    kinds = tuple(found[k].kind if k in found else "" for k in order)
    told = {channels[k]: one for k, one in found.items()}
    reason = sentence(names, shares, told, cells[1], cells[0])
    return Causes(names, shares, cells[0], cells[1], kinds, reason)
