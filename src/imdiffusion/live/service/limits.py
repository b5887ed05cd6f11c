"""What a caller may ask of the service at most, and how fast."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

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
