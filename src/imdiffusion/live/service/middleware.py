"""What stands before every route: pace, name, origin, token, body; and headers on every answer.

Plain ASGI, in this order, each the cheapest that can refuse first. A request without a token gets
nothing read of his body. What is refused is counted by reason.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError
from imdiffusion.live.service.auth import CHANGE, Access, same_origin
from imdiffusion.live.sinks.metrics import MetricsSink
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader
from imdiffusion.schema import Fields, field

MIB = 1024 * 1024
MOST_CALLERS = 10_000  # addresses whose pace is remembered; the one that was silent longest goes


@dataclass(frozen=True, slots=True)
class Limits(Fields):
    """Bounds of one service."""

    called = "limit"

    body: int = field(16 * MIB, "bytes of one request", above=0)
    held: int = field(64 * MIB, "bytes of all requests that are being read", above=0)
    patience: float = field(20.0, "seconds in which a body must have come", above=0)
    rate: float = field(50.0, "requests a second of one address", above=0)
    burst: int = field(200, "requests of one address at once", above=0)
    entities: int = field(10_000, "names that rows pushed over HTTP may speak of", above=0)
    channels: int = field(2_000, "channels of one of them", above=0)
    streams: int = field(64, "pages that follow at a time", above=0)
    connections: int = field(512, "connections open at a time", above=0)


class Pace:
    """How fast each address may ask: `burst` at once, then `rate` a second."""

    def __init__(
        self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._callers: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Count one request; 0 = it may pass, else the seconds after which the next one may."""
        caller, now = _network(address), self._clock()
        left, then = self._callers.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        passes = left >= 1.0
        self._callers[caller] = (left - 1.0 if passes else left, now)
        while len(self._callers) > MOST_CALLERS:
            self._callers.popitem(last=False)
        return 0.0 if passes else (1.0 - left) / self._rate


def _network(address: str) -> str:
    """An address of IPv6 stands for the 2^64 that its owner has."""
    if ":" not in address:
        return address
    head = address.partition("%")[0].partition("::")[0].split(":")
    return ":".join(head[:4])


# -- what the routes work with: the live state, a few threads to ask it, the service's counters
#
# SQLite is asked in threads of the service's own, few and lasting: each holds one connection.


class Counters:
    """Counters by (name, label), from any thread. Labels are the service's own words."""

    def __init__(self) -> None:
        self._lock, self._counts = threading.Lock(), Counter[tuple[str, str]]()

    def add(self, name: str, label: str, count: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name, label] += count

    def counts(self) -> dict[tuple[str, str], int]:
        """Every counter."""
        with self._lock:
            return dict(self._counts)


Asked = ParamSpec("Asked")
Found = TypeVar("Found")

THREADS = 8
LOOK_AGAIN = 60.0  # seconds after which a full list of entities is compared with the live state

Ingest = Callable[[Frame], None]
Health = Callable[[], dict[str, Any]]


