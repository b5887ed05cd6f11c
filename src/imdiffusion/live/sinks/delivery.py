"""What a sink holds between `send` and `flush`, and how one refused item is told from its batch.

`Pending` holds records that are not safe yet, and the keys of those that are; `Outbox` posts items
in batches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from imdiffusion.errors import ConnectionLost
from imdiffusion.live.connection.record_json import Key, key_of
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


T = TypeVar("T")


class Outbox(Generic[T]):
    """Items by key, in the order in which they came; `flush` hands them to `post` in batches.

    post: takes a batch; False if the far side refuses it for good, ConnectionLost if it is away.
    A refused batch is halved until the refused items stand alone: they are counted in `refused`,
    the others get through, still in their order. What is settled stays so: after a ConnectionLost
    the caller may send everything again, and each item is posted and counted once. So it is with
    the last `window` items of the flushes before. Holds at most `most` items.
    """

    def __init__(
        self,
        post: Callable[[Sequence[T]], bool],
        *,
        size: int,
        window: int = 0,
        most: int = 200_000,
    ) -> None:
        self.refused = 0
        self._post, self._size, self._window, self._most = post, size, window, most
        self._held: dict[Hashable, T] = {}
        # Oldest first: those of the flush that has not come to its end, and `window` before them.
        self._settled: dict[Hashable, None] = {}

    def __len__(self) -> int:
        return len(self._held)

    def put(self, key: Hashable, item: T) -> None:
        """Hold an item until `flush`; ConnectionLost if too many wait already."""
        if key in self._settled or key in self._held:
            return
        if len(self._held) >= self._most:
            raise ConnectionLost(
                f"{len(self._held)} items wait for a receiver that cannot be reached",
                remedy="Send again what came after them once a flush has succeeded.",
            )
        self._held[key] = item

    def flush(self, order: Callable[[T], int] | None = None) -> None:
        """Post everything, ordered by `order` if it is given; ConnectionLost if that stops."""
        waiting = list(self._held.items())
        if order is not None:
            waiting.sort(key=lambda pair: order(pair[1]))
        size = self._size
        batches = [waiting[at : at + size] for at in range(0, len(waiting), size)][::-1]
        while batches:
            batch = batches.pop()
            taken = self._post([item for _, item in batch])
            if not taken and len(batch) > 1:
                half = len(batch) // 2
                batches += [batch[half:], batch[:half]]  # the first half is posted first
                continue
            self.refused += not taken
            for key, _ in batch:
                self._settled[key] = None
                del self._held[key]
        surplus = len(self._settled) - self._window
        for key in list(islice(self._settled, max(surplus, 0))):
            del self._settled[key]
