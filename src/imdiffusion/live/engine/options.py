"""How the engine goes about its rounds, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from imdiffusion.schema import Fields, field

OVERLOADS = ("wait", "shed")


@dataclass(frozen=True, slots=True)
class EngineOptions(Fields):
    """How the engine goes about it; times in seconds.

    Of `overload`: "wait": a source whose rows come faster than they are scored is read no further;
    "shed": it is read on, and of what waits the oldest beyond `most_waiting` rows of a source is
    passed over, and counted as `rows_shed`. Those that no file sets: rows: scores that bring a
    checkpoint forward. poll: longest wait for a source. retry: first wait after a failure, doubled
    up to a minute. batch: records sent to a sink at once. unknown: as `stale_after`, in seconds,
    where the interval is not known. forget_after: of silence, after which an entity is watched no
    more; its scores stay. details: keep seen and expected values.
    """

    every: float = field(1.0, "seconds between checkpoints", above=0)
    offline: bool = field(False, "judge every row again once the rows after it are there")
    stale_after: float = field(2.0, "intervals of silence until an entity is stale", above=0)
    most_entities: int = field(10_000, "entities watched at most", above=0)
    overload: str = field(
        "wait", "what rows do that come faster than they are scored", choices=OVERLOADS
    )
    most_waiting: int = field(
        20_000, "rows of a source that wait at most where the oldest are shed", above=0
    )
    rows: int = 5_000
    poll: float = 0.5
    retry: float = 1.0
    batch: int = 1_000
    unknown: float = 300.0
    forget_after: float = 604_800.0
    details: bool = True

    @property
    def most_rows(self) -> int | None:
        """Rows of a source that may wait while it is read on; None = it is not read on."""
        return self.most_waiting if self.overload == "shed" else None
