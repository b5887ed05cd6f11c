"""The dials of a generated series: their meaning, their range, and their spelling in a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar, cast

from imdiffusion import registry
from imdiffusion.errors import ConfigError

Dial = str | int | float

# Every kind of anomaly; what each does stands in striking.py.
KINDS = ("spike", "level_shift", "trend", "variance", "missing_season", "frequency", "coupling")
SEASONAL = frozenset({"missing_season", "frequency"})
_TYPES: dict[str, type] = {"int": int, "float": float, "str": str}


def dial(
    default: Dial,
    meaning: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a class of dials: its default, its meaning, and what it may be."""
    return field(
        default=default,
        metadata={"meaning": meaning, "low": low, "high": high, "choices": choices},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials:
    """One value for every dial. Raises ConfigError for a wrong type, range or combination.

    The normal signal of channel k has variance 1:

        sqrt(seasonality) season_k
        + sqrt(1 - seasonality) (sqrt(coupling) shared_k + sqrt(1 - coupling) own_k)

    with unit-variance parts; `own` and the latents behind `shared` have the memory `temporal`.
    White noise and drift come on top.
    """

    rows_train: int = dial(3000, "rows of the training part", low=50, high=1_000_000)
    rows_test: int = dial(3000, "rows of the test part", low=50, high=1_000_000)
    channels: int = dial(6, "channels K", low=1, high=1000)
    temporal: float = dial(
        0.9, "order in time: correlation of neighbouring rows; 0 = white", low=0.0, high=0.995
    )
    temporal_kind: str = dial(
        "ar",
        "memory that fades (AR(1)) or swings (AR(2) with that pole radius, periods of 10 to 40)",
        choices=("ar", "oscillator"),
    )
    coupling: float = dial(
        0.7, "share of the variance beside the season that comes from shared latents", low=0, high=1
    )
    coupling_kind: str = dial(
        "linear",
        "shared latents enter as weighted sums, or so that no two channels correlate",
        choices=("linear", "nonlinear"),
    )
    noise: float = dial(0.1, "white noise, in standard deviations of the signal", low=0, high=10)
    seasonality: float = dial(0.3, "share of the signal's variance that is a season", low=0, high=1)
    period: int = dial(50, "rows of one season", low=4, high=100_000)
    anomaly: str = dial(
        "mixed", "kind of anomaly; mixed: all alternately", choices=(*KINDS, "mixed")
    )
    anomaly_share: float = dial(0.05, "share of anomalous test rows", low=1e-6, high=0.5)
    anomaly_length: int = dial(20, "rows of one anomaly, about", low=1, high=100_000)
    anomaly_size: float = dial(
        3.0, "shift in standard deviations of the signal; factor for variance", low=0.01, high=1000
    )
    channels_hit: int = dial(2, "channels an anomaly hits, at most all", low=1, high=1000)
    missing: float = dial(0.0, "share of values that are missing, in both parts", low=0, high=0.9)
    drift: float = dial(
        0.0, "how far channels drift over the test part, in standard deviations", low=0, high=100
    )
    contamination: float = dial(0.0, "share of anomalous training rows", low=0, high=0.5)

    def __post_init__(self) -> None:
        for item in fields(self):
            check_dial(item.name, getattr(self, item.name), str(item.type), item.metadata)
        _check_together(self)

    def kinds(self) -> tuple[str, ...]:
        """The kinds that take turns; mixed leaves out what cannot exist under these dials."""
        if self.anomaly != "mixed":
            return (self.anomaly,)
        return tuple(kind for kind in KINDS if _obstacle(self, kind) is None)

    def spelled(self) -> str:
        """The dials that differ from their defaults as sorted "key=value" pairs with commas."""
        return spelled(self)


def spelled(dials: Any) -> str:
    """The dials of any class that differ from their defaults, as in "channels=3,noise=0.2"."""
    usual = {item.name: item.default for item in fields(dials)}
    return ",".join(
        f"{name}={value}" for name, value in sorted(asdict(dials).items()) if value != usual[name]
    )


Turned = TypeVar("Turned")


def read_dials(pairs: Mapping[str, str], kind: type[Turned]) -> Turned:
    """Dials of a class such as `Dials` from texts, such as {"noise": "0.1"}.

    Raises ConfigError for an unknown or wrong one.
    """
    kinds = {item.name: str(item.type) for item in fields(cast(Any, kind))}
    given: dict[str, Any] = {}
    for name, text in pairs.items():
        if name not in kinds:
            raise ConfigError(f"unknown dial {name!r}", remedy=registry.nearest(name, kinds))
        try:
            given[name] = _TYPES[kinds[name]](text)
        except ValueError as error:
            raise ConfigError(
                f"dial {name} = {text!r} is not of type {kinds[name]}",
                remedy="Write a plain number.",
            ) from error
    return kind(**given)


def _obstacle(dials: Dials, kind: str) -> tuple[str, str] | None:
    """Why a kind cannot exist under these dials and what to change; None where it can."""
    if kind in SEASONAL and dials.seasonality == 0:
        return "there is no season", "Set seasonality above 0."
    if kind == "coupling":
        if dials.coupling * (1 - dials.seasonality) == 0:
            return "the channels share nothing", "Set coupling above 0 and seasonality below 1."
        if dials.channels < 2:
            return "there is only one channel", "Set channels to 2 or more."
    return None


def _check_together(dials: Dials) -> None:
    obstacle = None if dials.anomaly == "mixed" else _obstacle(dials, dials.anomaly)
    if obstacle is not None:
        raise ConfigError(
            f"anomaly = {dials.anomaly!r} cannot exist: {obstacle[0]}", remedy=obstacle[1]
        )
    if dials.coupling_kind == "nonlinear" and dials.coupling > 0 and dials.channels < 3:
        raise ConfigError(
            f"coupling_kind = 'nonlinear' with channels = {dials.channels}",
            remedy="It ties at least 3 channels together: set channels to 3 or more.",
        )


def check_dial(name: str, value: Any, kind: str, meta: Mapping[str, Any]) -> None:
    """ConfigError unless `value` has the type `kind` and is one of the dial's choices, or in range.

    meta: the metadata of a field that `dial` made.
    """
    accepted: Any = (int, float) if kind == "float" else _TYPES[kind]
    if isinstance(value, bool) or not isinstance(value, accepted):
        raise ConfigError(
            f"dial {name} = {value!r} is not of type {kind}", remedy=f"It is: {meta['meaning']}."
        )
    if meta["choices"] and value not in meta["choices"]:
        raise ConfigError(
            f"dial {name} = {value!r} is none of its choices",
            remedy=registry.nearest(str(value), meta["choices"]),
        )
    low, high = meta["low"], meta["high"]
    if low is not None and not low <= value <= high:
        raise ConfigError(
            f"dial {name} = {value!r} is out of range",
            remedy=f"It must be at least {low:g} and at most {high:g}.",
        )
