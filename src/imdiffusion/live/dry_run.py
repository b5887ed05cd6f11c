"""What would happen: every source read for a moment, every sink looked for, nothing written.

Sources go on from where the live state says they are, and are told nothing. A consumer group of
Kafka is joined for that moment, which moves partitions for as long.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from urllib.parse import urlsplit

from imdiffusion.errors import ConnectionLost, ImDiffusionError, SourceEnded
from imdiffusion.live.config.configuration import Configuration, Connector
from imdiffusion.live.connection.http import secret
from imdiffusion.live.connection.protocols import Looking
from imdiffusion.live.models.pinned import Places, fit_of, known_channels
from imdiffusion.live.store.queries import Reader

PORTS = {"http": 80, "https": 443}
MOST_BATCHES = 20
MOST_SHOWN = 5  # entities of a folder, or of a source


@dataclass(slots=True)
class Finding:
    """What was found of a source, a model or a sink. entities: channels of each, by name.

    wrong: the configuration has to change, or what a model folder holds; else what is not reached
    is away for now.
    """

    kind: str
    id: str
    type: str
    reached: bool
    told: str
    rows: int = 0
    entities: dict[str, list[str]] = field(default_factory=dict)
    wrong: bool = False

    @property
    def words(self) -> str:
        """All that was found, in a line."""
        shown = list(self.entities.items())[:MOST_SHOWN]
        names = [f"{name} ({len(channels)} channels)" for name, channels in shown]
        more = len(self.entities) - len(shown)
        return "; ".join(
            [*names, *([f"and {more} more"] if more else []), *filter(None, [self.told])]
        )

    def fails(self, error: ImDiffusionError) -> None:
        """It is not as it should be, for this reason."""
        self.reached, self.told = False, str(error)
        self.wrong = not isinstance(error, ConnectionLost)


def rehearse(configuration: Configuration, places: Places, *, seconds: float) -> list[Finding]:
    """Look at every source, for at most so many seconds each, and at every model and sink."""
    offsets = _offsets(places)
    sources = [_read(one, offsets.get(one.id), seconds) for one in configuration.sources]
    sinks = [_look(one, seconds) for one in configuration.sinks]
    return [*sources, *_models(configuration, sources), *sinks]


def try_all(configuration: Configuration, *, seconds: float) -> list[Finding]:
    """Look at every source and sink, and at every named model, and whether first rows fit it.

    Each source is read for at most so many seconds, from its beginning; where no model is named,
    only until the first rows come. One whose rows would be gone by that, or which would take them
    from others, is looked at and not read.
    """
    enough = 0 if configuration.models else 1
    sources = []
    for one in configuration.sources:
        finding = Finding("source", one.id, one.type, True, "")
        if not _looked(finding, one.source, seconds):
            finding = _read(one, None, seconds, enough=enough)
        sources.append(finding)
    sinks = [_look(one, seconds) for one in configuration.sinks]
    return [*sources, *_models(configuration, sources), *sinks]


def _looked(finding: Finding, make: Callable[[], object], seconds: float) -> bool:
    """Look at the far side, if the connector can do that; whether it can."""
    try:
        connector = make()
        if not isinstance(connector, Looking):
            return False
        finding.told = connector.look(seconds)
    except ImDiffusionError as error:
        finding.fails(error)
    return True


def _models(configuration: Configuration, sources: list[Finding]) -> list[Finding]:
    """What the named models are, each beside the entities that it scores."""
    found = []
    for number, section in enumerate(configuration.models, 1):
        finding = Finding("model", f"[[model]] {number}", "folder", True, "")
        found.append(finding)
        try:
            known = known_channels(section)
        except ImDiffusionError as error:
            finding.fails(error)
            continue
        finding.told = f"{section.folder} is whole; {_listed(known)}"
        for source in sources:
            for entity, channels in source.entities.items():
                if configuration.model_for(entity, source.id) is section:
                    fits, told = fit_of(section, known, entity, channels)
                    finding.reached, finding.told = finding.reached and fits, _with(finding, told)
                    finding.wrong = not finding.reached
                    finding.entities[entity] = channels
            if not source.entities:
                finding.told = _with(finding, f"no rows of {source.id} to try it on")
    return found


def _with(finding: Finding, more: str) -> str:
    """What was told of a finding, and more."""
    return f"{finding.told}; {more}" if finding.told else more


def _listed(known: Mapping[str | None, tuple[str, ...]]) -> str:
    """The channels that the entities of a folder know."""
    if len({*known.values()}) == 1:
        names = next(iter(known.values()))
        of = "" if len(known) == 1 else f" of each of {len(known)} entities"
        return f"channels{of}: {', '.join(names)}"
    shown = [f"{name}: {', '.join(names)}" for name, names in list(known.items())[:MOST_SHOWN]]
    return f"channels of {len(known)} entities, " + "; ".join(shown)


def _offsets(places: Places) -> dict[str, str]:
    if not places.live.is_file():
        return {}
    with Reader(places.live) as reader:
        return reader.offsets()


def _read(one: Connector, offset: str | None, seconds: float, *, enough: int = 0) -> Finding:
    """Read a source for so many seconds, or until so many rows have come (0 = any number)."""
    finding = Finding("source", one.id, one.type, True, "")
    if one.type == "stdin":
        _looked(finding, one.source, seconds)
        return finding
    finding.reached = False
    end = time.monotonic() + seconds
    try:
        with one.source() as source:
            source.open(offset)
            finding.reached = True
            for _ in range(MOST_BATCHES):
                batch = source.read(max(0.0, end - time.monotonic()))
                if batch is None and time.monotonic() >= end:
                    break
                if batch is None:
                    continue
                finding.told = "; ".join(batch.rejected[:3])
                for frame in batch.frames:
                    finding.rows += len(frame)
                    known = finding.entities.setdefault(frame.entity or one.id, [])
                    known += [name for name in frame.channels if name not in known]
                if time.monotonic() >= end or 0 < enough <= finding.rows:
                    break
    except SourceEnded:
        finding.told = "has come to its end"
    except ImDiffusionError as error:
        finding.fails(error)
    return finding


def _look(one: Connector, seconds: float) -> Finding:
    """Whether a sink's far side is there: a connection, or a folder that may be written to."""
    finding = Finding("sink", one.id, one.type, True, "needs nothing but this process")
    options = one.options
    try:
        if _looked(finding, one.sink, seconds):
            return finding
        if address := _url(options):
            parts = urlsplit(address)
            port = parts.port or PORTS.get(parts.scheme, 80)
            _connect(parts.hostname or "", port, seconds)
            finding.told = f"{parts.hostname}, port {port}, answers"
        elif "path" in options:
            finding.reached, finding.told = _writable(Path(str(options["path"])))
    except ImDiffusionError as error:
        finding.fails(error)
    except (OSError, ValueError) as error:
        finding.reached, finding.told = False, str(error)
    return finding


def _url(options: Mapping[str, Any]) -> str:
    if options.get("url_env") or options.get("url_file"):
        return secret(
            "url", env=str(options.get("url_env", "")), file=str(options.get("url_file", ""))
        )
    return str(options.get("url", ""))


def _connect(host: str, port: int, seconds: float) -> None:
    with socket.create_connection((host, port), timeout=max(0.1, seconds)):
        pass


def _writable(path: Path) -> tuple[bool, str]:
    """Whether a file could be made or written at `path`; none is left."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if place == path and path.is_dir():
        return False, f"{path} is a folder"
    try:
        if place.is_dir():  # root may write anywhere, but there are folders that take no file
            with TemporaryFile(dir=place):
                pass
        elif not os.access(place, os.W_OK):
            return False, f"{place} cannot be written to"
    except OSError as error:
        return False, f"{place} cannot be written to: {error.strerror}"
    return True, f"{path} can be written"
