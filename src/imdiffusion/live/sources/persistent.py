"""A source that goes on over a change of the configuration, as long as its own part stays."""

from __future__ import annotations

from imdiffusion.live.connection.protocols import Batch, Closing, Source


class Kept(Closing):
    """Passes rows of a source on, and holds it open when the engine that read it is closed.

    `open` with the offset of the last batch that was handed out goes on right there: nothing of
    a pipe is lost, no consumer group is left. With any other offset the source begins again
    there. lasting: it cannot begin again, and always goes on.
    """

    def __init__(self, source: Source, *, lasting: bool = False) -> None:
        self.source, self.lasting = source, lasting
        self._opened = False
        self._offset: str | None = None

    def open(self, offset: str | None) -> None:
        """Start after `offset`, or go on there."""
        if self._opened and (self.lasting or offset == self._offset):
            return
        if self._opened:
            self.source.close()
            self._opened = False
        self.source.open(offset)
        self._opened, self._offset = True, offset

    def read(self, timeout: float) -> Batch | None:
        """As of the source."""
        batch = self.source.read(timeout)
        if batch is not None:
            self._offset = batch.offset
        return batch

    def commit(self, offset: str) -> None:
        """As of the source."""
        self.source.commit(offset)

    def close(self) -> None:
        """Nothing: the next engine opens it again. See `let_go`."""

    def let_go(self) -> None:
        """Close the source."""
        if self._opened:
            self.source.close()
        self._opened = False
