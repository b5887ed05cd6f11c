"""Remote write into real Prometheus and VictoriaMetrics: stored, refused, sent twice, killed."""

from __future__ import annotations

import json
import math
import struct
import sys
import time
import urllib.parse

import cramjam
import pytest
from live_records import event, score
from odd_server import Answer, OddServer
from programs import Prometheus, VictoriaMetrics, call

from imdiffusion.errors import ConfigError, ConnectionLost, MissingExtraError, UsageError
from imdiffusion.live.sinks.remote_write import RemoteWriteSink, Sample, write_request

REAL = pytest.mark.tool("prometheus")
BASE = int(time.time()) // 10 * 10 - 1800
LABELS = "detector=fast,entity=web-1,mode=online,state=ready"


@pytest.fixture(name="prometheus")
def _prometheus(tmp_path):
    with Prometheus(tmp_path) as program:
        yield program


def opened(program: Prometheus, **options) -> RemoteWriteSink:
    sink = RemoteWriteSink(url=program.write_url, **options)
    sink.open()
    return sink


def stored(program: Prometheus, selector: str) -> dict[str, list[tuple[float, float]]]:
    found = program.raw(selector, time.time() + 5)
    return {
        name.removeprefix(f"__name__={selector},"): [(at, float(value)) for at, value in values]
        for name, values in found.items()
    }


def now(program: Prometheus, query: str, at: float) -> list[dict[str, str]]:
    """Labels of what an instant query gives."""
    form = urllib.parse.urlencode({"query": query, "time": f"{at:.3f}"})
    found = json.loads(call(f"{program.url}/api/v1/query?{form}"))["data"]["result"]
    return [item["metric"] for item in found]


@REAL
def test_scores_are_stored_at_their_time_whatever_order_they_came_in(prometheus):
    sink = opened(prometheus, labels="site=north")
    rows = [score(BASE + 10 * row, 0.1 * row) for row in range(50)]
    rows[7] = score(BASE + 70, math.nan)
    odd = score(BASE, 0.25, entity='a "quoted"\\\nname', state="warming")
    sink.send([*rows[25:], *rows[:25], odd])
    sink.flush()
    found = stored(prometheus, "imdiffusion_score")
    values = found["detector=fast,entity=web-1,mode=online,site=north,state=ready"]
    assert [at for at, _ in values] == [BASE + 10 * row for row in range(50)]
    assert math.isnan(values[7][1])
    assert [value for at, value in values if at != BASE + 70] == [
        0.1 * row for row in range(50) if row != 7
    ]
    name = 'detector=fast,entity=a "quoted"\\\nname,mode=online,site=north,state=warming'
    assert found[name] == [(BASE, 0.25)]
    assert sink.refused == 0
    conditions = stored(prometheus, "imdiffusion_last_score_timestamp_seconds")
    assert conditions["entity=web-1,site=north"][-1][1] == BASE + 490
    (interval,) = stored(prometheus, "imdiffusion_interval_seconds").values()
    assert [value for _, value in interval] == [10.0]
    sink.close()
    sink.close()


@REAL
def test_a_series_ends_where_its_labels_change(prometheus):
    sink = opened(prometheus)
    hot = {"channels": ("cpu", "disk"), "shares": (0.9, 0.1)}
    sink.send([score(BASE, 0.5, state="warming", detector="zscore")])
    sink.send([score(BASE + 10, 2.0, **hot)])
    sink.send([score(BASE + 20, 2.5, channels=("cpu",), shares=(1.0,))])
    sink.flush()
    sink.send([score(BASE + 30)])
    sink.flush()

    def speaking(seconds: float) -> set[str]:
        found = now(prometheus, '{__name__=~"imdiffusion_(score|channel_share)"}', BASE + seconds)
        return {item.get("channel") or item["detector"] for item in found}

    assert speaking(5) == {"zscore"}
    assert speaking(15) == {"fast", "cpu", "disk"}
    assert speaking(25) == {"fast", "cpu"}
    assert speaking(35) == {"fast"}
    shares = stored(prometheus, "imdiffusion_channel_share")
    assert shares["channel=cpu,detector=fast,entity=web-1,mode=online"] == [
        (BASE + 10, 0.9),
        (BASE + 20, 1.0),
    ]
    assert sink.refused == 0
    sink.close()


