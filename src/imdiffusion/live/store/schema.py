"""The tables of the live state, by version, and the way from one version to the next.

Every version is a step that stays here for good: a new file takes all steps, an old one those it
lacks, each in one transaction, so that a kill in the middle leaves the version before.

`scores`, `details` and `peaks` are kept in the order of (entity, timestamp): what a chart asks for
lies together. Names stand once, in `entities` and `scorers`, and as numbers elsewhere. NaN is NULL.
"""

from __future__ import annotations

import fcntl
import logging
import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from imdiffusion.durations import MINUTE_NS
from imdiffusion.errors import OutputError, StateWarning

APPLICATION = 0x494D4446  # "IMDF": says whose file this is
PEAK_NS = 10 * MINUTE_NS  # width of a bucket of `peaks`: ten minutes, as in _SECOND

_FIRST = """
CREATE TABLE versions (version INTEGER PRIMARY KEY, recorded INTEGER NOT NULL);
CREATE TABLE entities (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, timestamp INTEGER, score REAL,
    state TEXT NOT NULL, voice INTEGER, interval INTEGER, heard INTEGER NOT NULL
);
CREATE TABLE voices (
    id INTEGER PRIMARY KEY, detector TEXT NOT NULL, model TEXT NOT NULL, channels TEXT NOT NULL,
    UNIQUE (detector, model, channels)
);
CREATE TABLE scores (
    entity INTEGER NOT NULL, timestamp INTEGER NOT NULL, moment INTEGER NOT NULL,
    voice INTEGER NOT NULL, score REAL, state INTEGER NOT NULL, why TEXT,
    PRIMARY KEY (entity, timestamp, moment, voice)
) WITHOUT ROWID;
CREATE TABLE details (
    entity INTEGER NOT NULL, timestamp INTEGER NOT NULL, moment INTEGER NOT NULL,
    voice INTEGER NOT NULL, cells BLOB NOT NULL,
    PRIMARY KEY (entity, timestamp, moment, voice)
) WITHOUT ROWID;
CREATE TABLE turns (
    id TEXT NOT NULL, turn INTEGER NOT NULL, record TEXT NOT NULL, recorded INTEGER NOT NULL,
    PRIMARY KEY (id, turn)
) WITHOUT ROWID;
CREATE TABLE events (
    id TEXT PRIMARY KEY, turn INTEGER NOT NULL, entity TEXT NOT NULL, status TEXT NOT NULL,
    start INTEGER NOT NULL, end INTEGER, words TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX events_start ON events (start, id);
CREATE INDEX events_entity ON events (entity, start);
CREATE INDEX events_status ON events (status, start);
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY, event TEXT NOT NULL, verdict TEXT NOT NULL, who TEXT NOT NULL,
    text TEXT NOT NULL, recorded INTEGER NOT NULL
);
CREATE INDEX feedback_event ON feedback (event);
CREATE TABLE states (
    entity TEXT NOT NULL, part TEXT NOT NULL, state BLOB NOT NULL, recorded INTEGER NOT NULL,
    PRIMARY KEY (entity, part)
);
CREATE TABLE offsets (source TEXT PRIMARY KEY, offset TEXT NOT NULL, recorded INTEGER NOT NULL);
CREATE TABLE counters (
    name TEXT NOT NULL, label TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, label)
) WITHOUT ROWID;
CREATE TABLE models (
    entity TEXT NOT NULL, digest TEXT NOT NULL, detector TEXT NOT NULL, path TEXT NOT NULL,
    made INTEGER NOT NULL, PRIMARY KEY (entity, digest)
) WITHOUT ROWID;
CREATE TABLE reigns (
    seq INTEGER PRIMARY KEY, entity TEXT NOT NULL, digest TEXT NOT NULL, reason TEXT NOT NULL,
    recorded INTEGER NOT NULL
);
CREATE INDEX reigns_entity ON reigns (entity, seq);
CREATE TABLE feed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX feed_kind ON feed (kind, seq);
CREATE TABLE cursors (sink TEXT PRIMARY KEY, seq INTEGER NOT NULL, takes TEXT NOT NULL);
"""

