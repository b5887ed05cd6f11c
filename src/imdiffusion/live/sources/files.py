"""The source `files`: a file, or a folder of files, that grow while they are read.

CSV (.csv, with a header) and JSON lines (.jsonl, .ndjson), wide or long. Offsets are bytes in each
file, sealed (see `tail`), so that rotation, replacement and truncation are noticed, also after a
restart.
"""

from __future__ import annotations

import fnmatch
import json
import time
from dataclasses import astuple
from pathlib import Path

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.growing_file import Position, Sheet, holds, next_lines
from imdiffusion.live.sources.text_rows import Gathering, RowForm
from imdiffusion.schema import positive

SUFFIXES = (".csv", ".jsonl", ".ndjson")
_NOT_GROWING = (".gz", ".parquet")
_IDLE = 64


class FilesSource(Closing):
    """A file or a folder of files that grow.

    path: the file, or the folder; in a folder every file of a known suffix that fits `pattern`
    counts, and new ones are picked up; names that start with a dot do not. entity, timestamp: the
    columns (or keys) of those names. A row that names no entity belongs to the file's name without
    its suffix. unit: of timestamps given as numbers (s, ms, us, ns, or auto). ignore: columns that
    are no channels. poll: seconds between two looks. batch_rows: rows a batch
    at most. max_line_bytes: a longer line is passed over.

    A line counts when its end is there. A file that was renamed in its folder, or copied and
    truncated, under a name that starts with its own (app.csv -> app.csv.1), is read to its end
    before the new one. Loses and doubles nothing from a committed offset; what it knows to have
    missed (a file replaced, its rest nowhere) it names in `rejected`.
    """

    def __init__(
        self,
        *,
        path: str,
        pattern: str = "*",
        entity: str = "entity",
        timestamp: str = "timestamp",
        unit: str = "auto",
        ignore: tuple[str, ...] = (),
        poll: float = 0.5,
        batch_rows: int = 10_000,
        max_line_bytes: int = 1 << 20,
    ) -> None:
        positive(poll=poll, batch_rows=batch_rows, max_line_bytes=max_line_bytes)
        self.form = RowForm.of_options(entity=entity, timestamp=timestamp, unit=unit, ignore=ignore)
        self.path, self.pattern, self.poll = Path(path), pattern, poll
        self.batch_rows, self.max_line_bytes = batch_rows, max_line_bytes
        self._places: dict[str, Position] = {}
        self._sheets: dict[str, Sheet] = {}
        self._seen: dict[str, tuple[int, int, int]] = {}  # inode, size, changed: nothing left there
        self._sizes: dict[str, int] = {}
        self._told: set[str] = set()
        self._turn = 0

    def open(self, offset: str | None) -> None:
        """Start after `offset`; ConfigError if it is not one of this source."""
        self._sheets, self._seen, self._sizes, self._told, self._turn = {}, {}, {}, set(), 0
        try:
            found = {} if offset is None else json.loads(offset)["files"]
            self._places = {name: Position(*place) for name, place in found.items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(
                f"the offset {offset!r} is not one of the source 'files'",
                remedy="Start without it: files are then read from their beginning.",
            ) from error

    def read(self, timeout: float) -> Batch | None:
        """The next rows of any of the files. Raises ConnectionLost while path is not there."""
        end = time.monotonic() + timeout
        idle = 0  # looks in a row that went on, over headers or what is passed over, to no row
        while True:
            before = dict(self._places)
            batch = self._look()
            if batch is not None:
                return batch
            if self._places != before and idle < _IDLE:
                idle += 1
                continue
            left, idle = end - time.monotonic(), 0
            if left <= 0:
                return None
            time.sleep(min(self.poll, left))

    def commit(self, offset: str) -> None:
        """Nothing to do: files forget nothing."""

    def close(self) -> None:
        """Nothing to let go of: no file is held open between two looks."""

    def _look(self) -> Batch | None:
        """One look at every file, for as many rows as a batch may have."""
        rows = Gathering(self.form)
        try:
            names = self._names(rows)
        except NotADirectoryError as error:
            raise ConfigError(
                f"{self.path} is no folder, and has no suffix of a file that grows",
                remedy=f"Name a folder, or a file that ends in {', '.join(SUFFIXES)}.",
            ) from error
        except OSError as error:
            raise _lost(self.path, error) from error
        first = self._turn % len(names) if names else 0
        for done, name in enumerate(names[first:] + names[:first]):
            if rows.count >= self.batch_rows:
                self._turn = first + done  # the next look starts with the files left out
                break
            try:
                self._follow(name, rows)
            except OSError as error:  # one file out of reach must not stop the others
                if len(names) == 1 and not (rows.count or rows.rejected):
                    raise _lost(self._folder / name, error) from error
                self._tell(rows, name, f"cannot be read: {error.strerror or error}")
        places = {name: astuple(place) for name, place in sorted(self._places.items())}
        return rows.batch(json.dumps({"files": places}, separators=(",", ":")))

    @property
    def _whole(self) -> bool:
        """Whether `path` is a folder, all of it."""
        return not _known(self.path.name) or self.path.is_dir()

    @property
    def _folder(self) -> Path:
        return self.path if self._whole else self.path.parent

    def _names(self, rows: Gathering) -> list[str]:
        """The files to look at: those in hand, and new ones. Raises OSError."""
        if not self._whole:
            if not self._places and not self.path.exists():
                raise FileNotFoundError("there is no such file")
            return [self.path.name]
        there = sorted(
            one.name
            for one in self.path.iterdir()
            if not one.name.startswith(".") and fnmatch.fnmatch(one.name, self.pattern)
        )
        for name in there:
            if name.lower().endswith(_NOT_GROWING) and not any(
                name.startswith(known) for known in self._places
            ):
                self._tell(rows, name, "skipped: a file of that suffix does not grow")
        names = [name for name in there if _known(name)]
        for name in names:
            if name not in self._places:
                self._adopt(name)
        return sorted({*names, *self._places})

    def _adopt(self, name: str) -> None:
        """A new name may be a file in hand that was renamed: it goes on where it stood."""
        path = self._folder / name
        inode = path.stat().st_ino
        for other, place in self._places.items():
            if place.at and place.inode == inode and holds(path, place):
                if not holds(self._folder / other, place):
                    self._places[name] = self._places.pop(other)
                    self._sheets.pop(other, None)
                return

    def _follow(self, name: str, rows: Gathering) -> None:
        path = self._folder / name
        if self._take(name, path, rows) is not None:
            return
        place = self._places.get(name, Position())
        there = path.exists()
        moved = self._moved(name, place)
        if moved is not None:
            # The writer has gone over to the new file once there is something in it.
            final = there and path.stat().st_size > 0
            left = self._take(name, moved, rows, final=final)
            if left is None or left or not final:
                return
            self._tell_between(name, moved, rows)
        elif place.at < self._sizes.get(name, place.at + 1):
            change = "replaced or truncated" if there else "removed"
            rows.reject(name, f"{change}; read up to byte {place.at}, any rest of it is lost")
        for table in (self._places, self._sheets, self._sizes):
            table.pop(name, None)
        if there:
            self._take(name, path, rows)

    def _take(self, name: str, path: Path, rows: Gathering, *, final: bool = False) -> int | None:
        """Gather the next lines of a file: the bytes left in it; None if it is another file."""
        place = self._places.get(name, Position())
        try:
            status = path.stat()
        except FileNotFoundError:
            return None
        mark = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._seen.get(name) == mark and not final:
            return status.st_size - place.at
        limit = max(0, self.batch_rows - rows.count)
        found = next_lines(path, place, limit=limit, max_bytes=self.max_line_bytes, final=final)
        if found is None:
            return None
        if name not in self._sheets:
            stem = name.rpartition(".")[0]
            self._sheets[name] = Sheet(name, stem, self.form, self.max_line_bytes)
        self._sheets[name].gather(path, found, rows)
        for number in found.too_long:
            rows.reject(f"{name}, line {number}", f"longer than {self.max_line_bytes} bytes")
        self._places[name], self._sizes[name] = found.position, found.size
        self._seen.pop(name, None)
        if limit and found.position == place:  # all that is whole was taken before
            self._seen[name] = (found.position.inode, found.size, found.changed)
        return found.size - found.position.at

    def _moved(self, name: str, place: Position) -> Path | None:
        """Where a file in hand has gone: renamed, or copied before it was truncated."""
        for one in self._folder.iterdir():
            if one.name == name or not one.is_file():
                continue
            kin = one.name.startswith(name) or one.stat().st_ino == place.inode
            if kin and not (one.name in self._places or self._claims(one)) and holds(one, place):
                return one
        return None

    def _claims(self, path: Path) -> bool:
        """Whether a file is in the folder on its own account, not as the past of another."""
        return self._whole and _known(path.name) and fnmatch.fnmatch(path.name, self.pattern)

    def _tell_between(self, name: str, moved: Path, rows: Gathering) -> None:
        """Name files that were rotated away unseen, between the one that was read and the new."""
        since = moved.stat().st_mtime_ns
        for one in sorted(self._folder.glob(f"{name}?*")):
            if one != moved and one.stat().st_mtime_ns > since and one.name not in self._places:
                rows.reject(one.name, f"written after {moved.name} and before {name}, not read")

    def _tell(self, rows: Gathering, name: str, why: str) -> None:
        if f"{name}: {why}" not in self._told:
            self._told.add(f"{name}: {why}")
            rows.reject(name, why)


def _known(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _lost(path: Path, error: OSError) -> ConnectionLost:
    return ConnectionLost(
        f"{path} cannot be read: {error.strerror or error}",
        remedy="Check its name and the rights on it; it is tried again.",
    )
