"""Fit one entity: split, scale, train, and calibrate on the rows that were held out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion.calibrating import calibrate, check_budget
from imdiffusion.course import OnProgress, Progress
from imdiffusion.data.absurd import absurd_values, note_absurd
from imdiffusion.data.counters import Counters, read_counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler
from imdiffusion.data.spans import span_positions
from imdiffusion.data.windows import Rows, held_out_from
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError, DataWarning
from imdiffusion.linear import MEMORY_ROWS
from imdiffusion.measuring import MOST_TOLD
from imdiffusion.notices import note_fit
from imdiffusion.promise.record import FitNotes, LeftOut
from imdiffusion.runs import NOBODY
from imdiffusion.settings import MEMORY, Settings

if TYPE_CHECKING:
    import torch

    from imdiffusion.diffusion.shared_denoiser import SharedDenoiser
    from imdiffusion.parts import Part

LEAST_ROWS = 10  # that views in closed form are fitted on

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


def fit_entity(
    frame: Frame,
    settings: Settings,
    *,
    excluded: NDArray[np.bool_],
    seed: int,
    device: torch.device | None,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
    measured: bool = True,
) -> Entity:
    """Fit one entity on a frame; rows with `excluded` (T,) True count as unobserved.

    measured: also how these rows keep the promise, for `Entity.report`.

    Raises DataError where there are fewer rows than a window or nothing is observed. Warns with
    DataWarning where a channel is constant or empty, where there are too few rows to hold out, and
    where they are too few for a view, and of what `notices.note_fit` finds.
    """
    ready = prepare(frame, settings, excluded=excluded, seed=seed, device=device)
    entity = ready.entity
    if ready.part is not None and device is not None:
        from imdiffusion.training import Trainer

        entity.history = Trainer(
            entity.network,
            [ready.part],
            settings,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            on_progress=on_progress,
        ).fit()
    calibrate(entity, ready.rows, ready.split, measured=measured)
    note_fit(entity, ready.rows)
    return entity


def fit_entities(
    frames: Iterable[Frame],
    settings: Settings,
    *,
    spans: Sequence[tuple[Any, Any]],
    seed: int,
    device: torch.device | None,
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> list[Entity]:
    """Fit entities one after another, each with a network of its own; see `fit_entity`.

    spans: (start, end) of times or row positions to leave out of all of them.
    """
    return [
        fit_entity(
            frame,
            settings,
            excluded=span_positions(frame, spans),
            seed=seed,
            device=device,
            checkpoint=None if checkpoint is None else checkpoint / str(number),
            on_progress=_named(on_progress, frame.entity),
        )
        for number, frame in enumerate(frames)
    ]


def _named(on_progress: OnProgress | None, entity: str | None) -> OnProgress | None:
    """The callback, told which entity the progress is of."""
    if on_progress is None or entity is None:
        return on_progress
    return lambda p: on_progress(Progress(f"{p.phase} {entity}", p.done, p.total, p.info))


@dataclass(frozen=True, slots=True)
class Prepared:
    """An entity with its scaler and its scaled rows; those from `split` on are held out.

    part: what it brings to the training of a network; None where there is none.
    """

    entity: Entity
    rows: Rows
    split: int
    part: Part | None


def check(frame: Frame, settings: Settings, *, excluded: NDArray[np.bool_]) -> None:
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
    observed = frame.observed & ~excluded[:, None]
    split = total
    if settings.networked:
        split = held_out_from(total, settings.window, settings.holdout)
    for part, name in ((observed[:split], "training"), (observed[split:], "held-out")):
        if len(part) and not part.any():
            raise DataError(
                f"no value{where} is observed in the {len(part)} {name} rows",
                remedy="Give rows with values, or exclude fewer of them.",
            )
    check_budget(settings, frame.period)


def _of(frame: Frame) -> str:
    return f" of entity {frame.entity!r}" if frame.entity else ""


def prepare(
    frame: Frame,
    settings: Settings,
    *,
    excluded: NDArray[np.bool_],
    seed: int,
    device: torch.device | None,
    shared: SharedDenoiser | None = None,
    number: int = NOBODY,
    counters: Counters | None = None,
) -> Prepared:
    """Split and scale: all that comes before training. Raises and warns as `fit_entity` does.

    counters: those of a shared model, None = found here.
    """
    check(frame, settings, excluded=excluded)
    where = _of(frame)
    if counters is None:
        counters = find_counters(frame, settings, excluded=excluded)
        counters.say(where)
    frame, counters = read_counters(frame, frame.observed & ~excluded[:, None], counters)
    observed = _usable(frame, settings, excluded, loud=True)
    total = len(frame.values)
    split = _split(total, settings, where)
    log.info("fit%s: %d rows to train on, %d held out", where, split, total - split)
    scaler = Scaler.fit(
        frame.values[:split], observed[:split], kind=settings.scale, factor=settings.scale_factor
    )
    still, empty = _note_channels(frame, observed[:split], where)
    _note_views(total, settings, where)
    entity = Entity(
        frame.entity,
        frame.channels,
        settings,
        scaler,
        seed=seed,
        device=device,
        network=shared,
        number=number,
    )
    entity.period, entity.counters = frame.period, counters
    absurd = frame.observed & ~excluded[:, None] & ~observed
    entity.notes = FitNotes(_absurd_parts(frame, absurd), int(absurd.sum()), still, empty)
    rows = _seen_rows(entity, frame, observed)
    if not settings.networked:
        return Prepared(entity, rows, split, None)
    from imdiffusion.parts import Part

    train, held = entity.shown(rows.slice(0, split)), entity.shown(_held(rows, split))
    # What the network overshoots beyond anything trained on is not to be expanded further.
    entity.ceiling = np.abs(train.values).max(axis=0) + np.float32(1.0)
    return Prepared(entity, rows, split, Part(entity.imputer, train, held))


def find_counters(frame: Frame, settings: Settings, *, excluded: NDArray[np.bool_]) -> Counters:
    """The counters of a training frame, none where settings keep the level of all channels."""
    if settings.counters == "level":
        return Counters()
    return Counters.fit(frame, frame.observed & ~excluded[:, None])


def recalibrate(
    entity: Entity, frame: Frame, settings: Settings, *, excluded: NDArray[np.bool_]
) -> Entity:
    """A fitted entity of the same network that scores under other settings, calibrated again.

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
        entity.network if settings.networked else None,
        settings,
        seed=entity.seed,
        device=entity.device,
    )
    check_budget(settings, copy.period)
    split = _split(len(frame.values), settings, _of(frame))
    frame = copy.counters.rates(replace(frame, observed=frame.observed & ~excluded[:, None]))
    observed = _usable(frame, settings, excluded, loud=False)
    calibrate(copy, _seen_rows(copy, frame, observed), split)
    return copy


