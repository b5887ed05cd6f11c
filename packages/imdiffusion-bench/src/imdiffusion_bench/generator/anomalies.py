"""The anomalies of a generated series: where they are, and what each kind does to the parts.

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

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import ConfigError
from imdiffusion_bench.generator.config import Dials
from imdiffusion_bench.generator.normal import Parts, Season, Ties, stream

_FASTER = 3
_TURN = 5  # rows in which a channel turns to latents of its own, so that no jump betrays it


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
