"""One file that grows: where its reading stands, whether it is still the same file, its next lines.

No file is held open between two looks. What ties a position to its file is a seal, a digest of the
bytes at the file's start and of those right before the position: a file that was replaced or
truncated, however long the new one is, does not have it.
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from imdiffusion.data.csv_source import MISSING
from imdiffusion.errors import DataError
from imdiffusion.live.sources.text_rows import Gathering, RowForm

_HEAD, _TAIL = 1024, 256  # bytes under the seal
_CHUNK = 1 << 18


@dataclass(frozen=True, slots=True)
class Position:
    """How far a file has been read.

    at: bytes. lines: whole lines in them. inode: the file's number when it was read last. seal: of
    the bytes before `at`. skipping: `at` stands within a line that is too long.
    """

    at: int = 0
    lines: int = 0
    inode: int = 0
    seal: str = ""
    skipping: bool = False


@dataclass(frozen=True, slots=True)
class Lines:
    """The next whole lines of a file, without their ends, each with its number from 1.

    too_long: numbers of lines that were passed over for their length. position: after all of them.
    size, changed: the file's, in bytes and in ns since the epoch, at the look.
    """

    lines: tuple[tuple[int, bytes], ...]
    too_long: tuple[int, ...]
    position: Position
    size: int
    changed: int


def holds(path: Path, position: Position) -> bool:
    """Whether the file at `path` is the one that was read up to `position`.

    False also where there is no such file. Raises OSError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return size >= position.at and _seal(file, position.at) == position.seal
    except FileNotFoundError:
        return False


def next_lines(
    path: Path, position: Position, *, limit: int, max_bytes: int, final: bool = False
) -> Lines | None:
    """Up to `limit` whole lines after `position`; of a `final` file also the last, without its end.

    None if there is no such file, or another than was read up to `position`. A line of more than
    `max_bytes` bytes is passed over without being held. Raises OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        status = os.fstat(file.fileno())
        if status.st_size < position.at or _seal(file, position.at) != position.seal:
            return None
        file.seek(position.at)
        data = file.read(max(_CHUNK, max_bytes + 1))
        size = max(status.st_size, position.at + len(data))
        if final and data and position.at + len(data) == size and not data.endswith(b"\n"):
            data += b"\n"  # not in the file: `at` stays within it
        cut = _cut(data, position, limit, max_bytes)
        at = min(position.at + cut.used, size)
        after = Position(at, cut.number, status.st_ino, _seal(file, at), cut.skipping)
    return Lines(tuple(cut.lines), tuple(cut.too_long), after, size, status.st_mtime_ns)


def first_line(path: Path, max_bytes: int) -> tuple[int, bytes]:
    """The first line that is not blank, and its number from 1. Raises OSError.

    Without its end; at most `max_bytes` + 1 bytes of it. (0, b"") if all are blank.
    """
    with path.open("rb") as file:
        number = 0
        while line := file.readline(max_bytes + 1):
            number += 1
            if line.strip():
                return number, line.rstrip(b"\r\n")
    return 0, b""


@dataclass(slots=True)
class _Cut:
    lines: list[tuple[int, bytes]]
    too_long: list[int]
    number: int
    used: int
    skipping: bool


def _cut(data: bytes, position: Position, limit: int, max_bytes: int) -> _Cut:
    """Cut `data` at its ends of line; what follows the last of them is left for later."""
    cut = _Cut([], [], position.lines, 0, position.skipping)
    while len(cut.lines) < limit:
        end = data.find(b"\n", cut.used)
        if end < 0:
            if len(data) - cut.used > max_bytes or cut.skipping:
                if not cut.skipping:
                    cut.too_long.append(cut.number + 1)
                cut.used, cut.skipping = len(data), True
            break
        line, cut.used = data[cut.used : end], end + 1
        cut.number += 1
        if cut.skipping:
            cut.skipping = False  # told when it began
        elif len(line) > max_bytes:
            cut.too_long.append(cut.number)
        else:
            cut.lines.append((cut.number, line.rstrip(b"\r")))
    return cut


def _seal(file: BinaryIO, at: int) -> str:
    if not at:
        return ""
    digest = blake2b(os.pread(file.fileno(), min(at, _HEAD), 0), digest_size=12)
    start = max(0, at - _TAIL)
    digest.update(os.pread(file.fileno(), at - start, start))
    return digest.hexdigest()


# -- the lines of one growing file as rows: JSON objects, or CSV under the file's header


@dataclass(slots=True)
class Sheet:
    """Reads the lines of one file: `name` for messages, `entity` for rows that name none."""

    name: str
    entity: str
    form: RowForm
    max_line_bytes: int
    columns: tuple[str, ...] | None = None  # of CSV, once the header was read
    header_line: int = 0  # its number; 0 = not among the lines yet to come

    def gather(self, path: Path, found: Lines, rows: Gathering) -> None:
        """Add each line to `rows`; what is no row is rejected there. Raises OSError."""
        if not self.name.lower().endswith(".csv"):
            for number, line in found.lines:
                if line.strip():
                    rows.add_json(line, f"{self.name}, line {number}", self.entity)
            return
        if self.columns is None and (found.lines or found.too_long):
            self.columns = self._header(path, rows)
        columns = self.columns
        passed_over = 0
        for number, line in found.lines:
            if number == self.header_line or not line.strip():
                continue
            if not columns:
                passed_over += 1
                continue
            where = f"{self.name}, line {number}"
            try:
                cells = _cells(line)
                if len(cells) != len(columns):
                    raise DataError(f"{len(cells)} values under a header of {len(columns)} names")
            except DataError as error:
                rows.count += 1
                rows.reject(where, str(error))
                continue
            rows.add(self._row(columns, cells), where, self.entity)
        if passed_over:
            rows.count += passed_over
            rows.reject(self.name, f"{passed_over} lines skipped: its header is not one")

    def _row(self, columns: tuple[str, ...], cells: list[str]) -> dict[str, object]:
        row: dict[str, object] = dict(zip(columns, cells, strict=True))
        for name in (self.form.entity, self.form.timestamp):
            if str(row.get(name, "")).strip() in MISSING:
                row[name] = None
        return row

    def _header(self, path: Path, rows: Gathering) -> tuple[str, ...]:
        """The names of the columns; () if the first line has none, which is reported."""
        self.header_line, line = first_line(path, self.max_line_bytes)
        try:
            if len(line) > self.max_line_bytes:
                raise DataError(f"longer than {self.max_line_bytes} bytes")
            names = tuple(cell.strip() for cell in _cells(line.removeprefix(b"\xef\xbb\xbf")))
            _check_header(names, self.form)
        except DataError as error:
            rows.reject(f"{self.name}, header", str(error))
            return ()
        return names


def _check_header(names: tuple[str, ...], form: RowForm) -> None:
    if form.timestamp not in names:
        raise DataError(f"there is no column {form.timestamp!r}")
    used = [name for name in names if name not in form.ignore]
    for index, name in enumerate(used):
        if not name:
            raise DataError("a column has no name")
        if name in used[:index]:
            raise DataError(f"two columns have the name {name!r}")


def _cells(line: bytes) -> list[str]:
    """One line of CSV; DataError if it is not UTF-8 or ends within quotes."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason})") from error
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise DataError(f"broken CSV: {error}") from error