class ServiceContext:
    """Shared by all routes. `reader` reads; `store` writes feedback and models."""

    def __init__(
        self,
        store: Store,
        *,
        ingest: Ingest | None,
        metrics: MetricsSink | None,
        health: Health | None,
        limits: Limits,
    ) -> None:
        self.store, self.ingest, self.metrics, self.health = store, ingest, metrics, health
        self.limits, self.tally = limits, Counters()
        self.reader = Reader(store.path)
        self.closing = False
        self._names: set[str] = set()
        self._looked = 0.0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="service")

    async def ask(
        self, work: Callable[Asked, Found], *args: Asked.args, **kwargs: Asked.kwargs
    ) -> Found:
        """Do what may wait for the disk in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def admits(self, entity: str) -> bool:
        """Whether rows of an entity may be pushed: those that are known, up to a limit of names."""
        if entity in self._names:
            return True
        full = len(self._names) >= self.limits.entities
        if not self._names or (full and time.monotonic() - self._looked > LOOK_AGAIN):
            # Entities that are watched no more make room for others.
            self._names = {one.name for one in self.reader.entities(limit=self.limits.entities)}
            self._looked = time.monotonic()
        if entity not in self._names and len(self._names) >= self.limits.entities:
            return False
        self._names.add(entity)
        return True

    def now(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return time.time_ns()

    def close(self) -> None:
        """Let go of the threads and their connections. May be called twice."""
        self.closing = True
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.reader.close()


log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN = frozenset({"/", "/healthz", "/readyz"})  # and /static/: nothing in them is anybody's
JSON_KINDS = frozenset({"application/json", "application/x-ndjson"})
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Refusal(Exception):  # noqa: N818  it is an answer, not a fault
    """An answer instead of the route's: `reason` is what it is counted by."""

    def __init__(
        self,
        status: int,
        reason: str,
        error: str,
        remedy: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.status, self.reason, self.error, self.remedy = status, reason, error, remedy
        self.headers = headers
        super().__init__(error)


class ServiceMiddleware:
    """Wraps an application."""

    def __init__(self, app: App, *, access: Access, limits: Limits, tally: Counters) -> None:
        self._app, self._access, self._limits, self._tally = app, access, limits, tally
        self._pace = Pace(limits.rate, limits.burst)
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it. There are no websockets here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held = 0

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in HEADERS}
                there = [pair for pair in message.get("headers", ()) if pair[0] not in own]
                message["headers"] = [*there, *HEADERS]
                self._tally.add("answers", str(message["status"]))
            await send(message)

        try:
            self._check(scope)
            body = await self._body(scope, receive)
            held = len(body)
            await self._app(scope, _again(body, receive), answer)
        except Refusal as refusal:
            self._tally.add("refused", refusal.reason)
            await _refuse(refusal, answer)
        finally:
            self._held -= held

    def _check(self, scope: Message) -> None:
        """Raise a Refusal for a request that is not allowed."""
        headers = _headers(scope)
        client = scope.get("client") or ("", 0)
        if wait := self._pace.wait(str(client[0])):
            raise Refusal(
                429, "rate", "too many requests", "Ask more slowly.",
                (("retry-after", str(max(1, round(wait)))),),
            )  # fmt: skip
        host, method = headers.get("host", ""), str(scope["method"])
        try:
            known = self._access.knows(host)
            role = self._access.role(headers.get("authorization", ""))
        except ConfigError as error:
            log.error("a token cannot be read, every request is refused: %s", error)
            raise Refusal(503, "token", "the service cannot read its tokens just now") from error
        if not known:
            raise Refusal(
                421, "host", "this service is not called by that name",
                "Use its address, or name it in `hosts` of the configuration.",
            )  # fmt: skip
        path = str(scope["path"])
        if method in SAFE and (path in OPEN or path.startswith("/static/")):
            return
        self._check_role(role, method)
        if method not in SAFE:
            _check_sender(headers, host)

    def _check_role(self, role: str, method: str) -> None:
        if not role:
            raise Refusal(
                401, "token", "a token is needed, and was absent or wrong",
                "Send the header Authorization: Bearer TOKEN.", (("www-authenticate", "Bearer"),),
            )  # fmt: skip
        if method not in SAFE and role != CHANGE:
            there = self._access.has_change_token()
            raise Refusal(
                403, "role", "this token may read, not change" if there else "changes are disabled",
                "Use the token for changing." if there
                else "Give the service a change_token_env or change_token_file.",
            )  # fmt: skip

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        """The whole body, within limits of size and time."""
        said = _headers(scope).get("content-length", "0")
        if not said.isdecimal() or int(said) > self._limits.body:
            raise _too_long(self._limits.body)
        parts: list[bytes] = []
        size, kept = 0, False
        try:
            async with asyncio.timeout(self._limits.patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(400, "gone", "the sender disconnected")
                    part = message.get("body", b"")
                    size += len(part)
                    self._held += len(part)
                    if size > self._limits.body:
                        raise _too_long(self._limits.body)
                    if self._held > self._limits.held:
                        raise Refusal(
                            503, "held", "too much is being sent at once", "Send it again later.",
                            (("retry-after", "1"),),
                        )  # fmt: skip
                    parts.append(part)
                    if not message.get("more_body", False):
                        kept = True
                        return b"".join(parts)
        except TimeoutError as error:
            raise Refusal(408, "slow", "the body did not come in time") from error
        finally:
            if not kept:
                self._held -= size


def _check_sender(headers: dict[str, str], host: str) -> None:
    """Refuse what a page of another origin could have a browser send."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if (origin is not None and not same_origin(origin, host)) or site not in (
        "same-origin",
        "none",
    ):
        raise Refusal(403, "origin", "a change that comes from another page is not taken")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in JSON_KINDS:
        # A browser asks first before it sends these elsewhere, and is never allowed.
        raise Refusal(
            415,
            "kind",
            "a change is sent as JSON",
            "Send the header Content-Type: application/json.",
        )


def _too_long(most: int) -> Refusal:
    return Refusal(413, "body", f"the body is longer than {most} bytes", "Send smaller bodies.")


def _headers(scope: Message) -> dict[str, str]:
    """Headers by name in lower case; of several of one name the last."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, then whatever comes: a hang-up."""
    told = False

    async def once() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


async def _refuse(refusal: Refusal, send: Send) -> None:
    text = json.dumps({"error": refusal.error, "remedy": refusal.remedy}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
        *((name.encode(), value.encode()) for name, value in refusal.headers),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
