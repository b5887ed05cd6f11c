"""What normal rows say of an entity: units, residual band and thresholds, without labels."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imdiffusion import online, registry
from imdiffusion.checks import RowChecks, less_course
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError
from imdiffusion.linear import LinearFit, LinearViews
from imdiffusion.measuring import NetworkScores, normal, record_of, with_stretches
from imdiffusion.runs import Calibration, Floats
from imdiffusion.scoring.budget import rate_within
from imdiffusion.scoring.error import residual_of, scored, smoothed_errors
from imdiffusion.scoring.hard_hours import HardHours
from imdiffusion.scoring.joining import Join, eased
from imdiffusion.scoring.units import fit_units, needs_trained_rows
from imdiffusion.settings import MEMORY, NETWORK, Settings

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


def calibrate(entity: Entity, rows: Rows, split: int, *, measured: bool = True) -> None:
    """Fit views in closed form, units, band and thresholds on normal rows.

    Those from `split` on were held out from the training of the network. measured: also how these
    rows keep the promise (`Entity.report`), each by thresholds of the others.
    """
    settings = entity.settings
    network = _calibrate_network(entity, rows, split) if settings.networked else None
    fit, louder = None, 1.0
    if settings.linear:
        fit, louder = _calibrate_linear(entity, rows, network, split)
    if measured:
        weight = view_weights(entity.view_names, len(rows))
        entity.kept = record_of(entity, rows, split, fit, network, weight=weight, louder=louder)
        entity.notes = with_stretches(entity, rows)


def _calibrate_network(entity: Entity, rows: Rows, split: int) -> NetworkScores:
    """Where no rows were held out, all count as such. A threshold from all rows (`calibrate_on`)
    has seen more of what normal does than the last rows alone; that the network has too costs
    little where it was trained for few steps.
    """
    settings, recipe = entity.settings, entity.recipe
    held = split if split < len(rows) else 0
    trained = settings.calibrate_on == "all" or needs_trained_rows(recipe)
    most = CALIBRATION_POINTS // len(entity.channels)
    first = max(0, min(held, len(rows) - most)) if trained else held
    runs = list(entity.estimates([rows.slice(first)], entity.chosen_steps))
    residual = np.concatenate([residual_of(run.seen, run.estimates, run.target) for run in runs])
    errors = np.concatenate(list(smoothed_errors([residual], recipe)))
    held -= first
    units = fit_units(errors, held, recipe, unit=settings.scale_factor)
    normal = errors if settings.calibrate_on == "all" else errors[held:]
    joined = [joined for joined, _ in scored([normal], units, recipe)]
    steps = np.concatenate(joined).T
    kind = registry.load("ensembles", settings.ensemble)
    rate = _alarm_rate(entity, kind.join(steps, axis=0))
    if not settings.linear:
        entity.alarm_rate = rate
    ensemble = kind.fit(
        steps,
        rule=registry.load("thresholds", settings.threshold),
        alarm_rate=rate,
        xi=settings.xi,
        anomaly_share=settings.anomaly_share,
    )
    # As with thresholds: the held-out rows are a few hundred, and a quantile of .005 of them is one
    # row; a channel of two values may have one of them alone there.
    told = residual if settings.calibrate_on == "all" else residual[held:]
    band = _band(told[:, -1].astype(np.float64), settings.scale_factor)
    entity.calibration = Calibration(units, band, ensemble.thresholds)
    start = first if settings.calibrate_on == "all" else first + held
    sample = online.sample_online(entity, rows.slice(start), normal)
    limits = online.fit_thresholds(entity, sample, np.concatenate(joined), ensemble.thresholds)
    entity.calibration = replace(entity.calibration, online=limits)
    log.info("calibrated on %d rows: thresholds %s", len(errors), ensemble.thresholds)
    blank = np.empty(0)
    return NetworkScores(
        start,
        steps,
        entity.network_score(steps, "offline"),
        sample.seen - 1,
        blank if limits is None else entity.network_score(sample.errors, "online"),
    )


def _calibrate_linear(
    entity: Entity, rows: Rows, network: NetworkScores | None, split: int
) -> tuple[LinearFit, float]:
    """Fit the views in closed form on all rows, then the join of all views; and what its thresholds
    were raised by.
    """
    settings = entity.settings
    entity.checks, course = RowChecks.fit(rows, settings, rate=entity.alarm_rate)
    rows = less_course(rows, course)
    entity.linear, fit = LinearViews.fit(
        rows,
        lags=settings.lags,
        widths=settings.scan_widths,
        memory=MEMORY in settings.views,
    )
    weight = view_weights(entity.view_names, len(rows))
    entity.joins, louder = _joins(entity, fit, network, split, weight, None)
    if settings.calendar == "auto" and rows.times is not None:
        views, sparse = normal(fit, network)
        scores = np.stack([entity.joins["offline"].join(views, sparse), sparse], axis=1)
        times = rows.times[len(rows) - len(scores) :].view("datetime64[ns]")
        hard = HardHours.fit(times, scores, settings.timezone)
        if hard is not None:
            entity.checks = replace(entity.checks, hard=hard)
            ease = entity.checks.ease(rows)
            entity.joins, louder = _joins(entity, fit, network, split, weight, ease)
    if network is None:
        band = _band(fit.residual.astype(np.float64), settings.scale_factor)
        entity.calibration = replace(entity.calibration, band=band)
    if settings.alarms_per_day and entity.period is not None:
        views, sparse = normal(fit, network)
        ease = entity.checks.ease(rows)[len(rows) - len(sparse) :]
        score = eased(entity.joins["offline"].join(views, sparse), sparse, ease)[0]
        entity.alarm_rate = _alarm_rate(entity, score.astype(np.float32))
        entity.checks = entity.checks.at_rate(entity.alarm_rate)
    return fit, louder


def _louder(scores: NDArray[np.float64], split: int) -> float:
    """How much louder normal scores (n,) are from `split` on, where the network was not trained.

    Most of the rows that thresholds are read off have trained it, and it may know them too well.
    By a quantile of each part, so that a fault in the few rows held out does not count; at least 1.
    """
    known = [part[np.isfinite(part)] for part in (scores[:split], scores[split:])]
    if min(len(part) for part in known) < LEAST_HELD:
        return 1.0
    trained, held = (float(np.quantile(part, HIGH)) for part in known)
    return float(np.clip(held / max(trained, 1e-9), 1.0, MOST_LOUDER))


def view_weights(names: tuple[str, ...], rows: int) -> NDArray[np.float64]:
    """The weight of each of these views in the join, and of the sparse evidence, after training on
    so many rows.
    """
    weights = WEIGHTS | {NETWORK: min(MOST_WEIGHT, rows / ROWS_EACH)}
    return np.array([weights[name] for name in (*names, "sparse")])


def _joins(
    entity: Entity,
    fit: LinearFit,
    network: NetworkScores | None,
    split: int,
    weight: NDArray[np.float64],
    ease: NDArray[np.float32] | None,
) -> tuple[dict[str, Join], float]:
    """The joins of offline scores and, where every view has a say there, of online ones; and
    what their thresholds were raised by. ease (T, 2): as of `Join.fit`, of all rows.

    The network is judged online on a sample, so how much higher thresholds must be there is
    read off the sample: by how much the tail of the join is longer than offline.
    """
    rule = entity.settings.threshold
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
    place, rows = entity.view_names.index(NETWORK), network.first + network.sample
    others = np.delete(weight, place)
    alone = Join.fit(fit.views_online, fit.sparse_online, others, rule=rule, ease=ease)
    unit = np.insert(alone.unit, place, offline.unit[place])
    early = replace(offline, unit=unit, alone=alone.alone)
    early_views = np.insert(fit.views_online[rows], place, network.online, axis=1)
    found = early.join(early_views, fit.sparse_online[rows])
    same = offline.join(views[network.sample], sparse[network.sample])
    longer = online.loudness(found) / online.loudness(same)
    return {"offline": offline.scaled(louder), "online": early.scaled(louder * longer)}, louder


def check_budget(settings: Settings, period: np.timedelta64 | None) -> None:
    """ConfigError: a budget of events without timestamps, or for an ensemble that fits nothing."""
    budget = f"alarms_per_day = {settings.alarms_per_day:g}"
    if settings.alarms_per_day and settings.ensemble == "rank":
        raise ConfigError(
            f"{budget} means nothing to ensemble = 'rank', which flags a share of what it scores",
            remedy="Set anomaly_share, or take another ensemble.",
        )
    if settings.alarms_per_day and period is None:
        raise ConfigError(
            f"{budget} needs timestamps, and the training data has none",
            remedy="Give data with a time column, or set alarm_rate instead.",
        )


def _alarm_rate(entity: Entity, normal: Floats) -> float:
    """The setting, or what its budget of events a day comes to on normal scores (n,)."""
    settings = entity.settings
    if settings.alarms_per_day == 0 or entity.period is None:
        return settings.alarm_rate
    rate = rate_within(
        normal,
        alarms_per_day=settings.alarms_per_day,
        period_ns=int(entity.period / np.timedelta64(1, "ns")),
        merge_gap=settings.merge_gap,
        min_length=settings.min_length,
    )
    log.info("alarms_per_day = %g comes to alarm_rate = %g", settings.alarms_per_day, rate)
    return rate


def _band(residual: NDArray[np.float64], factor: float) -> Floats:
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
