"""Events to Alertmanager as alerts: raised at their onset, kept alive while they last, resolved.

Alertmanager forgets an alert at its `endsAt`. An ongoing event is sent with one `hold` seconds
ahead, and again at a flush or `tick` when half of that is over. So no thread is needed, and alerts
of a detector that died end by themselves.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from imdiffusion.durations import MILLISECOND_NS, SECOND_NS
from imdiffusion.errors import ConfigError, UsageError
from imdiffusion.live.connection.exposition import LABEL_NAME, parse_pairs
from imdiffusion.live.connection.http import Client, HttpOptions, split_url
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.sinks.delivery import Outbox
from imdiffusion.records import EventRecord, Record

__all__ = ["AlertmanagerSink"]

_REMEMBERED = 10_000  # events: an older update of one of these does not raise it anew
_OWN = ("alertname", "entity", "detector", "severity", "event")


@dataclass(kw_only=True, repr=False, eq=False)
class AlertmanagerSink(Closing, HttpOptions):
    """Sends alerts to Alertmanager's v2 interface at `url`, for instance http://127.0.0.1:9093.

    An event is one alert by its label `event`. alertname, severity: labels of every alert.
    labels: further ones, "name=value, name=value". generator_url: where an event can be looked at;
    {event} and {entity} in it are filled in. hold: seconds that an alert lives without being sent
    again; more than twice the time between two flushes. channels: how many an alert names.

    An alert that is refused for good is counted in `refused`; see `HttpOptions` for the others.
    """

    alertname: str = "ImdiffusionAnomaly"
    severity: str = "warning"
    labels: str = ""
    generator_url: str = ""
    hold: float = 300.0
    channels: int = 5

    takes = frozenset({"event"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.alertname and self.severity):
            raise ConfigError("alertname or severity is empty", remedy="Give both, or neither.")
        if not 1 <= self.hold < math.inf or self.channels < 0:
            raise ConfigError(
                f"hold or channels is out of range: {self.hold}, {self.channels}",
                remedy="Give for instance 300 seconds and 5 channels.",
            )
        if self.generator_url:
            split_url(self._generator("event", "entity"))
        self._fixed = parse_pairs("labels", self.labels, LABEL_NAME)
        taken = [name for name, _ in self._fixed if name in _OWN]
        if taken:
            raise ConfigError(
                f"labels: {taken[0]} is set by the sink", remedy=f"Not free: {', '.join(_OWN)}."
            )
        self._client: Client | None = None
        self._outbox = Outbox(self._post, size=100)
        self._open: dict[str, tuple[EventRecord, dict[str, str]]] = {}
        self._again_at: dict[str, float] = {}  # monotonic seconds
        self._told: dict[str, int] = {}  # the last update of each event that was settled

    @property
    def refused(self) -> int:
        """Alerts that were refused for good."""
        return self._outbox.refused

    @property
    def due(self) -> float:
        """Seconds until `tick` has something to send; infinity while no event is ongoing."""
        return min(self._again_at.values(), default=math.inf) - time.monotonic()

    def open(self) -> None:
        """ConfigError where a secret cannot be read."""
        self.close()
        self._client = Client(self)
        self._client.check()

    def send(self, records: Sequence[Record]) -> None:
        """Hold events until `flush`."""
        for record in records:
            if isinstance(record, EventRecord) and record.update > self._told.get(record.id, -1):
                self._outbox.put(record.key, record)

    def recall(self, ongoing: Sequence[EventRecord]) -> None:
        """Keep alive from now on what was ongoing before a start."""
        self.send(ongoing)
        self.flush()

    def flush(self) -> None:
        """Send what is held, and what has to be kept alive; ConnectionLost if that stops."""
        self._outbox.flush()
        self.tick()

    def tick(self) -> None:
        """Send the ongoing events again whose time it is. `flush` does that too."""
        now = time.monotonic()
        due = [event for event, _ in self._open.values() if self._again_at[event.id] <= now]
        for event in due:
            self._outbox.put((event.key, "alive"), event)
        if due:
            self._outbox.flush()

    def close(self) -> None:
        """Close the connection. Ongoing events are ongoing still, and end `hold` seconds later."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post(self, events: Sequence[EventRecord]) -> bool:
        if self._client is None:
            raise UsageError("the sink is not open", remedy="Call open first.")
        newest: dict[str, EventRecord] = {}
        for event in events:
            if event.id not in newest or event.update >= newest[event.id].update:
                newest[event.id] = event
        now = time.time_ns()
        alerts = [self._alert(event, now) for event in newest.values()]
        reply = self._client.request(
            "/api/v2/alerts",
            body=json.dumps(alerts).encode(),
            headers={"Content-Type": "application/json"},
        )
        taken = self._client.settle(reply)
        if taken or len(events) == 1:
            for event in newest.values():
                self._settle(event, alive=taken and event.status == "ongoing")
        return taken

    def _settle(self, event: EventRecord, *, alive: bool) -> None:
        self._told.pop(event.id, None)
        self._told[event.id] = event.update  # to the end: the one longest untouched goes first
        if len(self._told) > _REMEMBERED:
            del self._told[next(iter(self._told))]
        if alive:
            self._open[event.id] = (event, self._labels(event))
            self._again_at[event.id] = time.monotonic() + self.hold / 2
        else:
            self._open.pop(event.id, None)
            self._again_at.pop(event.id, None)

    def _labels(self, event: EventRecord) -> dict[str, str]:
        """The labels of the event's first update: other ones would be another alert."""
        if event.id in self._open:
            return self._open[event.id][1]
        return {
            **dict(self._fixed),
            "alertname": self.alertname,
            "entity": event.entity,
            "detector": event.detector,
            "severity": self.severity,
            "event": event.id,
        }

    def _alert(self, event: EventRecord, now: int) -> dict[str, Any]:
        if event.status == "ongoing":
            ends = now + int(self.hold * SECOND_NS)
        else:  # one that ends in the future would go on until then
            ends = max(min(event.end or now, now), event.start)
        alert: dict[str, Any] = {
            "labels": self._labels(event),
            "annotations": alert_text(event, self.channels),
            "startsAt": _time(event.start),
            "endsAt": _time(ends),
        }
        if self.generator_url:
            alert["generatorURL"] = self._generator(event.id, event.entity)
        return alert

    def _generator(self, event: str, entity: str) -> str:
        filled = self.generator_url.replace("{event}", quote(event, safe=""))
        return filled.replace("{entity}", quote(entity, safe=""))


