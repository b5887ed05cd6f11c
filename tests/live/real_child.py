"""A process that watches files and feeds every kind of far side; killed on the way, if it is told

    python real_child.py FOLDER WEBHOOK SERVERS TOPIC [STAGE COUNT]

WEBHOOK: the address of a receiver; SERVERS, TOPIC: of Kafka. STAGE and COUNT as of live_child.py.
"""

import sys
import threading
from functools import partial
from pathlib import Path

from live_child import FOREVER, die_at
from live_parts import ZScorer, zscorer

from imdiffusion.errors import SourceEnded
from imdiffusion.live.engine.engine import Engine, run
from imdiffusion.live.engine.entity_state import EngineOptions
from imdiffusion.live.events.open_event import EventRules
from imdiffusion.live.sinks.files import FilesSink
from imdiffusion.live.sinks.kafka import KafkaSink
from imdiffusion.live.sinks.sqlite import SqliteSink
from imdiffusion.live.sinks.webhook import WebhookSink
from imdiffusion.live.sources.files import FilesSource
from imdiffusion.live.store import inserts, live_state
from imdiffusion.live.store.live_state import Store

RULES = EventRules(quiet=600, renotify=120)
OPTIONS = EngineOptions(every=0.001, rows=20, poll=0.01, retry=0.05, batch=9, offline=True)


class Ending(FilesSource):
    """Files that are read to their end and no further."""

    def read(self, timeout):
        batch = super().read(timeout)
        if batch is None:
            raise SourceEnded(f"{self.path} is read")
        return batch


# Where it may die: (class, method, before or after the method's own work).
STAGES = {
    "read": (Ending, "read", "after"),
    "score": (ZScorer, "_one", "after"),
    "write": (inserts.Inserts, "_feed", "after"),
    "written": (live_state.Store, "write", "after"),
    "sqlite write": (SqliteSink, "_write", "after"),
    "sqlite flushed": (SqliteSink, "flush", "after"),
    "files flush": (FilesSink, "flush", "before"),
    "files flushed": (FilesSink, "flush", "after"),
    "webhook post": (WebhookSink, "_post", "before"),
    "webhook posted": (WebhookSink, "_post", "after"),
    "kafka produce": (KafkaSink, "_produce", "after"),
    "kafka flushed": (KafkaSink, "flush", "after"),
    "advanced": (live_state.Store, "advance", "after"),
}


def sinks_of(folder, webhook, servers, topic):
    return {
        "sqlite": SqliteSink(path=str(folder / "out.db")),
        "files": FilesSink(path=str(folder / "out.jsonl"), max_bytes=20_000),
        "webhook": WebhookSink(url=webhook, batch=3),
        "kafka": KafkaSink(servers=servers, topic=topic),
    }


def watch(folder, sources, sinks, stop):
    with Store(folder / "live.db", retention=FOREVER) as state:
        engine = Engine(
            state, sources=sources, sinks=sinks, rules=RULES, options=OPTIONS,
            scorer_for=partial(zscorer, offline=True),
        )  # fmt: skip
        engine.open()
        run(engine, stop)


if __name__ == "__main__":
    place, where = Path(sys.argv[1]), sys.argv[2:5]
    if len(sys.argv) > 5:
        die_at(sys.argv[5], int(sys.argv[6]), STAGES)
    files = Ending(path=str(place / "rows"), batch_rows=5, poll=0.01)
    watch(place, {"files": files}, sinks_of(place, *where), threading.Event())
    print("done")
