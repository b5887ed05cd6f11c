"""What scores an entity: a baseline or a fitted model, behind the feed of its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from imdiffusion.data.frame import Frame, moved, places_of
from imdiffusion.live.rows.alignment import Alignment
from imdiffusion.live.rows.reorder_buffer import Run
from imdiffusion.live.scorers.cold_start import ColdStartScorer
from imdiffusion.live.scorers.scored_row import EndingScorer, ScoredRow
from imdiffusion.live.store.state_codec import pack, unpack

KIND = "active"


class ActiveScorer:
    """Keeps `live.scorers.scored_row.Scorer` for rows as they come: through the feed into a scorer.

    make: the scorer, given the period in ns, which is known only after the first rows. ready: the
    scorer itself, where it was made beforehand and has read the rows up to the time `read` (ns);
    the rows that the feed holds after that are read to it before the first it is asked for.

    It scores the channels of the feed. Of one that its scorer does not know it says what was
    seen online, and nothing else. A baseline learns new channels as they come.
    """

    def __init__(
        self,
        feed: Alignment,
        detector: str,
        model: str,
        make: Callable[[int], EndingScorer],
        *,
        ready: EndingScorer | None = None,
        read: int | None = None,
    ) -> None:
        self.feed, self.detector, self.model = feed, detector, model
        self._make, self._speaker = make, ready
        self._read, self._behind = read, ready is not None

    @property
    def channels(self) -> tuple[str, ...]:
        """Of the feed: more of them when new ones have come."""
        return self.feed.channels

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in, by reason; see `live/rows/reorder_buffer.py`."""
        return self.feed.counts

    @property
    def note(self) -> str:
        """How many planted faults a baseline sees, in words; empty = not known, or no baseline."""
        speaker = self._speaker
        sight = speaker.sight if isinstance(speaker, ColdStartScorer) else None
        return "" if sight is None else str(sight)

    def push(self, frame: Frame) -> list[ScoredRow]:
        """Take the next rows, in whatever order they come: what can be said now."""
        if self._behind:
            self._catch_up()
        judged: list[ScoredRow] = []
        begun = self.feed.count > 0
        runs = self.feed.push(frame)
        if isinstance(self._speaker, ColdStartScorer) and self._speaker.channels != self.channels:
            self._speaker.rechannel(self.channels)
        for run in runs:
            speaker = self._there()
            if run.fresh and begun:
                judged += self._widened(speaker.finish(), speaker.channels)
            begun = True
            said = speaker.push(run.frame.select(speaker.channels))
            judged += self._widened(said, speaker.channels, run)
        return judged

    def _widened(
        self, said: Iterable[ScoredRow], own: tuple[str, ...], run: Run | None = None
    ) -> list[ScoredRow]:
        """What a scorer of its own channels says, in those of the feed."""
        if own == self.feed.channels:
            return list(said)
        places, found = places_of(self.feed.channels, own), []
        place = {channel: k for k, channel in enumerate(places)}
        rows = iter(() if run is None else run.frame.values)
        for one in said:
            arrived = one.mode == "online"  # of each row of the run, in order
            found.append(
                replace(
                    one,
                    parts=moved(one.parts, places),
                    seen=next(rows) if arrived else moved(one.seen, places),
                    expected=moved(one.expected, places),
                    lower=moved(one.lower, places),
                    upper=moved(one.upper, places),
                    findings={place[k]: what for k, what in one.findings.items() if k in place},
                    evidence=None if one.evidence is None else moved(one.evidence, places),
                )
            )
        return found

    def _catch_up(self) -> None:
        """Read what is held to a scorer that takes over; its scores were told by the one before."""
        self._behind = False
        speaker = self._there()
        self.feed.settle(speaker.channels)
        held = self.feed.since(self._read)
        if held is not None:
            speaker.push(held.select(speaker.channels))

    def _there(self) -> EndingScorer:
        if self._speaker is None:
            assert self.feed.period is not None  # noqa: S101  known once rows go out
            self._speaker = self._make(self.feed.period)
        return self._speaker

    # -- over a restart

    def dump(self) -> bytes:
        """The state between two rows: that of the feed, and that of the scorer if there is one."""
        if self._behind:
            self._catch_up()
        arrays = {"feed": np.frombuffer(self.feed.dump(), np.uint8)}
        if self._speaker is not None:
            arrays["speaker"] = np.frombuffer(self._speaker.dump(), np.uint8)
        return pack(KIND, {}, dict(arrays))

    def restore(self, state: bytes) -> None:
        """Go on as the active that was dumped would: same rows, same scores."""
        _, arrays = unpack(KIND, state)
        self.feed.restore(arrays["feed"].tobytes())
        self._behind = False
        if "speaker" in arrays:
            self._there().restore(arrays["speaker"].tobytes())


def feed_in(state: bytes) -> bytes:
    """The feed in the state of a active, whichever it was. ModelError if it cannot be read."""
    _, arrays = unpack(KIND, state)
    return arrays["feed"].tobytes()
