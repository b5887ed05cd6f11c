"""Values that dwarf all others of their channel: sentinels such as -9999, a wrong unit, a glitch.

One of them in thousands of rows moves mean, spread and covariance so far that nothing else is seen
any more. They are left out of a fit, and it is said which they were.
"""

from __future__ import annotations

import warnings

import numpy as np

from imdiffusion.arrays import Flags, Reals
from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataWarning

MOST = 0.005  # share of a channel's values that may be absurd; more of them are its habit
LEAST = 1  # value at least, however few there are
DWARFS = 20.0  # times as far from the median as the farthest of the others
SHOWN = 3


def absurd_values(values: Reals, observed: Flags) -> Flags:
    """Which values (T, K) lie `DWARFS` times as far from their channel's median as all others.

    Of a channel whose other values are all alike none is: that it moves at all may be its event.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.sin(np.arange(300.0))[:, None]
    >>> x[100] = -9999.0
    >>> np.argwhere(absurd_values(x, np.ones(x.shape, bool))).tolist()
    [[100, 0]]
    """
    found = np.zeros(observed.shape, bool)
    for channel in range(observed.shape[1]):
        rows = np.flatnonzero(observed[:, channel])
        if len(rows) < 3:
            continue
        column = values[rows, channel].astype(np.float64)
        far = np.abs(column - np.median(column))
        most = min(max(LEAST, int(MOST * len(rows))), len(rows) - 2)
        # The farthest few, nearest first, and before them the farthest of the others.
        order = np.argpartition(far, len(rows) - most - 1)[len(rows) - most - 1 :]
        order = order[np.argsort(far[order], kind="stable")]
        apart = far[order[1:]] > DWARFS * far[order[:-1]]
        apart &= far[order[:-1]] > 0
        if apart.any():
            found[rows[order[1 + int(np.argmax(apart)) :]], channel] = True
    return found


def note_absurd(frame: Frame, absurd: Flags) -> None:
    """Say with a DataWarning which values of a frame were left out of the fit."""
    places = np.argwhere(absurd)
    named = [
        f"{float(frame.values[row, channel]):g} of {frame.channels[channel]!r} in row {row}"
        for row, channel in places[:SHOWN]
    ]
    more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
    where = f" of entity {frame.entity!r}" if frame.entity else ""
    warnings.warn(
        f"{len(places)} values of the training data{where} far exceed all others of their "
        f"channel and are left out: {', '.join(named)}{more}",
        DataWarning,
        stacklevel=4,
    )
