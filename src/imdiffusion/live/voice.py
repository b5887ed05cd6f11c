"""Who speaks for an entity: a baseline or a fitted model, behind the feed of its rows."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.live.feed import Feed
from imdiffusion.stream.judged import Judged
from imdiffusion.stream.ordered import EndingScorer
from imdiffusion.stream.packing import pack, unpack

log = logging.getLogger(__name__)
KIND = "voice"


class Voice:
    """Keeps `stream.judged.Scorer`: rows through the feed into a scorer.

    make: the scorer, given the period in ns, which is known only after the first rows. ready: the
    scorer itself, where it was made beforehand and has read the rows up to the time `read` (ns);
    the rows that the feed holds after that are read to it before the first it is asked for.
    """

    def __init__(
        self,
        feed: Feed,
        detector: str,
        model: str,
        make: Callable[[int], EndingScorer],
        *,
        ready: EndingScorer | None = None,
        read: int | None = None,
    ) -> None:
        self.feed, self.detector, self.model = feed, detector, model
        self.channels = feed.channels
        self._make, self._speaker = make, ready
        self._read, self._behind = read, ready is not None

    def push(self, frame: Frame) -> list[Judged]:
        """Take the next rows, in whatever order they come: what can be said now."""
        if self._behind:
            self._catch_up()
        judged: list[Judged] = []
        begun = self.feed.count > 0
        for run in self.feed.push(frame):
            speaker = self._there()
            if run.fresh and begun:
                judged += speaker.finish()
            begun = True
            judged += speaker.push(run.frame)
        return judged

    def _catch_up(self) -> None:
        """Read what is held to a scorer that takes over; its scores were told by the one before."""
        self._behind = False
        held = self.feed.since(self._read)
        if held is not None:
            self._there().push(held)

    def _there(self) -> EndingScorer:
        if self._speaker is None:
            assert self.feed.period is not None  # noqa: S101  known once rows go out
            self._speaker = self._make(self.feed.period)
        return self._speaker

    # -- over a restart

    def dump(self) -> bytes:
        """The state between two rows: that of the feed, and that of the scorer if there is one."""
        arrays = {"feed": np.frombuffer(self.feed.dump(), np.uint8)}
        if self._behind:
            self._catch_up()
        if self._speaker is not None:
            arrays["speaker"] = np.frombuffer(self._speaker.dump(), np.uint8)
        return pack(KIND, {}, dict(arrays))

    def restore(self, state: bytes) -> None:
        """Go on as the voice that was dumped would: same rows, same scores."""
        _, arrays = unpack(KIND, state)
        self.feed.restore(arrays["feed"].tobytes())
        self._behind = False
        if "speaker" in arrays:
            self._there().restore(arrays["speaker"].tobytes())


def feed_in(state: bytes) -> bytes:
    """The feed in the state of a voice, whichever it was. ModelError if it cannot be read."""
    _, arrays = unpack(KIND, state)
    return arrays["feed"].tobytes()