# Peaks by ten minutes, so that a day of 600 lanes is drawn without reading every score, and old
# scores can go while their peaks stay.
_SECOND = """
CREATE TABLE peaks (
    entity INTEGER NOT NULL, moment INTEGER NOT NULL, bucket INTEGER NOT NULL, score REAL,
    rows INTEGER NOT NULL, alarms INTEGER NOT NULL,
    PRIMARY KEY (entity, moment, bucket)
) WITHOUT ROWID;
INSERT INTO peaks
SELECT entity, moment, timestamp / 600000000000 * 600000000000 AS bucket, max(score), count(*),
    coalesce(sum(score > 1), 0)
FROM scores GROUP BY entity, moment, bucket;
"""

# What was seen and expected around events outlives the details of all other rows (keeping.py).
_THIRD = """
CREATE TABLE kept (
    entity INTEGER NOT NULL, timestamp INTEGER NOT NULL, moment INTEGER NOT NULL,
    voice INTEGER NOT NULL, cells BLOB NOT NULL,
    PRIMARY KEY (entity, timestamp, moment, voice)
) WITHOUT ROWID;
CREATE VIEW shown AS SELECT * FROM details UNION ALL SELECT * FROM kept;
"""

# What is to be known of the active scorer: how many planted faults a baseline sees.
_FOURTH = """
ALTER TABLE entities ADD COLUMN note TEXT NOT NULL DEFAULT '';
"""

# Words of the field: what scores an entity is a scorer, a model that takes over is promoted, and a
# score is of one mode, online or offline.
_FIFTH = """
ALTER TABLE voices RENAME TO scorers;
ALTER TABLE entities RENAME COLUMN voice TO scorer;
ALTER TABLE scores RENAME COLUMN voice TO scorer;
ALTER TABLE scores RENAME COLUMN moment TO mode;
ALTER TABLE peaks RENAME COLUMN moment TO mode;
DROP VIEW shown;
ALTER TABLE details RENAME COLUMN moment TO mode;
ALTER TABLE kept RENAME COLUMN moment TO mode;
ALTER TABLE details RENAME COLUMN voice TO scorer;
ALTER TABLE kept RENAME COLUMN voice TO scorer;
CREATE VIEW shown AS SELECT * FROM details UNION ALL SELECT * FROM kept;
ALTER TABLE reigns RENAME TO promotions;
DROP INDEX reigns_entity;
CREATE INDEX promotions_entity ON promotions (entity, seq);
UPDATE feed SET record = json_remove(json_set(record, '$.mode',
    CASE json_extract(record, '$.moment') WHEN 'arrival' THEN 'online' ELSE 'offline' END),
    '$.moment')
WHERE json_extract(record, '$.moment') IS NOT NULL;
"""

# What is told of an event after its onset is an update of it. States that were saved before are of
# another layout (`saved_state`): they are refused by name, and what they were of begins afresh.
_SIXTH = """
ALTER TABLE turns RENAME TO updates;
ALTER TABLE updates RENAME COLUMN turn TO number;
ALTER TABLE events RENAME COLUMN turn TO number;
UPDATE updates SET record = json_remove(
    json_set(record, '$.update', json_extract(record, '$.turn')), '$.turn')
WHERE json_extract(record, '$.turn') IS NOT NULL;
UPDATE feed SET record = json_remove(
    json_set(record, '$.update', json_extract(record, '$.turn')), '$.turn')
WHERE json_extract(record, '$.turn') IS NOT NULL;
"""

STEPS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH)
NEWEST = len(STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of a file's tables; 0 = it has none yet."""
    known = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'versions'"
    ).fetchone()
    if known is None:
        return 0
    return int(connection.execute("SELECT max(version) FROM versions").fetchone()[0])


def check_ours(connection: sqlite3.Connection, path: str) -> None:
    """Raise OutputError for a sound database that is another program's, or of a newer version."""
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    filled = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if filled and mark != APPLICATION:
        raise OutputError(
            f"{path} is a database of another program",
            remedy="Name another file for the live state.",
        )
    found = version_of(connection)
    if found > NEWEST:
        raise OutputError(
            f"the live state {path} is of version {found}, this imdiffusion knows up to {NEWEST}",
            remedy="Upgrade imdiffusion, or name another file for the live state.",
        )


