"""The dials of a behaviour: what the watched system is like, and how large its fault is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from imdiffusion.durations import DAY_S
from imdiffusion.errors import ConfigError
from imdiffusion_bench.generator.config import check_dial, dial, read_dials, spelled

SEASONS = ("none", "daily", "weekly")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemDials:
    """One value for every dial. Raises ConfigError for a wrong type or range.

    A driven channel, in its own unit, is

        sqrt(coupling) response(load) + sqrt(1 - coupling) own + noise + batch

    with unit variances; the load, which all driven channels share, is the season and an AR(1).
    """

    channels: int = dial(8, "channels K", low=1, high=300)
    period_s: int = dial(300, "seconds between rows", low=1, high=DAY_S)
    rows_train: int = dial(4032, "rows of the training part", low=100, high=1_000_000)
    rows_test: int = dial(2016, "rows of the test part", low=100, high=1_000_000)
    season: str = dial(
        "weekly", "rhythm of the load: weekly is daily with quiet weekends", choices=SEASONS
    )
    seasonality: float = dial(0.8, "share of the load's variance that is its season", low=0, high=1)
    temporal: float = dial(
        0.9, "correlation of neighbouring rows beside the season; 0 = white", low=0.0, high=0.995
    )
    coupling: float = dial(
        0.9, "share of a channel's variance that comes from the load", low=0, high=1
    )
    noise: float = dial(0.1, "white noise, in standard deviations of a channel", low=0, high=10)
    batch_minutes: int = dial(45, "length of the nightly batch; 0 = there is none", low=0, high=300)
    slow_share: float = dial(
        0.1, "share of channels with a slow course of their own", low=0, high=1
    )
    missing: float = dial(0.0, "share of values that are missing, in both parts", low=0, high=0.9)
    size: float = dial(
        2.0, "size of a fault, in standard deviations of its channel", low=0.01, high=1000
    )
    length: int = dial(36, "rows of a fault of middling length", low=1, high=10_000)

    def __post_init__(self) -> None:
        for item in fields(self):
            check_dial(item.name, getattr(self, item.name), str(item.type), item.metadata)

    @property
    def rows_a_day(self) -> float:
        """Rows of 24 hours."""
        return DAY_S / self.period_s

    @property
    def slow(self) -> int:
        """How many channels, the last ones, have a slow course of their own."""
        return min(round(self.slow_share * self.channels), self.channels)

    @property
    def driven(self) -> int:
        """How many channels, the first ones, follow the load."""
        return self.channels - self.slow

    def spelled(self) -> str:
        """The dials that differ from their defaults as "key=value" pairs with commas."""
        return spelled(self)


def read_system(text: str) -> SystemDials:
    """Dials from "channels=21,season=daily"; an empty text has the defaults. Raises ConfigError."""
    pairs: dict[str, str] = {}
    for pair in (word.strip() for word in text.split(",")):
        key, equals, value = pair.partition("=")
        if not pair:
            continue
        if not equals or key in pairs:
            raise ConfigError(
                f"{pair!r} in {text!r} " + ("comes twice" if equals else "is no key=value pair"),
                remedy='Write each dial once, as in "channels=21,season=daily".',
            )
        pairs[key] = value
    return read_dials(pairs, SystemDials)


def meanings() -> Mapping[str, tuple[str, str]]:
    """Every dial by name: its default as text, and what it means with its range or choices."""
    told = {}
    for item in fields(SystemDials):
        meta = item.metadata
        limits = ", ".join(meta["choices"])
        if meta["low"] is not None:
            limits = f"from {meta['low']:g}"
            limits += f" to {meta['high']:g}" if meta["high"] is not None else ""
        told[item.name] = (str(item.default), f"{meta['meaning']} ({limits})")
    return told
