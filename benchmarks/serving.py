"""`imdiffusion serve` as a process, for the programs that measure it from outside, and its rows."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil

CHANNELS = tuple(f"c{k}" for k in range(38))
MINUTE = 60 * 1_000_000_000
GROUP = 100  # entities of one request
PATIENCE = 900.0  # seconds
CONFIGURATION = """
[detector]
device = "cpu"
[[sink]]
type = "files"
path = "{folder}/out.jsonl"
[state]
path = "{folder}/state"
[stream]
interval = 60
every = {every}
stale_after = 1e6
[fit]
enabled = false
[serve]
port = 0
"""


def names(entities: int) -> list[str]:
    return [f"host-{number}" for number in range(entities)]


def values(row: int, number: int) -> np.ndarray:
    """Row `row` of entity `number`: coupled waves with noise (38,)."""
    wave = np.sin(row / np.linspace(5, 90, len(CHANNELS)) + number)
    return wave + 0.1 * np.random.default_rng((row, number)).normal(size=len(CHANNELS))


def lines(entities: Sequence[str], rows: Sequence[int], start: int) -> bytes:
    """Rows of these entities as JSON lines; row n lies n minutes after `start` (ns)."""
    said = []
    for number, name in enumerate(entities):
        for row in rows:
            cells = dict(zip(CHANNELS, values(row, number).round(4).tolist(), strict=True))
            said.append(json.dumps({"entity": name, "timestamp": start + row * MINUTE, **cells}))
    return "\n".join(said).encode()


def bodies(entities: Sequence[str], rows: Sequence[int], start: int) -> list[bytes]:
    """The requests with rows of these entities, GROUP of them in each."""
    groups = (entities[at : at + GROUP] for at in range(0, len(entities), GROUP))
    return [lines(group, rows, start) for group in groups]


def wait_for(condition: Callable[[], bool], process: psutil.Popen | None = None) -> None:
    """Wait until it is true; ends the program where it never is, or the process ends before."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None:
            sys.exit(f"the service ended with {process.returncode}")
        if time.monotonic() > until:
            sys.exit("it never came")
        time.sleep(0.01)


class Service:
    """A running service: its process, its address, requests on one connection."""

    def __init__(self, folder: Path, *, every: float = 1.0) -> None:
        config = folder / "imdiffusion.toml"
        config.write_text(CONFIGURATION.format(folder=folder, every=every))
        self.folder, self.began = folder, time.perf_counter()
        self._said = (folder / "said.txt").open("w+")
        command = [sys.executable, "-c", "from imdiffusion.cli import main; main()"]
        self.process = psutil.Popen(
            [*command, "serve", "--config", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )
        wait_for(lambda: "Serving on" in self.said(), self.process)
        self.address = self.said().partition("Serving on ")[2].split(";")[0]
        self.connection = self.connect()

    def said(self) -> str:
        """What it has said so far."""
        return (self.folder / "said.txt").read_text()

    def connect(self) -> http.client.HTTPConnection:
        place = urlsplit(self.address)
        return http.client.HTTPConnection(str(place.hostname), place.port, timeout=PATIENCE)

    def get(self, path: str) -> int:
        """The status of an answer, whose text is read and let go."""
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def push(self, body: bytes, on: http.client.HTTPConnection | None = None) -> int:
        """Send rows until they are taken; how many values were. Ends the program if refused."""
        connection = on or self.connection
        while True:
            connection.request(
                "POST", "/api/ingest", body, {"Content-Type": "application/x-ndjson"}
            )
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 202:
                return int(json.loads(text)["values"])
            if answer.status != 429:
                sys.exit(f"rows were refused: {answer.status} {text[:500]!r}")
            time.sleep(float(answer.headers.get("Retry-After", 1)))

    @property
    def busy(self) -> float:
        """Seconds of processor that it has used."""
        used = self.process.cpu_times()
        return float(used.user + used.system)

    @property
    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(self.process.memory_info().rss)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.connection.close()
        self._said.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@contextmanager
def serving(folder: Path, *, every: float = 1.0) -> Iterator[Service]:
    """A service on the state in a folder, killed at the end."""
    service = Service(folder, every=every)
    try:
        yield service
    finally:
        service.kill()


class Told:
    """What the service's sink was told, read on as it grows."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "out.jsonl"
        self._path.touch()
        self._at = self._path.stat().st_size

    def scores(self, timestamp: int) -> int:
        """Scores of that time among the lines that are new since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._at += len(text)
        mark = b'"timestamp":%d,' % timestamp
        return sum(mark in line.replace(b" ", b"")[:300] for line in text.splitlines())
