"""How the engine goes about its rounds, in numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from imdiffusion.errors import ConfigError
from imdiffusion.registry import nearest

OVERLOADS = ("wait", "shed")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine goes about it; times in seconds.

    every: between checkpoints, while anything came. rows: scores that bring one forward. poll:
    longest wait for a source. retry: first wait after a failure, doubled up to a minute. batch:
    records sent to a sink at once. stale_after: intervals of silence after which an entity is
    stale; unknown: seconds, where its interval is not known. forget_after: of silence, after which
    it is watched no more; its scores stay. details: keep seen and expected values. offline:
    scorers judge twice. most_entities: further ones are refused, and counted. overload, of
    OVERLOADS: what becomes of rows that come faster than they are scored. "wait": their source is
    read no further; "shed": it is read on, and of what waits the oldest beyond `most_waiting` rows
    of a source is passed over, and counted as `rows_shed`.
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
    offline: bool = False
    most_entities: int = 10_000
    overload: str = "wait"
    most_waiting: int = 20_000

    def __post_init__(self) -> None:
        if self.overload not in OVERLOADS:
            raise ConfigError(
                f"overload = {self.overload!r} is none of its choices",
                remedy=nearest(self.overload, OVERLOADS),
            )
        for name, value in asdict(self).items():
            if not isinstance(value, bool | str) and not value > 0:
                raise ConfigError(
                    f"{name} = {value!r} is not above 0", remedy="Write a positive number."
                )

    @property
    def most_rows(self) -> int | None:
        """Rows of a source that may wait while it is read on; None = it is not read on."""
        return self.most_waiting if self.overload == "shed" else None
