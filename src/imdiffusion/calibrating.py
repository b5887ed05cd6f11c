"""What normal rows say of an entity: units, residual band and thresholds, without labels."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from imdiffusion import arrival, registry
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError
from imdiffusion.runs import Calibration, Floats
from imdiffusion.scoring.budget import rate_within
from imdiffusion.scoring.error import residual_of, scored, smoothed_errors
from imdiffusion.scoring.units import fit_units, needs_trained_rows
from imdiffusion.settings import Settings

log = logging.getLogger(__name__)

CALIBRATION_POINTS = 2_000_000  # the last of the trained rows are enough to say what is normal
NORMAL_BAND = (-2.576, 2.576)  # those of a standard normal
BAND = (0.005, 0.995)  # quantiles of held-out residuals between `lower` and `upper`


def calibrate(entity: Entity, rows: Rows, split: int) -> None:
    """Fit units, band and thresholds on normal rows; those from `split` on were held out.

    Where none was held out, all count as such. A threshold from all rows (`calibrate_on`) has seen
    more of what normal does than the last rows alone; that the network has too costs little where
    it was trained for few steps.
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
    ensemble = kind.fit(
        steps,
        rule=registry.load("thresholds", settings.threshold),
        alarm_rate=_alarm_rate(entity, kind.join(steps, axis=0)),
        xi=settings.xi,
        anomaly_share=settings.anomaly_share,
    )
    band = _band(residual[held:, -1].astype(np.float64), settings.scale_factor)
    entity.calibration = Calibration(units, band, ensemble.thresholds)
    known = rows.slice(first if settings.calibrate_on == "all" else first + held)
    at_arrival = arrival.fit_thresholds(
        entity, known, normal, np.concatenate(joined), ensemble.thresholds
    )
    entity.calibration = replace(entity.calibration, arrival=at_arrival)
    log.info("calibrated on %d rows: thresholds %s", len(errors), ensemble.thresholds)


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

    A channel without residuals gets those of a standard normal: as wide as its own spread.
    """
    known = ~np.isnan(residual).all(axis=0)
    band = np.array(NORMAL_BAND)[:, None].repeat(residual.shape[1], axis=1) * factor
    band[:, known] = np.nanquantile(residual[:, known], BAND, axis=0)
    return band.astype(np.float32)
