"""The normal part of a generated series: season, shared latents, each channel's own course, noise.

A random number depends on a seed and its purpose, never on what was drawn before, and rows
are drawn in the order of time: a dial of the anomalies changes no normal value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion_bench.generator.config import Dials

Floats = NDArray[np.float64]

_PURPOSES = (
    "season",
    "loadings",
    "periods",
    "latents",
    "own",
    "noise",
    "drift",
    "missing",
    "copies",
    "train events",
    "test events",
    "train signs",
    "test signs",
)
_FORGOTTEN = 1e-6  # what is left of the start after the rows that are thrown away


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one purpose; streams of different purposes do not touch each other."""
    return np.random.default_rng([seed, _PURPOSES.index(purpose)])


@dataclass(slots=True)
class Parts:
    """What a series is made of, each (T, K); anomalies change parts before they are joined.

    season, shared, own    unit variance
    gain, added            1 and 0 where nothing is wrong
    noise, drift           on top, untouched by anomalies
    """

    season: Floats
    shared: Floats
    own: Floats
    gain: Floats
    added: Floats
    noise: Floats
    drift: Floats

    def joined(self, dials: Dials) -> Floats:
        """The series (T, K), before values go missing."""
        a = math.sqrt(dials.seasonality)
        b = math.sqrt((1 - dials.seasonality) * dials.coupling)
        c = math.sqrt((1 - dials.seasonality) * (1 - dials.coupling))
        signal = a * self.season + b * self.shared + c * self.own
        return np.asarray(self.gain * signal + self.added + self.noise + self.drift)


def normal_parts(dials: Dials, seed: int) -> Parts:
    """The parts of rows_train + rows_test rows in which nothing is wrong."""
    rows, channels = dials.rows_train + dials.rows_test, dials.channels
    season = Season(dials, seed)
    ties = Ties(dials, seed)
    time = np.arange(rows)
    late = np.clip((time - dials.rows_train + 1) / dials.rows_test, 0.0, 1.0)
    direction = stream(seed, "drift").choice([-1.0, 1.0], size=channels)
    return Parts(
        season=np.stack([season.channel(time, k) for k in range(channels)], axis=1),
        shared=ties.shared(seed, rows),
        own=memory(stream(seed, "own"), rows, _laws(dials, seed, ties.width, channels)),
        gain=np.ones((rows, channels)),
        added=np.zeros((rows, channels)),
        noise=dials.noise * stream(seed, "noise").standard_normal((rows, channels)),
        drift=dials.drift * late[:, None] * direction,
    )


class Season:
    """A sine of the period with half as strong a second harmonic; each channel at its own phase."""

    def __init__(self, dials: Dials, seed: int) -> None:
        self.period = dials.period
        self.phase = stream(seed, "season").uniform(0, 2 * np.pi, size=(dials.channels, 2))

    def channel(self, time: NDArray[np.generic], k: int) -> Floats:
        """The season of channel k at these times (rows, also fractions): unit variance."""
        angle = 2 * np.pi * np.asarray(time, np.float64) / self.period
        first, second = self.phase[k]
        # two sines of amplitudes 1 and .5 have the variance (1 + .25) / 2
        return np.asarray((np.sin(angle + first) + 0.5 * np.sin(2 * angle + second)) / 0.625**0.5)


