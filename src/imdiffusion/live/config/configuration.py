"""`imdiffusion.toml`: what is watched, how, and where what was found goes.

    [detector]      the settings of `ImDiffusion`, and preset, seed, device
    [[source]]      type, id, and the options of the connector; any number
    [[sink]]        the same
    [[model]]       a model that was fitted before, and whom it speaks for; any number
    [state] [alerts] [stream] [fit] [serve]     see `schema.py`

`parser.py` reads a file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdiffusion import presets
from imdiffusion.errors import ConfigError
from imdiffusion.live.config.errors import TomlPath
from imdiffusion.live.config.schema import (
    AlertSection,
    FitSection,
    ModelSection,
    ServeSection,
    StateSection,
    StreamSection,
)
from imdiffusion.live.connection.options import load_sink, load_source
from imdiffusion.live.connection.protocols import Sink, Source
from imdiffusion.settings import Settings

CONNECTORS = {"source": "sources", "sink": "sinks"}
LEAST_HELD = 100  # rows held out, in which a few faults can be planted


@dataclass(frozen=True, slots=True)
class Connector:
    """A source or a sink as the file has it. id: its name in offsets, cursors and counters."""

    kind: str  # of CONNECTORS
    type: str
    id: str
    options: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The same for two that are the same in every respect."""
        return json.dumps([self.kind, self.type, self.id, self.options], sort_keys=True)

    def source(self) -> Source:
        """Build it, not yet open."""
        return load_source(self.type, self.options)

    def sink(self) -> Sink:
        """Build it, not yet open."""
        return load_sink(self.type, self.options)


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file that is right, or the defaults where it says nothing."""

    detector: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Connector, ...] = ()
    sinks: tuple[Connector, ...] = ()
    models: tuple[ModelSection, ...] = ()
    state: StateSection = StateSection()  # noqa: RUF009  frozen
    alerts: AlertSection = AlertSection()  # noqa: RUF009
    stream: StreamSection = StreamSection()  # noqa: RUF009
    fit: FitSection = FitSection()  # noqa: RUF009
    serve: ServeSection = ServeSection()  # noqa: RUF009

    @property
    def keywords(self) -> dict[str, Any]:
        """The keywords of `ImDiffusion`: [detector], the budget and the rules of events."""
        own = {**presets.USUAL, **self.detector}
        own.setdefault("merge_gap", self.alerts.merge_gap)
        own.setdefault("min_length", self.alerts.min_length)
        if self.alerts.alarms_per_day:
            own["alarms_per_day"] = self.alerts.alarms_per_day
        return own

    def model_for(self, entity: str, source: str) -> ModelSection | None:
        """The model that is to score an entity of a source, if one is named."""
        return next((one for one in self.models if one.names(entity, source)), None)

    @property
    def settings(self) -> Settings:
        """Every setting of the detector as it resolves."""
        return presets.resolve_keywords(self.keywords)


def conflicts(made: Configuration) -> Iterator[tuple[TomlPath, ConfigError]]:
    """What is right alone and wrong together, each with its place."""
    window = made.settings.window
    if made.fit.enabled and made.fit.rows < 4 * window:
        yield (
            ("fit", "rows"),
            ConfigError(
                f"{made.fit.rows} rows are too few for windows of {window}",
                remedy=f"Ask for at least {4 * window}, or set a shorter window.",
            ),
        )
    elif made.fit.enabled and made.fit.rows * made.fit.holdout < LEAST_HELD:
        yield (
            ("fit", "rows"),
            ConfigError(
                f"{made.fit.holdout:g} of {made.fit.rows} rows are too few to compare models on",
                remedy=f"Ask for at least {math.ceil(LEAST_HELD / made.fit.holdout)}.",
            ),
        )
    if made.fit.most_rows < made.fit.rows:
        yield (
            ("fit", "most_rows"),
            ConfigError(
                "is less than rows", remedy="Allow at least as many rows as the first fit needs."
            ),
        )
    if bool(made.serve.tls_certificate) != bool(made.serve.tls_key):
        yield (
            ("serve",),
            ConfigError("certificate and key belong together", remedy="Give both or none."),
        )
