"""Small real parts for tests of the engine: a file that grows, sinks of lines, a z-score scorer."""

import hashlib
import json
import os
import socket
import socketserver
import threading
from copy import copy
from pathlib import Path

import numpy as np

from imdiffusion import baselines
from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConnectionLost, DataError
from imdiffusion.live.connection.protocols import Batch
from imdiffusion.live.connection.record_json import record_text
from imdiffusion.live.scorers.fitted import ScoredRow, resumed
from imdiffusion.saved_state import State

CHANNELS = ("cpu", "memory", "disk")
MINUTE = 60 * 1_000_000_000
START = 1_700_000_400 * 1_000_000_000
WARM = 20


def line(entity, row, values, *, step=MINUTE):
    cells = dict(zip(CHANNELS, values, strict=True))
    return json.dumps({"entity": entity, "timestamp": START + row * step, **cells}) + "\n"


def series(rows, *, seed=0):
    """Rows (n, 3) of noise, with a burst in one channel every 40 rows."""
    values = np.random.default_rng(seed).normal(size=(rows, 3))
    for number, start in enumerate(range(30, rows, 40)):
        values[start : start + 4, number % 3] += 12.0
    return values.round(4)


def write_rows(path, names, rows, *, first=0):
    with path.open("a") as file:
        for row in range(first, rows):
            for seed, name in enumerate(names):
                file.write(line(name, row, series(rows, seed=seed)[row].tolist()))


class LineSource:
    """A file of JSON lines that grows; the offset is a position in bytes. Keeps `Source`."""

    def __init__(self, path, *, lines=7):
        self.path, self.lines = Path(path), lines
        self.committed = []
        self._at = 0

    def open(self, offset):
        self._at = int(offset or 0)

    def read(self, timeout):
        rejected, rows = [], {}
        try:
            file = self.path.open("rb")
        except FileNotFoundError as error:
            raise ConnectionLost(f"{self.path} is away") from error
        with file:
            file.seek(self._at)
            for text in file.readlines()[: self.lines]:
                if not text.endswith(b"\n"):
                    break
                self._at += len(text)
                try:
                    facts = json.loads(text)
                    entity, time = facts.pop("entity"), facts.pop("timestamp")
                except (ValueError, KeyError):
                    rejected.append(f"no row: {text[:20]!r}")
                    continue
                rows.setdefault((entity, tuple(facts)), []).append((time, list(facts.values())))
        if not rows and not rejected:
            return None
        frames = [_frame(entity, names, found) for (entity, names), found in rows.items()]
        return Batch(tuple(frames), str(self._at), tuple(rejected))

    def commit(self, offset):
        self.committed.append(int(offset))

    def close(self):
        pass


def _frame(entity, names, rows):
    values = np.array([row for _, row in rows], np.float64)
    times = np.array([time for time, _ in rows]).astype("datetime64[ns]")
    return Frame(values, np.isfinite(values), times, names, entity)


class LineSink:
    """Appends records to a file, each once or more. Keeps `Sink`."""

    takes = frozenset({"score", "event"})

    def __init__(self, path):
        self.path, self.refused, self._lines = Path(path), 0, []

    def open(self):
        self.path.touch()
        whole = self.path.read_bytes().rfind(b"\n") + 1
        os.truncate(self.path, whole)  # a kill in the midst of a line leaves its beginning

    def send(self, records):
        self._lines += [record_text(record) + "\n" for record in records]

    def flush(self):
        before = self.path.stat().st_size
        try:
            with self.path.open("a") as file:
                file.writelines(self._lines)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.truncate(self.path, before)
            raise
        self._lines = []

    def close(self):
        pass


