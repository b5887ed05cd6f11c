"""Fit one entity: split, scale, train, and calibrate on the rows that were held out."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from imdiffusion import arrival, registry
from imdiffusion.course import OnProgress
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler
from imdiffusion.data.windows import Rows, held_out_from
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError, DataWarning
from imdiffusion.runs import Calibration, Floats
from imdiffusion.scoring.budget import rate_within
from imdiffusion.scoring.error import residual_of, scored, smoothed_errors
from imdiffusion.scoring.units import fit_units, needs_trained_rows
from imdiffusion.settings import Settings
from imdiffusion.training import Trainer

log = logging.getLogger(__name__)

CALIBRATION_POINTS = 2_000_000  # the last of the trained rows are enough to say what is normal
# What scoring alone reads: these may change without a new fit. (The held-out checks of a training
# impute under `mask` and `sampler` too; they choose which of its weights are kept.)
SCORING_SETTINGS = frozenset(
    (
        *("stride", "mask", "bands", "sampler", "sampling_steps", "sampling_start", "estimate"),
        *("error", "detrend", "smooth", "error_scale", "log_gain", "reduce"),
        *("ensemble", "ensemble_steps", "ensemble_every", "xi", "anomaly_share"),
        *("threshold", "calibrate_on", "alarm_rate", "alarms_per_day"),
        *("merge_gap", "min_length"),
    )
)
NORMAL_BAND = (-2.576, 2.576)  # those of a standard normal
BAND = (0.005, 0.995)  # quantiles of held-out residuals between `lower` and `upper`


def fit_entity(
    frame: Frame,
    settings: Settings,
    *,
    excluded: NDArray[np.bool_],
    seed: int,
    device: torch.device,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Entity:
    """Fit one entity on a frame; rows with `excluded` (T,) True count as unobserved.

    Raises DataError where there are fewer rows than a window or nothing is observed. Warns with
    DataWarning where a channel is constant or empty and where there are too few rows to hold out.
    """
    observed = frame.observed & ~excluded[:, None]
    where = f" of entity {frame.entity!r}" if frame.entity else ""
    total = len(frame.values)
    split = _split(total, settings, where)
    for part, name in ((observed[:split], "training"), (observed[split:], "held-out")):
        if len(part) and not part.any():
            raise DataError(
                f"no value{where} is observed in the {len(part)} {name} rows",
                remedy="Give rows with values, or exclude fewer of them.",
            )
    log.info("fit%s: %d rows to train on, %d held out", where, split, total - split)
    scaler = Scaler.fit(
        frame.values[:split], observed[:split], kind=settings.scale, factor=settings.scale_factor
    )
    _note_channels(frame, observed[:split], where)
    entity = Entity(frame.entity, frame.channels, settings, scaler, seed=seed, device=device)
    entity.period = frame.period
    _check_budget(entity)
    rows = _seen_rows(entity, frame, observed)
    train, held = entity.shown(rows.slice(0, split)), _held(rows, split)
    # What the network overshoots beyond anything trained on is not to be expanded further.
    entity.ceiling = np.abs(train.values).max(axis=0) + np.float32(1.0)
    entity.history = Trainer(
        entity.imputer,
        entity.network,
        train,
        entity.shown(held),
        settings,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
    ).fit()
    calibrate(entity, rows, split)
    return entity


def recalibrate(
    entity: Entity, frame: Frame, settings: Settings, *, excluded: NDArray[np.bool_]
) -> Entity:
    """A copy of a fitted entity that scores under other settings, calibrated anew.

    frame and excluded: what it was fitted on. settings: may differ in what scoring alone reads
    (`SCORING_SETTINGS`); ConfigError names any other that differs, for it needs a fit of its own.
    """
    before, after = entity.settings.to_dict(), settings.to_dict()
    wrong = [key for key in after if before[key] != after[key] and key not in SCORING_SETTINGS]
    if wrong:
        raise ConfigError(
            f"the network was trained under other settings: {', '.join(wrong)}",
            remedy="Fit again to change them.",
        )
    copy = Entity.restore(
        entity.to_dict(),
        entity.network.state_dict(),
        settings,
        seed=entity.seed,
        device=entity.device,
    )
    _check_budget(copy)
    split = _split(len(frame.values), settings, f" of entity {frame.entity!r}")
    observed = frame.observed & ~excluded[:, None]
    calibrate(copy, _seen_rows(copy, frame, observed), split)
    return copy


def _seen_rows(entity: Entity, frame: Frame, observed: NDArray[np.bool_]) -> Rows:
    return entity.rows(Frame(frame.values, observed, frame.timestamps, frame.channels))


def _held(rows: Rows, split: int) -> Rows:
    return rows.slice(split) if split < len(rows) else rows


def _split(total: int, settings: Settings, where: str) -> int:
    """The row where the held-out tail begins; `total` where there are too few rows for one."""
    length = settings.window
    if total < length:
        raise DataError(
            f"the training data{where} has {total} rows, fewer than a window ({length} rows)",
            remedy="Give more rows, or set a shorter window.",
        )
    split = held_out_from(total, length, settings.holdout)
    if split == total:
        warnings.warn(
            f"{total} rows{where} are fewer than two windows ({2 * length} rows): training uses "
            "all of them and the threshold is calibrated in-sample, which makes it too low",
            DataWarning,
            stacklevel=2,
        )
    return split


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


def _check_budget(entity: Entity) -> None:
    """ConfigError: a budget of events without timestamps, or for an ensemble that fits nothing."""
    settings = entity.settings
    budget = f"alarms_per_day = {settings.alarms_per_day:g}"
    if settings.alarms_per_day and settings.ensemble == "rank":
        raise ConfigError(
            f"{budget} means nothing to ensemble = 'rank', which flags a share of what it scores",
            remedy="Set anomaly_share, or take another ensemble.",
        )
    if settings.alarms_per_day and entity.period is None:
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


def _note_channels(frame: Frame, observed: NDArray[np.bool_], where: str) -> None:
    """Say which channels never move in training, and which have no value at all."""
    values = frame.values[: len(observed)]
    empty = ~observed.any(axis=0)
    low = np.where(observed, values, np.inf).min(axis=0)
    high = np.where(observed, values, -np.inf).max(axis=0)
    constant = np.flatnonzero(~empty & (low == high))
    for found, what in ((constant, "constant"), (np.flatnonzero(empty), "without any value")):
        names = [frame.channels[k] for k in found]
        if names:
            plural = "channels are" if len(names) > 1 else "channel is"
            warnings.warn(
                f"{len(names)} {plural} {what} in the training data{where}: {', '.join(names)}",
                DataWarning,
                stacklevel=3,
            )


def _band(residual: NDArray[np.float64], factor: float) -> Floats:
    """Quantiles `BAND` of the residuals (n, K) per channel: (2, K), in scaled units.

    A channel without residuals gets those of a standard normal: as wide as its own spread.
    """
    known = ~np.isnan(residual).all(axis=0)
    band = np.array(NORMAL_BAND)[:, None].repeat(residual.shape[1], axis=1) * factor
    band[:, known] = np.nanquantile(residual[:, known], BAND, axis=0)
    return band.astype(np.float32)
