"""The two protocols of live detection: where rows come from, and where records go.

A source is one file with a class that keeps `Source`, a sink one file with a class that keeps
`Sink`; each has one line in a table of `registry.py` ("sources", "sinks"), under the name that the
configuration uses. Both are built from keyword options (scalars and strings) and open nothing
before they are asked to. `Closing` gives a class `with`: it is closed at the end of the block,
whatever happened there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from imdiffusion.data.frame import Frame
from imdiffusion.records import EventRecord, Record


class Closing:
    """Gives a class with `close` the two methods of a context manager."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Batch:
    """What a source has read: frames, each of one entity with timestamps, and where it stands.

    offset: text, opaque to everyone but the source, from which `open` goes on after these rows.
    rejected: one sentence for each piece of input that could not be used, and was passed over.
    """

    frames: tuple[Frame, ...]
    offset: str
    rejected: tuple[str, ...] = ()


class Source(Protocol):
    """Where rows come from. At least once: after a crash, rows behind the last commit come again.

    Transient trouble (refused, 5xx, time-outs) is a `ConnectionLost` from `read`, after which
    `read` may be called again; what no retry can mend is a ConfigError. A source that has an end
    says it with a `SourceEnded` from `read`, after its last row was handed out, and says it again
    at each `read` after that; None never means the end.
    """

    def open(self, offset: str | None) -> None:
        """Start after `offset`, the last one that was committed; None = from the beginning."""

    def read(self, timeout: float) -> Batch | None:
        """The next rows; None when nothing came in `timeout` seconds. May return early."""

    def commit(self, offset: str) -> None:
        """Everything up to `offset` is safe: the far side may forget it."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Sink(Protocol):
    """Where records go. The same record sent twice is as if it had been sent once (`key`).

    takes: which kinds of record it wants, of "score" and "event"; others are not sent to it.
    Transient trouble is a `ConnectionLost` from `send` or `flush`; the caller sends again. A record
    that the far side refuses for good is passed over and counted in `refused`, so that it never
    blocks those after it.
    """

    takes: frozenset[str]
    refused: int

    def open(self) -> None:
        """Check the options, make what is missing."""

    def send(self, records: Sequence[Record]) -> None:
        """Take records; they may be held until `flush`."""

    def flush(self) -> None:
        """Return only when everything sent is safe on the far side."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


@runtime_checkable
class Recalling(Protocol):
    """What a sink has besides, if what it says depends on the events that are ongoing now."""

    def recall(self, ongoing: Sequence[EventRecord]) -> None:
        """After a start, before anything else: events that began before it and go on, newest update
        each. Raises as `send` and `flush` do; then it is called again.
        """


@runtime_checkable
class Ticking(Protocol):
    """What a sink has besides, if its far side forgets what is not said again in time."""

    @property
    def due(self) -> float:
        """Seconds until `tick` has something to say; infinity where there is nothing."""

    def tick(self) -> None:
        """Say again what is due. Raises as `flush` does."""


@runtime_checkable
class Looking(Protocol):
    """What a source or sink has besides, if its far side can be looked at without taking rows from
    it or giving it any, and more can be said of it than that it answers.
    """

    def look(self, timeout: float) -> str:
        """What is there, in words; at most so many seconds. ConnectionLost: it is away, or not as
        it should be; ConfigError: it never will be there, given these options.
        """
