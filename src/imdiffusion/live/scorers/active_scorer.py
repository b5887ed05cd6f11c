"""The scorer of an entity as the engine sees it: a baseline or a model, behind an alignment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from imdiffusion.data.frame import Frame, moved, places_of
from imdiffusion.live.rows.alignment import Alignment
from imdiffusion.live.rows.reorder_buffer import Run
from imdiffusion.live.scorers.fitted import EndingScorer, ScoredRow
from imdiffusion.saved_state import State

KIND = "active scorer"


class ActiveScorer:
    """Keeps `live.scorers.fitted.EngineScorer`: rows go through an alignment into a scorer.

    make: the scorer, of the alignment and its period in ns, which the first rows show. ready: the
    scorer itself, where it was made beforehand and has read the rows up to the time `read` (ns);
    the rows that the alignment holds after that are read to it before the first new one.

    Its channels are those of the alignment. Of one that its scorer does not know it says what was
    seen online, and nothing else. A baseline learns new channels as they come.
    """

    def __init__(
        self,
        alignment: Alignment,
        detector: str,
        model: str,
        make: Callable[[Alignment, int], EndingScorer],
        *,
        ready: EndingScorer | None = None,
        read: int | None = None,
    ) -> None:
        self.alignment, self.detector, self.model = alignment, detector, model
        self._make, self._scorer = make, ready
        self._read, self._behind = read, ready is not None

    @property
    def channels(self) -> tuple[str, ...]:
        """Of the alignment: more of them when new ones have come."""
        return self.alignment.channels

    @property
    def counts(self) -> dict[str, int]:
        """What was passed over or put in, by reason; see `live/rows/reorder_buffer.py`."""
        return self.alignment.counts

    @property
    def note(self) -> str:
        """What is to be known of the scorer, in a sentence; empty = nothing."""
        return "" if self._scorer is None else self._scorer.note

    def push(self, frame: Frame) -> list[ScoredRow]:
        """Take the next rows, in whatever order they come: what can be said now."""
        if self._behind:
            self._catch_up()
        judged: list[ScoredRow] = []
        begun = self.alignment.count > 0
        runs = self.alignment.push(frame)
        if self._scorer is not None:
            self._scorer.widen(self.channels)
        for run in runs:
            scorer = self._there()
            if run.fresh and begun:
                judged += self._widened(scorer.finish(), scorer.channels)
            begun = True
            said = scorer.push(run.frame.select(scorer.channels))
            judged += self._widened(said, scorer.channels, run)
        return judged

    def _widened(
        self, said: Iterable[ScoredRow], own: tuple[str, ...], run: Run | None = None
    ) -> list[ScoredRow]:
        """What a scorer of its own channels says, in those of the alignment."""
        if own == self.alignment.channels:
            return list(said)
        places, found = places_of(self.alignment.channels, own), []
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
        """Let a scorer that takes over read the rows that are held, which the one before scored."""
        self._behind = False
        scorer = self._there()
        self.alignment.settle(scorer.channels)
        held = self.alignment.since(self._read)
        if held is not None:
            scorer.push(held.select(scorer.channels))

    def _there(self) -> EndingScorer:
        if self._scorer is None:
            assert self.alignment.period is not None  # noqa: S101  known once rows go out
            self._scorer = self._make(self.alignment, self.alignment.period)
        return self._scorer

    # -- over a restart

    def to_state(self) -> State:
        """The state between two rows: of the alignment, and of the scorer if there is one."""
        if self._behind:
            self._catch_up()
        parts = {"alignment": self.alignment.to_state()}
        if self._scorer is not None:
            parts["scorer"] = self._scorer.to_state()
        return State(KIND, parts=parts)

    @classmethod
    def from_state(cls, state: State, like: ActiveScorer) -> ActiveScorer:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        alignment = Alignment.from_state(alignment_in(state), like.alignment)
        active = cls(alignment, like.detector, like.model, like._make)
        if "scorer" in state.parts:
            fresh = active._there()
            active._scorer = fresh.from_state(state.part("scorer"), fresh)
        return active


def alignment_in(state: State) -> State:
    """The state of the alignment in that of an active scorer, whichever it was. ModelError."""
    return state.check(KIND).part("alignment")
