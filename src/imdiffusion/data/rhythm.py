"""The rhythm of training rows: after how many rows they repeat themselves; spans of time in words.

A channel repeats itself every P rows where its autocorrelation r has a peak there and at two and
three times P, with a trough between, all of them clear:

    r(P), r(2P), r(3P) >= CLEAR,   r(P / 2) <= r(P) - CLEAR,   r(3P / 2) <= r(2P) - CLEAR

A slow course without a rhythm has a high r and no such peaks. No labels and no timestamps are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imdiffusion.arrays import Flags, Floats, Reals

CLEAR = 0.3  # of an autocorrelation: a rhythm that tells less of a channel is passed over
LEAST_ROWS = 1_000  # fewer rows are too few to tell a rhythm from a slow course
LEAST_CYCLES = 6
MOST_ROWS = 200_000  # the last of the rows say it
SHORTEST = 4  # rows
ALIKE = 0.1  # channels whose peaks are no farther apart than so large a share have one rhythm


@dataclass(frozen=True, slots=True)
class Rhythm:
    """Rows after which training repeats itself, and how many channels do."""

    rows: int
    channels: int


def rhythm_of(values: Reals, observed: Flags) -> Rhythm | None:
    """The rhythm that most channels of rows (T, K) have; None where no channel has a clear one.

    Of less than `LEAST_ROWS` rows, or `LEAST_CYCLES` cycles, nothing is said.

    Examples
    --------
    >>> day = np.sin(2 * np.pi * np.arange(4_000) / 288)[:, None]
    >>> rhythm_of(day, np.ones(day.shape, bool))
    Rhythm(rows=288, channels=1)
    """
    values, observed = values[-MOST_ROWS:], observed[-MOST_ROWS:]
    if len(values) < LEAST_ROWS:
        return None
    found = [
        period
        for column, seen in zip(values.T, observed.T, strict=True)
        if (period := _period(column, seen)) is not None
    ]
    if not found:
        return None
    periods = np.array(found)
    near = np.abs(periods[:, None] / periods - 1.0) <= ALIKE
    most = int(near.sum(axis=1).argmax())
    return Rhythm(int(np.median(periods[near[most]])), int(near[most].sum()))


def _period(column: Reals, seen: Flags) -> int | None:
    if seen.mean() < 0.5:
        return None
    centred = np.where(seen, column - np.median(column[seen]), 0.0).astype(np.float64)
    centred -= centred.mean()
    r = _autocorrelation(centred, len(centred) // LEAST_CYCLES * 3)
    if r is None:
        return None
    last = len(r) // 3
    trough = np.minimum.accumulate(r)
    clear = np.flatnonzero((r[:last] >= CLEAR) & (r[:last] - trough[:last] >= CLEAR))
    clear = clear[clear >= SHORTEST]
    # The first stretch of lags that are clear holds the peak: the others are its multiples.
    while len(clear):
        stop = np.flatnonzero(np.diff(clear) > 1)
        stretch = clear[: stop[0] + 1] if len(stop) else clear
        peak = int(stretch[r[stretch].argmax()])
        if peak < last - 1 and _repeats(r, peak):
            return peak
        clear = clear[len(stretch) :]
    return None


def _repeats(r: Reals, peak: int) -> bool:
    side = max(1, peak // 10)

    def near(lag: int) -> Reals:
        return r[lag - side : lag + side + 1]

    twice, thrice = near(2 * peak).max(initial=-1.0), near(3 * peak - side).max(initial=-1.0)
    between, after = near(peak // 2).min(), near(3 * peak // 2).min()
    return bool(
        min(twice, thrice) >= CLEAR and r[peak] - between >= CLEAR and twice - after >= CLEAR
    )


def _autocorrelation(centred: Floats, lags: int) -> Floats | None:
    """Of values (T,) whose mean is 0, at lags 0 to lags - 1; None of a constant."""
    size = 1 << (2 * len(centred) - 1).bit_length()
    power = np.fft.irfft(np.square(np.abs(np.fft.rfft(centred, size))), size)[:lags]
    if power[0] <= 0.0:
        return None
    # A sum over fewer rows is not a smaller correlation.
    return np.asarray(power / power[0] * (len(centred) / (len(centred) - np.arange(lags))))


def in_words(seconds: float) -> str:
    """A span of time as a person says it.

    >>> in_words(5400), in_words(360_000)
    ('90 min', '4.17 d')
    """
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
