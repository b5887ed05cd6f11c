"""Events to a web address of one's own, as JSON: signed if a secret is given, each told apart."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from imdiffusion.errors import ConfigError, UsageError
from imdiffusion.live.connection.http import Client, HttpOptions, secret, split_url
from imdiffusion.live.connection.protocols import Closing
from imdiffusion.live.connection.record_json import json_of
from imdiffusion.live.sinks.delivery import Outbox
from imdiffusion.records import EventRecord, Record
from imdiffusion.schema import positive

__all__ = ["WebhookSink"]


@dataclass(kw_only=True, repr=False, eq=False)
class WebhookSink(Closing, HttpOptions):
    """POSTs a list of event records, each as `record_text` says.

    url, or url_env or url_file where the address is itself a secret. secret_env or secret_file:
    sign each request, see `signature`. batch: events of a request. window: how many of the last
    events are remembered, so that one that is sent again is not posted again. An event that is
    refused for good is counted in `refused`; see `HttpOptions` for the other options.
    """

    url: str = ""
    url_env: str = ""
    url_file: str = ""
    secret_env: str = ""
    secret_file: str = ""
    batch: int = 100
    window: int = 100_000

    takes = frozenset({"event"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(map(bool, (self.url, self.url_env, self.url_file))) != 1:
            raise ConfigError(
                "one of url, url_env and url_file has to be given", remedy="Give one of them."
            )
        if not 1 <= self.batch <= 10_000:
            raise ConfigError(f"batch is out of range: {self.batch}", remedy="Give 1 to 10000.")
        positive(window=self.window)
        self._client: Client | None = None
        self._outbox = Outbox(self._post, size=self.batch, window=self.window)

    @property
    def refused(self) -> int:
        """Events that were refused for good."""
        return self._outbox.refused

    def open(self) -> None:
        """ConfigError where a secret cannot be read."""
        self.close()
        url = self.url or secret("url", env=self.url_env, file=self.url_file)
        split_url(url)
        self._secret()
        self._client = Client(self, url=url)
        self._client.check()

    def send(self, records: Sequence[Record]) -> None:
        """Hold events until `flush`."""
        for record in records:
            if isinstance(record, EventRecord):
                self._outbox.put(record.key, record)

    def flush(self) -> None:
        """Post everything; ConnectionLost if that stops before its end."""
        self._outbox.flush()

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _secret(self) -> str:
        return secret("secret", env=self.secret_env, file=self.secret_file)

    def _post(self, events: Sequence[EventRecord]) -> bool:
        if self._client is None:
            raise UsageError("the sink is not open", remedy="Call open first.")
        body = json.dumps([json_of(event) for event in events], allow_nan=False).encode()
        keys = json.dumps([event.key for event in events]).encode()
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": hashlib.sha256(keys).hexdigest(),
        }
        if key := self._client.now(self._secret):
            at = str(int(time.time()))
            headers["X-Imdiffusion-Timestamp"] = at
            headers["X-Imdiffusion-Signature"] = signature(key, at, body)
        return self._client.settle(self._client.request(body=body, headers=headers))


def signature(key: str, at: str, body: bytes) -> str:
    """ "sha256=" and the HMAC of `at`, a dot and the body: what a receiver computes and compares.

    `at` is the header X-Imdiffusion-Timestamp, seconds since the epoch: a receiver that refuses
    old ones cannot be shown a request twice.
    """
    return "sha256=" + hmac.new(key.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
