"""The dials of a generated series: their meaning, their range, and their spelling in a name."""

from __future__ import annotations

from dataclasses import dataclass

from imdiffusion.errors import ConfigError
from imdiffusion.schema import Fields, field

# Every kind of anomaly; what each does stands in series.py.
KINDS = ("spike", "level_shift", "trend", "variance", "missing_season", "frequency", "coupling")
SEASONAL = frozenset({"missing_season", "frequency"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Dials(Fields):
    """One value for every dial. Raises ConfigError for a wrong type, range or combination.

    The normal signal of channel k has variance 1:

        sqrt(seasonality) season_k
        + sqrt(1 - seasonality) (sqrt(coupling) shared_k + sqrt(1 - coupling) own_k)

    with unit-variance parts; `own` and the latents behind `shared` have the memory `temporal`.
    White noise and drift come on top.
    """

    called = "dial"

    rows_train: int = field(3000, "rows of the training part", low=50, high=1_000_000)
    rows_test: int = field(3000, "rows of the test part", low=50, high=1_000_000)
    channels: int = field(6, "channels K", low=1, high=1000)
    temporal: float = field(
        0.9, "order in time: correlation of neighbouring rows; 0 = white", low=0.0, high=0.995
    )
    temporal_kind: str = field(
        "ar",
        "memory that fades (AR(1)) or swings (AR(2) with that pole radius, periods of 10 to 40)",
        choices=("ar", "oscillator"),
    )
    coupling: float = field(
        0.7, "share of the variance beside the season that comes from shared latents", low=0, high=1
    )
    coupling_kind: str = field(
        "linear",
        "shared latents enter as weighted sums, or so that no two channels correlate",
        choices=("linear", "nonlinear"),
    )
    noise: float = field(0.1, "white noise, in standard deviations of the signal", low=0, high=10)
    seasonality: float = field(
        0.3, "share of the signal's variance that is a season", low=0, high=1
    )
    period: int = field(50, "rows of one season", low=4, high=100_000)
    anomaly: str = field("mixed", "kind of anomaly; mixed: all in turn", choices=(*KINDS, "mixed"))
    anomaly_share: float = field(0.05, "share of anomalous test rows", low=1e-6, high=0.5)
    anomaly_length: int = field(20, "rows of one anomaly, about", low=1, high=100_000)
    anomaly_size: float = field(
        3.0, "shift in standard deviations of the signal; factor for variance", low=0.01, high=1000
    )
    channels_hit: int = field(2, "channels an anomaly hits, at most all", low=1, high=1000)
    missing: float = field(0.0, "share of values that are missing, in both parts", low=0, high=0.9)
    drift: float = field(
        0.0, "how far channels drift over the test part, in standard deviations", low=0, high=100
    )
    contamination: float = field(0.0, "share of anomalous training rows", low=0, high=0.5)

    def __post_init__(self) -> None:
        Fields.__post_init__(self)
        _check_together(self)

    def kinds(self) -> tuple[str, ...]:
        """The kinds that take turns; mixed leaves out what cannot exist under these dials."""
        if self.anomaly != "mixed":
            return (self.anomaly,)
        return tuple(kind for kind in KINDS if _obstacle(self, kind) is None)


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
