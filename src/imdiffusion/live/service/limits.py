"""What a caller may ask of the service at most, and how fast."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass

from imdiffusion.errors import ConfigError

MIB = 1024 * 1024
MOST_CALLERS = 10_000  # addresses whose pace is remembered; the one that was silent longest goes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one service.

    body: bytes of one request. held: bytes of all requests that are being read. patience: seconds
    in which a body must have come. rate, burst: requests a second of one address, and how many at
    once. entities: names that rows pushed over HTTP may name in all. channels: of one entity.
    streams: pages that follow at a time. connections: open at a time.
    """

    body: int = 16 * MIB
    held: int = 64 * MIB
    patience: float = 20.0
    rate: float = 50.0
    burst: int = 200
    entities: int = 10_000
    channels: int = 2_000
    streams: int = 64
    connections: int = 512

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(
                    f"the limit {name} = {value!r} is not above 0",
                    remedy="Write a positive number.",
                )


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
