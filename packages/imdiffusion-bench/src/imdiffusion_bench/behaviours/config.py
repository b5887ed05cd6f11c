"""The dials of a behaviour: what the watched system is like, and how large its fault is."""

from __future__ import annotations

from dataclasses import dataclass

from imdiffusion.durations import DAY_S
from imdiffusion.schema import Fields, field

SEASONS = ("none", "daily", "weekly")


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemDials(Fields):
    """One value for every dial. Raises ConfigError for a wrong type or range.

    A driven channel, in its own unit, is

        sqrt(coupling) response(load) + sqrt(1 - coupling) own + noise + batch

    with unit variances; the load, which all driven channels share, is the season and an AR(1).
    """

    called = "dial"

    channels: int = field(8, "channels K", low=1, high=300)
    period_s: int = field(300, "seconds between rows", low=1, high=DAY_S)
    rows_train: int = field(4032, "rows of the training part", low=100, high=1_000_000)
    rows_test: int = field(2016, "rows of the test part", low=100, high=1_000_000)
    season: str = field(
        "weekly", "rhythm of the load: weekly is daily with quiet weekends", choices=SEASONS
    )
    seasonality: float = field(
        0.8, "share of the load's variance that is its season", low=0, high=1
    )
    temporal: float = field(
        0.9, "correlation of neighbouring rows beside the season; 0 = white", low=0.0, high=0.995
    )
    coupling: float = field(
        0.9, "share of a channel's variance that comes from the load", low=0, high=1
    )
    noise: float = field(0.1, "white noise, in standard deviations of a channel", low=0, high=10)
    batch_minutes: int = field(
        45, "length of the nightly batch; 0 = there is none", low=0, high=300
    )
    slow_share: float = field(
        0.1, "share of channels with a slow course of their own", low=0, high=1
    )
    missing: float = field(0.0, "share of values that are missing, in both parts", low=0, high=0.9)
    size: float = field(
        2.0, "size of a fault, in standard deviations of its channel", low=0.01, high=1000
    )
    length: int = field(36, "rows of a fault of middling length", low=1, high=10_000)

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
