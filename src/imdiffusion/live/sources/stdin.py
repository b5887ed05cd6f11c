"""The source `stdin`: JSON lines on standard input, or on another open descriptor."""

from __future__ import annotations

import os
import select
import stat
import time

from imdiffusion.errors import ConfigError, ConnectionLost, SourceEnded
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.text_rows import Gathering, RowForm
from imdiffusion.schema import positive

_CHUNK = 1 << 16


class StdinSource(Closing):
    """JSON lines, one row each (see `rows`), wide or long.

    name: the entity of a row that names none. entity, timestamp: the keys of those two. unit: of
    timestamps given as numbers (s, ms, us, ns, or auto). ignore: keys that are no channels,
    separated by commas. batch_rows: rows a batch at most. max_line_bytes: a longer line is passed
    over. descriptor: of the open file to read, 0 = standard input.

    The offset is the number of lines read. A regular file (`< rows.jsonl`) is there again after a
    restart: its first lines are passed over. A pipe or a terminal is not: what comes is new, and
    is read from its first line, whatever the offset. So only a file is read at least once; of a
    pipe, a crash loses what was taken out of it and is not saved yet. At the end of input `read`
    raises SourceEnded, once the last line, with or without its end, was handed out.
    """

    def __init__(
        self,
        *,
        name: str = "stdin",
        entity: str = "entity",
        timestamp: str = "timestamp",
        unit: str = "auto",
        ignore: tuple[str, ...] = (),
        batch_rows: int = 10_000,
        max_line_bytes: int = 1 << 20,
        descriptor: int = 0,
    ) -> None:
        positive(batch_rows=batch_rows, max_line_bytes=max_line_bytes)
        self.form = RowForm.of_options(entity=entity, timestamp=timestamp, unit=unit, ignore=ignore)
        self.name, self.descriptor = name, descriptor
        self.batch_rows, self.max_line_bytes = batch_rows, max_line_bytes
        self._held = bytearray()  # read, and not yet handed out
        self._lines = 0  # handed out or passed over
        self._pass_over = 0  # lines that the offset has behind it
        self._skipping = self._ended = False

    def look(self, timeout: float) -> str:
        """What the descriptor is; nothing is read, for what is taken from a pipe is gone."""
        mode = self._mode()
        if os.isatty(self.descriptor):
            kind = "a terminal, where rows are typed"
        elif stat.S_ISREG(mode):
            kind = "a file, read at least once"
        elif stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            kind = "a pipe, of which a crash loses what was taken out of it and is not saved yet"
        else:
            kind = "a device, not a pipe or a file"
        return f"JSON lines from descriptor {self.descriptor}; here it is {kind}; nothing was read"

    def open(self, offset: str | None) -> None:
        """Start after `offset`; ConfigError if it is no number of lines, or nothing can be read."""
        if offset is not None and not (offset.isascii() and offset.isdigit()):
            raise ConfigError(
                f"the offset {offset!r} is not one of the source 'stdin'",
                remedy="Start without it: a file is then read from its first line.",
            )
        regular = stat.S_ISREG(self._mode())
        if regular:
            os.lseek(self.descriptor, 0, os.SEEK_SET)
        self._held.clear()
        self._lines, self._skipping, self._ended = 0, False, False
        self._pass_over = int(offset or 0) if regular else 0

    def read(self, timeout: float) -> Batch | None:
        """The next rows. Raises SourceEnded after the last; ConnectionLost if reading fails."""
        end = time.monotonic() + timeout
        rows = Gathering(self.form)
        while True:
            self._gather(rows)
            batch = rows.batch(str(self._lines))
            if batch is not None:
                return batch
            if self._ended:
                if self._pass_over:
                    self._pass_over = 0
                    rows.reject(self.name, f"ended after {self._lines} lines, before its offset")
                    return rows.batch(str(self._lines))
                raise SourceEnded(f"the input has ended after {self._lines} lines")
            if not self._fill(max(0.0, end - time.monotonic())):
                return None

    def commit(self, offset: str) -> None:
        """Nothing to do: what was read from a pipe is gone from it."""

    def close(self) -> None:
        """Nothing to let go of: the descriptor is the caller's."""

    def _mode(self) -> int:
        try:
            return os.fstat(self.descriptor).st_mode
        except OSError as error:
            raise ConfigError(
                f"nothing can be read from descriptor {self.descriptor}: {error.strerror}",
                remedy="Give it input, for instance with: < rows.jsonl.",
            ) from error

    def _fill(self, timeout: float) -> bool:
        """Wait for input and take it; False if none came."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        try:
            if not poll.poll(timeout * 1000):
                return False
            data = os.read(self.descriptor, _CHUNK)
        except OSError as error:
            raise ConnectionLost(
                f"reading descriptor {self.descriptor} failed: {error.strerror}"
            ) from error
        self._held += data
        if not data:
            self._ended = True
            if self._held:
                self._held += b"\n"  # the last line needs no end
        return True

    def _gather(self, rows: Gathering) -> None:
        """Hand out whole lines; of one that is too long keep nothing but that it is."""
        start = 0
        while rows.count < self.batch_rows and (end := self._held.find(b"\n", start)) >= 0:
            line, start = bytes(self._held[start:end]), end + 1
            self._lines += 1
            if self._pass_over:
                self._pass_over -= 1
            elif self._skipping or len(line) > self.max_line_bytes:
                rows.reject(self._where(), f"longer than {self.max_line_bytes} bytes")
            elif line.strip():
                rows.add_json(line, self._where(), self.name)
            self._skipping = False
        del self._held[:start]
        if len(self._held) > self.max_line_bytes and b"\n" not in self._held:
            self._held.clear()
            self._skipping = True

    def _where(self) -> str:
        return f"{self.name}, line {self._lines}"
