"""Runs of scored rows: those of several views joined to one, whoever waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Floats, Singles
from imdiffusion.checks import HOURS
from imdiffusion.linear import LinearRun
from imdiffusion.saved_state import State
from imdiffusion.scoring.joining import LEAST_UNIT, LIFT
from imdiffusion.settings import MEMORY, NETWORK

CHECKED = 30.0  # evidence of a channel whose absence is news: enough for a row alone
OF_STEPS = ("errors", "step_errors")  # fields (S, n); all others have a row for each row


@dataclass(frozen=True, slots=True)
class ScoredRun:
    """A run of n rows: errors (S, n), channel_scores (n, K), expected (n, K) in caller's units.

    kind (n, K): what checks beside the views found in a channel, a code of `checks`; since (n, K):
    how many rows before its own that began; None: there are no checks.
    `errors` are those of the ensemble's steps; `step_errors`, where they were asked for, of all.
    evidence (n, K): what each row by itself has against each channel, beyond normal, where a view
    says so; NaN where not observed.
    """

    errors: Singles
    channel_scores: Singles
    expected: Floats
    step_errors: Singles | None = None
    kind: NDArray[np.int8] | None = None
    evidence: Singles | None = None
    since: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.channel_scores)

    def join(self, other: ScoredRun) -> ScoredRun:
        """These rows, then those; None where either has none."""

        def both(name: str) -> Any:
            one, two = getattr(self, name), getattr(other, name)
            if one is None or two is None:
                return None
            return np.concatenate([one, two], axis=int(name in OF_STEPS))

        return ScoredRun(**{field.name: both(field.name) for field in fields(self)})

    def slice(self, start: int, stop: int | None = None) -> ScoredRun:
        """Rows start to stop."""

        def part(name: str) -> Any:
            one = getattr(self, name)
            if one is None:
                return None
            return one[:, start:stop] if name in OF_STEPS else one[start:stop]

        return ScoredRun(**{field.name: part(field.name) for field in fields(self)})


class Pairing:
    """Offline runs of the views in closed form and of the network, until both are there.

    merge: makes one run of the same rows of both. networked: whether there is a network.
    """

    def __init__(
        self, merge: Callable[[LinearRun, ScoredRun | None], ScoredRun], *, networked: bool
    ) -> None:
        self._merge, self._networked = merge, networked
        self.linear: list[LinearRun] = []
        self.network: list[ScoredRun] = []

    def _alike(self) -> list[LinearRun]:
        """Where there is a network it says what was expected: what the others do need not wait."""
        if not self._networked:
            return self.linear
        return [replace(run, expected=run.expected[:, :0]) for run in self.linear]

    def take(self) -> Iterator[ScoredRun]:
        """The rows of which all views have spoken."""
        if not self.linear:
            return
        linear = reduce(LinearRun.join, self._alike())
        if not self._networked:
            self.linear = []
            if len(linear):
                yield self._merge(linear, None)
            return
        self.linear = [linear]
        if not self.network:
            return
        network = reduce(ScoredRun.join, self.network)
        count = min(len(linear), len(network))
        first, rest = linear.split(count)
        self.linear, self.network = [rest], [network.slice(count)]
        if count:
            yield self._merge(first, network.slice(0, count))

    # -- over a restart

    def to_state(self) -> State:
        """The rows that wait."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self.network:
            run = reduce(ScoredRun.join, self.network)
            arrays = {"errors": run.errors, "parts": run.channel_scores, "expected": run.expected}
        parts = {"linear": reduce(LinearRun.join, self.linear).to_state()} if self.linear else {}
        return State("pairing", arrays=arrays, parts=parts)

    @classmethod
    def from_state(cls, state: State, like: Pairing) -> Pairing:
        """Go on from a state; see `saved_state`. Raises ModelError."""
        pairing = cls(like._merge, networked=like._networked)
        if "linear" in state.check("pairing").parts:
            pairing.linear = [LinearRun.from_state(state.part("linear"))]
        if state.arrays:
            errors, parts = (state.array(name, np.float32) for name in ("errors", "parts"))
            pairing.network = [ScoredRun(errors, parts, state.array("expected", np.float64))]
        return pairing


def with_checks(score: Floats, parts: Singles, linear: LinearRun) -> Singles:
    """Lift scores (n,) in place where a check has found something: parts (n, K) with its channels
    before all others.
    """
    found = np.flatnonzero(linear.check > 1.0)
    if not len(found):
        return parts
    lifted = 1.0 + LIFT * np.log(linear.check[found].astype(np.float64))
    score[found] = np.fmax(score[found], lifted)
    parts = parts.copy()
    known = np.nan_to_num(parts[found])
    first = 2.0 * known.max(axis=1, keepdims=True) + 1.0
    named = linear.kind[found] > 0
    parts[found] = np.where(named, first, parts[found])
    return parts


def row_evidence(linear: LinearRun) -> Singles:
    """What each row by itself has against each channel (n, K): as the views say it, and plainly
    more than normal where absence is news. An unusual hour is about the rows before it as well.
    """
    found = (linear.kind > 0) & (linear.kind != HOURS)
    if not found.any():
        return linear.parts
    evidence = np.nan_to_num(linear.parts[found])
    parts = linear.parts.copy()
    parts[found] = np.maximum(evidence, CHECKED)
    return parts


def linear_parts(linear: LinearRun, names: Sequence[str], added: Floats) -> Singles:
    """Parts of channels (n, K) by all views in closed form, the memory's beside those of the law.

    added (n, V + 1): what the views called `names`, and the sparse evidence, add to the score: in
    this proportion to the others stands what the memory says of its channels, as far as they set a
    patch apart; what remains of its weight has the shares of the law.
    """
    if MEMORY not in names:
        return linear.parts
    apart = [place for place, name in enumerate(names) if name in (MEMORY, NETWORK)]
    law = np.delete(added, apart, axis=1).sum(axis=1)
    ratio = added[:, names.index(MEMORY)] / np.maximum(law, LEAST_UNIT)
    share = linear.apart / (1.0 + linear.apart.sum(axis=1, keepdims=True, dtype=np.float64))
    total = np.nan_to_num(linear.parts).sum(axis=1, dtype=np.float64)
    return np.asarray(linear.parts + share * (ratio * total)[:, None], np.float32)


def mixed_parts(*shares: tuple[Singles, Floats]) -> Singles:
    """Parts of channels (n, K) by several views as one; a view's sum up to its weight (n,)."""
    mixed: Floats | None = None
    for parts, weight in shares:
        known = np.nan_to_num(parts.astype(np.float64))
        total = np.maximum(known.sum(axis=1), np.finfo(np.float32).tiny)
        own = parts * (np.nan_to_num(weight) / total)[:, None]
        mixed = own if mixed is None else mixed + np.where(np.isnan(own), 0.0, own)
    assert mixed is not None  # noqa: S101
    return mixed.astype(np.float32)
