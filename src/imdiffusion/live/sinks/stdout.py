"""The sink `stdout`: records as JSON lines on standard output, or on another open descriptor."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from imdiffusion.errors import ConfigError, ConnectionLost, OutputError
from imdiffusion.live.connection.options import KINDS, Kind, takes_of
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import line_of
from imdiffusion.live.sinks.delivery import Pending
from imdiffusion.records import Record
from imdiffusion.schema import positive


class StdoutSink(Closing):
    """A line of JSON for each record (see `record_text`): NaN is null, times are ns and ISO 8601.

    takes: "score", "event", or both, separated by a comma. window: how many of the last keys are
    remembered, so that a record sent again is not written again; a new process remembers none, for
    what was written cannot be read back. descriptor: of the open file to write to, 1 = standard
    output. `flush` returns when every line was written (and, into a file, is on the disk).
    """

    def __init__(
        self, *, takes: tuple[Kind, ...] = KINDS, window: int = 100_000, descriptor: int = 1
    ) -> None:
        positive(window=window)
        self.takes = takes_of(takes)
        self.refused = 0
        self.descriptor = descriptor
        self._pending = Pending(window)
        self._rest = b""  # of lines that have begun to be written
        self._is_file = False

    def open(self) -> None:
        """Raises ConfigError if the descriptor is not open."""
        try:
            self._is_file = stat.S_ISREG(os.fstat(self.descriptor).st_mode)
        except OSError as error:
            raise ConfigError(
                f"nothing can be written to descriptor {self.descriptor}: {error.strerror}",
                remedy="Give the program an output.",
            ) from error

    def send(self, records: Sequence[Record]) -> None:
        """Take records; they are written by `flush`."""
        self._pending.add(records)

    def flush(self) -> None:
        """Write what was sent. ConnectionLost if that fails; OutputError: the output is closed."""
        keys = list(self._pending.held)
        self._rest += b"".join(line_of(self._pending.held[key]) for key in keys)
        self._pending.settle(keys)  # from here on `_rest` answers for them
        try:
            while self._rest:
                written = os.write(self.descriptor, self._rest)
                self._rest = self._rest[written:]
            if self._is_file:
                os.fsync(self.descriptor)
        except BrokenPipeError as error:
            raise OutputError("the output is closed") from error
        except OSError as error:
            raise ConnectionLost(f"the output cannot be written: {error.strerror}") from error

    def close(self) -> None:
        """Nothing to let go of: the descriptor is the caller's. What was not flushed is dropped."""
