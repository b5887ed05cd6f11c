"""How far a live score can be trusted: what share of what it reads was there.

warming    fewer rows than the detector needs have come since the stream started
degraded   of the cells in the rows a detector reads (those up to a row, a window at most), more
           than a tenth was not observed, or a channel was not observed at all
ready      else

Only channels that the detector was fitted on count.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion.records import STATES

WARMING, READY, DEGRADED, _ = STATES
MISSING_SHARE = 0.1

Bools = NDArray[np.bool_]


def degraded(before: Bools, rows: Bools, *, known: Bools, window: int) -> Bools:
    """Whether each of the rows (n, K) is degraded: bool (n,).

    before (m, K): the observed cells of the rows before them. known (K,): channels that count.
    """
    observed = np.concatenate([before, rows])[:, known]
    total = np.concatenate([np.zeros((1, observed.shape[1]), np.int64), observed.cumsum(axis=0)])
    last = np.arange(len(before), len(observed)) + 1
    first = np.maximum(0, last - window)
    seen = total[last] - total[first]
    cells = (last - first) * observed.shape[1]
    found: Bools = (seen == 0).any(axis=1) | (cells - seen.sum(axis=1) > MISSING_SHARE * cells)
    return found