@REAL
def test_events_are_active_while_they_last(prometheus):
    sink = opened(prometheus)

    def active() -> float:
        sink.flush()
        ((values),) = stored(prometheus, "imdiffusion_event_active").values()
        return values[-1][1]

    sink.recall([event(BASE - 60, id="e0")])  # from before a restart
    sink.send([score(BASE)])
    assert active() == 1
    sink.send([event(BASE - 60, BASE - 1, id="e0")])
    assert active() == 0
    sink.send([event(BASE), event(BASE + 1, id="e2")])
    assert active() == 2
    sink.send([event(BASE, BASE + 9)])
    assert active() == 1
    sink.send([event(BASE + 1, BASE + 9, id="e2", status="expired")])
    assert active() == 0
    sink.close()


@REAL
def test_the_same_sent_twice_is_as_if_it_had_been_sent_once(prometheus):
    rows = [score(BASE + 10 * row, float(row)) for row in range(20)]
    for _ in range(2):  # a second sink: the process began anew, and its caller sends again
        sink = opened(prometheus)
        sink.send(rows)
        sink.flush()
        sink.close()
        assert stored(prometheus, "imdiffusion_score")[LABELS] == [
            (BASE + 10 * row, float(row)) for row in range(20)
        ]
    # Prometheus takes the newest once more; what is older it has, and says so by refusing it.
    assert sink.refused == 19


@REAL
def test_a_poisonous_sample_does_not_block_those_after_it(prometheus):
    # "bad" is ahead in the store already: whatever comes for it is out of order.
    ahead = opened(prometheus)
    ahead.send([score(BASE + 1000, entity="bad")])
    ahead.flush()
    ahead.close()
    sink = opened(prometheus, batch=64)
    sink.send([score(BASE + row, float(row)) for row in range(100)])
    sink.send([score(BASE + 50, 50.0, entity="bad"), score(BASE + 51, 51.0, entity="bad")])
    sink.flush()
    assert sink.refused == 2
    assert len(stored(prometheus, "imdiffusion_score")[LABELS]) == 100
    sink.close()


@REAL
def test_a_second_value_for_one_time_is_refused_and_counted(prometheus):
    sink = opened(prometheus)
    sink.send([score(BASE, 1.0)])
    sink.flush()
    sink.send([score(BASE, 7.0, model="m2")])
    sink.flush()
    assert sink.refused == 1
    assert stored(prometheus, "imdiffusion_score")[LABELS] == [(BASE, 1.0)]
    sink.close()


@REAL
def test_a_kill_of_prometheus_costs_nothing(prometheus):
    sink = opened(prometheus)
    first = [score(BASE + row, float(row)) for row in range(10)]
    second = [score(BASE + row, float(row)) for row in range(10, 20)]
    sink.send(first)
    sink.flush()
    prometheus.kill()
    for _ in range(3):  # the caller sends again each time
        sink.send(second)
        with pytest.raises(ConnectionLost, match="did not answer"):
            sink.flush()
    prometheus.start()
    sink.send(second)
    sink.flush()
    assert sink.refused == 0
    assert stored(prometheus, "imdiffusion_score")[LABELS] == [
        (BASE + row, float(row)) for row in range(20)
    ]
    sink.close()


