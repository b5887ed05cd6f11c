"""What a frame must be before it is scored: its channels and times against those of an entity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imdiffusion.data.frame import Frame
from imdiffusion.errors import DataError

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

    def rechannel(self, channels: Sequence[str]) -> None:
        """From now on put frames in the order of these; what was counted stays."""
        self.channels = tuple(channels)

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


def checked_times(frame: Frame, channels: Sequence[str], last: int | None) -> NDArray[np.int64]:
    """Timestamps of a frame (n,), nanoseconds since the epoch.

    last: the time of the row before. Raises DataError for a channel that is none of `channels`, and
    for rows without timestamps or not each after the one before.
    """
    extra = [name for name in frame.channels if name not in set(channels)]
    if extra:
        raise DataError(
            f"a row has channels the model does not know: {', '.join(map(repr, extra[:8]))}",
            remedy="Put a RowBuffer before the scorer: it leaves them out and counts them.",
        )
    if frame.timestamps is None:
        raise DataError("live rows need timestamps", remedy="Give a frame that has them.")
    times: NDArray[np.int64] = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
    chain = times if last is None else np.concatenate([[last], times])
    if (np.diff(chain) <= 0).any():
        raise DataError(
            "a row is not after the one before it",
            remedy="Put a RowBuffer before the scorer: it puts rows in order.",
        )
    return times
