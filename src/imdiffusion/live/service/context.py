"""What the routes work with: the live state, a few threads to ask it, the service's counters.

SQLite is asked in threads of the service's own, few and lasting: each holds one connection.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from imdiffusion.data.frame import Frame
from imdiffusion.live.service.limits import Limits
from imdiffusion.live.sinks.metrics import MetricsSink
from imdiffusion.live.store.live_state import Store
from imdiffusion.live.store.queries import Reader


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
