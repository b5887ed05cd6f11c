"""Far sides of sources and sinks for the contract; built in, for those that need but a folder."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from imdiffusion.live.connection.record_json import Key, key_in
from imdiffusion.records import Record

Cells = dict[tuple[str, int, str], float]  # (entity, timestamp in ns, channel) -> value

START = 1_700_000_000 * 10**9


@dataclass(frozen=True, slots=True)
class SourceRig:
    """A far side for one source.

    options: that build it. feed: puts values on the far side; None = it makes its own. spoil: puts
    something there that no source could use; None = there is nothing like that. replays: what lies
    after an offset comes again. times: ns at which `feed` may be given values, at least six.
    """

    options: Mapping[str, object]
    feed: Callable[[Cells], None] | None
    spoil: Callable[[], None] | None = None
    replays: bool = True
    times: tuple[int, ...] = tuple(START + i * 10**9 for i in range(6))


@dataclass(frozen=True, slots=True)
class SinkRig:
    """A far side for one sink.

    options: that build it. received: the keys (`record_text.key_of`) of all that came, each as
    often as it came; None where the far side keeps no keys. shows: is given what was sent, and
    raises AssertionError unless the far side shows just that; None = nothing more is asked there.
    remembers: also over a restart nothing comes twice.
    """

    options: Mapping[str, object]
    received: Callable[[], list[Key]] | None
    remembers: bool = True
    shows: Callable[[Sequence[Record]], None] | None = None


def rows_of(cells: Cells) -> list[bytes]:
    """The cells as rows of JSON, wide, without ends of line."""
    rows: dict[tuple[str, int], dict[str, object]] = {}
    for (entity, instant, channel), value in cells.items():
        row = rows.setdefault((entity, instant), {"entity": entity, "timestamp": instant})
        row[channel] = value
    return [json.dumps(row).encode() for row in rows.values()]


def keys_of(texts: Iterable[str | bytes]) -> list[Key]:
    """The keys of records in JSON; AssertionError for what is no record, or no strict JSON."""
    keys = []
    for text in texts:
        key = key_in(json.loads(text, parse_constant=_refuse))
        if key is None:
            raise AssertionError(f"{text!r} is not a record")
        keys.append(key)
    return keys


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


@contextmanager
def _files_source() -> Iterator[SourceRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")

        def feed(cells: Cells) -> None:
            with path.open("ab") as file:
                file.writelines(row + b"\n" for row in rows_of(cells))

        def spoil() -> None:
            with path.open("ab") as file:
                file.write(b"rubbish\n")

        yield SourceRig({"path": folder, "poll": 0.01}, feed, spoil)


@contextmanager
def _stdin_source() -> Iterator[SourceRig]:
    reading, writing = os.pipe()
    try:

        def feed(cells: Cells) -> None:
            os.write(writing, b"".join(row + b"\n" for row in rows_of(cells)))

        def spoil() -> None:
            os.write(writing, b"rubbish\n")

        yield SourceRig({"descriptor": reading}, feed, spoil, replays=False)
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def _host_source() -> Iterator[SourceRig]:
    yield SourceRig({"interval": 0.05}, None, replays=False)


@contextmanager
def _stdout_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryFile("w+b") as file:

        def received() -> list[Key]:
            return keys_of(os.pread(file.fileno(), 1 << 20, 0).splitlines())

        yield SinkRig({"descriptor": file.fileno()}, received, remembers=False)


@contextmanager
def _files_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "new", "records.jsonl")
        yield SinkRig({"path": str(path)}, lambda: keys_of(path.read_text("utf-8").splitlines()))


@contextmanager
def _sqlite_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "new", "records.db")

        def received() -> list[Key]:
            with closing(sqlite3.connect(path)) as database:
                scores = database.execute("SELECT entity, timestamp, mode, model FROM score")
                keys: list[Key] = [("score", *row) for row in scores]
                return keys + [
                    ("event", *r) for r in database.execute('SELECT id, "update" FROM event')
                ]

        yield SinkRig({"path": str(path)}, received)


SOURCE_RIGS: dict[str, Callable[[], AbstractContextManager[SourceRig]]] = {
    "files": _files_source,
    "stdin": _stdin_source,
    "host": _host_source,
}
SINK_RIGS: dict[str, Callable[[], AbstractContextManager[SinkRig]]] = {
    "stdout": _stdout_sink,
    "files": _files_sink,
    "sqlite": _sqlite_sink,
}
