"""Far sides of every source and sink, for their contract.

A new member has its rig here, as (table, name) -> a context manager of a `SourceRig` or `SinkRig`;
`TOOLS` names the program from Debian's packages that a rig starts.
"""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

from kafka_cluster import QUICK, cluster, fresh, make, put, stored
from odd_server import Answer, OddServer
from programs import Alertmanager, Prometheus, VictoriaMetrics, call, free_port

from imdiffusion.live.connection.record_json import Key
from imdiffusion.live.sinks.remote_write import Sample
from imdiffusion.records import Record, ScoreRecord
from imdiffusion.testing import SinkRig, SourceRig, keys_of
from imdiffusion.testing.connectors import START, Cells

_STEP = 10  # seconds between the rows that Prometheus is asked for


def rows_of(cells: Cells) -> list[bytes]:
    """The cells as rows of JSON, wide, without ends of line."""
    rows: dict[tuple[str, int], dict[str, object]] = {}
    for (entity, instant, channel), value in cells.items():
        row = rows.setdefault((entity, instant), {"entity": entity, "timestamp": instant})
        row[channel] = value
    return [json.dumps(row).encode() for row in rows.values()]


@contextmanager
def files_source() -> Iterator[SourceRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")

        def feed(cells: Cells) -> None:
            with path.open("ab") as file:
                file.writelines(row + b"\n" for row in rows_of(cells))

        def spoil() -> None:
            with path.open("ab") as file:
                file.write(b"rubbish\n")

        yield SourceRig({"path": folder, "poll": 0.01}, feed, spoil)


@contextmanager
def stdin_source() -> Iterator[SourceRig]:
    reading, writing = os.pipe()
    try:

        def feed(cells: Cells) -> None:
            os.write(writing, b"".join(row + b"\n" for row in rows_of(cells)))

        def spoil() -> None:
            os.write(writing, b"rubbish\n")

        yield SourceRig({"descriptor": reading}, feed, spoil, replays=False)
    finally:
        os.close(reading)
        os.close(writing)


@contextmanager
def host_source() -> Iterator[SourceRig]:
    yield SourceRig({"interval": 0.05}, None, replays=False)


@contextmanager
def stdout_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryFile("w+b") as file:

        def received() -> list[Key]:
            return keys_of(os.pread(file.fileno(), 1 << 20, 0).splitlines())

        yield SinkRig({"descriptor": file.fileno()}, received, remembers=False)


@contextmanager
def files_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "new", "records.jsonl")
        yield SinkRig({"path": str(path)}, lambda: keys_of(path.read_text("utf-8").splitlines()))


@contextmanager
def sqlite_sink() -> Iterator[SinkRig]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "new", "records.db")

        def received() -> list[Key]:
            with closing(sqlite3.connect(path)) as database:
                scores = database.execute("SELECT entity, timestamp, mode, model FROM score")
                keys: list[Key] = [("score", *row) for row in scores]
                return keys + [
                    ("event", *r) for r in database.execute('SELECT id, "update" FROM event')
                ]

        yield SinkRig({"path": str(path)}, received)


@contextmanager
def kafka_source() -> Iterator[SourceRig]:
    with cluster() as servers, tempfile.TemporaryDirectory() as folder:
        quick, topic = Path(folder, "quick"), fresh("rows")
        quick.write_text(QUICK)

        def feed(cells: Cells) -> None:
            put(servers, topic, [(None, row) for row in rows_of(cells)])

        def spoil() -> None:
            put(servers, topic, [(None, b"rubbish")])

        make(servers, topic)
        options = {"servers": servers, "topics": [topic], "properties": str(quick)}
        yield SourceRig(options, feed, spoil)


@contextmanager
def kafka_sink() -> Iterator[SinkRig]:
    with cluster() as servers:
        topic = fresh("records")
        yield SinkRig(
            {"servers": servers, "topic": topic},
            lambda: keys_of(value for _, value in stored(servers, topic)),
            remembers=False,
        )


