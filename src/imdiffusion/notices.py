"""What a fit says of rows that can be fitted on, and of what will not be seen for them.

Nothing here changes what is fitted. What costs detection is a DataWarning with the remedy; what is
only worth reading is logged.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np

from imdiffusion.data.rhythm import in_words, rhythm_of
from imdiffusion.data.windows import Rows
from imdiffusion.entity import Entity
from imdiffusion.errors import DataWarning
from imdiffusion.linear import LinearViews
from imdiffusion.linear.fitting import ROWS_A_NUMBER, moving_channels

COPIES = 1e-4  # correlation that two channels lack to be looked at as copies
ALIKE = 1e-3  # in standard deviations, by which copies differ at most

log = logging.getLogger(__name__)


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