class Ties:
    """How latents reach channels: shared (T, K) of unit variance, each value N(0, 1).

    linear     a few factors with random loadings of unit length
    nonlinear  groups of 3 to 5 channels. Behind a group are two independent Gaussian latents, the
               first two channels; with their radius r and angle a these are r cos a, r sin a, and
               the others r sin 2a, r cos 2a, r sin 3a. Each is N(0, 1), for any multiple of a
               uniform angle is uniform. No two correlate, for sines and cosines of different
               multiples are orthogonal; yet the first two determine the others.
    """

    def __init__(self, dials: Dials, seed: int) -> None:
        self.dials = dials
        groups = max(1, dials.channels // 3)
        if dials.coupling_kind == "linear":
            self.width = groups
            loadings = stream(seed, "loadings").standard_normal((dials.channels, groups))
            self.loadings = loadings / np.linalg.norm(loadings, axis=1, keepdims=True)
        else:
            self.width = 2 * groups
            self.group = np.arange(dials.channels) * groups // dials.channels
            first = np.searchsorted(self.group, self.group)
            self.place = np.arange(dials.channels) - first
        self.laws = _laws(dials, seed, 0, self.width)

    def sources(self, k: int) -> NDArray[np.int64]:
        """The latents behind channel k, as positions."""
        if self.dials.coupling_kind == "linear":
            return np.arange(self.width)
        return 2 * int(self.group[k]) + np.arange(2)

    def channel(self, sources: Floats, k: int) -> Floats:
        """Channel k (T,) from its latents (T, len(sources(k)))."""
        if self.dials.coupling_kind == "linear":
            return np.asarray(sources @ self.loadings[k])
        radius = np.hypot(sources[:, 0], sources[:, 1])
        angle = np.arctan2(sources[:, 1], sources[:, 0])
        multiple, second = divmod(int(self.place[k]), 2)
        wave = np.sin if (multiple == 0) == (second == 1) else np.cos
        return np.asarray(radius * wave((multiple + 1) * angle))

    def latents(self, seed: int, rows: int) -> Floats:
        """The latents (T, width) of the series."""
        return memory(stream(seed, "latents"), rows, self.laws)

    def shared(self, seed: int, rows: int) -> Floats:
        """The shared part of all channels (T, K)."""
        latents = self.latents(seed, rows)
        channels = range(self.dials.channels)
        return np.stack([self.channel(latents[:, self.sources(k)], k) for k in channels], axis=1)

    def copies(self, seed: int, rows: int) -> list[Floats]:
        """For each channel latents of its own with the law of those behind it, (T, sources)."""
        sources = [self.sources(k) for k in range(self.dials.channels)]
        drawn = memory(stream(seed, "copies"), rows, self.laws[np.concatenate(sources)])
        return np.split(drawn, np.cumsum([len(one) for one in sources])[:-1], axis=1)


def memory(generator: np.random.Generator, rows: int, laws: Floats) -> Floats:
    """Gaussian series (T, N) of unit variance: x_t = a1 x_(t-1) + a2 x_(t-2) + white noise.

    laws: (N, 2) of a1, a2. The noise has the variance that makes the stationary variance 1 (Box,
    Jenkins, Reinsel: Time Series Analysis, AR(2)); the first rows, which remember the start, are
    thrown away.
    """
    a1, a2 = laws.T
    spread = np.sqrt((1 + a2) * ((1 - a2) ** 2 - a1**2) / (1 - a2))
    pole = float(np.max(np.where(a2 == 0, np.abs(a1), np.sqrt(np.abs(a2))), initial=0.0))
    before = math.ceil(math.log(_FORGOTTEN) / math.log(pole)) if pole > _FORGOTTEN else 0
    x = generator.standard_normal((before + rows, len(laws))) * spread
    for t in range(1, len(x)):
        x[t] += a1 * x[t - 1]
        if t > 1:
            x[t] += a2 * x[t - 2]
    return np.asarray(x[before:])


def _laws(dials: Dials, seed: int, first: int, count: int) -> Floats:
    """The laws (count, 2) of series first, first + 1, ... in the order latents, own courses."""
    if dials.temporal_kind == "ar":
        return np.tile([dials.temporal, 0.0], (count, 1))
    periods = stream(seed, "periods").uniform(10, 40, size=first + count)[first:]
    return np.stack(
        [
            2 * dials.temporal * np.cos(2 * np.pi / periods),
            np.full(count, -(dials.temporal**2)),
        ],
        axis=1,
    )