def migrate(connection: sqlite3.Connection, now: int, *, to: int = NEWEST) -> int:
    """Take every step that is lacking up to version `to`; the version found. now: ns, UTC."""
    found = version_of(connection)
    for version in range(found + 1, to + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in STEPS[version - 1].split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute("INSERT INTO versions VALUES (?, ?)", (version, now))
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return found


# -- the file of the live state: opened, checked, locked for one writer, its failures named
#
# WAL: readers never wait for the writer, nor it for them. `synchronous = FULL`: a commit returns
# only when it is on the disk, so that what was acknowledged (to a source, to a person who gave
# feedback) outlives a power cut. One process writes: a lock file beside the database, held by the
# kernel, which a kill releases.

log = logging.getLogger(__name__)

LOG_BYTES = 64_000_000  # what the log is cut back to after a larger transaction
BUSY_MS = 10_000  # how long a statement waits for another's lock before it fails
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REMEDIES = {
    sqlite3.SQLITE_FULL: "Free some space, or write to another disk.",
    sqlite3.SQLITE_READONLY: "Write to a folder that you may write to.",
    sqlite3.SQLITE_CANTOPEN: "Write to a folder that exists and that you may write to.",
    sqlite3.SQLITE_PERM: "Write to a folder that you may write to.",
    sqlite3.SQLITE_IOERR: "Check the disk and the limits on file sizes (ulimit -f).",
    sqlite3.SQLITE_BUSY: "Another program holds the file: end it, or name another file.",
    sqlite3.SQLITE_CORRUPT: "Start again: a damaged file is set aside and a fresh one is begun.",
    sqlite3.SQLITE_NOTADB: "Start again: a damaged file is set aside and a fresh one is begun.",
}


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a failure of SQLite or the system into an OutputError with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise OutputError(
            f"the live state {path} cannot be used: {error}",
            remedy=_REMEDIES.get(code, "Name another file for the live state."),
        ) from error


def connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    """A connection without implicit transactions; one that does not write cannot.

    It may be used by several threads, one at a time. A file that is another program's, or of a
    newer version, is refused (OutputError) before anything in it is touched.
    """
    mode = "rwc" if writes else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_MS / 1000,
    )
    try:
        check_ours(connection, str(path))
        if writes:
            if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
                # Before the first table: lets a file shrink in small steps.
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}").fetchall()
        else:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def open_state(path: Path) -> sqlite3.Connection:
    """The writer's connection to a sound file of the newest version.

    A damaged file is set aside under another name, loudly (StateWarning), and a fresh one begun.
    OutputError: it cannot be opened, is another program's, or of a newer version.
    """
    with storage(path):
        try:
            return _open_sound(path)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            aside = _set_aside(path)
            message = (
                f"the live state {path} is damaged ({error}): it was set aside as {aside.name} "
                "and a fresh one begun. Sources start over, and learned states with them"
            )
            log.error(message)
            warnings.warn(message, StateWarning, stacklevel=3)
            return _open_sound(path)


def _open_sound(path: Path) -> sqlite3.Connection:
    connection = connect(path, writes=True)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            damage = sqlite3.DatabaseError(str(found).replace("\n", " "))
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        before = migrate(connection, time.time_ns())
        if 0 < before < NEWEST:
            log.info("the live state %s went from version %d to %d", path, before, NEWEST)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_aside(path: Path) -> Path:
    """Rename a damaged file, its log first: a fresh file must not find an old one's log."""
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    free = (n for n in range(1, 1_000_000) if not path.with_name(f"{stem}-{n}").exists())
    aside = path.with_name(f"{stem}-{next(free)}")
    for tail in ("-wal", "-shm", ""):
        part = path.with_name(path.name + tail)
        if part.exists():
            part.rename(aside.with_name(aside.name + tail))
    return aside


def lock(path: Path) -> IO[bytes]:
    """Hold the right to write until the file that comes back is closed.

    OutputError: another process holds it, or the folder cannot be written to.
    """
    place = path.with_name(f"{path.name}.lock")
    try:
        held = place.open("ab")
    except OSError as error:
        raise OutputError(
            f"the live state {path} cannot be used: {error.strerror}",
            remedy="Write to a folder that exists and that you may write to.",
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise OutputError(
            f"the live state {path} is in use by another process",
            remedy="End that one, or name another file for the live state.",
        ) from error
    return held


def size_of(path: Path) -> int:
    """Bytes on the disk, the log included."""
    total = 0
    for tail in ("", "-wal"):
        place = path.with_name(path.name + tail)
        if place.exists():
            total += place.stat().st_size
    return total
