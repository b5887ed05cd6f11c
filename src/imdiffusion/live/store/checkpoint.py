"""What one checkpoint writes, all of it or nothing; and what people say of events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imdiffusion.records import EventRecord, ScoreRecord
from imdiffusion.saved_state import State

# What a person says of an event.
SCORER, TRACKER = "scorer", "tracker"  # parts of an entity that have a state
VERDICTS = ("confirmed", "expected", "false_alarm", "new_normal", "not_resolved")


@dataclass(frozen=True, slots=True)
class Told:
    """One score, and where it is known the cells behind it.

    channels: all K names in the model's order. cells: float32 (4, K), seen, expected, lower and
    upper in the caller's units, NaN = not observed; None = not kept.
    """

    record: ScoreRecord
    channels: tuple[str, ...]
    cells: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How an entity stands: interval between its rows in ns (None = unknown), when it was heard.

    heard: ns, UTC, when its last row came. state: of `records.STATES`. note: what is to be known of
    who speaks.
    """

    interval: int | None
    heard: int
    state: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that became true since the last one.

    forgotten: entities whose states are dropped first, for they are watched no more. states: by
    (entity, part), parts being SCORER and TRACKER. offsets: source -> where it stands after these
    rows. counts: (name, label) -> how much to add.
    """

    told: Sequence[Told] = ()
    updates: Sequence[EventRecord] = ()
    standing: Mapping[str, Standing] = field(default_factory=dict)
    forgotten: Sequence[str] = ()
    states: Mapping[tuple[str, str], State] = field(default_factory=dict)
    offsets: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person said of an event: verdict of VERDICTS, recorded in ns, UTC."""

    id: int
    event: str
    verdict: str
    who: str
    text: str
    recorded: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The last that was said of an event, with the event's span: ns, UTC, end None = ongoing."""

    entity: str
    event: str
    verdict: str
    start: int
    end: int | None
    recorded: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A fitted model of an entity: path to its folder, made in ns, UTC; live = it is the one."""

    entity: str
    digest: str
    detector: str
    path: str
    made: int
    live: bool
