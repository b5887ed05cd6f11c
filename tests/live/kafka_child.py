"""A process that watches a topic of Kafka until SIGTERM: as test_kills_kafka.py starts it"""

import sys
import threading
from pathlib import Path

from real_child import watch

from imdiffusion.live.engine.engine import stopped_by_signals
from imdiffusion.live.sinks.sqlite import SqliteSink
from imdiffusion.live.sources.kafka import KafkaSource

if __name__ == "__main__":
    place, servers, topic = Path(sys.argv[1]), *sys.argv[2:4]
    stop = threading.Event()
    source = KafkaSource(
        servers=servers, topics=(topic,), group=topic, batch_rows=5, properties=str(place / "quick")
    )
    with stopped_by_signals(stop):
        watch(place, {"kafka": source}, {"sqlite": SqliteSink(path=str(place / "out.db"))}, stop)
    print("done")
