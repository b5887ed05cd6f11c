"""How an entity is fitted: split, scale, train, calibrate; and what a fit says of its rows.

Nothing that is said changes what is fitted. What costs detection is a DataWarning with the remedy;
what is only worth reading is logged.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion.arrays import Flags
from imdiffusion.calibration import MOST_TOLD, calibrate
from imdiffusion.data.calendar import in_words, rhythm_of
from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.grid import span_positions
from imdiffusion.data.scaling import Scaler, absurd_values, note_absurd
from imdiffusion.data.windows import Rows, held_out_from
from imdiffusion.entity import Entity, ScaledEntity
from imdiffusion.errors import ConfigError, DataError, DataWarning
from imdiffusion.linear import MEMORY_ROWS, LinearViews
from imdiffusion.linear.fitting import ROWS_A_NUMBER, moving_channels
from imdiffusion.progress import FitJob, History
from imdiffusion.promise.record import FitNotes, LeftOut
from imdiffusion.series_imputer import NOBODY, SeriesImputer, shown
from imdiffusion.settings import MEMORY, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imdiffusion.training import Part

LEAST_ROWS = 10  # that views in closed form are fitted on
COPIES = 1e-4  # correlation that two channels lack to be looked at as copies
ALIKE = 1e-3  # in standard deviations, by which copies differ at most

log = logging.getLogger(__name__)

# What scoring alone reads: these may change without a new fit. (The held-out checks of a training
# impute under `mask` and `sampler` too; they choose which of its weights are kept.)
SCORING_SETTINGS = frozenset(
    (
        *("stride", "mask", "bands", "sampler", "sampling_steps", "sampling_start", "estimate"),
        *("error", "detrend", "smooth", "error_scale", "log_gain", "reduce"),
        *("ensemble", "ensemble_steps", "ensemble_every", "xi", "anomaly_share"),
        *("threshold", "calibrate_on", "alarm_rate", "alarms_per_day"),
        *("merge_gap", "min_length", "lags", "scan"),
    )
)


def fit_entity(frame: Frame, job: FitJob, *, measured: bool = True) -> Entity:
    """Fit one entity on a frame; rows in the spans of the job count as unobserved.

    measured: also how these rows keep the promise, for `Entity.report`.

    Raises DataError where there are fewer rows than a window or nothing is observed. Warns with
    DataWarning where a channel is constant or empty, where there are too few rows to hold out, and
    where they are too few for a view, and of what `note_fit` finds.
    """
    ready = prepare(without(frame, job.spans), job)
    history = None
    if ready.own.series is not None:
        from imdiffusion.training import Trainer

        series = ready.own.series
        history = Trainer(series.network, [ready.part()], job, device=series.device).fit()
    entity = ready.calibrated(history, measured=measured)
    note_fit(entity, ready.rows)
    return entity


def fit_entities(frames: Iterable[Frame], job: FitJob) -> list[Entity]:
    """Fit entities one after another, each with a network of its own; see `fit_entity`."""
    return [
        fit_entity(frame, job.of_entity(number, frame.entity))
        for number, frame in enumerate(frames)
    ]


def without(frame: Frame, spans: Sequence[tuple[Any, Any]]) -> Frame:
    """The frame, of which rows in these spans count as unobserved."""
    return replace(frame, observed=frame.observed & ~span_positions(frame, spans)[:, None])


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entity before its calibration, and its scaled rows; those from `split` on are held out."""

    own: ScaledEntity
    rows: Rows
    split: int
    notes: FitNotes | None = None

    def part(self) -> Part:
        """What it brings to the training of a network."""
        from imdiffusion.training import Part

        rows, split, settings = self.rows, self.split, self.own.settings
        held = rows.slice(split) if split < len(rows) else rows
        train = shown(rows.slice(0, split), settings)
        return Part(self.own.imputer.windows, train, shown(held, settings))

    def calibrated(self, history: History | None = None, *, measured: bool = True) -> Entity:
        """The entity, once its network is trained."""
        return calibrate(
            self.own, self.rows, self.split, history=history, notes=self.notes, measured=measured
        )


