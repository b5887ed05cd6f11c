"""How the engine goes about its rounds, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from imdiffusion.errors import ConfigError


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine goes about it; times in seconds.

    every: between checkpoints, while anything came. rows: scores that bring one forward. poll:
    longest wait for a source. retry: first wait after a failure, doubled up to a minute. batch:
    records sent to a sink at once. stale_after: intervals of silence after which an entity is
    stale; unknown: seconds, where its interval is not known. forget_after: of silence, after which
    it is watched no more; its scores stay. details: keep seen and expected values. hindsight:
    scorers judge twice. most_entities: further ones are refused, and counted.
    """

    every: float = 1.0
    rows: int = 5_000
    poll: float = 0.5
    retry: float = 1.0
    batch: int = 1_000
    stale_after: float = 2.0
    unknown: float = 300.0
    forget_after: float = 604_800.0
    details: bool = True
    hindsight: bool = False
    most_entities: int = 10_000

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0 and not isinstance(value, bool):
                raise ConfigError(
                    f"{name} = {value!r} is not above 0", remedy="Write a positive number."
                )
