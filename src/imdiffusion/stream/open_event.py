"""An event that is not over for good, and the rules by which it opens, rests and is told."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imdiffusion.errors import ConfigError
from imdiffusion.records import EventRecord
from imdiffusion.stream.held import moved, places_of
from imdiffusion.stream.spell import Peak, Spell


@dataclass(frozen=True, slots=True)
class EventRules:
    """When rows are one event, and when it is told; rows are rows, quiet and renotify seconds.

    renotify 0 = only onset and resolution are told.
    """

    merge_gap: int = 5
    min_length: int = 1
    quiet: float = 0.0
    renotify: float = 14_400.0
    distinct: int = 3
    most_open: int = 3

    def __post_init__(self) -> None:
        least = {"min_length": 1, "distinct": 1, "most_open": 1}
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value >= least.get(name, 0)):
                raise ConfigError(
                    f"{name} = {value!r} is out of range",
                    remedy=f"It must be at least {least.get(name, 0)}.",
                )


@dataclass(slots=True)
class OpenEvent:
    """An event that is not over for good.

    next: number of its next turn. told: time of its last turn. closed: time at which it was told
    resolved, None = not since it opened. unsaid: it changed since then, in its quiet time. held:
    a person said that it is not resolved, so no quiet row ends it.
    """

    id: str
    spell: Spell
    next: int = 0
    told: int = 0
    closed: int | None = None
    unsaid: bool = False
    status: str = "ongoing"
    held: bool = False

    @property
    def silent_since(self) -> int:
        """When it was told resolved; while it rests there always is such a time."""
        return self.told if self.closed is None else self.closed

    def record(
        self,
        status: str,
        entity: str,
        speaker: tuple[str, str, tuple[str, ...]],
        apart: Spell | None,
    ) -> EventRecord:
        """Its next turn, as (detector, model, channels) tells it; apart: rows that count too."""
        spell = self.spell
        if apart is not None:
            spell = spell.copy()
            spell.join(apart)
        detector, model, channels = speaker
        total = float(spell.total.sum())
        equal = np.full(len(channels), 1.0 / max(1, len(channels)))
        share = spell.total / total if total > 0 else equal
        order = np.argsort(-share, kind="stable").tolist()
        return EventRecord(
            id=self.id,
            entity=entity,
            status=status,
            turn=self.next,
            start=spell.start,
            end=None if status == "ongoing" else spell.end,
            peak=spell.peak.timestamp,
            score=spell.peak.score,
            detector=detector,
            model=model,
            channels=tuple(channels[k] for k in order),
            shares=tuple(float(share[k]) for k in order),
            expected=tuple(float(spell.peak.expected[k]) for k in order),
            seen=tuple(float(spell.peak.seen[k]) for k in order),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        facts = {name: getattr(self, name) for name in _PLAIN}
        return {**facts, "spell": self.spell.to_dict()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> OpenEvent:
        """The event that `to_dict` wrote."""
        return cls(**{**facts, "spell": Spell.from_dict(facts["spell"])})

    @classmethod
    def again(cls, record: EventRecord, channels: tuple[str, ...], at: int) -> OpenEvent:
        """One that was over, from the last that was told of it; at: position of the newest row."""
        places = places_of(channels, record.channels)
        share, expected, seen = (
            moved(np.array(part, np.float64), places)
            for part in (record.shares, record.expected, record.seen)
        )
        total = np.nan_to_num(share)
        peak = Peak(record.peak, record.score, total, expected, seen)
        last = max(record.start, record.peak)
        spell = Spell(record.start, last, at, at, 1, record.end, total, peak)
        return cls(record.id, spell, next=record.turn + 1, status=record.status)


_PLAIN = ("id", "next", "told", "closed", "unsaid", "status", "held")
