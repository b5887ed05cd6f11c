"""What `serve` and `watch` are tested against: files that grow, a far side of webhooks, patience"""

import json
import math
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import ProxyHandler, Request, build_opener

import numpy as np

from imdiffusion.live.store.queries import Reader

MINUTE = 60 * 1_000_000_000
START = 1_700_000_400 * 1_000_000_000
FAR = 2**62
TINY = {
    "window": 20, "patch_length": 5, "width": 16, "layers": 1, "feedforward": 32,
    "step_embedding": 8, "max_steps": 300, "validate_every": 150, "batch_size": 16,
    "detrend": (0,), "smooth": (3,), "mask_groups": 2, "alarm_rate": 0.01,
}  # fmt: skip
DETECTOR = "[detector]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in TINY.items())


def circle(rows, *, seed=0):
    """Channels on a circle, whose phase walks: each alone says nothing of where the other is."""
    generator = np.random.default_rng(seed)
    phase = np.cumsum(0.25 + 0.1 * generator.normal(size=rows))
    waves = [np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)]
    return np.column_stack(waves) + 0.02 * generator.normal(size=(rows, 4))


def append(path, entity, values, *, first=0):
    """Append rows a minute apart, the first of them row `first`."""
    with path.open("a") as file:
        for row, cells in enumerate(values.tolist(), first):
            named = dict(zip(("a", "b", "c", "d"), cells, strict=True))
            file.write(json.dumps({"entity": entity, "timestamp": START + row * MINUTE, **named}))
            file.write("\n")


class Hook(ThreadingHTTPServer):
    """A receiver of webhooks that keeps what it is sent."""

    def __init__(self):
        self.events = []
        super().__init__(("127.0.0.1", 0), _Take)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Take(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.events += json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *words):
        pass


@contextmanager
def hook():
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wait_for(condition, process=None, seconds=90):
    """Wait until the condition says something; it fails if the process ends before."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it never came"
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return found


class Said:
    """What a process says on a stream, gathered by a thread."""

    def __init__(self, stream):
        self.lines = []
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for line in self._stream:
            self.lines.append(line.rstrip("\n"))

    def has(self, *words):
        """The first line with all these words."""
        return next((line for line in [*self.lines] if all(word in line for word in words)), None)

    def rest(self):
        self._thread.join(30)
        return "\n".join(self.lines)


def get(address):
    with build_opener(ProxyHandler({})).open(address, timeout=10) as answer:
        return answer.read().decode()


def scores(folder, entity):
    """Scores of an entity by time, the newest said last; empty while there is no state."""
    if not (folder / "live.db").is_file():
        return []
    with Reader(folder / "live.db") as reader:
        found = reader.scores(entity, 0, FAR)
    return [one for one in found if one.state != "stale"]


def times(first, last):
    return [START + row * MINUTE for row in range(first, last)]


def rows_of(found):
    """Times of scores; none may be there twice."""
    stamps = [one.timestamp for one in found]
    assert len(set(stamps)) == len(stamps)
    assert all(math.isnan(one.score) for one in found if one.state == "warming")
    return stamps


def put(address, body):
    """Post JSON; the status of the answer."""
    data = json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=10) as answer:
        return answer.status