def check(frame: Frame, settings: Settings) -> None:
    """Raise where these rows cannot be fitted on: DataError, or ConfigError for the budget."""
    total, where = len(frame.values), _of(frame)
    if settings.networked and total < settings.window:
        raise DataError(
            f"the training data{where} has {total} rows, fewer than a window "
            f"({settings.window} rows)",
            remedy="Give more rows, or set a shorter window.",
        )
    if total < LEAST_ROWS and settings.linear:
        raise DataError(
            f"the training data{where} has {total} rows, fewer than {LEAST_ROWS}",
            remedy="Give more rows.",
        )
    split = held_out_from(total, settings.window, settings.holdout) if settings.networked else total
    for part, name in ((frame.observed[:split], "training"), (frame.observed[split:], "held-out")):
        if len(part) and not part.any():
            raise DataError(
                f"no value{where} is observed in the {len(part)} {name} rows",
                remedy="Give rows with values, or exclude fewer of them.",
            )
    _check_budget(settings, frame.period)


def _check_budget(settings: Settings, period: np.timedelta64 | None) -> None:
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


def _of(frame: Frame) -> str:
    return f" of entity {frame.entity!r}" if frame.entity else ""


def prepare(
    frame: Frame,
    job: FitJob,
    *,
    shared: nn.Module | None = None,
    number: int = NOBODY,
    counters: Counters | None = None,
) -> Prepared:
    """Split and scale: all that comes before training. Raises and warns as `fit_entity` does.

    shared: the network of several entities, None = it gets its own. counters: those of a shared
    model, None = found here.
    """
    settings, where = job.settings, _of(frame)
    check(frame, settings)
    if counters is None:
        counters = find_counters(frame, settings)
        counters.say(where)
    counters = counters.of(frame)
    frame = counters.rates(frame)
    observed = _usable(frame, settings)
    absurd = frame.observed & ~observed
    if absurd.any():
        note_absurd(frame, absurd)
    total = len(frame.values)
    split = _split(total, settings, where)
    log.info("fit%s: %d rows to train on, %d held out", where, split, total - split)
    scaler = Scaler.fit(
        frame.values[:split], observed[:split], kind=settings.scale, factor=settings.scale_factor
    )
    still, empty = _note_channels(frame, observed[:split], where)
    _note_views(total, settings, where)
    own = ScaledEntity(
        name=frame.entity,
        channels=frame.channels,
        settings=settings,
        scaler=scaler,
        seed=job.seed,
        number=number,
        period=frame.period,
        counters=counters,
    )
    rows = own.rows(replace(frame, observed=observed))
    if settings.networked:
        own = replace(own, series=_new_series(own, rows.slice(0, split), job.device, shared))
    notes = FitNotes(_absurd_parts(frame, absurd), int(absurd.sum()), still, empty)
    return Prepared(own, rows, split, notes)


def _new_series(
    own: ScaledEntity, train: Rows, device: torch.device | None, network: nn.Module | None
) -> SeriesImputer:
    """The view of a network that is there, or of a new one, still to be trained on these rows."""
    import torch

    from imdiffusion.diffusion.networks import new_network

    device = device or torch.device("cpu")
    if network is None:
        network = new_network(own.settings, len(own.channels), own.seed, own.name).to(device)
    # What the network overshoots beyond anything trained on is not to be expanded further.
    ceiling = np.abs(shown(train, own.settings).values).max(axis=0) + np.float32(1.0)
    return SeriesImputer.of(
        network, own.settings, ceiling, number=own.number, seed=own.seed, device=device
    )


def find_counters(frame: Frame, settings: Settings) -> Counters:
    """The counters of a training frame, none where settings keep the level of all channels."""
    return Counters() if settings.counters == "level" else Counters.fit(frame)