class SocketSink(LineSink):
    """Sends lines over TCP and waits for the far side to count them. Keeps `Sink`."""

    def __init__(self, port, *, takes=("score", "event")):
        super().__init__(os.devnull)
        self.port, self.takes = port, frozenset(takes)

    def open(self):
        pass

    def flush(self):
        lines, self._lines = self._lines, []
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as far:
                far.sendall("".join(lines).encode() + b"\n")
                if far.recv(16) != b"ok":
                    raise ConnectionLost("the far side hung up")
        except OSError as error:
            raise ConnectionLost(f"the far side is away: {error}") from error


class FarSide(socketserver.ThreadingTCPServer):
    """What a SocketSink talks to: keeps every line. It may go away and come back."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port=0, lines=None):
        self.lines = [] if lines is None else lines
        super().__init__(("127.0.0.1", port), _Keep)
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self._thread.start()

    def go(self):
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Keep(socketserver.StreamRequestHandler):
    def handle(self):
        found = []
        while (text := self.rfile.readline()) not in (b"\n", b""):
            found.append(json.loads(text))
        self.server.lines.extend(found)
        self.wfile.write(b"ok")


class ZScorer:
    """A z-score baseline on the scale of the first rows; offline: the mean with the next two.

    Raises DataError for the value 666, as a scorer does that cannot use what it is given.
    """

    detector, channels, note = "zscore", CHANNELS, ""

    def __init__(self, entity, *, offline=False):
        self.model = hashlib.sha256(entity.encode()).hexdigest()[:8]
        self.offline = offline
        self._rows, self._scale, self._late = [], None, []
        self._baseline = baselines.make("zscore").fit(np.zeros((2, 3)))

    @property
    def counts(self):
        return {}

    def push(self, frame):
        frame = frame.select(CHANNELS)
        if (frame.values == 666).any():
            raise DataError("a value that cannot be used")
        out = []
        for time, values in zip(frame.timestamps.astype(np.int64), frame.values, strict=True):
            out += self._one(int(time), values)
        return out

    def _one(self, time, values):
        if self._scale is None:
            self._rows.append(values.tolist())
            if len(self._rows) == WARM:
                rows = np.array(self._rows)
                self._scale = rows.mean(axis=0), rows.std(axis=0)
            nothing = np.full(3, np.nan)
            cells = (nothing, values, nothing, nothing, nothing)
            return [ScoredRow(time, "online", float("nan"), *cells, "warming")]
        centre, spread = self._scale
        z = (values - centre) / spread
        score = float(self._baseline.decision_function(z[None])[0]) / 2.5
        cells = (np.abs(z), values, centre, centre - 3 * spread, centre + 3 * spread)
        out = [ScoredRow(time, "online", score, *cells)]
        if self.offline:
            self._late.append((time, score, values.tolist()))
        if len(self._late) == 3:
            then, _, seen = self._late.pop(0)
            late = (score + sum(one for _, one, _ in self._late[:1])) / 2
            out.append(
                ScoredRow(
                    then, "offline", late, np.abs((np.array(seen) - centre) / spread),
                    np.array(seen), *cells[2:],
                )
            )  # fmt: skip
        return out

    def to_state(self):
        scale = None if self._scale is None else [part.tolist() for part in self._scale]
        return State("z", {"rows": self._rows, "scale": scale, "late": self._late[-2:]})

    @classmethod
    def from_state(cls, state, like):
        scorer, scale = copy(like), state.check("z").fact("scale")
        scorer._rows, scorer._late = state.fact("rows"), list(map(tuple, state.fact("late")))
        scorer._scale = None if scale is None else tuple(np.array(part) for part in scale)
        return scorer


def zscorer(frame, state, *, offline=False):
    """What an engine is given to make scorers with."""
    return resumed(ZScorer(frame.entity, offline=offline), state)


class Hands:
    """A clock that a test moves by hand."""

    def __init__(self):
        self.seconds, self.ns = 0.0, START

    def wall(self):
        return self.ns

    def steady(self):
        return self.seconds

    def move(self, seconds):
        self.seconds += seconds
        self.ns += int(seconds * 1e9)
