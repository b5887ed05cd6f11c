"""The source `host`: the metrics of the machine it runs on."""

from __future__ import annotations

import math
import socket
import time

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.live.connection.protocols import Batch, Closing
from imdiffusion.live.sources.host_metrics import HostSource
from imdiffusion.schema import positive


class ThisHost(Closing):
    """Samples of `HostSource`, a row each, of the entity `name` (the host's own name if empty).

    interval: seconds between two rows, on a schedule that does not drift. The offset is the last
    row's timestamp, in ns: a host has no past to go back to, so it starts with now whatever the
    offset, and rows that were not read in time are missing, which is reported.
    """

    def __init__(self, *, interval: float = 1.0, name: str = "") -> None:
        positive(interval=interval)
        self.interval, self.name = interval, name
        self._source: HostSource | None = None
        self._entity = ""
        self._start, self._tick = 0.0, 0

    def open(self, offset: str | None) -> None:
        """Start now; the first row comes after one interval."""
        self._source = HostSource(self.interval)
        self._entity = self.name or socket.gethostname()
        self._start, self._tick = time.monotonic(), 0

    def read(self, timeout: float) -> Batch | None:
        """The next row when its time has come; None if that is not within `timeout` seconds."""
        if self._source is None:
            self.open(None)
            return self.read(timeout)
        now = (time.monotonic() - self._start) / self.interval
        due = max(self._tick + 1, math.floor(now))  # of several that are over, the latest
        wait = (due - now) * self.interval
        if wait > timeout:
            time.sleep(timeout)
            return None
        time.sleep(max(0.0, wait))
        missed, self._tick = due - self._tick - 1, due
        values = np.fromiter(self._source.sample().values(), np.float64)[None]
        instant = time.time_ns()
        said = (f"{self._entity}: {missed} samples missed, nothing read them",) if missed else ()
        frame = Frame(
            values,
            ~np.isnan(values),
            np.array([instant], dtype=np.int64).view("datetime64[ns]"),
            self._source.channels,
            entity=self._entity,
        )
        return Batch((frame,), str(instant), said)

    def commit(self, offset: str) -> None:
        """Nothing to do: a host forgets at once."""

    def close(self) -> None:
        """Let go of the sampler."""
        self._source = None
