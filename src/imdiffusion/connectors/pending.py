"""Records that a sink has taken and that are not safe yet, and the keys of those that are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from imdiffusion.connectors.record_text import Key, key_of
from imdiffusion.records import Record


class Pending:
    """Each record once, by its key, in the order of arrival.

    A record that was sent again while it waits is the same one; a record whose key is among the
    last `window` that became safe is passed over, for it is there already.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.held: dict[Key, Record] = {}
        self._safe: OrderedDict[Key, None] = OrderedDict()

    def add(self, records: Sequence[Record]) -> None:
        """Take records."""
        for record in records:
            key = key_of(record)
            if key not in self._safe:
                self.held[key] = record

    def settle(self, keys: Iterable[Key]) -> None:
        """What has these keys is safe, and is no longer held."""
        for key in list(keys):
            self.held.pop(key, None)
            self._safe[key] = None
            self._safe.move_to_end(key)
        while len(self._safe) > self.window:
            self._safe.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self.held.clear()
        self._safe.clear()