def _seen_rows(entity: Entity, frame: Frame, observed: NDArray[np.bool_]) -> Rows:
    return entity.rows(Frame(frame.values, observed, frame.timestamps, frame.channels))


def _usable(
    frame: Frame, settings: Settings, excluded: NDArray[np.bool_], *, loud: bool
) -> NDArray[np.bool_]:
    """Which values (T, K) are learned from: observed, not excluded, and no absurd ones."""
    observed = frame.observed & ~excluded[:, None]
    if settings.scale != "robust":
        return observed
    absurd = absurd_values(frame.values, observed)
    if loud and absurd.any():
        note_absurd(frame, absurd)
    return observed & ~absurd


def _absurd_parts(frame: Frame, absurd: NDArray[np.bool_]) -> tuple[LeftOut, ...]:
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


def _held(rows: Rows, split: int) -> Rows:
    return rows.slice(split) if split < len(rows) else rows


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
    if MEMORY in settings.scored_views and total < MEMORY_ROWS:
        warnings.warn(
            f"{total} rows{where} are fewer than two patches ({MEMORY_ROWS} rows): the view "
            f"{MEMORY!r} is left out, and the others are scored without it",
            DataWarning,
            stacklevel=3,
        )


def _note_channels(
    frame: Frame, observed: NDArray[np.bool_], where: str
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