def recalibrate(entity: Entity, frame: Frame, settings: Settings) -> Entity:
    """A fitted entity of the same network that scores under other settings, calibrated again.

    frame: what it was fitted on. settings: may differ in what scoring alone reads
    (`SCORING_SETTINGS`); ConfigError names any other that differs, for it needs a fit of its own.
    """
    before, after = entity.settings.to_dict(), settings.to_dict()
    wrong = [key for key in after if before[key] != after[key] and key not in SCORING_SETTINGS]
    if wrong:
        raise ConfigError(
            f"the network was trained under other settings: {', '.join(wrong)}",
            remedy="Fit again to change them.",
        )
    _check_budget(settings, entity.period)
    own = _scaled(entity, settings)
    split = _split(len(frame.values), settings, _of(frame))
    frame = entity.counters.rates(frame)
    rows = own.rows(replace(frame, observed=_usable(frame, settings)))
    return calibrate(own, rows, split, history=entity.history, notes=entity.notes)


def _scaled(entity: Entity, settings: Settings) -> ScaledEntity:
    """What an entity was before its calibration, under other settings of scoring."""
    own = {one.name: getattr(entity, one.name) for one in fields(ScaledEntity)}
    if entity.series is not None:
        number, seed, old = entity.number, entity.seed, entity.series
        own["series"] = SeriesImputer.of(
            old.network, settings, old.ceiling, number=number, seed=seed, device=old.device
        )
    return ScaledEntity(**{**own, "settings": settings})


def _usable(frame: Frame, settings: Settings) -> Flags:
    """Which values (T, K) are learned from: observed, and no absurd ones."""
    if settings.scale != "robust":
        return frame.observed
    return frame.observed & ~absurd_values(frame.values, frame.observed)


def _absurd_parts(frame: Frame, absurd: Flags) -> tuple[LeftOut, ...]:
    """The first absurd values (T, K), to be told."""
    times = frame.timestamps
    return tuple(
        LeftOut(
            frame.channels[k],
            row,
            None if times is None else int(times[row].astype("datetime64[ns]").astype(np.int64)),
            1,
            float(frame.values[row, k]),
            "an absurd value",
        )
        for row, k in np.argwhere(absurd)[:MOST_TOLD].tolist()
    )


def _split(total: int, settings: Settings, where: str) -> int:
    """The row where the held-out tail begins; `total` where there are too few rows for one."""
    if not settings.networked:
        return total
    length = settings.window
    split = held_out_from(total, length, settings.holdout)
    if split == total:
        warnings.warn(
            f"{total} rows{where} are fewer than two windows ({2 * length} rows): training uses "
            "all of them and the threshold is calibrated in-sample, which makes it too low",
            DataWarning,
            stacklevel=2,
        )
    return split


def _note_views(total: int, settings: Settings, where: str) -> None:
    """Say which view is left out for want of rows."""
    if MEMORY in settings.views and total < MEMORY_ROWS:
        warnings.warn(
            f"{total} rows{where} are fewer than two patches ({MEMORY_ROWS} rows): the view "
            f"{MEMORY!r} is left out, and the others are scored without it",
            DataWarning,
            stacklevel=3,
        )


