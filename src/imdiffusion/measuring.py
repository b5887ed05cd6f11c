"""How the rows of a fit keep its promise: each of them by thresholds that had no part of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.checks import CheckStream
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.linear import LinearFit
from imdiffusion.online import WHOLE_SERIES
from imdiffusion.promise.record import FitNotes, LeftOut, PromiseRecord
from imdiffusion.runs import Floats
from imdiffusion.scoring.absence_kinds import KINDS
from imdiffusion.scoring.critical import NEVER, blocks_apart, held_out_rates

PIECE = 8_192  # rows that the checks look at together
MOST_TOLD = 20  # stretches and values that are kept to be told

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NetworkScores:
    """What the network says of the normal rows from `first` on: errors of its steps (S, n) and its
    score (n,) offline, and its score online (m,) of the rows at `sample`, counted from
    `first`.
    """

    first: int
    errors: Floats
    score: Scores
    sample: NDArray[np.int64]
    online: Scores


def normal(fit: LinearFit, network: NetworkScores | None) -> tuple[Scores, Scores]:
    """Views and sparse evidence offline of the normal rows that all views have judged."""
    return _beside(fit.views_offline, fit.sparse_offline, network)


def _beside(views: Scores, sparse: Scores, network: NetworkScores | None) -> tuple[Scores, Scores]:
    if network is None:
        return views, sparse
    own = network.score[:, None]
    return np.concatenate([views[network.first :], own], axis=1), sparse[network.first :]


def record_of(
    entity: Entity,
    rows: Rows,
    split: int,
    fit: LinearFit | None,
    network: NetworkScores | None,
    *,
    weight: Scores,
    louder: float = 1.0,
) -> PromiseRecord:
    """How normal rows keep a promise, of a calibrated entity; `split` as in `calibrate`.

    rows: as they are, with their usual course. weight (V + 1,): of the views in the join.
    louder: what its thresholds were raised by.
    """
    settings = entity.settings
    # Rows that trained the network had a part in what judges them.
    held = 0 if network is None else split
    reason, checked = "", None
    if fit is not None:
        views, sparse = normal(fit, network)
        apart = None if fit.unseen is None else _beside(*fit.unseen, network)
        rule = settings.threshold
        ease = entity.checks.ease(rows)[len(rows) - len(sparse) :]
        rates = held_out_rates(
            views, sparse, weight, rule=rule, apart=apart, louder=louder, ease=ease
        )
        if entity.checks.absence is not None or entity.checks.hours is not None:
            checked = entity.alarm_rate
            first = 0 if network is None else network.first
            found = _checked(entity, rows)[first:]
            rates = np.where(found & (np.isnan(rates) | (rates > checked)), checked, rates)
    else:
        assert network is not None  # noqa: S101  something is scored
        rates = _rates_of_network(entity, network)
        if settings.ensemble in WHOLE_SERIES:
            reason = (
                f"what was achieved: the ensemble {settings.ensemble!r} flags a share of the "
                "series that it scores, whatever is normal"
            )
    return PromiseRecord.of(
        rates,
        rows.times,
        held=held,
        timezone=settings.timezone,
        first=0 if network is None else network.first,
        checks_rate=checked,
        reason=reason,
    )


def _checked(entity: Entity, rows: Rows) -> NDArray[np.bool_]:
    """Which rows (T,) the checks beside the views lift above 1 under the promise in force."""
    stream = CheckStream(entity.checks, rate=entity.alarm_rate)
    starts = range(0, len(rows), PIECE)
    return np.concatenate([stream.push(rows.slice(a, a + PIECE)).score > 1.0 for a in starts])


def _rates_of_network(entity: Entity, network: NetworkScores) -> Scores:
    """Critical rates (n,) under the one rate whose thresholds a network alone has: 0, or never."""
    settings = entity.settings
    kind = registry.load("ensembles", settings.ensemble)
    errors = network.errors
    known = np.asarray(np.isfinite(errors).all(axis=0))
    rates = np.full(len(known), np.nan)
    if settings.ensemble in WHOLE_SERIES:
        return rates
    for start, stop, others in blocks_apart(known):
        ensemble = kind.fit(
            errors[:, others],
            rule=registry.load("thresholds", settings.threshold),
            alarm_rate=entity.alarm_rate,
            xi=settings.xi,
            anomaly_share=settings.anomaly_share,
        )
        alarm = ensemble.score(errors[:, start:stop]) > 1.0
        rates[start:stop] = np.where(alarm, 0.0, NEVER)
    return np.where(known, rates, np.nan)


def with_stretches(entity: Entity, rows: Rows) -> FitNotes:
    """The notes of a fit with the stretches of rows that the check of absence took for faults."""
    notes = entity.notes or FitNotes()
    if entity.checks.absence is None:
        return notes
    found = [
        LeftOut(
            entity.channels[one.channel],
            one.row,
            None if rows.times is None else int(rows.times[one.row]),
            one.rows,
            None,
            f"taken for a fault ({KINDS[one.kind][0]})",
        )
        for one in entity.checks.absence.habits.set_aside[:MOST_TOLD]
    ]
    return replace(notes, aside=(*(p for p in notes.aside if p.value is not None), *found))
