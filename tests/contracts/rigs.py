"""Far sides that need more than a folder, for the contract of sources and sinks.

A new member has its rig here, as (table, name) -> a context manager of a `SourceRig` or `SinkRig`;
`TOOLS` names the program from Debian's packages that a rig starts.
"""

from __future__ import annotations

import json
import math
import re
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from kafka_cluster import QUICK, cluster, fresh, make, put, stored
from odd_server import Answer, OddServer
from programs import Alertmanager, Prometheus, VictoriaMetrics, call, free_port

from imdiffusion.live.sinks.remote_write import Sample
from imdiffusion.records import Record, ScoreRecord
from imdiffusion.testing import SinkRig, SourceRig
from imdiffusion.testing.rigs import START, Cells, keys_of, rows_of

_STEP = 10  # seconds between the rows that Prometheus is asked for


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

        def received() -> list[tuple[object, ...]]:
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
    ("sources", "kafka"): kafka_source,
    ("sources", "prometheus"): prometheus_source,
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
