"""The metrics sink: the text it renders, what it counts, and that it serves this host alone."""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import threading
import time
import urllib.error
from urllib.parse import quote, urlsplit

import pytest
from live_records import event, score
from programs import Prometheus, call, wait_until

from imdiffusion.errors import ConfigError
from imdiffusion.live.sinks.metrics import MetricsSink

NASTY = 'a "quoted" \\ name\nof two lines {é}'


def lines(sink: MetricsSink) -> dict[str, str]:
    """Value by name and labels."""
    return dict(line.rsplit(" ", 1) for line in sink.text().splitlines() if line[0] != "#")


def value(sink: MetricsSink, name: str) -> float:
    return float(lines(sink)[name])


def test_the_latest_of_every_entity_is_told():
    sink = MetricsSink(top=1)
    sink.open()
    start = time.time() - 100
    rows = [score(start + 10 * row, 0.1 * row) for row in range(9)]
    hot = score(start + 90, 2.5, channels=("cpu", "disk"), shares=(0.75, 0.25))
    sink.send([*rows, hot, score(start + 80, 0.8, mode="offline"), event(start + 90)])
    labels = 'entity="web-1",detector="fast",mode="{}",state="ready"'
    assert value(sink, f"imdiffusion_score{{{labels.format('online')}}}") == 2.5
    assert value(sink, f"imdiffusion_score{{{labels.format('offline')}}}") == 0.8
    shares = {name: text for name, text in lines(sink).items() if "channel_share" in name}
    assert list(shares.values()) == ["0.75"]
    assert value(sink, 'imdiffusion_event_active{entity="web-1"}') == 1
    assert value(sink, 'imdiffusion_interval_seconds{entity="web-1"}') == pytest.approx(10)
    last = value(sink, 'imdiffusion_last_score_timestamp_seconds{entity="web-1"}')
    assert last == pytest.approx(start + 90, abs=1e-3)
    assert 9 < value(sink, 'imdiffusion_lag_seconds{entity="web-1"}') < 90
    assert value(sink, 'imdiffusion_scores_total{entity="web-1",mode="online"}') == 10
    assert value(sink, 'imdiffusion_anomalies_total{entity="web-1",mode="online"}') == 1
    assert value(sink, 'imdiffusion_events_total{entity="web-1"}') == 1
    # once more, and older ones: nothing changes
    before = lines(sink)
    sink.send([*rows, hot, event(start + 90)])
    assert lines(sink) == before
    sink.send([event(start + 90, start + 99)])
    assert value(sink, 'imdiffusion_event_active{entity="web-1"}') == 0
    sink.send([event(start + 90)])  # its onset again, after its end
    assert value(sink, 'imdiffusion_event_active{entity="web-1"}') == 0
    assert value(sink, 'imdiffusion_events_total{entity="web-1"}') == 1
    # another state is another series, in the place of the first
    sink.send([score(start + 101, math.nan, state="degraded")])
    scores = {name: text for name, text in lines(sink).items() if 'mode="online"' in name}
    degraded = labels.format("online").replace("ready", "degraded")
    assert scores[f"imdiffusion_score{{{degraded}}}"] == "NaN"
    assert sum(name.startswith("imdiffusion_score{") for name in scores) == 1
    # that nothing comes any more is told, and is no row: silence goes on being measured
    before = lines(sink)
    sink.send([score(start + 101.001, math.nan, state="stale")])
    told = lines(sink)
    assert {name for name in told.keys() - before.keys() if 'state="stale"' in name}
    kept = {name: text for name, text in before.items() if "imdiffusion_score{" not in name}
    assert kept.items() <= told.items()
    sink.forget("web-1")
    assert sink.text() == ""