def _note_channels(
    frame: Frame, observed: Flags, where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say which channels never move in training, and which have no value at all; their names."""
    values = frame.values[: len(observed)]
    empty = ~observed.any(axis=0)
    low = np.where(observed, values, np.inf).min(axis=0)
    high = np.where(observed, values, -np.inf).max(axis=0)
    constant = np.flatnonzero(~empty & (low == high))
    still, silent = (
        tuple(frame.channels[k] for k in found) for found in (constant, np.flatnonzero(empty))
    )
    for names, what in ((still, "constant"), (silent, "without any value")):
        if names:
            plural = "channels are" if len(names) > 1 else "channel is"
            warnings.warn(
                f"{len(names)} {plural} {what} in the training data{where}: {', '.join(names)}",
                DataWarning,
                stacklevel=3,
            )
    return still, silent


def note_fit(entity: Entity, rows: Rows) -> None:
    """Say what the rows of a fit (scaled, as the views read them) do not allow.

    Warns with DataWarning of rows that are few for their channels, of channels that repeat others,
    of a country or time zone without a calendar, and of a rhythm that is longer than what any view
    reads. Logs how far the views read, in time.
    """
    where = f" of entity {entity.name!r}" if entity.name else ""
    if entity.linear is not None:
        _note_few(entity, entity.linear, rows, where)
        _note_copies(entity, entity.linear, rows, where)
    _note_calendar(entity, where)
    _note_reach(entity, rows, where)


def _note_few(entity: Entity, linear: LinearViews, rows: Rows, where: str) -> None:
    wanted, read, channels = entity.settings.lags, linear.law.lags, moving_channels(rows)
    least = ROWS_A_NUMBER * max(channels, wanted)
    if len(rows) < least:
        _warn(
            f"{len(rows)} rows{where} are few for {channels} channels: a forecast reads {read} of "
            f"{wanted} rows, and more normal rows than alarm_rate = {entity.alarm_rate:g} may be "
            f"in alarm. Give {least} rows at least; how rare scores are, thousands tell"
        )
    elif read < wanted:
        log.info("a forecast%s reads %d rows, for %d channels are many", where, read, channels)


def _note_copies(entity: Entity, linear: LinearViews, rows: Rows, where: str) -> None:
    """A copy costs nothing but this: of two that fail together, each tells the other."""
    covariance = linear.law.covariances[0].astype(np.float64)
    spread = np.sqrt(np.maximum(np.diag(covariance) - linear.law.noise, 1e-9))
    near = np.abs(np.triu(covariance, 1)) >= (1.0 - COPIES) * np.outer(spread, spread)
    found: dict[int, int] = {}
    for one, other in np.argwhere(near & (spread > 0.1)[:, None]).tolist():
        if one in found or other in found:
            continue
        both = rows.observed[:, one] & rows.observed[:, other]
        sign = np.sign(covariance[one, other])
        apart = rows.values[both, one] - sign * rows.values[both, other]
        if both.any() and np.ptp(apart) <= ALIKE:
            found[other] = one
    if found:
        names = entity.channels
        pairs = ", ".join(
            f"{names[other]!r} repeats {names[one]!r}" for other, one in found.items()
        )
        _warn(
            f"channels repeat others in the training data{where}: {pairs}. Where two show the same "
            "fault, a third may be named. Leave copies out with --ignore-column (ignore_columns)"
        )


def _note_calendar(entity: Entity, where: str) -> None:
    settings, checks = entity.settings, entity.checks
    if settings.calendar == "off" or checks.hours is not None:
        return
    text = f"no calendar{where}: {checks.reason}. An hour unlike its time is no event"
    if settings.country or settings.timezone != "UTC":
        _warn(f"{text}, and country and timezone change nothing")
    else:
        log.info(text)


def _note_reach(entity: Entity, rows: Rows, where: str) -> None:
    """How far the views read, and whether training repeats itself at greater distance."""
    settings = entity.settings
    period = None if entity.period is None else entity.period / np.timedelta64(1, "s")

    def span(count: int) -> str:
        return f"{count} rows" + ("" if period is None else f" ({in_words(count * period)})")

    read = []
    if settings.networked:
        read.append(("the network's window", settings.window))
    if entity.linear is not None:
        read.append(("a forecast", entity.linear.law.lags))
        read.append(("the longest scan", settings.scan))
    told = ", ".join(f"{name} spans {span(count)}" for name, count in read)
    log.info("what is read%s: %s", where, told)
    if entity.checks.hours is not None:
        return
    rhythm = rhythm_of(rows.values, rows.observed)
    if rhythm is None or rhythm.rows <= max(count for _, count in read):
        return
    if settings.calendar == "off":
        remedy = "Use views in closed form with calendar='auto' and timestamps"
    elif rows.times is None:
        remedy = "Give timestamps"
    else:
        remedy = f"There is no calendar: {entity.checks.reason}"
    # With timestamps it was tried, or not wanted: then it is said without a warning.
    tell = _warn if rows.times is None and settings.calendar != "off" else log.info
    tell(
        f"{rhythm.channels} of {len(entity.channels)} channels{where} repeat themselves about "
        f"every {span(rhythm.rows)}, and {told}: what is unusual for its time alone, such as a "
        f"usual peak that does not come, cannot be seen. {remedy}"
    )


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=4)
