"""What normal rows say of an entity: units, residual band, thresholds, how a promise is kept.

    scaled entity + rows -> the network's part -> the part of the views in closed form -> Entity

No label is read. Rows from `split` on were held out from the training of the network.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imdiffusion.arrays import Flags, Floats, Ints, Singles
from imdiffusion.checks import CheckStream, RowChecks, less_course
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Calibration, Entity, ScaledEntity
from imdiffusion.linear import LinearFit, LinearViews
from imdiffusion.online import rows_after, score_online
from imdiffusion.progress import History
from imdiffusion.promise.record import FitNotes, LeftOut, PromiseRecord
from imdiffusion.scoring.absence_fit import KINDS
from imdiffusion.scoring.error import (
    NormalScale,
    pasts,
    residual_of,
    scored,
    smoothed_errors,
    stood,
)
from imdiffusion.scoring.hours import HardHours
from imdiffusion.scoring.joining import NEVER, Join, blocks_apart, eased, held_out_rates
from imdiffusion.scoring.threshold import rate_within
from imdiffusion.scoring.units import fit_units, needs_trained_rows, recipe_of
from imdiffusion.series_imputer import SeriesImputer
from imdiffusion.settings import MEMORY, NETWORK

log = logging.getLogger(__name__)

CALIBRATION_POINTS = 2_000_000  # the last of the trained rows are enough to say what is normal
# Of the views in the join: chosen on fourteen sets, and judged with domains left out (docs/log.md).
WEIGHTS = {"forecast": 1.0, "channel": 1.0, "memory": 0.5, "sparse": 0.25}
# The network knows little after few rows: it counts 1 for each so many of them.
ROWS_EACH = 3_000
MOST_WEIGHT = 4.0
NORMAL_BAND = (-2.576, 2.576)  # those of a standard normal
LEAST_HALF = 1e-6  # of a channel's spread, or of its value where it is constant
HIGH = 0.95  # quantile by which rows held out are compared with those that trained the network
LEAST_HELD = 50  # of them, to say anything
MOST_LOUDER = 3.0
BAND = (0.005, 0.995)  # quantiles of held-out residuals between `lower` and `upper`
SAMPLE = 1_000  # normal rows that say how loud online scores are beside offline ones
SAMPLE_LEAST = 100  # where a row costs many calls of the network
SAMPLE_CALLS = 4_000  # of the network, each for one window under one mask at one step
LOUD_SHARE = 0.05  # of them, the largest, which say how loud online scores are
WHOLE_SERIES = frozenset({"rank"})  # ensembles that cannot say anything of one row
PIECE = 8_192  # rows that the checks look at together
MOST_TOLD = 20  # stretches and values that are kept to be told


@dataclass(frozen=True, slots=True)
class NetworkPart:
    """What the network says of normal rows, of those from `first` on.

    errors (S, n) of its steps and score (n,) offline; sample (m,): rows counted from `first`
    that were scored online, and their score online (m,). rate: what a budget comes to.
    """

    calibration: Calibration
    rate: float
    first: int
    errors: Singles
    score: Floats
    sample: Ints
    online: Floats


@dataclass(frozen=True, slots=True)
class LinearPart:
    """The views in closed form, the checks beside them, and the joins of all views by mode.

    fit: what the views say of normal rows. louder: what the thresholds of the joins were raised
    by. rate: what a budget of events comes to.
    """

    views: LinearViews
    fit: LinearFit
    checks: RowChecks
    joins: Mapping[str, Join]
    louder: float
    rate: float


def calibrate(
    own: ScaledEntity,
    rows: Rows,
    split: int,
    *,
    history: History | None = None,
    notes: FitNotes | None = None,
    measured: bool = True,
) -> Entity:
    """The entity that normal rows make of a scaled one: views in closed form, units, thresholds.

    history: of the training of its network. notes: what the fit found in its rows. measured: also
    how these rows keep the promise (`Entity.report`), each by thresholds of the others.
    """
    settings = own.settings
    network = None if own.series is None else _network_part(own, own.series, rows, split)
    linear = _linear_part(own, rows, network, split) if settings.linear else None
    rate = settings.alarm_rate if network is None else network.rate
    checks, fitted = RowChecks(), dict[str, Any](vars(own))
    if linear is not None:
        rate, checks = linear.rate, linear.checks
        fitted |= {"linear": linear.views, "joins": linear.joins}
    if network is not None:
        calibration = network.calibration
    else:
        assert linear is not None  # noqa: S101  something is scored
        neutral = NormalScale.neutral(recipe_of(settings), len(own.channels))
        band = _band(linear.fit.residual.astype(np.float64), settings.scale_factor)
        calibration = Calibration(neutral, band, [])
    record = None
    if measured:
        record = _record(own, rows, split, network, linear, rate)
        notes = with_stretches(notes or FitNotes(), own.channels, checks, rows)
    return Entity(
        calibration=calibration,
        alarm_rate=rate,
        checks=checks,
        history=history or History(),
        record=record,
        notes=notes,
        **fitted,
    )


# -- the network


def _network_part(own: ScaledEntity, imputer: SeriesImputer, rows: Rows, split: int) -> NetworkPart:
    """Where no rows were held out, all count as such. A threshold from all rows (`calibrate_on`)
    has seen more of what normal does than the last rows alone; that the network has too costs
    little where it was trained for few steps.
    """
    settings, recipe = own.settings, imputer.recipe
    held = split if split < len(rows) else 0
    every = settings.calibrate_on == "all"
    most = CALIBRATION_POINTS // len(own.channels)
    first = held
    if every or needs_trained_rows(recipe):
        first = max(0, min(held, len(rows) - most))
    runs = list(imputer.estimates([rows.slice(first)], imputer.chosen_steps))
    residual = np.concatenate([residual_of(run.seen, run.estimates, run.target) for run in runs])
    errors = np.concatenate(list(smoothed_errors([residual], recipe)))
    held -= first
    units = fit_units(errors, held, recipe, unit=settings.scale_factor)
    # As with thresholds: the held-out rows are a few hundred, and a quantile of .005 of them is one
    # row; a channel of two values may have one of them alone there.
    start = 0 if every else held
    normal, told = errors[start:], residual[start:]
    joined = np.concatenate([joined for joined, _ in scored([normal], units, recipe)])
    steps = joined.T
    rate = _alarm_rate(own, imputer.join_steps(steps, axis=0))
    thresholds = imputer.fit_ensemble(steps, rate)
    band = _band(told[:, -1].astype(np.float64), settings.scale_factor)
    seen, online = sample_online(imputer, units, rows.slice(first + start), normal)
    limits = online_thresholds(imputer, online, joined[seen - 1].T, thresholds)
    log.info("calibrated on %d rows: thresholds %s", len(errors), thresholds)
    return NetworkPart(
        Calibration(units, band, thresholds, limits),
        rate,
        first + start,
        steps,
        imputer.score(steps, thresholds),
        seen - 1,
        np.empty(0) if limits is None else imputer.score(online, limits),
    )


def sample_online(
    imputer: SeriesImputer, units: NormalScale, rows: Rows, errors: Singles
) -> tuple[Ints, Singles]:
    """An even sample of normal rows online: how many rows each had seen (m,), its errors (S, m).

    errors (n, W, M, S, K): the offline ones of `rows`. Empty where an online score cannot be said:
    an ensemble that needs the whole series, or no row that has one.
    """
    settings, steps = imputer.settings, len(imputer.chosen_steps)
    if settings.ensemble in WHOLE_SERIES or len(rows) < settings.window:
        return np.empty(0, np.int64), np.empty((steps, 0), np.float32)
    calls = len(imputer.windows.masks) * settings.sampling_steps
    most = min(SAMPLE, max(SAMPLE_LEAST, SAMPLE_CALLS // calls), len(rows) - settings.window + 1)
    seen = np.unique(np.linspace(settings.window, len(rows), most).round().astype(np.int64))
    levels = _levels_along(imputer, units, errors, seen)
    return seen, score_online(imputer, units, rows, seen, levels)[0]


def _levels_along(
    imputer: SeriesImputer, units: NormalScale, errors: Singles, seen: Ints
) -> Singles:
    """What the views knew of the past when so many rows (n,) had been seen: (V, n, S)."""
    recipe, grid = imputer.recipe, imputer.grid()
    past, steps, done = pasts(units, recipe), len(imputer.chosen_steps), 0
    levels = []
    for count in seen:
        final = max(0, grid.final(int(count)) - rows_after(recipe))
        if final > done:
            for _ in scored([errors[done:final]], units, recipe, past):
                done = final
        levels.append(stood(past, recipe, steps))
    return np.stack(levels, axis=1)


def online_thresholds(
    imputer: SeriesImputer, online: Singles, offline: Singles, limits: list[float]
) -> list[float] | None:
    """Thresholds of online scores: those of offline ones, as much higher as online ones are louder.

    online, offline (S, m): errors of the same sampled rows; limits: the thresholds offline. So the
    sample need not be large: it says how two tails compare, and all normal rows where the one of
    them lies. None where an online score cannot be said.
    """
    known = np.isfinite(online).all(axis=0) & np.isfinite(offline).all(axis=0)
    if not known.any():
        return None
    rate = imputer.settings.alarm_rate
    loud = [imputer.fit_ensemble(part[:, known], rate, _loud) for part in (online, offline)]
    return [limit * now / then for limit, now, then in zip(limits, *loud, strict=True)]


def loudness(scores: Floats) -> float:
    """The mean of the largest scores (n,), NaN left out: what stands for a tail."""
    return _loud(scores[np.isfinite(scores)], alarm_rate=0.0)


def _loud(scores: Floats, *, alarm_rate: float) -> float:
    """The mean of the largest scores (n,): what stands for a tail that is to be compared."""
    largest = np.sort(scores)[-max(1, round(LOUD_SHARE * len(scores))) :]
    return max(float(largest.mean()), float(np.finfo(np.float32).tiny))


# -- views in closed form


def _linear_part(
    own: ScaledEntity, rows: Rows, network: NetworkPart | None, split: int
) -> LinearPart:
    """Fit the views in closed form on all rows, then the join of all views."""
    settings, rate = own.settings, own.settings.alarm_rate
    checks, course = RowChecks.fit(rows, settings, rate=rate)
    rows = less_course(rows, course)
    linear, fit = LinearViews.fit(
        rows,
        lags=settings.lags,
        widths=settings.scan_widths,
        memory=MEMORY in settings.views,
    )
    names, rule = _names(linear, network), settings.threshold
    weight = view_weights(names, len(rows))
    views, sparse = normal(fit, network)
    joins, louder = _joins(names, rule, fit, network, split, weight, None)
    if settings.calendar == "auto" and rows.times is not None:
        scores = np.stack([joins["offline"].join(views, sparse), sparse], axis=1)
        times = rows.times[len(rows) - len(scores) :].view("datetime64[ns]")
        hard = HardHours.fit(times, scores, settings.timezone)
        if hard is not None:
            checks = replace(checks, hard=hard)
            joins, louder = _joins(names, rule, fit, network, split, weight, checks.ease(rows))
    if settings.alarms_per_day and own.period is not None:
        ease = checks.ease(rows)[len(rows) - len(sparse) :]
        score = eased(joins["offline"].join(views, sparse), sparse, ease)[0]
        rate = _alarm_rate(own, score.astype(np.float32))
        checks = checks.at_rate(rate)
    return LinearPart(linear, fit, checks, joins, louder, rate)


def _names(linear: LinearViews, network: NetworkPart | None) -> tuple[str, ...]:
    return linear.names if network is None else (*linear.names, NETWORK)


def view_weights(names: tuple[str, ...], rows: int) -> Floats:
    """The weight of each of these views in the join, and of the sparse evidence, after training on
    so many rows.
    """
    weights = WEIGHTS | {NETWORK: min(MOST_WEIGHT, rows / ROWS_EACH)}
    return np.array([weights[name] for name in (*names, "sparse")])


def normal(fit: LinearFit, network: NetworkPart | None) -> tuple[Floats, Floats]:
    """Views and sparse evidence offline of the normal rows that all views have judged."""
    return _beside(fit.views_offline, fit.sparse_offline, network)


def _beside(views: Floats, sparse: Floats, network: NetworkPart | None) -> tuple[Floats, Floats]:
    if network is None:
        return views, sparse
    own = network.score[:, None]
    return np.concatenate([views[network.first :], own], axis=1), sparse[network.first :]


def _joins(
    names: tuple[str, ...],
    rule: str,
    fit: LinearFit,
    network: NetworkPart | None,
    split: int,
    weight: Floats,
    ease: Singles | None,
) -> tuple[dict[str, Join], float]:
    """The joins of offline scores and, where every view has a say there, of online ones; and
    what their thresholds were raised by. ease (T, 2): as of `Join.fit`, of all rows.

    The network is judged online on a sample, so how much higher thresholds must be there is
    read off the sample: by how much the tail of the join is longer than offline.
    """
    views, sparse = normal(fit, network)
    late = None if ease is None else ease[len(ease) - len(sparse) :]
    offline = Join.fit(views, sparse, weight, rule=rule, ease=late)
    if network is None:
        early = Join.fit(fit.views_online, fit.sparse_online, weight, rule=rule, ease=ease)
        return {"offline": offline, "online": early}, 1.0
    held = max(0, split - network.first)
    louder = _louder(eased(offline.join(views, sparse), sparse, late)[0], held)
    if not len(network.online):
        return {"offline": offline.scaled(louder)}, louder
    place, rows = names.index(NETWORK), network.first + network.sample
    others = np.delete(weight, place)
    alone = Join.fit(fit.views_online, fit.sparse_online, others, rule=rule, ease=ease)
    unit = np.insert(alone.unit, place, offline.unit[place])
    early = replace(offline, unit=unit, alone=alone.alone)
    early_views = np.insert(fit.views_online[rows], place, network.online, axis=1)
    found = early.join(early_views, fit.sparse_online[rows])
    same = offline.join(views[network.sample], sparse[network.sample])
    longer = loudness(found) / loudness(same)
    return {"offline": offline.scaled(louder), "online": early.scaled(louder * longer)}, louder


def _louder(scores: Floats, split: int) -> float:
    """How much louder normal scores (n,) are from `split` on, where the network was not trained.

    Most of the rows that thresholds are read off have trained it, and it may know them too well.
    By a quantile of each part, so that a fault in the few rows held out does not count; at least 1.
    """
    known = [part[np.isfinite(part)] for part in (scores[:split], scores[split:])]
    if min(len(part) for part in known) < LEAST_HELD:
        return 1.0
    trained, held = (float(np.quantile(part, HIGH)) for part in known)
    return float(np.clip(held / max(trained, 1e-9), 1.0, MOST_LOUDER))


# -- rates and bands


def _alarm_rate(own: ScaledEntity, normal: Singles) -> float:
    """The setting, or what its budget of events a day comes to on normal scores (n,)."""
    settings = own.settings
    if settings.alarms_per_day == 0 or own.period is None:
        return settings.alarm_rate
    rate = rate_within(
        normal,
        alarms_per_day=settings.alarms_per_day,
        period_ns=int(own.period / np.timedelta64(1, "ns")),
        merge_gap=settings.merge_gap,
        min_length=settings.min_length,
    )
    log.info("alarms_per_day = %g comes to alarm_rate = %g", settings.alarms_per_day, rate)
    return rate


def _band(residual: Floats, factor: float) -> Singles:
    """Quantiles `BAND` of the residuals (n, K) per channel: (2, K), in scaled units.

    The expected value lies within its band, by `LEAST_HALF` at least: of a constant channel, and of
    one that is told without any error, what is beyond is more than rounding. Where rows are few a
    quantile is the next residual outwards. A channel without residuals gets those of a standard
    normal: as wide as its own spread.
    """
    known = ~np.isnan(residual).all(axis=0)
    band = np.array(NORMAL_BAND)[:, None].repeat(residual.shape[1], axis=1) * factor
    band[0, known] = np.nanquantile(residual[:, known], BAND[0], axis=0, method="lower")
    band[1, known] = np.nanquantile(residual[:, known], BAND[1], axis=0, method="higher")
    half = LEAST_HALF * factor
    band[0], band[1] = np.minimum(band[0], -half), np.maximum(band[1], half)
    return band.astype(np.float32)


# -- how the promise was kept


def _record(
    own: ScaledEntity,
    rows: Rows,
    split: int,
    network: NetworkPart | None,
    linear: LinearPart | None,
    rate: float,
) -> PromiseRecord:
    """How normal rows, with their usual course, keep a promise: each of them by thresholds that
    had no part of it.
    """
    settings = own.settings
    first = 0 if network is None else network.first
    reason, checked = "", None
    if linear is not None:
        fit, checks = linear.fit, linear.checks
        views, sparse = normal(fit, network)
        rates = held_out_rates(
            views,
            sparse,
            view_weights(_names(linear.views, network), len(rows)),
            rule=settings.threshold,
            apart=None if fit.unseen is None else _beside(*fit.unseen, network),
            louder=linear.louder,
            ease=checks.ease(rows)[len(rows) - len(sparse) :],
        )
        if checks.absence is not None or checks.hours is not None:
            checked = rate
            found = _checked(checks, rows, rate)[first:]
            rates = np.where(found & (np.isnan(rates) | (rates > checked)), checked, rates)
    else:
        assert network is not None  # noqa: S101  something is scored
        rates = _rates_of_network(own.imputer, network)
        if settings.ensemble in WHOLE_SERIES:
            reason = (
                f"what was achieved: the ensemble {settings.ensemble!r} flags a share of the "
                "series that it scores, whatever is normal"
            )
    return PromiseRecord.of(
        rates,
        rows.times,
        held=0 if network is None else split,  # rows that trained it had a part in what judges them
        timezone=settings.timezone,
        first=first,
        checks_rate=checked,
        reason=reason,
    )


def _checked(checks: RowChecks, rows: Rows, rate: float) -> Flags:
    """Which rows (T,) the checks beside the views lift above 1 under the promise in force."""
    stream = CheckStream(checks, rate=rate)
    starts = range(0, len(rows), PIECE)
    return np.concatenate([stream.push(rows.slice(a, a + PIECE)).score > 1.0 for a in starts])


def _rates_of_network(imputer: SeriesImputer, network: NetworkPart) -> Floats:
    """Critical rates (n,) under the one rate whose thresholds a network alone has: 0, or never."""
    errors = network.errors
    known = np.asarray(np.isfinite(errors).all(axis=0))
    rates = np.full(len(known), np.nan)
    if imputer.settings.ensemble in WHOLE_SERIES:
        return rates
    for start, stop, others in blocks_apart(known):
        thresholds = imputer.fit_ensemble(errors[:, others], network.rate)
        alarm = imputer.score(errors[:, start:stop], thresholds) > 1.0
        rates[start:stop] = np.where(alarm, 0.0, NEVER)
    return np.where(known, rates, np.nan)


def with_stretches(
    notes: FitNotes, channels: tuple[str, ...], checks: RowChecks, rows: Rows
) -> FitNotes:
    """The notes of a fit with the stretches of rows that the check of absence took for faults."""
    if checks.absence is None:
        return notes
    found = [
        LeftOut(
            channels[one.channel],
            one.row,
            None if rows.times is None else int(rows.times[one.row]),
            one.rows,
            None,
            f"taken for a fault ({KINDS[one.kind][0]})",
        )
        for one in checks.absence.habits.set_aside[:MOST_TOLD]
    ]
    return replace(notes, aside=(*(p for p in notes.aside if p.value is not None), *found))
