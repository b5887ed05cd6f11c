"""The sink `sqlite`: records in a database, a table a kind, a row a key."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from imdiffusion.errors import ConnectionLost, OutputError
from imdiffusion.live.connection.options import KINDS, Kind, takes_of
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import Key, json_of
from imdiffusion.live.sinks.delivery import Pending
from imdiffusion.records import Record
from imdiffusion.schema import positive

_HELD = 50_000  # records that wait for a flush at most; then `send` flushes itself
_FORMAT = 3  # 1 had no kinds and reasons, 2 other words for the mode of a score
_MARK = 0x494D4449  # "IMDI", the application_id
_COLUMNS = {
    "score": {
        "entity": "TEXT NOT NULL",
        "timestamp": "INTEGER NOT NULL",
        "timestamp_iso": "TEXT NOT NULL",
        "mode": "TEXT NOT NULL",
        "score": "REAL",
        "state": "TEXT NOT NULL",
        "detector": "TEXT NOT NULL",
        "model": "TEXT NOT NULL",
        "channels": "TEXT NOT NULL",
        "shares": "TEXT NOT NULL",
        "kinds": "TEXT NOT NULL DEFAULT '[]'",
    },
    "event": {
        "id": "TEXT NOT NULL",
        "update": "INTEGER NOT NULL",
        "entity": "TEXT NOT NULL",
        "status": "TEXT NOT NULL",
        "start": "INTEGER NOT NULL",
        "start_iso": "TEXT NOT NULL",
        "end": "INTEGER",
        "end_iso": "TEXT",
        "peak": "INTEGER NOT NULL",
        "peak_iso": "TEXT NOT NULL",
        "score": "REAL",
        "detector": "TEXT NOT NULL",
        "model": "TEXT NOT NULL",
        "channels": "TEXT NOT NULL",
        "shares": "TEXT NOT NULL",
        "expected": "TEXT NOT NULL",
        "seen": "TEXT NOT NULL",
        "kinds": "TEXT NOT NULL DEFAULT '[]'",
        "reason": "TEXT NOT NULL DEFAULT ''",
    },
}
_KEYS = {"score": ("entity", "timestamp", "mode", "model"), "event": ("id", "update")}
_UNFIT = (UnicodeError, OverflowError, sqlite3.IntegrityError, sqlite3.InterfaceError)


class SqliteSink(Closing):
    """The tables `score` and `event`, whose primary keys are the records' keys.

    path: the file; its folder is made. takes: "score", "event", or both. busy: seconds to wait for
    another process that writes. Times are INTEGER nanoseconds, and ISO 8601 text beside them in
    `<name>_iso`; NaN is NULL; channels, shares, expected, seen and kinds are JSON lists.
    A file of an older format gets the columns that it lacks.

    A record sent again replaces its own row, however long ago that was. `flush` is one transaction,
    on the disk when it returns (WAL, synchronous=FULL): all of what was sent is there, or none.
    A record that the database cannot hold is passed over, and counted in `refused`.
    """

    def __init__(self, *, path: str, takes: tuple[Kind, ...] = KINDS, busy: float = 5.0) -> None:
        positive(busy=busy)
        self.path = Path(path)
        self.takes = takes_of(takes)
        self.busy = busy
        self.refused = 0
        self._pending = Pending(window=0)  # the primary key remembers
        self._database: sqlite3.Connection | None = None

    def open(self) -> None:
        """Make the folder, the file and the tables.

        Raises OutputError if that cannot be done, or the file holds something else; ConnectionLost
        if another process keeps it locked.
        """
        self.close()
        self._pending.clear()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path, timeout=self.busy, isolation_level=None, check_same_thread=False
            )
            self._make(self._database)
        except (sqlite3.Error, OSError) as error:
            self.close()
            raise _trouble(self.path, error) from error

    def send(self, records: Sequence[Record]) -> None:
        """Take records; they are written by `flush`, or here once there are many."""
        self._pending.add(records)
        if len(self._pending.held) > _HELD:
            self.flush()

    def flush(self) -> None:
        """Write what was sent in one transaction. ConnectionLost if that fails; call again."""
        if self._database is None:
            self.open()
        database = self._database
        held = list(self._pending.held.items())
        if database is None or not held:
            return
        try:
            database.execute("BEGIN IMMEDIATE")
            try:
                unfit = self._write(database, held)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a full disk rolls back by itself
                    database.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise _trouble(self.path, error) from error
        self.refused += unfit
        self._pending.settle(key for key, _ in held)

    def close(self) -> None:
        """Let go of the file. What was not flushed is dropped. May be called twice."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _make(self, database: sqlite3.Connection) -> None:
        mark = database.execute("PRAGMA application_id").fetchone()[0]
        form = database.execute("PRAGMA user_version").fetchone()[0]
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (tables and mark != _MARK) or form > _FORMAT:
            what = f"format {form}, newer than {_FORMAT}" if mark == _MARK else "something else"
            raise OutputError(f"{self.path} holds {what}", remedy="Name another file.")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN IMMEDIATE")
        for table, columns in _COLUMNS.items():
            listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {table} ({listed}, "
                f"PRIMARY KEY ({_quoted(_KEYS[table])})) WITHOUT ROWID"
            )
            there = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
            if "moment" in there:
                database.execute(f"ALTER TABLE {table} RENAME COLUMN moment TO mode")
                words = "CASE mode WHEN 'arrival' THEN 'online' ELSE 'offline' END"
                database.execute(f"UPDATE {table} SET mode = {words}")  # noqa: S608
                there.add("mode")
            if "turn" in there:
                database.execute(f'ALTER TABLE {table} RENAME COLUMN turn TO "update"')
                there.add("update")
            for name in [name for name in columns if name not in there]:
                database.execute(f'ALTER TABLE {table} ADD COLUMN "{name}" {columns[name]}')
        database.execute(f"PRAGMA application_id = {_MARK}")
        database.execute(f"PRAGMA user_version = {_FORMAT}")
        database.execute("COMMIT")

    def _write(self, database: sqlite3.Connection, held: list[tuple[Key, Record]]) -> int:
        """Write each record; how many the database cannot hold."""
        unfit = 0
        for _, record in held:
            try:
                row = json_of(record)
                table = row.pop("kind")
                database.execute(_UPSERT[table], [_cell(row[name]) for name in _COLUMNS[table]])
            except _UNFIT:  # text that is no text, an integer beyond 64 bits: never to be written
                unfit += 1
        return unfit


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return None if isinstance(value, float) and math.isnan(value) else value


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _upsert(table: str) -> str:
    names = [f'"{name}"' for name in _COLUMNS[table]]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608
        f"ON CONFLICT ({_quoted(_KEYS[table])}) DO UPDATE SET {changes}"
    )


_UPSERT = {table: _upsert(table) for table in _COLUMNS}


def _trouble(path: Path, error: Exception) -> OutputError | ConnectionLost:
    if isinstance(error, OutputError | ConnectionLost):
        return error
    code = getattr(error, "sqlite_errorcode", None)
    lasting = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN)
    if (code is not None and code & 0xFF in lasting) or not isinstance(error, sqlite3.Error):
        return OutputError(
            f"cannot write {path}: {error}",
            remedy="Move the file, or name one in a folder that you may write to.",
        )
    return ConnectionLost(f"{path} cannot be written: {error}", remedy="It is tried again.")
