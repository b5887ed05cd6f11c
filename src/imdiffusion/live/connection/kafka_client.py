"""The one door to Kafka: clients of librdkafka (the extra `kafka`), and what its errors mean.

Raises MissingExtraError on import where confluent-kafka is not installed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imdiffusion.errors import ConfigError, ConnectionLost, MissingExtraError

try:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        KafkaError,
        KafkaException,
        Message,
        Producer,
        TopicPartition,
    )
except ImportError as error:
    raise MissingExtraError("confluent-kafka", extra="kafka") from error

__all__ = [
    "OFFSET_BEGINNING",
    "Consumer",
    "Health",
    "KafkaError",
    "KafkaException",
    "Message",
    "Producer",
    "TopicPartition",
    "consumer_of",
    "partitions_of",
    "producer_of",
    "trouble_of",
]

_LOG = logging.getLogger(__name__)
# No retry mends these: the other side says no, or the settings are wrong.
_LASTING = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
        KafkaError._SSL,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    }
)


class Health:
    """What librdkafka said of the servers as a whole, apart from any message."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.last: KafkaError | None = None

    def hear(self, error: KafkaError) -> None:
        """librdkafka's error callback."""
        # A single server or name that fails is mended by librdkafka itself.
        if error.fatal() or error.code() in _LASTING | {KafkaError._ALL_BROKERS_DOWN}:
            self.last = error

    def check(self) -> None:
        """Raise what was heard, once: ConnectionLost, or ConfigError where no retry helps."""
        if self.last is not None:
            error, self.last = self.last, None
            raise trouble_of(error, f"Kafka at {self.servers}")


def trouble_of(error: KafkaError, what: str) -> ConnectionLost | ConfigError:
    """An error of librdkafka as one of ours."""
    said = f"{what}: {error.str() or error.name()}"
    if error.code() in _LASTING:
        return ConfigError(said, remedy="Check servers, topic, group and the file of properties.")
    return ConnectionLost(said, remedy="It is tried again.")


def consumer_of(settings: Mapping[str, Any], properties: str, health: Health) -> Consumer:
    """A consumer; `properties` is a file with more settings, or "". Raises ConfigError."""
    made: Consumer = _made(Consumer, settings, properties, health)
    return made


def producer_of(settings: Mapping[str, Any], properties: str, health: Health) -> Producer:
    """A producer; `properties` is a file with more settings, or "". Raises ConfigError."""
    made: Producer = _made(Producer, settings, properties, health)
    return made


def partitions_of(client: Consumer | Producer, health: Health, timeout: float) -> dict[str, int]:
    """How many partitions every topic has that the servers report. ConnectionLost, ConfigError.

    All of them are asked for: asking for one by name may make it.
    """
    try:
        found = client.list_topics(timeout=timeout).topics
    except KafkaException as error:
        client.poll(0.0)  # what the servers said of it is told to `health` in a poll
        health.check()
        raise trouble_of(error.args[0], f"Kafka at {health.servers}") from error
    return {str(name): len(topic.partitions) for name, topic in found.items()}


def _made(
    make: Callable[[dict[str, Any]], Any],
    settings: Mapping[str, Any],
    properties: str,
    health: Health,
) -> Any:
    more = _properties(properties) if properties else {}
    for name in more.keys() & settings.keys():
        raise ConfigError(f"{properties} sets {name!r}, which is not free", remedy="Leave it out.")
    config = {
        "bootstrap.servers": health.servers,
        **settings,
        **more,
        "error_cb": health.hear,
        "logger": _LOG,
    }
    try:
        return make(config)
    except KafkaException as error:
        # Its words name the property; the value, which may be a secret, stays out of ours.
        named = [name for name in config if name in str(error)]
        raise ConfigError(
            f"Kafka's settings are refused: {', '.join(named) or 'one of them'}",
            remedy="Check the file of properties against librdkafka's CONFIGURATION.md.",
        ) from None


def _properties(path: str) -> dict[str, str]:
    """Lines "name=value" of a file; blank ones and those that start with # do not count."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path} cannot be read: {why}") from error
    found = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"{path}, line {number}: no '='", remedy="Write name=value.")
        found[name.strip()] = value.strip()
    return found