@pytest.mark.tool("promtool")
def test_promtool_reads_what_is_rendered_whatever_the_names():
    sink = MetricsSink()
    sink.send([score(1e9, 2.0, entity=NASTY, channels=(NASTY, "b"), shares=(0.5, 0.5))])
    sink.send([score(1e9 + 1, math.inf, entity="other"), event(1e9, entity=NASTY)])
    sink.set("imdiffusion_queue_depth", 3, about="Rows\nwaiting \\ held.", labels={"of": NASTY})
    sink.set("imdiffusion_skipped_total", 2, about="Windows.", kind="counter")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=sink.text().encode(), capture_output=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert done.stderr == b""


@pytest.mark.tool("prometheus")
def test_prometheus_scrapes_it(tmp_path):
    sink = MetricsSink(port=0)
    sink.open()
    sink.send([score(time.time(), 1.5, entity=NASTY)])
    with Prometheus(tmp_path, targets=(urlsplit(sink.address).netloc,)) as program:
        url = f"{program.url}/api/v1/query?query={quote('imdiffusion_score')}"
        found = wait_until(lambda: json.loads(call(url))["data"]["result"], "a scrape")
    assert found[0]["metric"]["entity"] == NASTY
    assert found[0]["metric"]["detector"] == "fast"
    assert float(found[0]["value"][1]) == 1.5
    sink.close()


def test_it_serves_this_host_alone_and_metrics_alone():
    sink = MetricsSink(port=0)
    assert sink.address == ""
    sink.open()
    sink.open()
    sink.send([score(1e9)])
    address = urlsplit(sink.address)
    assert address.hostname == "127.0.0.1"
    assert call(sink.address).decode() == sink.text()

    def status(path: str, method: str = "GET", host: str = "localhost:1") -> int:
        connection = http.client.HTTPConnection(address.hostname, address.port)
        connection.request(method, path, headers={"Host": host})
        with connection.getresponse() as response:
            if method == "HEAD":
                assert response.read() == b""
        connection.close()
        return response.status

    assert status("/metrics") == 200
    assert status("/metrics?x=y", "HEAD") == 200
    assert status("/") == 404
    assert status("/../etc/passwd") == 404
    assert status("/metrics", host="evil.example") == 403
    assert status("/metrics", "POST") == 501
    with pytest.raises(ConfigError, match="cannot serve metrics"):
        MetricsSink(port=address.port).open()
    sink.close()
    sink.close()
    with pytest.raises(urllib.error.URLError):
        call(f"http://{address.netloc}/metrics")


def test_many_may_ask_while_one_sends():
    sink = MetricsSink(port=0)
    sink.open()
    trouble: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            text = call(sink.address).decode()
            if text and not text.endswith("\n"):
                trouble.append(text)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for row in range(300):
        sink.send([score(1e9 + row, 2.0, entity=f"e{row}", channels=("a",), shares=(1.0,))])
    over.set()
    for thread in threads:
        thread.join()
    sink.close()
    assert trouble == []
    assert sum(name.startswith("imdiffusion_score{") for name in lines(sink)) == 300


def test_metrics_of_ones_own_keep_to_the_format():
    sink = MetricsSink()
    sink.set("depth", 1, about="Rows.")
    sink.set("depth", 2, about="Rows.")
    assert sink.text() == "# HELP depth Rows.\n# TYPE depth gauge\ndepth 2.0\n"
    with pytest.raises(ConfigError, match="another meaning"):
        sink.set("depth", 1, about="Rows.", kind="counter")
    with pytest.raises(ConfigError, match="another meaning"):
        sink.set("imdiffusion_score", 1, about="Mine.")
    with pytest.raises(ConfigError, match="no name"):
        sink.set("de pth", 1, about="Rows.")
    with pytest.raises(ConfigError, match="no name"):
        sink.set("other", 1, about="Rows.", labels={'a="': "b"})
    with pytest.raises(ConfigError, match="unknown kind"):
        sink.set("other", 1, about="Rows.", kind="histogram")
    for options in ({"port": -1}, {"port": 65536}, {"top": -1}):
        with pytest.raises(ConfigError):
            MetricsSink(**options)
