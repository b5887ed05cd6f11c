"""deploy/: promtool accepts the rules; real metrics answer every query of the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from live_records import event, score
from programs import Prometheus, call, wait_until

from imdiffusion.live.sinks.metrics import FAMILIES, MetricsSink
from imdiffusion.live.sinks.remote_write import RemoteWriteSink

DEPLOY = Path(__file__).parents[3] / "deploy"
NAME = re.compile(r"\bimdiffusion_\w+")
COUNTERS = {name for name, (kind, _) in FAMILIES.items() if kind == "counter"}


def queries() -> list[str]:
    """Every query of the dashboard, with its variables filled in as Grafana would."""
    board = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    return [
        target["expr"]
        .replace("$entity", ".*")
        .replace("$mode", ".*")
        .replace("$__rate_interval", "1m")
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def test_the_dashboard_is_whole_and_names_only_what_the_sinks_emit():
    text = (DEPLOY / "grafana-dashboard.json").read_text()
    board = json.loads(text)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    taken = [
        (place["x"] + x, place["y"] + y)
        for place in places
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(taken) == len(set(taken)), "panels lie upon each other"
    named = set(NAME.findall(text))
    assert named == set(FAMILIES), "each metric has its place, and no other is asked for"
    assert not re.search(r"https?://", text)


def test_the_rules_name_only_what_the_sinks_emit():
    assert set(NAME.findall((DEPLOY / "alert-rules.yml").read_text())) <= set(FAMILIES)


@pytest.mark.tool("promtool")
@pytest.mark.parametrize(
    "command",
    [("check", "rules", "alert-rules.yml"), ("test", "rules", "alert-rules.test.yml")],
)
def test_promtool_accepts_the_rules(command):
    done = subprocess.run(["promtool", *command], cwd=DEPLOY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def answered(program: Prometheus, query: str, at: float) -> list:
    form = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"})
    return json.loads(call(f"{program.url}/api/v1/query?{form}"))["data"]["result"]


def rows(start: float) -> list:
    hot = {"channels": ("cpu", "disk"), "shares": (0.75, 0.25)}
    calm = [score(start - 10 * row) for row in range(5, 0, -1)]
    return [*calm, score(start, 2.0, **hot), event(start)]


@pytest.mark.tool("prometheus")
def test_what_is_written_answers_every_query_but_those_of_counters(tmp_path):
    with Prometheus(tmp_path) as program:
        sink = RemoteWriteSink(url=program.write_url)
        sink.open()
        start = time.time()
        sink.send(rows(start))
        sink.flush()
        sink.close()
        for query in queries():
            if not COUNTERS & set(NAME.findall(query)):
                assert answered(program, query, time.time() + 1), query


@pytest.mark.tool("prometheus")
def test_what_is_scraped_answers_every_query(tmp_path):
    sink = MetricsSink(port=0)
    sink.open()
    sink.send(rows(time.time()))
    target = urlsplit(sink.address).netloc
    shutil.copy(DEPLOY / "alert-rules.yml", tmp_path)
    with Prometheus(tmp_path, targets=(target,), rules="alert-rules.yml") as program:
        for query in queries():
            wait_until(lambda query=query: answered(program, query, time.time()), query)
        url = f"{program.url}/api/v1/alerts"
        firing = wait_until(
            lambda: [
                alert["labels"]["alertname"]
                for alert in json.loads(call(url))["data"]["alerts"]
                if alert["labels"].get("entity") == "web-1" and alert["state"] == "firing"
            ],
            "an alert",
        )
    assert "ImdiffusionAnomaly" in firing
    sink.close()