def alert_text(event: EventRecord, channels: int) -> Mapping[str, str]:
    """What an alert says: what, which channels with their shares, seen against expected, score.

    kinds: of the channels in which a check found something, as "cpu frozen".
    """
    most = f", mostly {event.channels[0]}" if event.channels else ""
    found = [
        f"{name} {kind}" for name, kind in zip(event.channels, event.kinds, strict=False) if kind
    ]
    if event.reason:
        most = f": {event.reason}"
    named = list(zip(event.channels, event.shares, event.seen, event.expected, strict=False))[
        :channels
    ]
    return {
        "summary": f"{event.entity} behaves unlike before{most}",
        "channels": ", ".join(f"{name} {share:.0%}" for name, share, _, _ in named),
        "seen": ", ".join(f"{name} {_number(seen)}" for name, _, seen, _ in named),
        "expected": ", ".join(f"{name} {_number(value)}" for name, _, _, value in named),
        "kinds": ", ".join(found[:channels]),
        "score": f"{event.score:.3g}",
        "peak": _time(event.peak),
        "status": event.status,
        "model": event.model,
    }


def _number(value: float) -> str:
    return "not observed" if math.isnan(value) else f"{value:.4g}"


def _time(nanoseconds: int) -> str:
    """RFC 3339, to the millisecond."""
    whole, rest = divmod(nanoseconds, SECOND_NS)
    stamp = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{stamp}.{rest // MILLISECOND_NS:03d}Z"
