"""A generated series: season, shared latents, each channel's own course, noise; then anomalies.

Every random number hangs on a seed and on what it is for, never on what was drawn before, and rows
are drawn in the order of time: a dial of the anomalies changes no normal value. What each kind of
anomaly does to the parts:

spike           every row jumps up or down by `anomaly_size`; of length 1 it is a single point
level_shift     the level is `anomaly_size` higher or lower
trend           the level leaves and is `anomaly_size` away at the end
variance        the signal swings `anomaly_size` times as far
missing_season  the season stands still at the value it had
frequency       the season runs three times as fast
coupling        the channel follows latents of its own with the law of the shared ones: its
                marginal law and its law in time stay, what ties it to other channels is gone
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.errors import ConfigError
from imdiffusion_bench.generator.config import Dials

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
_FASTER = 3  # times as fast as the season runs under "frequency"
_TURN = 5  # rows in which a channel turns to latents of its own, so that no jump betrays it
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


@dataclass(frozen=True, slots=True)
class Event:
    """Rows start to end (exclusive) of the whole series in which `kind` hits these channels."""

    start: int
    end: int
    kind: str
    channels: tuple[int, ...]


def place_events(
    rows: int, share: float, dials: Dials, generator: np.random.Generator
) -> list[Event]:
    """Events that cover exactly round(share x rows) rows, at least one, and keep a distance.

    They are as near to `anomaly_length` as equal lengths can be; the distance between two, and to
    the ends, is one length or what there is room for. Raises ConfigError where not even one row is
    left between two.
    """
    total = max(1, round(share * rows))
    count = max(1, round(total / dials.anomaly_length))
    lengths = np.full(count, total // count) + (np.arange(count) < total % count)
    free = rows - total
    distance = min(int(lengths[0]), free // (count + 1))
    if distance < 1:
        raise ConfigError(
            f"{count} anomalies of {lengths[0]} rows leave no row between them in {rows} rows",
            remedy="Lower the share, or make them longer.",
        )
    spare = free - distance * (count + 1)
    cuts = np.sort(generator.integers(0, spare, size=count, endpoint=True))
    start = cuts + distance * np.arange(1, count + 1) + np.cumsum(lengths) - lengths
    kinds = dials.kinds()
    hit = min(dials.channels_hit, dials.channels)
    return [
        Event(
            start=int(start[i]),
            end=int(start[i] + lengths[i]),
            kind=kinds[i % len(kinds)],
            channels=tuple(
                sorted(int(k) for k in generator.choice(dials.channels, size=hit, replace=False))
            ),
        )
        for i in range(count)
    ]


def strike(
    parts: Parts, events: list[Event], dials: Dials, seed: int, generator: np.random.Generator
) -> None:
    """Change the parts as the events say. `generator` draws the signs."""
    season = Season(dials, seed)
    broken = _broken_ties(events, dials, seed)
    for event in events:
        time = np.arange(event.start, event.end)
        for k in event.channels:
            cell = (slice(event.start, event.end), k)
            if event.kind == "missing_season":
                parts.season[cell] = season.channel(time[:1], k)
            elif event.kind == "frequency":
                faster = event.start + _FASTER * (time - event.start)
                parts.season[cell] = season.channel(faster, k)
            elif event.kind == "coupling":
                parts.shared[cell] = broken(event, k)
            elif event.kind == "variance":
                parts.gain[cell] = dials.anomaly_size
            else:
                shape = _SHIFTS[event.kind](len(time), generator)
                parts.added[cell] = dials.anomaly_size * shape


def _spike(length: int, generator: np.random.Generator) -> NDArray[np.float64]:
    return generator.choice([-1.0, 1.0], size=length)


def _level_shift(length: int, generator: np.random.Generator) -> NDArray[np.float64]:
    return np.full(length, generator.choice([-1.0, 1.0]))


def _trend(length: int, generator: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(generator.choice([-1.0, 1.0]) * np.arange(1, length + 1) / length)


_SHIFTS: dict[str, Callable[[int, np.random.Generator], NDArray[np.float64]]] = {
    "spike": _spike,
    "level_shift": _level_shift,
    "trend": _trend,
}


def _broken_ties(
    events: list[Event], dials: Dials, seed: int
) -> Callable[[Event, int], NDArray[np.float64]]:
    """A function (event, k) -> the shared part of channel k (rows of the event,), untied.

    At both ends the latents are turned, cos(a) true + sin(a) own, which keeps a Gaussian's law.
    """
    rows = dials.rows_train + dials.rows_test
    ties = Ties(dials, seed)
    used = any(event.kind == "coupling" for event in events)
    latents = ties.latents(seed, rows) if used else np.empty((0, 0))
    copies = ties.copies(seed, rows) if used else []

    def broken(event: Event, k: int) -> NDArray[np.float64]:
        cut = slice(event.start, event.end)
        length = event.end - event.start
        turn = min(_TURN, length // 8) + 1
        nearest_end = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
        angle = (np.pi / 2 * np.minimum(1.0, nearest_end / turn))[:, None]
        true = latents[cut][:, ties.sources(k)]
        return ties.channel(np.cos(angle) * true + np.sin(angle) * copies[k][cut], k)

    return broken


def train_and_test_events(dials: Dials, seed: int) -> tuple[list[Event], list[Event]]:
    """The events of the training part (none without contamination) and of the test part.

    Both count in rows of the whole series: a test event starts at rows_train or later.
    """
    train: list[Event] = []
    if dials.contamination:
        drawn = stream(seed, "train events")
        train = place_events(dials.rows_train, dials.contamination, dials, drawn)
    test = place_events(dials.rows_test, dials.anomaly_share, dials, stream(seed, "test events"))
    first = dials.rows_train
    moved = [
        Event(event.start + first, event.end + first, event.kind, event.channels) for event in test
    ]
    return train, moved
