"""Far sides that need more than a folder, for the contract of sources and sinks.

A new member has its rig here, as (table, name) -> a context manager of a `SourceRig` or `SinkRig`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from kafka_cluster import QUICK, cluster, fresh, put, stored

from imdiffusion.testing import SinkRig, SourceRig
from imdiffusion.testing.rigs import Cells, keys_of, rows_of


@contextmanager
def kafka_source() -> Iterator[SourceRig]:
    with cluster() as servers, tempfile.TemporaryDirectory() as folder:
        quick, topic = Path(folder, "quick"), fresh("rows")
        quick.write_text(QUICK)

        def feed(cells: Cells) -> None:
            put(servers, topic, [(None, row) for row in rows_of(cells)])

        def spoil() -> None:
            put(servers, topic, [(None, b"rubbish")])

        put(servers, topic, [])
        options = {"servers": servers, "topic": topic, "properties": str(quick)}
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


RIGS: dict[tuple[str, str], Callable[[], AbstractContextManager[SourceRig | SinkRig]]] = {
    ("sources", "kafka"): kafka_source,
    ("sinks", "kafka"): kafka_sink,
}
