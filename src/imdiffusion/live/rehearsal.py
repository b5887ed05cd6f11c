"""What would happen: every source read for a moment, every sink looked for, nothing written.

Sources go on from where the live state says they are, and are told nothing. A consumer group of
Kafka is joined for that moment, which moves partitions for as long.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imdiffusion.connectors.credentials import secret
from imdiffusion.errors import ImDiffusionError, SourceEnded
from imdiffusion.live.configuration import Configuration, Connector
from imdiffusion.live.given import fit_of, known_channels
from imdiffusion.live.places import Places
from imdiffusion.stream.queries import Reader

PORTS = {"http": 80, "https": 443, "": 9092}
MOST_BATCHES = 20
MOST_SHOWN = 5  # entities of a folder


@dataclass(slots=True)
class Finding:
    """What was found of a source, a model or a sink. entities: channels of each, by name."""

    kind: str
    id: str
    type: str
    reached: bool
    told: str
    rows: int = 0
    entities: dict[str, list[str]] = field(default_factory=dict)


def rehearse(configuration: Configuration, places: Places, *, seconds: float) -> list[Finding]:
    """Look at every source, for at most so many seconds each, and at every model and sink."""
    offsets = _offsets(places)
    sources = [_read(one, offsets.get(one.id), seconds) for one in configuration.sources]
    sinks = [_look(one, seconds) for one in configuration.sinks]
    return [*sources, *_models(configuration, sources), *sinks]


def try_models(configuration: Configuration, *, seconds: float) -> list[Finding]:
    """Look at every named model, and whether the first rows of the sources fit it.

    Each source is read for at most so many seconds, from its beginning; one whose rows would be
    gone by that, or which would take them from others, is not.
    """
    sources = [
        Finding("source", one.id, one.type, True, "not read here: see --dry-run")
        if one.type in ("kafka", "stdin")
        else _read(one, None, seconds)
        for one in configuration.sources
    ]
    return _models(configuration, sources)


def _models(configuration: Configuration, sources: list[Finding]) -> list[Finding]:
    """What the named models are, each beside the entities that it speaks for."""
    found = []
    for number, section in enumerate(configuration.models, 1):
        finding = Finding("model", f"[[model]] {number}", "folder", True, "")
        found.append(finding)
        try:
            known = known_channels(section)
        except ImDiffusionError as error:
            finding.reached, finding.told = False, str(error)
            continue
        finding.told = f"{section.folder} is whole; {_listed(known)}"
        for source in sources:
            for entity, channels in source.entities.items():
                if configuration.model_for(entity, source.id) is section:
                    fits, told = fit_of(section, known, entity, channels)
                    finding.reached, finding.told = finding.reached and fits, _with(finding, told)
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


def _read(one: Connector, offset: str | None, seconds: float) -> Finding:
    finding = Finding("source", one.id, one.type, False, "")
    if one.type == "stdin":
        finding.reached, finding.told = True, "not read: what is read from a pipe is gone"
        return finding
    source = one.source()
    end = time.monotonic() + seconds
    try:
        with source:
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
                if time.monotonic() >= end:
                    break
    except SourceEnded:
        finding.told = "has come to its end"
    except ImDiffusionError as error:
        finding.reached, finding.told = False, str(error)
    return finding


def _look(one: Connector, seconds: float) -> Finding:
    """Whether a sink's far side is there: a connection, or a folder that may be written to."""
    finding = Finding("sink", one.id, one.type, True, "needs nothing but this process")
    options = one.options
    try:
        if address := _url(options):
            parts = urlsplit(address)
            port = parts.port or PORTS.get(parts.scheme, 80)
            _connect(parts.hostname or "", port, seconds)
            finding.told = f"{parts.hostname}, port {port}, answers"
        elif servers := str(options.get("servers", "")):
            for server in servers.split(","):
                host, _, port_text = server.strip().rpartition(":")
                _connect(host or server.strip(), int(port_text or PORTS[""]), seconds)
            finding.told = f"{servers} answers"
        elif "path" in options:
            finding.reached, finding.told = _writable(Path(str(options["path"])))
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
    """Whether a file could be made or written at `path`, without doing it."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if place == path and path.is_dir():
        return False, f"{path} is a folder"
    if not os.access(place, os.W_OK):
        return False, f"{place} cannot be written to"
    return True, f"{path} can be written"
