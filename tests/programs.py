"""Prometheus, Alertmanager, node-exporter and VictoriaMetrics, started on loopback for a test."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cramjam

from imdiffusion.live.sinks.remote_write import Sample, write_request

PATIENCE = 60.0  # seconds; a busy machine is slow, not broken


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(done, what: str) -> Any:
    """The first true thing that `done()` gives; AssertionError if there is none in `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.02)
    return found


def call(url: str, data: bytes | None = None, **headers: str) -> bytes:
    request = urllib.request.Request(
        url, data, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()


class Program:
    """One program; `url` is where it answers, the same after `kill` and `start`."""

    ready = "/-/ready"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        log = (self.folder / "log.txt").open("ab")
        with log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder
            )
        wait_until(self._is_ready, f"{self.command()[0]} to be ready")

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log.txt").read_text()
        try:
            call(self.url + self.ready)
        except OSError:  # urllib's errors are ones
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


class Prometheus(Program):
    """With its remote write receiver on. targets: addresses to scrape every second; rules: a file
    of alert rules, told every second.
    """

    def __init__(
        self,
        folder: Path,
        *,
        targets: tuple[str, ...] = (),
        receiver: bool = True,
        rules: str = "",
    ) -> None:
        super().__init__(folder)
        self.receiver = receiver
        jobs = [{"job_name": "scraped", "static_configs": [{"targets": list(targets)}]}]
        config = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [rules] if rules else [],
            "scrape_configs": jobs if targets else [],
        }
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML

    def command(self) -> list[str]:
        return [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{self.port}",
            *(["--web.enable-remote-write-receiver"] if self.receiver else []),
        ]

    @property
    def write_url(self) -> str:
        return f"{self.url}/api/v1/write"

    def put(self, *samples: Sample) -> None:
        body = bytes(cramjam.snappy.compress_raw(write_request(samples)))
        call(self.write_url, body, Content_Encoding="snappy", Content_Type="application/x-protobuf")

    def raw(self, selector: str, at: float, seconds: int = 7200) -> dict[str, list[list[Any]]]:
        """The stored samples of each series in the `seconds` before `at`, by its labels."""
        form = {"query": f"{selector}[{seconds}s]", "time": f"{at:.3f}"}
        found = json.loads(call(f"{self.url}/api/v1/query?{urllib.parse.urlencode(form)}"))
        return {
            ",".join(f"{k}={v}" for k, v in sorted(item["metric"].items())): item["values"]
            for item in found["data"]["result"]
        }


class VictoriaMetrics(Prometheus):
    ready = "/health"

    def command(self) -> list[str]:
        return [
            "victoria-metrics",
            "-storageDataPath=data",
            f"-httpListenAddr=127.0.0.1:{self.port}",
            "-search.latencyOffset=0s",
            "-retentionPeriod=100y",
        ]

    def flush(self) -> None:
        """Make searchable what was put: a search before that is remembered as empty."""
        call(f"{self.url}/internal/force_flush")


class NodeExporter(Program):
    ready = "/metrics"

    def command(self) -> list[str]:
        return [
            "prometheus-node-exporter",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--collector.disable-defaults",
            "--collector.loadavg",
            "--collector.meminfo",
        ]


class Alertmanager(Program):
    """Groups by entity at once, and tells the webhook at `hook` of everything."""

    def __init__(self, folder: Path, *, hook: str) -> None:
        super().__init__(folder)
        route = {
            "receiver": "test",
            "group_by": ["entity"],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        }
        hooks = [{"url": hook, "send_resolved": True}]
        config = {"route": route, "receivers": [{"name": "test", "webhook_configs": hooks}]}
        (folder / "alertmanager.yml").write_text(json.dumps(config))

    def command(self) -> list[str]:
        return [
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=data",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that are firing now, by event."""
        found = json.loads(call(f"{self.url}/api/v2/alerts"))
        return sorted(found, key=lambda alert: alert["labels"].get("event", ""))
