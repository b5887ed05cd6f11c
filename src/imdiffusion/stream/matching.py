"""The cells of a frame, put in the order of an entity's channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame

NAMES = 100  # names of unknown channels that are counted apart


class ChannelMatch:
    """Puts frames in the order of `channels`; cells that have no place there are counted.

    unknown: cells by name, of the first names that came. not_finite, unknown_channel: cells in
    all.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self.channels = tuple(channels)
        self.unknown: Counter[str] = Counter()
        self.not_finite = self.unknown_channel = 0

    def values(self, frame: Frame) -> NDArray[np.float64]:
        """Values (n, K) of the channels, NaN where not observed or not finite."""
        given = np.asarray(frame.values, np.float64)
        self.not_finite += int((frame.observed & np.isinf(given)).sum())
        seen = np.where(frame.observed & np.isfinite(given), given, np.nan)
        if frame.channels == self.channels:
            return seen
        place = {name: k for k, name in enumerate(self.channels)}
        values = np.full((len(seen), len(self.channels)), np.nan)
        for k, name in enumerate(frame.channels):
            if name in place:
                values[:, place[name]] = seen[:, k]
                continue
            cells = int(frame.observed[:, k].sum())
            self.unknown_channel += cells
            if name in self.unknown or len(self.unknown) < NAMES:
                self.unknown[name] += cells
        return values
