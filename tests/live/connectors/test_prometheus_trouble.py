"""The Prometheus source against a server that lies and fails; names and queries."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from odd_server import Answer, Asked, OddServer

from imdiffusion.errors import ConfigError, ConnectionLost, UsageError
from imdiffusion.live.sources.prometheus import PrometheusSource
from imdiffusion.live.sources.prometheus_response import Naming, Query, parse_queries

NOW = 1_800_000_000.0  # the odd server's clock


def fields(asked: Asked) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}


def success(kind: str, result, **more) -> Answer:
    data = {"resultType": kind, "result": result}
    return Answer(body=json.dumps({"status": "success", "data": data, **more}).encode())


class Fake:
    """Prometheus with one series "x" that always has its time as its value, but for `ranges`."""

    def __init__(self) -> None:
        self.now = NOW
        self.ranges = None  # (start, end, step, number of the range query) -> Answer | None
        self.asked: list[tuple[float, float]] = []

    def __call__(self, asked: Asked) -> Answer:
        form = fields(asked)
        if asked.path.endswith("/query"):
            assert form["query"] == "time()"
            return success("scalar", [self.now, str(self.now)])
        start, end, step = (float(form[name]) for name in ("start", "end", "step"))
        self.asked.append((start, end))
        other = self.ranges(start, end, step, len(self.asked)) if self.ranges else None
        return other or success("matrix", [series({"__name__": "x"}, start, end, step)])


def series(labels: dict[str, str], start: float, end: float, step: float):
    times = np.arange(start, end + step / 2, step)
    return {"metric": labels, "values": [[t, str(t)] for t in times.tolist()]}


@pytest.fixture(name="fake")
def _fake():
    return Fake()


@pytest.fixture(name="source")
def _source(fake):
    with OddServer(fake) as odd:
        options = {"query": "x", "step": 10.0, "offset": 0.0, "backfill": 990.0, "timeout": 20.0}
        with PrometheusSource(url=odd.url, **options) as source:
            source.open(None)
            yield source


def times(source: PrometheusSource) -> list[float]:
    """All times that can be read now; the value must be the time."""
    found: list[float] = []
    while (batch := source.read(0.0)) is not None:
        for frame in batch.frames:
            assert np.array_equal(frame.timestamps.view(np.int64) / 1e9, frame.values[:, 0])
            found += frame.values[:, 0].tolist()
    return found


WHOLE = [NOW - 990 + 10 * row for row in range(100)]

RUBBISH = {
    "no JSON": Answer(body=b"<html>please log in</html>"),
    "half": Answer(body=b'{"status":"success","data":{"resultType":"matrix","result":[{"met'),
    "deep": Answer(body=b"[" * 100_000),
    "bytes": Answer(body=b"\xff\xfe\x00"),
    "error": Answer(body=b'{"status":"error","error":"no"}'),
    "list": Answer(body=b"[]"),
    "no data": Answer(body=b'{"status":"success"}'),
    "vector": success("vector", []),
    "no list": success("matrix", {}),
    "no metric": success("matrix", [{"values": []}]),
    "odd metric": success("matrix", [{"metric": 3, "values": []}]),
    "odd values": success("matrix", [{"metric": {}, "values": [3]}]),
    "words": success("matrix", [{"metric": {}, "values": [[NOW - 990, "many"]]}]),
    "huge": success("matrix", [{"metric": {}, "values": [[10**400, "1"]]}]),
    "nowhere": success("matrix", [{"metric": {}, "values": [[float("inf"), "1"]]}]),
    "not asked for": success("matrix", [{"metric": {}, "values": [[NOW + 9000, "1"]]}]),
    "between": success("matrix", [{"metric": {}, "values": [[NOW - 990 + 3, "1"]]}]),
    "partial": success("matrix", [], isPartial=True),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_is_a_lost_connection_and_costs_no_row(kind, fake, source):
    fake.ranges = lambda *_: RUBBISH[kind]
    for _ in range(3):
        with pytest.raises(ConnectionLost, match="answered with"):
            source.read(0.0)
    fake.ranges = None
    assert times(source) == WHOLE


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_trouble_that_passes_is_a_lost_connection_and_costs_no_row(status, fake, source):
    fake.ranges = lambda *_: Answer(status, body=b"not now")
    for _ in range(3):
        with pytest.raises(ConnectionLost, match=f"answered {status}: not now"):
            source.read(0.0)
    fake.ranges = None
    assert times(source) == WHOLE


@pytest.mark.parametrize("status", [302, 401, 403, 404, 405])
def test_a_wrong_address_or_sender_is_a_configuration_error(status, fake, source):
    fake.ranges = lambda *_: Answer(status)
    with pytest.raises(ConfigError, match=f"answered {status}"):
        source.read(0.0)


def test_a_server_that_says_no_time_is_no_prometheus(tmp_path):
    with (
        OddServer(lambda _: Answer(400, body=b"what?")) as odd,
        PrometheusSource(url=odd.url, query="x") as source,
    ):
        source.open(None)
        with pytest.raises(ConfigError, match="does not give the time: 400, what"):
            source.read(0.0)
        odd.answer = lambda _: success("scalar", [1, "NaN"])
        with pytest.raises(ConnectionLost, match=r"nan for time\(\)"):
            source.read(0.0)


def test_a_query_that_works_only_in_small_pieces_is_read_in_small_pieces(fake, source):
    def slow_if_long(start, end, _step, _number):
        return Answer(503, body=b"query timed out") if end - start > 200 else None

    fake.ranges = slow_if_long
    found: list[float] = []
    failures = 0
    while len(found) < len(WHOLE):
        try:
            batch = source.read(0.0)
        except ConnectionLost:
            failures += 1
            continue
        found += batch.frames[0].values[:, 0].tolist()
    assert found == WHOLE
    assert failures < 20


def test_what_is_refused_for_good_is_passed_over_and_said(fake, source):
    poisoned = WHOLE[37]

    def refuse(start, end, _step, number):
        return Answer(422, body=b"bad luck") if start <= poisoned <= end and number > 1 else None

    fake.ranges = refuse
    source._most = 10
    said: list[str] = []
    found: list[float] = []
    while (batch := source.read(0.0)) is not None:
        said += batch.rejected
        found += [time_ for frame in batch.frames for time_ in frame.values[:, 0].tolist()]
    assert found == [time_ for time_ in WHOLE if time_ != poisoned]
    assert len(said) == 1
    stamp = datetime.fromtimestamp(poisoned, UTC).isoformat(timespec="milliseconds")
    assert said[0] == f"the query at {stamp} is skipped: 422, bad luck"
    assert len(fake.asked) < 60


def test_the_servers_clock_rules_and_may_jump(fake, source):
    assert times(source) == WHOLE
    fake.now = NOW - 3600  # set back: nothing is new, nothing comes twice
    source._ask_at = 0.0
    assert times(source) == []
    fake.now = NOW + 25
    source._ask_at = 0.0
    assert times(source) == [NOW + 10, NOW + 20]
    # and it is asked again after a step at the latest, however far away the next row seems
    fake.now = NOW - 3600
    source._ask_at = 0.0
    assert source.read(0.0) is None
    assert source._ask_at - time.monotonic() <= 10.0


def test_a_row_that_is_soon_complete_is_waited_for(fake, source):
    assert times(source) == WHOLE
    fake.now = NOW + 9.95
    source._ask_at = 0.0
    assert source.read(0.0) is None
    fake.now = NOW + 10
    batch = source.read(30.0)
    assert batch.frames[0].values[:, 0].tolist() == [NOW + 10]


def test_series_that_cannot_be_placed_are_counted(fake):
    def several(start, end, step, _number):
        labels = [{"host": "a"}, {"host": "b"}, {}, {"host": "a", "cpu": "0"}, {"host": ""}]
        warned = {"warnings": ["remote storage is away", "PromQL info: odd name"]}
        found = [series({"__name__": "x", **each}, start, end, step) for each in labels]
        found[3]["values"] = [[at, "-1"] for at, _ in found[3]["values"]]
        found.append({"metric": {"__name__": "h", "host": "a"}, "histograms": [[start, {}]]})
        return success("matrix", found, **warned)

    fake.ranges = several
    options = {
        "step": 10.0,
        "offset": 0.0,
        "backfill": 40.0,
        "groupby": ["host"],
        "ignore": ["cpu"],
    }
    with OddServer(fake) as odd, PrometheusSource(url=odd.url, query="x", **options) as source:
        source.open(None)
        batch = source.read(0.0)
    assert [(frame.entity, frame.channels, len(frame)) for frame in batch.frames] == [
        ("a", ("x",), 5),
        ("b", ("x",), 5),
    ]
    assert batch.frames[0].values.min() > 0, "the first of two that share a name is kept"
    assert set(batch.rejected) == {
        "the query: warning: remote storage is away",
        "the query: 1 values are histograms and not numbers",
        "the query: series without the label host: 2 skipped",
        "the query: values of a second series that is called x of a too: 5 skipped",
    }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "one of query and queries"),
        ({"query": "x", "queries": "a=x"}, "one of query and queries"),
        ({"queries": "x"}, "'x' has no name"),
        ({"queries": "x == 1"}, "has no name"),
        ({"queries": "a=x; a=y"}, "'a' is there twice"),
        ({"queries": 'a=x{b="c}'}, "no end"),
        ({"query": "x", "groupby": ["a b"]}, "'a b' is no label name"),
        ({"query": "x", "step": 0.0}, "step is out of range"),
        ({"query": "x", "step": float("inf")}, "step is out of range"),
        ({"query": "x", "offset": -1.0}, "offset is out of range"),
        ({"query": "x", "max_points": 11_001}, "max_points is out of range"),
        ({"query": "x", "max_bytes": 0}, "max_bytes is out of range"),
        ({"query": "x", "url": "http://h/?a=b"}, "question mark"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        PrometheusSource(**{"url": "http://127.0.0.1:1", **options})


def test_an_offset_that_is_none_and_a_source_that_is_not_open_are_refused():
    source = PrometheusSource(url="http://127.0.0.1:1", query="x")
    with pytest.raises(ConfigError, match="no offset"):
        source.open("yesterday")
    with pytest.raises(UsageError, match="not open"):
        source.read(0.0)
    source.close()
    source.close()


# -- names


def test_several_queries_are_told_apart_whatever_their_strings_hold():
    text = """cpu = 1 - rate(idle{a="x;y=\\"z", b='q;'}[5m]) ; up=up == 1;; tick.s=x{a=~`;`}"""
    assert parse_queries("", text) == (
        Query("cpu", """1 - rate(idle{a="x;y=\\"z", b='q;'}[5m])"""),
        Query("up", "up == 1"),
        Query("tick.s", "x{a=~`;`}"),
    )


def test_channels_have_readable_and_stable_names():
    naming = Naming(("instance",), ("job",), "e")
    labels = {"__name__": "cpu", "instance": "a:1", "job": "j", "mode": "idle", "cpu": "0"}
    assert naming.channel_of(Query("", "x"), labels) == 'cpu{cpu="0",mode="idle"}'
    assert naming.channel_of(Query("busy", "x"), labels) == 'busy{cpu="0",mode="idle"}'
    assert naming.channel_of(Query("busy", "x"), {"__name__": "cpu", "instance": "a:1"}) == "busy"
    picked = Query("all", '{__name__=~"c.*"}')
    assert naming.channel_of(picked, {"__name__": "cpu"}) == 'all{__name__="cpu"}'
    assert naming.channel_of(Query("", "sum(x)"), {}) == "value"
    assert naming.channel_of(Query("", "x"), {"a": 'q"\\\n'}) == 'value{a="q\\"\\\\\\n"}'
    assert naming.entity_of(labels) == "a:1"
    assert Naming((), (), "e").entity_of(labels) == "e"


VALUES = st.text(alphabet='ab/%2F"\\,={}\n', min_size=1, max_size=6)


@given(st.tuples(VALUES, VALUES), st.tuples(VALUES, VALUES))
@example(("a/b", "c"), ("a%2Fb", "c"))
@example(("a/b", "c"), ("a", "b/c"))
def test_different_labels_never_share_a_name(one, other):
    naming = Naming(("a", "b"), (), "e")
    query = Query("", "x")
    first, second = (dict(zip("ab", pair, strict=True)) for pair in (one, other))
    assert (naming.entity_of(first) == naming.entity_of(second)) == (one == other)
    channels = [Naming((), (), "e").channel_of(query, labels) for labels in (first, second)]
    assert (channels[0] == channels[1]) == (one == other)
