"""The Prometheus source against real servers: values, gaps, kills, refusals, VictoriaMetrics."""

from __future__ import annotations

import math
import struct
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from live_records import score
from programs import NodeExporter, Prometheus, VictoriaMetrics, wait_until

from imdiffusion.errors import ConfigError, ConnectionLost
from imdiffusion.live.sinks.remote_write import RemoteWriteSink, Sample
from imdiffusion.live.sources.prometheus import PrometheusSource

REAL = pytest.mark.tool("prometheus")
STEP = 10  # seconds
ROWS = 30
# A whole number of steps, half an hour ago: near enough for Prometheus to take it, far enough to
# be complete.
BASE = int(time.time()) // STEP * STEP - 1800


# A value counts for its own row alone, and not for the five minutes of Prometheus' default.
ALONE = "last_over_time({}[5s])"


def sample(name: str, row: int, value: float, *, base: int = BASE, **labels: str) -> Sample:
    pairs = tuple(sorted({"__name__": name, **labels}.items()))
    return Sample(pairs, (base + row * STEP) * 1000, struct.pack("<d", value))


def text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def everything(source: PrometheusSource, *, last: int, patience: float = 5.0):
    """All batches until the time `last`: {entity: {(time, channel): value}}, and what was said."""
    rows: dict[str, dict[tuple[int, str], float]] = {}
    said: list[str] = []
    while True:
        batch = source.read(patience)
        assert batch is not None
        said += batch.rejected
        for frame in batch.frames:
            assert np.array_equal(frame.observed, ~np.isnan(frame.values))
            assert frame.observed.any(axis=1).all()
            mine = rows.setdefault(frame.entity, {})
            for time_, row in zip(frame.timestamps.view(np.int64), frame.values, strict=True):
                for channel, value in zip(frame.channels, row, strict=True):
                    key = (int(time_) // 1_000_000_000, channel)
                    assert key not in mine, "a row came twice"
                    if not math.isnan(value):
                        mine[key] = float(value)
        if datetime.fromisoformat(batch.offset).timestamp() >= last:
            return rows, said


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(tmp_path_factory):
    with Prometheus(tmp_path_factory.mktemp("prometheus")) as program:
        yield program


def fill(program: Prometheus) -> dict[str, dict[tuple[int, str], float]]:
    """Two hosts with gaps, a NaN, an infinity, a series that ends and one that begins."""
    expected: dict[str, dict[tuple[int, str], float]] = {"a:1": {}, "b:1": {}}
    samples = []

    def put(host: str, channel: str, row: int, value: float, name: str, **labels: str) -> None:
        samples.append(sample(name, row, value, instance=host, job="test", **labels))
        if math.isfinite(value):
            expected[host][BASE + row * STEP, channel] = value

    for row in range(ROWS):
        for host, factor in (("a:1", 1.0), ("b:1", 10.0)):
            if not (host == "a:1" and 12 <= row < 16):  # a host that is away for four rows
                value = math.nan if (host, row) == ("b:1", 5) else factor * row
                put(host, "load", row, value, "load")
            if row < 8:
                put(host, 'disk{dev="sda \\"x\\""}', row, factor, "disk", dev='sda "x"')
        if row >= 20:
            put("b:1", 'disk{dev="sdb"}', row, math.inf if row == 25 else 7.0, "disk", dev="sdb")
    program.put(*samples)
    return expected


@pytest.fixture(name="filled", scope="module")
def _filled(prometheus):
    return fill(prometheus)


@REAL
@pytest.mark.parametrize("max_points", [1, 7, 11_000])
def test_rows_are_what_was_stored_however_they_are_cut(prometheus, filled, max_points):
    options = {
        "query": ALONE.format('{__name__=~"load|disk"}'),
        "groupby": ["instance"],
        "ignore": ["job"],
        "step": float(STEP),
    }
    with PrometheusSource(url=prometheus.url, max_points=max_points, **options) as source:
        source.open(text(BASE - STEP))
        rows, said = everything(source, last=BASE + ROWS * STEP)
    assert rows == filled
    assert said == [
        'the query: infinite values of disk{dev="sdb"} of b:1: 1 skipped',
    ]


@pytest.mark.tool("victoria-metrics")
def test_victoria_metrics_gives_the_same_rows(tmp_path):
    with VictoriaMetrics(tmp_path) as program:
        expected = fill(program)
        program.flush()
        options = {"groupby": ["instance"], "ignore": ["job"], "step": float(STEP)}
        query = ALONE.format('{__name__=~"load|disk"}')
        with PrometheusSource(url=program.url, query=query, **options) as source:
            source.open(text(BASE - STEP))
            rows, _ = everything(source, last=BASE + ROWS * STEP)
        assert rows == expected


@REAL
def test_years_are_read_in_pieces_without_a_hole(prometheus):
    # time() is its own timestamp: any row that is missing, doubled or shifted shows.
    with PrometheusSource(
        url=prometheus.url, queries="now=time()", step=1.0, backfill=25_000.0, offset=0.0
    ) as source:
        source.open(None)
        times: list[int] = []
        batches = 0
        while batches == 0 or len(times) < 25_000:
            batch = source.read(5.0)
            batches += 1
            (frame,) = batch.frames
            assert frame.channels == ("now",)
            assert frame.entity == "prometheus"
            assert np.array_equal(frame.timestamps.view(np.int64) / 1e9, frame.values[:, 0])
            times += frame.values[:, 0].astype(int).tolist()
            assert datetime.fromisoformat(batch.offset).timestamp() == times[-1]
    assert batches > 20
    assert times == list(range(times[0], times[0] + len(times)))
    assert abs(times[0] - (time.time() - 25_000)) < 120


@REAL
def test_it_goes_on_after_its_offset_and_then_waits(prometheus):
    options = {"url": prometheus.url, "queries": "now=time()", "step": 3600.0, "offset": 0.0}
    with PrometheusSource(**options, backfill=7200.0) as source:
        source.open(None)
        first = source.read(1.0)
        rows = len(first.frames[0])
        while len(first.frames[0]) < 3 and (more := source.read(0.0)) is not None:
            rows += len(more.frames[0])
            first = replace(more)
        assert source.read(0.0) is None, "the next hour has not come"
        assert source.read(0.01) is None
        source.commit(first.offset)
    with PrometheusSource(**options) as again:
        again.open(first.offset)
        assert again.read(0.0) is None
        again.open(text(datetime.fromisoformat(first.offset).timestamp() - 3600))
        (frame,) = again.read(0.0).frames
        assert len(frame) == 1
        assert again.read(0.0) is None


@REAL
def test_a_kill_of_prometheus_costs_no_row(tmp_path):
    with Prometheus(tmp_path) as program:
        program.put(*(sample("load", row, float(row)) for row in range(ROWS)))
        options = {"url": program.url, "query": ALONE.format("load"), "step": float(STEP)}
        with PrometheusSource(**options, max_points=4) as source:
            source.open(text(BASE - STEP))
            before = source.read(1.0)
            program.kill()
            for _ in range(2):
                with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:\d+ did not answer"):
                    source.read(0.0)
            program.start()
            rows, _ = everything(source, last=BASE + ROWS * STEP)
    values = before.frames[0].values[:, 0].tolist() + list(rows["prometheus"].values())
    assert values == [float(row) for row in range(ROWS)]


@REAL
def test_one_poisoned_time_of_one_query_costs_that_alone(prometheus):
    # Two series match one at row 9 only: Prometheus refuses every range that holds it, with 422.
    many = [sample("poison", row, 1.0, key="x", side="left") for row in range(ROWS)]
    many.append(sample("poison", 9, 1.0, key="x", side="right"))
    prometheus.put(*many, *(sample("good", row, float(row), key="x") for row in range(ROWS)))
    good, poison = ALONE.format("good"), ALONE.format("poison")
    queries = f"ratio = {good} * on(key) group_left() {poison}; good = {good}"
    options = {"queries": queries, "step": float(STEP), "groupby": ["key"]}
    with PrometheusSource(url=prometheus.url, **options) as source:
        source.open(text(BASE - STEP))
        rows, said = everything(source, last=BASE + ROWS * STEP)
    found = {channel: set() for channel in ("ratio", "good")}
    for time_, channel in rows["x"]:
        found[channel].add((time_ - BASE) // STEP)
    assert found == {"good": set(range(ROWS)), "ratio": set(range(ROWS)) - {9}}
    assert len(said) == 1
    assert "query 'ratio' at" in said[0]
    assert "422" in said[0]


@REAL
def test_an_answer_that_is_too_long_is_asked_for_in_smaller_pieces(prometheus):
    prometheus.put(
        *(sample("wide", row, float(row), n=str(n)) for n in range(10) for row in range(ROWS))
    )
    options = {"query": ALONE.format("wide"), "groupby": ["n"], "step": float(STEP)}
    with PrometheusSource(url=prometheus.url, max_bytes=3000, **options) as source:
        source.open(text(BASE - STEP))
        rows, said = everything(source, last=BASE + ROWS * STEP)
    assert said == []
    assert {len(mine) for mine in rows.values()} == {ROWS}
    assert len(rows) == 10


@REAL
def test_what_the_sink_writes_the_source_reads(prometheus):
    sink = RemoteWriteSink(url=prometheus.write_url)
    sink.open()
    for host in ("web-1", "web-2"):
        sink.send([score(BASE + STEP * row, row / 7, entity=host) for row in range(ROWS)])
    sink.flush()
    sink.close()
    query = ALONE.format('imdiffusion_score{mode="online"}')
    options = {
        "queries": f"score={query}",
        "groupby": ["entity"],
        "ignore": ["detector", "mode", "state"],
    }
    with PrometheusSource(url=prometheus.url, step=float(STEP), **options) as source:
        source.open(text(BASE - STEP))
        rows, said = everything(source, last=BASE + ROWS * STEP)
    written = {(BASE + STEP * row, "score"): row / 7 for row in range(ROWS)}
    assert rows == {"web-1": written, "web-2": written}
    assert said == []


@REAL
@pytest.mark.parametrize(
    ("options", "text_"),
    [
        ({"query": "sum(("}, r"the query is refused: .*parse error"),
        ({"queries": "a=up; b=up{"}, r"query 'b' is refused"),
        ({"query": "up", "path": "/nowhere"}, r"answered 404"),
    ],
)
def test_what_no_retry_can_mend_is_said_at_once(prometheus, options, text_):
    options = dict(options)
    with PrometheusSource(url=prometheus.url + options.pop("path", ""), **options) as source:
        source.open(None)
        with pytest.raises(ConfigError, match=text_):
            source.read(0.0)


@REAL
@pytest.mark.tool("prometheus-node-exporter")
def test_this_host_by_way_of_node_exporter(tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "prometheus").mkdir()
    with NodeExporter(tmp_path / "node") as node:
        target = node.url.removeprefix("http://")
        with Prometheus(tmp_path / "prometheus", targets=(target,)) as program:
            queries = "load=node_load1; free=node_memory_MemFree_bytes / 1e9; up=up"
            options = {"groupby": ["instance", "job"], "step": 1.0, "offset": 1.0, "backfill": 0.0}
            with PrometheusSource(url=program.url, queries=queries, **options) as source:
                source.open(None)
                whole = wait_until(
                    lambda: next(
                        (
                            frame
                            for frame in (source.read(2.0) or source.read(2.0)).frames
                            if frame.width == 3
                        ),
                        None,
                    ),
                    "a row of all three queries",
                )
    assert whole.entity == f"{target}/scraped"
    assert whole.channels == ("load", "free", "up")
    assert whole.values[-1, 2] == 1.0
    assert 0 < whole.values[-1, 1] < 1e5
