"""What is measured of one scenario: found, how late, where, which channel, and what it cost.

Rows are those of the whole grid of the test part, rows that were left out included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imdiffusion_bench.metrics.segments import NAN
from imdiffusion_bench.split import Cause

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
DAY_S = 86_400.0
# Rows after a fault in which an alarm is still about it: at arrival it may need them, and a window
# that holds the end of the fault may still be off.
GRACE = 10


@dataclass(frozen=True, slots=True)
class Told:
    """An event as a detector tells it: rows start to end (exclusive), channels worst first."""

    start: int
    end: int
    score: float
    channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector said of T rows.

    alarm: rows (T,) in alarm in hindsight; arrival: scores (T,) at arrival, above 1 = alarm, NaN =
    none; events: in hindsight, in order of time; promised: the share of normal rows that it was to
    alarm on.
    """

    alarm: Flags
    arrival: Floats
    events: tuple[Told, ...]
    promised: float


@dataclass(frozen=True, slots=True)
class FaultMeasures:
    """How one fault was met; NaN where there is nothing to measure.

    found            1 where an event shares a row with the fault, else 0
    found_arrival    1 where a row is in alarm at arrival, in the fault or GRACE rows after it
    delay_hindsight  rows from its start to the first row of it in an event
    delay_arrival    rows from its start to the first alarm at arrival
    start_error      first row of the first event that meets it, less its own; below 0 = too early
    end_error        end of the last event that meets it, less its own; below 0 = too short
    channel_first    1 where the worst channel of the strongest of these events is at fault; NaN
                     where no event names channels, or where all channels are at fault
    """

    found: float
    found_arrival: float
    delay_hindsight: float
    delay_arrival: float
    start_error: float
    end_error: float
    channel_first: float


@dataclass(frozen=True, slots=True)
class OutsideMeasures:
    """What happened beside all faults and the GRACE rows after each.

    false_events_a_day   events that meet none of these, a day of the rows outside; NaN without any
    promised             share of normal rows that were to be in alarm
    achieved_hindsight   share of the rows outside that are in alarm
    achieved_arrival     the same at arrival, of the rows that have a score there
    """

    false_events_a_day: float
    promised: float
    achieved_hindsight: float
    achieved_arrival: float


def measure_faults(
    verdict: Verdict, faults: Sequence[Cause], channels: int
) -> tuple[FaultMeasures, ...]:
    """Each fault for itself: an event over two faults counts for both, with the error it makes."""
    return tuple(_measure_fault(verdict, fault, channels) for fault in faults)


def _measure_fault(verdict: Verdict, fault: Cause, channels: int) -> FaultMeasures:
    met = [one for one in verdict.events if one.start < fault.end and one.end > fault.start]
    late = np.flatnonzero(alarms(verdict.arrival)[fault.start : fault.end + GRACE])
    arrival = float(late[0]) if len(late) else NAN
    if not met:
        return FaultMeasures(0.0, float(len(late) > 0), NAN, arrival, NAN, NAN, NAN)
    strongest = max(met, key=lambda one: one.score)
    first = NAN
    if strongest.channels and len(fault.channels) < channels:
        first = float(strongest.channels[0] in fault.channels)
    return FaultMeasures(
        found=1.0,
        found_arrival=float(len(late) > 0),
        delay_hindsight=float(max(0, met[0].start - fault.start)),
        delay_arrival=arrival,
        start_error=float(met[0].start - fault.start),
        end_error=float(max(one.end for one in met) - fault.end),
        channel_first=first,
    )


def measure_outside(
    verdict: Verdict, faults: Sequence[Cause], *, period_s: float
) -> OutsideMeasures:
    """What a user is told for nothing. period_s: seconds between rows."""
    outside = np.ones(len(verdict.alarm), dtype=np.bool_)
    for fault in faults:
        outside[fault.start : fault.end + GRACE] = False
    false = sum(bool(outside[one.start : one.end].all()) for one in verdict.events)
    rows = int(outside.sum())
    scored = outside & ~np.isnan(verdict.arrival)
    return OutsideMeasures(
        false_events_a_day=false / (rows * period_s / DAY_S) if rows else NAN,
        promised=verdict.promised,
        achieved_hindsight=_share(verdict.alarm, outside),
        achieved_arrival=_share(alarms(verdict.arrival), scored),
    )


def alarms(score: Floats) -> Flags:
    """Rows (T,) in alarm: above 1; a row without a score is not."""
    return np.asarray(np.nan_to_num(score, nan=0.0) > 1.0)


def _share(alarm: Flags, of: Flags) -> float:
    rows = int(of.sum())
    return int((alarm & of).sum()) / rows if rows else NAN
