"""The sink `files`: records as JSON lines in a file, appended so that a crash tears none."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from pathlib import Path

from imdiffusion.errors import ConfigError, ConnectionLost, OutputError
from imdiffusion.live.connection.options import KINDS, Kind, takes_of
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import Key, key_in, line_of
from imdiffusion.live.sinks.delivery import Pending
from imdiffusion.records import Record
from imdiffusion.schema import positive

_BLOCK = 1 << 16
_HELD = 50_000  # records that wait for a flush at most; then `send` flushes itself
_START = b'{"kind":"'


class FilesSink(Closing):
    """A line of JSON for each record (see `record_text`): NaN is null, times are ns and ISO 8601.

    path: the file; its folder is made. takes: "score", "event", or both. max_bytes: a file that
    would become longer is set aside first, as NAME.000001.SUFFIX and so on (one `send` may make a
    file longer all the same). keep: how many of those are kept, 0 = all. window: a record is
    written once, as long as it is among the last `window` records, restarts included: their keys
    are read back from the files at `open`.

    `flush` returns when the lines are on the disk (fsync). What a crash or a full disk left of a
    line is cut off again, at once or by the next `open` (`mended` counts the bytes): it was not
    flushed, so it is sent again. One process writes; a second one is refused.
    """

    def __init__(
        self,
        *,
        path: str,
        takes: tuple[Kind, ...] = KINDS,
        max_bytes: int = 100_000_000,
        keep: int = 0,
        window: int = 100_000,
    ) -> None:
        positive(max_bytes=max_bytes, window=window)
        if keep < 0:
            raise ConfigError(f"keep is {keep}", remedy="Give the number of files, or 0 for all.")
        self.path = Path(path)
        self.takes = takes_of(takes)
        self.max_bytes, self.keep = max_bytes, keep
        self.refused = 0
        self.mended = 0
        self._pending = Pending(window)
        self._file = -1
        self._size = 0  # of what is safe

    def open(self) -> None:
        """Make the folder and the file, mend it, read back its last keys.

        Raises OutputError if that cannot be done, if another process writes to the file, or if it
        holds something else than records.
        """
        self.close()
        self._pending.clear()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open_file()
            self._pending.settle(self._keys())
        except OutputError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise OutputError(
                f"cannot write {self.path}: {error.strerror or error}",
                remedy="Name a file in a folder that you may write to.",
            ) from error

    def send(self, records: Sequence[Record]) -> None:
        """Take records; they are written by `flush`, or here once there are many."""
        self._pending.add(records)
        if len(self._pending.held) > _HELD:
            self.flush()

    def flush(self) -> None:
        """Write what was sent, and wait for the disk. ConnectionLost if that fails; call again."""
        keys = list(self._pending.held)
        if not keys:
            return
        data = memoryview(b"".join(line_of(self._pending.held[key]) for key in keys))
        try:
            if self._file < 0:  # an attempt to set it aside ended half way
                self._open_file()
            self._stay_in_place()
            if self._size and self._size + len(data) > self.max_bytes:
                self._set_aside()
            try:
                self._append(data)
            except OSError:
                # Also after a failed fsync: it is unknown what of it is on the disk, so all of it
                # is taken back and written again.
                os.ftruncate(self._file, self._size)
                raise
        except OutputError:
            raise
        except OSError as error:
            raise ConnectionLost(
                f"{self.path} cannot be written: {error.strerror or error}",
                remedy="Free some space, or repair its disk; it is tried again.",
            ) from error
        self._size += len(data)
        self._pending.settle(keys)

    def close(self) -> None:
        """Let go of the file. What was not flushed is dropped. May be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, data: memoryview) -> None:
        if os.fstat(self._file).st_size != self._size:
            os.ftruncate(self._file, self._size)  # of an attempt that could not be taken back
        done = 0
        while done < len(data):
            done += os.write(self._file, data[done:])
        os.fsync(self._file)

    def _open_file(self) -> None:
        new = not self.path.exists()
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size = self._mend()
            if new:
                _sync_folder(self.path.parent)
        except BlockingIOError as error:
            self.close()
            raise OutputError(
                f"another process writes to {self.path}",
                remedy="End that one, or give each a file of its own.",
            ) from error
        except BaseException:
            self.close()
            raise

    def _mend(self) -> int:
        """Cut off what is left of a torn last line; the size of the file after that."""
        size = os.fstat(self._file).st_size
        start = os.pread(self._file, len(_START), 0)
        if not (start.startswith(_START) or _START.startswith(start)):
            raise OutputError(
                f"{self.path} holds something else than records", remedy="Name another file."
            )
        end = size
        while end:
            at = max(0, end - _BLOCK)
            found = os.pread(self._file, end - at, at).rfind(b"\n")
            if found >= 0:
                end = at + found + 1
                break
            end = at
        if end < size:
            os.ftruncate(self._file, end)
            os.fsync(self._file)
            self.mended += size - end
        return end

    def _stay_in_place(self) -> None:
        """If the file was moved or removed, continue in a new one under its name."""
        try:
            there = os.path.samestat(self.path.stat(), os.fstat(self._file))
        except FileNotFoundError:
            there = False
        if not there:
            self.close()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open_file()

    def _aside(self) -> list[tuple[int, Path]]:
        """Files set aside, with their numbers, the oldest first."""
        found = []
        for one in self.path.parent.glob(f"{_literal(self.path.stem)}.*{self.path.suffix}"):
            number = one.name[len(self.path.stem) + 1 : len(one.name) - len(self.path.suffix)]
            if len(number) >= 6 and number.isascii() and number.isdigit():
                found.append((int(number), one))
        return sorted(found)

    def _set_aside(self) -> None:
        before = self._aside()
        number = before[-1][0] + 1 if before else 1
        self.path.rename(self.path.with_name(f"{self.path.stem}.{number:06d}{self.path.suffix}"))
        self.close()
        self._open_file()
        if self.keep:
            for _, old in self._aside()[: -self.keep]:
                old.unlink()
        _sync_folder(self.path.parent)

    def _keys(self) -> list[Key]:
        """The keys of the last `window` records, the oldest first."""
        lines: list[bytes] = []
        for path in [self.path, *(path for _, path in reversed(self._aside()))]:
            lines = _last_lines(path, self._pending.window - len(lines)) + lines
            if len(lines) >= self._pending.window:
                break
        keys = []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError as error:
                raise OutputError(
                    f"{self.path} or a file set aside from it holds a damaged line",
                    remedy="Move these files, or name another file.",
                ) from error
            key = key_in(row) if isinstance(row, dict) else None
            if key is not None:
                keys.append(key)
        return keys


def _last_lines(path: Path, count: int) -> list[bytes]:
    """The last `count` whole lines of a file, without reading what is before them."""
    with path.open("rb") as file:
        at, data = file.seek(0, os.SEEK_END), b""
        blocks: list[bytes] = []
        ends = 0
        while at and ends <= count:
            step = min(_BLOCK, at)
            at -= step
            blocks.append(os.pread(file.fileno(), step, at))
            ends += blocks[-1].count(b"\n")
        data = b"".join(reversed(blocks))
    lines = data.split(b"\n")[:-1]
    return lines[-count:] if count else []


def _literal(text: str) -> str:
    """A name as a pattern that fits only itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
