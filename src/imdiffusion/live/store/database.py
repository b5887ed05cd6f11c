"""The file of the live state: opened, checked, locked for one writer, its failures named.

WAL: readers never wait for the writer, nor it for them. `synchronous = FULL`: a commit returns
only when it is on the disk, so that what was acknowledged (to a source, to a person who gave
feedback) outlives a power cut. One process writes: a lock file beside the database, held by the
kernel, which a kill releases.
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

from imdiffusion.errors import OutputError, StateWarning
from imdiffusion.live.store.schema import NEWEST, check_ours, migrate

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
