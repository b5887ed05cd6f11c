"""What the service counts of itself since it was started."""

from __future__ import annotations

import threading
from collections import Counter


class Tally:
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
