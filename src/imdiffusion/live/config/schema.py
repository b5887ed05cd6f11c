"""The tables of `imdiffusion.toml` and their keys: type, default, range and meaning of each.

`[detector]` is not here: its keys are those of `imdiffusion.settings`. Nor are `[[source]]` and
`[[sink]]`: each connector says its own keys. `[[model]]` may be there several times.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from imdiffusion.errors import ConfigError
from imdiffusion.live.engine.options import OVERLOADS, EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.scorers.cold_start import COLD_BASELINES
from imdiffusion.live.store.retention import Retention
from imdiffusion.registry import nearest

DAY = 86_400.0
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}


def _key(
    default: Any,
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    facts = {"meaning": meaning, "least": least, "above": above, "most": most, "choices": choices}
    return field(default=default, metadata=facts)


@dataclass(frozen=True, slots=True)
class StateSection:
    """`[state]`: where everything lies that outlives a restart, and for how long."""

    path: str = _key("", "the folder; empty = imdiffusion/serve in the user's state folder")
    peers: str = _key("", "folder of the state folders of a consumer group; empty = alone")
    details: float = _key(2.0, "days that seen and expected values are kept", above=0)
    kept: float = _key(30.0, "days that seen and expected values around events are kept", above=0)
    scores: float = _key(30.0, "days that scores are kept", above=0)
    peaks: float = _key(365.0, "days that the highest score of ten minutes is kept", above=0)
    events: float = _key(365.0, "days that events are kept once they are over", above=0)
    feed: int = _key(
        200_000, "records of a kind that wait for a sink that cannot be reached", above=0
    )
    most_bytes: int = _key(
        4_000_000_000, "bytes of the file, beyond which all spans shrink", above=0
    )

    def retention(self) -> Retention:
        """As the live state takes it."""
        return Retention(**{key: getattr(self, key) for key in Retention.__slots__})


@dataclass(frozen=True, slots=True)
class AlertSection:
    """`[alerts]`: when rows are an event, and how often it is sent."""

    alarms_per_day: float = _key(
        0.0, "budget of events a day on normal rows; 0 = alarm_rate of the detector", least=0
    )
    merge_gap: int = _key(5, "quiet rows inside one event", least=0)
    min_length: int = _key(1, "rows an event needs", least=1)
    quiet: float = _key(
        0.0, "seconds after its end in which a cause opens no second event", least=0
    )
    renotify: float = _key(
        14_400.0, "seconds until an ongoing event is sent again; 0 = never", least=0
    )
    distinct: int = _key(3, "rows of another cause that open a second event", least=1)
    most_open: int = _key(3, "events of an entity that are open at once", least=1)

    def rules(self) -> EventRules:
        """As the trackers take them."""
        return EventRules(
            **{key: value for key, value in asdict(self).items() if key != "alarms_per_day"}
        )


@dataclass(frozen=True, slots=True)
class StreamSection:
    """`[stream]`: how rows are put in order and scored."""

    interval: float = _key(0.0, "seconds between rows; 0 = found from the first rows", least=0)
    lateness: int = _key(2, "rows that a row may come late by", least=0)
    fill: int = _key(30, "longest gap, in rows, that is filled with unobserved rows", least=0)
    baseline: str = _key("linear", "what scores before there is a model", choices=COLD_BASELINES)
    offline: bool = _key(False, "score every row again once the rows after it are there")
    every: float = _key(1.0, "seconds between checkpoints", above=0)
    stale_after: float = _key(2.0, "intervals of silence until an entity is stale", above=0)
    most_entities: int = _key(10_000, "entities watched at most", above=0)
    overload: str = _key(
        "wait", "what rows do that come faster than they are scored", choices=OVERLOADS
    )
    most_waiting: int = _key(
        20_000, "rows of a source that wait at most where the oldest are shed", above=0
    )
    most_channels: int = _key(
        1_000, "channels of an entity beyond which no new one is taken up", above=0
    )

    def options(self) -> EngineOptions:
        """As the engine takes them."""
        return EngineOptions(
            every=self.every,
            stale_after=self.stale_after,
            offline=self.offline,
            most_entities=self.most_entities,
            overload=self.overload,
            most_waiting=self.most_waiting,
        )


@dataclass(frozen=True, slots=True)
class FitSection:
    """`[fit]`: the model that is fitted in the background, entity by entity."""

    enabled: bool = _key(True, "fit models; false = the baseline alone scores")
    train: str = _key("state", "rows to fit on: state = those that came live; or a file of rows")
    rows: int = _key(1_200, "rows needed for the first model", least=40)
    most_rows: int = _key(50_000, "newest rows that are used at most", least=40)
    refit: float = _key(DAY, "seconds from one fit of an entity to the next; 0 = never", least=0)
    holdout: float = _key(
        0.25, "share of the newest rows on which the models are compared", least=0.1, most=0.5
    )
    nice: int = _key(10, "how far the fitting process steps back for others", least=0, most=19)
    keep: int = _key(3, "models of an entity that stay on the disk", least=1)


@dataclass(frozen=True, slots=True)
class ServeSection:
    """`[serve]`: the HTTP service. Tokens are named, never written here."""

    host: str = _key("127.0.0.1", "address to listen on")
    port: int = _key(8337, "port to listen on; 0 = any that is free", least=0, most=65_535)
    hosts: str = _key("", "further names by which it is called, separated by commas")
    insecure: bool = _key(False, "listen beyond this host without a token")
    read_token_env: str = _key("", "environment variable with the token for reading")
    read_token_file: str = _key("", "file with the token for reading")
    change_token_env: str = _key("", "environment variable with the token for changing")
    change_token_file: str = _key("", "file with the token for changing")
    tls_certificate: str = _key("", "certificate, PEM; with it HTTPS is served")
    tls_key: str = _key("", "its private key, PEM")


@dataclass(frozen=True, slots=True)
class ModelSection:
    """`[[model]]`, any number: a model that was fitted before, and the entities it scores.

    Of several that name an entity the first counts.
    """

    folder: str = _key("", "the model folder, as `imdiffusion fit` wrote it")
    entities: str = _key("*", "names of entities; * and ? match any letters, [ab] one of")
    source: str = _key("", "id of the source they come from; empty = any")
    of: str = _key("", "entity in the folder; empty = of the same name, or the only one")
    refit: bool = _key(False, "fit models in the background too, which have to win against it")

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


def wrong_keys(kind: type[Section], table: dict[str, Any]) -> dict[str, ConfigError]:
    """What is wrong with each key of a table that is wrong."""
    known = {item.name: item for item in fields(kind)}
    found: dict[str, ConfigError] = {}
    for key, value in table.items():
        if key not in known:
            found[key] = ConfigError("unknown key", remedy=nearest(key, known))
            continue
        item = known[key]
        error = _wrong(value, str(item.type), dict(item.metadata))
        if error is not None:
            found[key] = error
    return found


def _wrong(value: Any, kind: str, facts: dict[str, Any]) -> ConfigError | None:
    types, words = _KINDS[kind]
    if not isinstance(value, types) or isinstance(value, bool) != (kind == "bool"):
        return ConfigError(f"{value!r} is not {words}", remedy=f"It is: {facts['meaning']}.")
    choices, least, above, most = (facts[name] for name in ("choices", "least", "above", "most"))
    if choices and value not in choices:
        return ConfigError(f"{value!r} is none of its choices", remedy=nearest(str(value), choices))
    told = ""
    if least is not None and not value >= least:
        told = f"at least {least:g}"
    elif above is not None and not value > above:
        told = f"above {above:g}"
    elif most is not None and not value <= most:
        told = f"at most {most:g}"
    if told:
        return ConfigError(f"{value!r} is out of range", remedy=f"It must be {told}.")
    return None
