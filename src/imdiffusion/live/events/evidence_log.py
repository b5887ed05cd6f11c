"""What the last rows of an entity have against its channels: where an event begins and ends.

The score of a row looks at rows before it, so an event that has the rows above 1 begins and ends
late. What a row by itself has against a channel does not depend on other rows, nor on later ones:
the segment that carries it (`scoring/edges.py`) says where the fault is, live as in a file. The
run that is searched begins `reach` rows before the first row above 1, for so far back a score
looks, but after the last row of an earlier run. What belongs to another event, by its channels and
rows, is not looked at.

Held are MOST rows at most. Of an event that lasts longer the start is what was told of it before.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats
from imdiffusion.data.frame import moved
from imdiffusion.live.events.anomalous_run import AnomalousRun
from imdiffusion.live.scorers.scored_row import ScoredRow
from imdiffusion.saved_state import State
from imdiffusion.scoring.channels import leading
from imdiffusion.scoring.edges import AROUND, find_edges, flag_runs, in_shadow

MOST = 512  # rows that are held at most; without an event some more than AROUND
LARGEST = 6e4  # what half precision can hold

Half = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where the fault of a run is. start: ns; None = before the rows that are held. end: ns, of
    the row after it; None = that has not come yet. last: of the run when they were found. part
    (K,): the evidence against each channel in these rows.
    """

    start: int | None
    end: int | None
    last: int
    part: Floats

    def to_dict(self) -> dict[str, Any]:
        """JSON facts."""
        return {**asdict(self), "part": self.part.tolist()}

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Edges:
        """The edges that `to_dict` wrote."""
        return cls(**{**facts, "part": np.array(facts["part"], np.float64)})

    def reordered(self, places: list[int]) -> Edges:
        """The same for channels in another order; place -1 = was not there."""
        return Edges(self.start, self.end, self.last, np.nan_to_num(moved(self.part, places)))


class EvidenceLog:
    """The evidence of the last rows of an entity, each following the one before."""

    def __init__(self) -> None:
        self._rows: deque[Half] = deque()
        self._times: deque[int] = deque()
        self._alarms: deque[bool] = deque()
        self._echo = self._reach = 0

    def __len__(self) -> int:
        return len(self._rows)

    def push(self, row: ScoredRow) -> None:
        """Take the next row as it arrives; of a scorer without evidence it is unknown."""
        if row.evidence is None and not self._rows:
            return
        if row.evidence is None:
            evidence = np.full(len(row.parts), np.nan, np.float16)
        else:
            evidence = np.minimum(row.evidence, LARGEST).astype(np.float16)
            self._echo, self._reach = row.echo, row.reach
        self._rows.append(evidence)
        self._times.append(row.timestamp)
        self._alarms.append(row.score > 1.0)

    def trim(self, rows: int) -> None:
        """Keep what the last `rows` rows, an event's, need to be searched; none of many rows."""
        keep = min(MOST, rows + self._reach + AROUND)
        while len(self._rows) > keep:
            self._rows.popleft()
            self._times.popleft()
            self._alarms.popleft()

    def clear(self) -> None:
        """Forget all: the rows to come do not follow these."""
        for part in (self._rows, self._times, self._alarms):
            part.clear()

    def take(self, edges: Edges) -> None:
        """What an event that is over has in its leading channels, from now on no other one has."""
        evidence, times = np.stack(self._rows), np.array(self._times, np.int64)
        begun = times >= (times[0] if edges.start is None else edges.start)
        own = begun & (times < (times[-1] + 1 if edges.end is None else edges.end))
        evidence[in_shadow(evidence, self._echo)] = np.nan
        lead = np.array(sorted(leading(edges.part)), np.int64)
        evidence[np.ix_(own, lead)] = np.nan
        self._rows = deque(evidence)

    def edges(self, run: AnomalousRun, *, others: frozenset[int], merge_gap: int) -> Edges | None:
        """Where the fault of a run is, from its first segment to its last; None = not known.

        others: the leading channels of other events that are open, which are not looked at where
        they are not the run's too. Segments are the run's where they share a leading channel
        with it, or all of them if there are no others and none does.
        """
        times = np.array(self._times, np.int64)
        first, last = np.searchsorted(times, [run.start, run.last]).tolist()
        if last >= len(times) or times[last] != run.last:
            return None
        begun = times[first] == run.start
        runs = flag_runs(np.array(self._alarms, bool), merge_gap)
        low = 0
        if begun:
            before = [end for _, end in runs if end <= first]
            low = max(first - self._reach, max(before, default=0))
        evidence = np.stack(self._rows).astype(np.float64)
        for start, end in runs:  # rows of other runs say nothing of what is usual
            evidence[start : min(end, low)] = np.nan
            evidence[max(start, last + 1) : end] = np.nan
        lead = leading(run.total)
        if others - lead:
            evidence[in_shadow(evidence, self._echo)] = np.nan
            evidence[:, sorted(others - lead)] = np.nan
        (found,) = find_edges(evidence, [(low, last + 1)], echo=self._echo, merge_gap=merge_gap)
        known = np.nan_to_num(evidence)
        own = [(a, b) for a, b in found if leading(known[a:b].sum(axis=0)) & lead]
        own = own or ([] if others else found)
        if not own:
            return None
        part = sum((known[a:b].sum(axis=0) for a, b in own), np.zeros(evidence.shape[1]))
        start, end = own[0][0], own[-1][1]
        return Edges(
            int(times[start]) if begun else None,
            int(times[end]) if end < len(times) else None,
            run.last,
            part,
        )

    def reorder(self, places: list[int]) -> None:
        """Go on under other channels: channel k is what was at places[k], -1 = was not there."""
        self._rows = deque(moved(row, places).astype(np.float16) for row in self._rows)

    # -- over a restart

    def to_state(self) -> State:
        """All of it; no arrays where no row is held."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self._rows:
            arrays["evidence"] = np.stack(self._rows)
            arrays["times"] = np.array(self._times, np.int64)
            arrays["alarms"] = np.array(self._alarms, bool)
        return State("evidence log", {"echo": self._echo, "reach": self._reach}, arrays)

    @classmethod
    def from_state(cls, state: State) -> EvidenceLog:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        log = cls()
        log._echo, log._reach = state.check("evidence log").fact("echo"), state.fact("reach")
        if state.arrays:
            log._rows = deque(row.copy() for row in state.array("evidence", np.float16))
            log._times = deque(state.array("times", np.int64).tolist())
            log._alarms = deque(state.array("alarms", np.bool_).tolist())
        return log
