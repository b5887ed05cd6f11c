"""A process that watches a topic of Kafka until SIGTERM: as test_kills_kafka.py starts it"""

import sys
import threading
from pathlib import Path

from real_child import watch

from imdiffusion.connectors.kafka_source import KafkaSource
from imdiffusion.connectors.sqlite_sink import SqliteSink
from imdiffusion.stream.running import stopped_by_signals

if __name__ == "__main__":
    place, servers, topic = Path(sys.argv[1]), *sys.argv[2:4]
    stop = threading.Event()
    source = KafkaSource(
        servers=servers, topic=topic, group=topic, batch_rows=5, properties=str(place / "quick")
    )
    with stopped_by_signals(stop):
        watch(place, {"kafka": source}, {"sqlite": SqliteSink(path=str(place / "out.db"))}, stop)
    print("done")