@contextmanager
def prometheus_source() -> Iterator[SourceRig]:
    """A row a request, so that what is put there after a read lies before the next one."""
    first = (int(time.time()) // _STEP - 60) * _STEP
    times = tuple((first + i * _STEP) * 10**9 for i in range(6))
    with tempfile.TemporaryDirectory() as folder, Prometheus(Path(folder)) as program:

        def sample(entity: str, instant: int, channel: str, value: float) -> Sample:
            labels = (("__name__", channel), ("instance", entity))
            return Sample(labels, instant // 10**6, struct.pack("<d", value))

        def feed(cells: Cells) -> None:
            program.put(*(sample(*cell, value) for cell, value in cells.items()))

        def spoil() -> None:
            program.put(sample("one", times[3], "spoilt", math.inf))

        options = {
            "url": program.url,
            "query": 'last_over_time({__name__=~"cpu|memory|spoilt"}[5s])',
            "groupby": ["instance"],
            "step": float(_STEP),
            "backfill": 800.0,
            "max_points": 1,
        }
        yield SourceRig(options, feed, spoil, times=times)


@contextmanager
def remote_write_sink() -> Iterator[SinkRig]:
    """VictoriaMetrics, for Prometheus would not take rows of another year beside today's."""
    with tempfile.TemporaryDirectory() as folder, VictoriaMetrics(Path(folder)) as program:

        def shows(records: Sequence[Record]) -> None:
            program.flush()
            found = {
                (mode, int(at), float(value))
                for mode in ("online", "offline")
                for values in program.raw(
                    f'imdiffusion_score{{mode="{mode}"}}', START / 1e9 + 60
                ).values()
                for at, value in values
                if not math.isnan(float(value))
            }
            wanted = {
                (one.mode, one.timestamp // 10**9, one.score)
                for one in records
                if isinstance(one, ScoreRecord) and not math.isnan(one.score)
            }
            assert found == wanted, f"{sorted(wanted)} became {sorted(found)}"

        yield SinkRig({"url": program.write_url}, None, shows=shows)


@contextmanager
def metrics_sink() -> Iterator[SinkRig]:
    port = free_port()

    def shows(records: Sequence[Record]) -> None:
        text = call(f"http://127.0.0.1:{port}/metrics").decode()
        scores = [one for one in records if isinstance(one, ScoreRecord)]
        for mode in ("online", "offline"):
            count = sum(one.mode == mode for one in scores)
            line = f'imdiffusion_scores_total{{entity="one",mode="{mode}"}} {count}.0'
            assert line in text.splitlines(), f"no {line} in {text}"
        for line in (
            'imdiffusion_events_total{entity="one"} 1.0',
            'imdiffusion_event_active{entity="one"} 0.0',
        ):
            assert line in text.splitlines(), f"no {line} in {text}"

    yield SinkRig({"port": port}, None, shows=shows)


@contextmanager
def webhook_sink() -> Iterator[SinkRig]:
    with OddServer(lambda _: Answer(204)) as odd:

        def received() -> list[Key]:
            posted = (record for asked in odd.asked for record in json.loads(asked.body))
            return keys_of(json.dumps(record, allow_nan=False) for record in posted)

        yield SinkRig({"url": odd.url}, received, remembers=False)


@contextmanager
def alertmanager_sink() -> Iterator[SinkRig]:
    """The event of the contract is over: Alertmanager has taken it, and nothing fires."""
    with (
        OddServer(lambda _: Answer()) as hook,
        tempfile.TemporaryDirectory() as folder,
        Alertmanager(Path(folder), hook=hook.url) as program,
    ):

        def shows(_: Sequence[Record]) -> None:
            assert program.alerts() == []
            text = call(f"{program.url}/metrics").decode()
            taken = re.findall(r"alertmanager_alerts_received_total\{(.*)\} (\d+)", text)
            ended = [int(count) for labels, count in taken if 'status="resolved"' in labels]
            assert sum(ended) > 0, text

        yield SinkRig({"url": program.url}, None, shows=shows)


RIGS: dict[tuple[str, str], Callable[[], AbstractContextManager[SourceRig | SinkRig]]] = {
    ("sources", "files"): files_source,
    ("sources", "stdin"): stdin_source,
    ("sources", "host"): host_source,
    ("sources", "kafka"): kafka_source,
    ("sources", "prometheus"): prometheus_source,
    ("sinks", "stdout"): stdout_sink,
    ("sinks", "files"): files_sink,
    ("sinks", "sqlite"): sqlite_sink,
    ("sinks", "kafka"): kafka_sink,
    ("sinks", "remote_write"): remote_write_sink,
    ("sinks", "metrics"): metrics_sink,
    ("sinks", "webhook"): webhook_sink,
    ("sinks", "alertmanager"): alertmanager_sink,
}
TOOLS = {
    ("sources", "prometheus"): "prometheus",
    ("sinks", "remote_write"): "victoria-metrics",
    ("sinks", "alertmanager"): "prometheus-alertmanager",
}
