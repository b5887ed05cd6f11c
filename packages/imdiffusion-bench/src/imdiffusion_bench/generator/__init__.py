"""`generate` makes one series, `Generated` is a data set of them whose name says all its dials."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imdiffusion.data.frame import frame_from
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.schema import pairs_of
from imdiffusion_bench.generator.config import Dials
from imdiffusion_bench.generator.series import (
    Event,
    normal_parts,
    stream,
    strike,
    train_and_test_events,
)
from imdiffusion_bench.split import Cause, Split, Truth

_NAME = "generated"


def generate(*, seed: int = 0, **dials: Any) -> Split:
    """One series: the same dials and seed, the same values.

    The keywords are the fields of `Dials`, which gives their meaning and range: rows_train,
    rows_test, channels, temporal, coupling, noise, seasonality, anomaly, anomaly_share,
    anomaly_length, missing, drift and others. The training part does not depend on the dials of
    the anomalies unless it is contaminated, nor on the length of the test part. The truth has
    causes: the channels of each anomaly. Raises ConfigError for an unknown or impossible dial.
    """
    return _made(Dials.from_dict(dials), seed)


@dataclass(frozen=True, slots=True)
class Generated:
    """A data set of `series` generated series with the same dials: entity "s3" has seed 3."""

    dials: Dials = field(default_factory=Dials)
    series: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.series, bool) or not isinstance(self.series, int) or self.series < 1:
            raise ConfigError(
                f"series = {self.series!r} is not a number of series", remedy="Set it to 1 or more."
            )

    @property
    def name(self) -> str:
        """ "generated:" and what differs from the defaults; `open_generated` reads it back."""
        spelled = self.dials.spelled().split(",") + [f"series={self.series}"] * (self.series > 1)
        return f"{_NAME}:{','.join(sorted(pair for pair in spelled if pair))}".rstrip(":")

    def entities(self) -> list[str]:
        """The names of the series."""
        return [f"s{seed}" for seed in range(self.series)]

    def load(self, entity: str) -> Split:
        """One of them; DataError for a name that is not in `entities()`."""
        if entity not in self.entities():
            raise DataError(
                f"{self.name} has no entity {entity!r}",
                remedy=f"It has s0 to s{self.series - 1}.",
            )
        return replace(_made(self.dials, int(entity[1:])), dataset=self.name)


def open_generated(name: str) -> Generated:
    """The data set that a name such as "generated:anomaly=coupling,noise=0.2,series=3" describes.

    Raises ConfigError for a name of another form, an unknown dial or a wrong value.
    """
    head, _, rest = name.partition(":")
    if head != _NAME:
        raise ConfigError(
            f"{name!r} is not a generated data set",
            remedy=f'Write "{_NAME}:" and pairs such as "noise=0.2", with commas.',
        )
    pairs = pairs_of(rest, f"{name}: ")
    series = pairs.pop("series", "1")
    if not series.isdecimal():
        raise ConfigError(f"series = {series!r} is not a number", remedy="Write 1 or more.")
    return Generated(Dials.from_texts(pairs), int(series))


def _made(dials: Dials, seed: int) -> Split:
    rows, entity = dials.rows_train, f"s{seed}"
    train_events, test_events = train_and_test_events(dials, seed)
    parts = normal_parts(dials, seed)
    strike(parts, train_events, dials, seed, stream(seed, "train signs"))
    strike(parts, test_events, dials, seed, stream(seed, "test signs"))
    values = parts.joined(dials)
    if dials.missing:
        values[stream(seed, "missing").random(values.shape) < dials.missing] = np.nan
    return Split(
        dataset=_NAME,
        entity=entity,
        train=frame_from(values[:rows], entity=entity),
        test=frame_from(values[rows:], entity=entity),
        truth=_truth(test_events, dials),
    )


def _truth(events: list[Event], dials: Dials) -> Truth:
    causes = [
        Cause(
            event.start - dials.rows_train, event.end - dials.rows_train, frozenset(event.channels)
        )
        for event in events
    ]
    label = np.zeros(dials.rows_test, dtype=np.bool_)
    for cause in causes:
        label[cause.start : cause.end] = True
    return Truth(label=label.copy, causes=lambda: list(causes))
