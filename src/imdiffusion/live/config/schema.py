"""The tables of `imdiffusion.toml` and their keys: type, default, range and meaning of each.

`[detector]` is not here: its keys are those of `imdiffusion.settings`. Nor are `[[source]]` and
`[[sink]]`: each connector says its own keys. `[[model]]` may be there several times.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from imdiffusion.durations import DAY_S
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.scorers.cold_start import COLD_BASELINES
from imdiffusion.live.service.auth import Access
from imdiffusion.live.store.retention import Retention
from imdiffusion.schema import Fields, field


@dataclass(frozen=True, slots=True)
class StateSection(Retention):
    """`[state]`: where everything lies that outlives a restart, and for how long."""

    path: str = field("", "the folder; empty = imdiffusion/serve in the user's state folder")
    peers: str = field("", "folder of the state folders of a consumer group; empty = alone")


@dataclass(frozen=True, slots=True)
class AlertSection(EventRules):
    """`[alerts]`: when rows are an event, and how often one is told."""

    alarms_per_day: float = field(
        0.0, "budget of events a day on normal rows; 0 = alarm_rate of the detector", low=0
    )


@dataclass(frozen=True, slots=True)
class StreamSection(EngineOptions):
    """`[stream]`: how rows are put in order and scored."""

    interval: float = field(0.0, "seconds between rows; 0 = found from the first rows", low=0)
    lateness: int = field(2, "rows that a row may come late by", low=0)
    fill: int = field(30, "longest gap, in rows, that is filled with unobserved rows", low=0)
    baseline: str = field("linear", "what speaks before a model does", choices=COLD_BASELINES)
    most_channels: int = field(
        1_000, "channels of an entity beyond which no new one is taken up", above=0
    )


@dataclass(frozen=True, slots=True)
class FitSection(Fields):
    """`[fit]`: the model that is fitted in the background, entity by entity."""

    enabled: bool = field(True, "fit models; without, the baseline goes on speaking")
    train: str = field("state", "rows to fit on: state = those that came live; or a file of rows")
    rows: int = field(1_200, "rows needed for the first model", low=40)
    most_rows: int = field(50_000, "newest rows that are used at most", low=40)
    refit: float = field(
        float(DAY_S), "seconds from one fit of an entity to the next; 0 = never", low=0
    )
    holdout: float = field(
        0.25, "share of the newest rows on which the models are compared", low=0.1, high=0.5
    )
    nice: int = field(10, "how far the fitting process steps back for others", low=0, high=19)
    keep: int = field(3, "models of an entity that stay on the disk", low=1)


@dataclass(frozen=True, slots=True)
class ServeSection(Access):
    """`[serve]`: the HTTP service. Tokens are named, never written here."""

    port: int = field(8337, "port to listen on; 0 = any that is free", low=0, high=65_535)
    tls_certificate: str = field("", "certificate, PEM; with it HTTPS is served")
    tls_key: str = field("", "its private key, PEM")


@dataclass(frozen=True, slots=True)
class ModelSection(Fields):
    """`[[model]]`, any number: a model that was fitted before, and the entities it speaks for.

    Of several that name an entity the first counts.
    """

    folder: str = field("", "the model folder, as `imdiffusion fit` wrote it")
    entities: str = field("*", "names of entities; * and ? stand for any letters, [ab] for one of")
    source: str = field("", "id of the source they come from; empty = any")
    of: str = field("", "entity in the folder; empty = of the same name, or the only one")
    refit: bool = field(False, "fit models in the background too, which have to win against it")

    def names(self, entity: str, source: str) -> bool:
        """Whether it scores an entity of a source."""
        return self.source in ("", source) and fnmatchcase(entity, self.entities)


Section = StateSection | AlertSection | StreamSection | FitSection | ServeSection | ModelSection
SECTIONS: dict[str, type[Section]] = {
    "state": StateSection,
    "alerts": AlertSection,
    "stream": StreamSection,
    "fit": FitSection,
    "serve": ServeSection,
}