@REAL
def test_a_receiver_that_is_off_is_said_and_nothing_is_dropped(tmp_path):
    with Prometheus(tmp_path, receiver=False) as program:
        sink = opened(program)
        sink.send([score(BASE)])
        with pytest.raises(ConnectionLost, match=r"answered 404: .*remote write receiver"):
            sink.flush()
        assert sink.refused == 0
        program.kill()
        program.receiver = True
        program.start()
        sink.flush()
        assert stored(program, "imdiffusion_score")[LABELS] == [(BASE, 0.5)]
        sink.close()


@pytest.mark.tool("victoria-metrics")
def test_victoria_metrics_takes_the_same(tmp_path):
    with VictoriaMetrics(tmp_path) as program:
        sink = opened(program)
        sink.send([score(BASE + row, float(row)) for row in range(20)])
        sink.flush()
        program.flush()
        assert stored(program, "imdiffusion_score")[LABELS] == [
            (BASE + row, float(row)) for row in range(20)
        ]
        sink.close()


# -- without a real receiver: what it would be hard to make one do


def times_in(asked) -> list[int]:
    """Timestamps of all score samples of a request, by searching the message for the label."""
    message = bytes(cramjam.snappy.decompress_raw(asked.body))
    if b"imdiffusion_score" not in message.replace(b"imdiffusion_scores", b""):
        return []
    found = []
    at = 0
    while (at := message.find(b"\x12\x10\x09", at)) >= 0:  # a Sample of 16 bytes: double, varint
        varint = message[at + 12 : at + 18]
        found.append(sum((byte & 0x7F) << 7 * k for k, byte in enumerate(varint)))
        at += 18
    return found


def test_after_half_a_flush_only_the_other_half_goes_out():
    rows = [score(1_800_000_000 + row, float(row)) for row in range(6)]
    posted: list[int] = []

    def answer(asked):
        mine = times_in(asked)
        if 1_800_000_004_000 in mine and not failed:
            failed.append(1)
            return Answer(500)
        posted.extend(mine)
        return Answer(204)

    failed: list[int] = []
    with OddServer(answer) as odd:
        sink = RemoteWriteSink(url=odd.url, batch=2)
        sink.open()
        sink.send(rows)
        with pytest.raises(ConnectionLost, match="answered 500"):
            sink.flush()
        for _ in range(2):  # the second time all of it is there
            sink.send(rows)
            sink.flush()
        sink.close()
    wanted = [1_800_000_000_000 + 1000 * row for row in range(6)]
    assert [at for at in posted if at in wanted] == wanted
    assert sink.refused == 0


def test_a_request_is_the_protobuf_that_the_format_writes_down():
    samples = [
        Sample((("__name__", "m"), ("a", "é")), 1, struct.pack("<d", 1.0)),
        Sample((("__name__", "m"), ("a", "é")), -1, struct.pack("<d", 2.0)),
    ]
    name = b"\x0a\x0d\x0a\x08__name__\x12\x01m"
    label = b"\x0a\x07\x0a\x01a\x12\x02\xc3\xa9"
    one = b"\x12\x0b\x09" + struct.pack("<d", 1.0) + b"\x10\x01"
    minus = b"\x12\x14\x09" + struct.pack("<d", 2.0) + b"\x10" + b"\xff" * 9 + b"\x01"
    series = name + label + one + minus
    assert write_request(samples) == b"\x0a" + bytes([len(series)]) + series
    lone = write_request([Sample((("__name__", "\ud800"),), 1, struct.pack("<d", 1.0))])
    assert b"?" in lone  # what no UTF-8 can say is sent as a question mark


def test_options_and_the_extra(monkeypatch):
    for options in ({"labels": "a"}, {"labels": "a=b, a=c"}, {"top": -1}, {"batch": 0}):
        with pytest.raises(ConfigError):
            RemoteWriteSink(url="http://127.0.0.1:1", **options)
    sink = RemoteWriteSink(url="http://127.0.0.1:1")
    sink.send([score(BASE)])
    with pytest.raises(UsageError, match="not open"):
        sink.flush()
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(MissingExtraError, match=r"imdiffusion\[prometheus\]"):
        sink.open()
