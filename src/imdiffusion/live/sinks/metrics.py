"""The latest scores, events and counters as Prometheus scrapes them: a sink that renders text.

The HTTP service serves `MetricsSink.text()`; without one, the sink serves itself on loopback.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from imdiffusion.errors import ConfigError
from imdiffusion.live.connection.exposition import (
    CONTENT_TYPE,
    LABEL_NAME,
    METRIC_NAME,
    Labels,
    family_text,
)
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.sinks.metric_state import FAMILIES, Latest
from imdiffusion.records import EventRecord, Record

__all__ = ["MetricsSink"]

_LOOPBACK = "127.0.0.1"
_LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_PATIENCE = 5.0  # seconds for one who asks and then says no more


class MetricsSink(Closing):
    """Keeps what was said last and renders it. Any number of threads may ask while one sends.

    port: serve http://127.0.0.1:PORT/metrics; 0 = any free port (see `address`); None = not at all.
    top: how many channels of an anomalous row have their share shown.
    """

    takes = frozenset({"score", "event"})

    def __init__(self, *, port: int | None = None, top: int = 5) -> None:
        if port is not None and not 0 <= port <= 65535:
            raise ConfigError(f"port is out of range: {port}", remedy="Give 0 to 65535.")
        if top < 0:
            raise ConfigError(f"top must not be negative, got {top}", remedy="Give for instance 5.")
        self.refused = 0
        self._port = port
        self._lock = threading.Lock()
        self._latest = Latest(top)
        self._own: dict[str, tuple[str, str, dict[Labels, float]]] = {}
        self._server: _Server | None = None

    @property
    def address(self) -> str:
        """Where it serves itself; "" if it does not."""
        if self._server is None:
            return ""
        return f"http://{_LOOPBACK}:{self._server.server_address[1]}/metrics"

    def open(self) -> None:
        """Begin to serve, if a port was given; ConfigError if the port cannot be had."""
        if self._port is None or self._server is not None:
            return
        try:
            self._server = _Server(self._port, self)
        except OSError as error:
            raise ConfigError(
                f"cannot serve metrics on {_LOOPBACK}:{self._port}: {error.strerror}",
                remedy="Choose another port, or 0 for any that is free.",
            ) from error
        self._server.start()

    def send(self, records: Sequence[Record]) -> None:
        """Take records; what is asked for from now on has them in it."""
        now = time.time()
        with self._lock:
            for record in records:
                self._latest.take(record, now)

    def recall(self, ongoing: Sequence[EventRecord]) -> None:
        """Show what was ongoing before a start."""
        with self._lock:
            for event in ongoing:
                self._latest.recall(event)

    def flush(self) -> None:
        """Nothing: no receiver waits."""

    def close(self) -> None:
        """Serve no more; what is known stays."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def forget(self, entity: str) -> None:
        """Leave out an entity that is watched no more."""
        with self._lock:
            self._latest.forget(entity)

    def set(
        self,
        name: str,
        value: float,
        *,
        about: str,
        kind: str = "gauge",
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Set a metric of the caller's own: queue depth, rows skipped by reason, age of a model.

        kind: "gauge" or "counter". ConfigError for a name or a label that the format does not
        have, for a name that is taken, and for a kind that changes.
        """
        known = self._own.get(name)
        if name in FAMILIES or (known is not None and known[0] != kind):
            raise ConfigError(
                f"the metric {name!r} is there already, with another meaning",
                remedy="Choose another name.",
            )
        if kind not in ("gauge", "counter"):
            raise ConfigError(f"unknown kind {kind!r}", remedy="Known: gauge, counter.")
        pairs = tuple(sorted((labels or {}).items()))
        for text, form in [(name, METRIC_NAME), *((label, LABEL_NAME) for label, _ in pairs)]:
            if not form.fullmatch(text):
                raise ConfigError(
                    f"{text!r} is no name of a metric or label", remedy="Use letters, digits and _."
                )
        with self._lock:
            self._own.setdefault(name, (kind, about, {}))[2][pairs] = float(value)

    def text(self) -> str:
        """Everything, in Prometheus' text format 0.0.4."""
        families: dict[str, dict[Labels, float]] = {name: {} for name in FAMILIES}
        with self._lock:
            for name, labels, value in self._latest.samples():
                families[name][labels] = value
            own = {
                name: (kind, about, dict(samples))
                for name, (kind, about, samples) in self._own.items()
            }
        parts = [family_text(name, *FAMILIES[name], samples) for name, samples in families.items()]
        parts += [family_text(name, *family) for name, family in own.items()]
        return "".join(parts)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, sink: MetricsSink) -> None:
        self.sink = sink
        super().__init__((_LOOPBACK, port), _Handler)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "imdiffusion"
    sys_version = ""
    timeout = _PATIENCE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        # A page of the web may have its own name point here; it cannot choose this header.
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if host not in _LOCAL_NAMES:
            self._answer(HTTPStatus.FORBIDDEN, "served to this host alone\n", "text/plain")
        elif urlsplit(self.path).path == "/metrics":
            self._answer(HTTPStatus.OK, self.server.sink.text(), CONTENT_TYPE)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "see /metrics\n", "text/plain")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, text: str, kind: str) -> None:
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who scrapes is no news."""
