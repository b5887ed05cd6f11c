"""Scenarios x seeds x detectors, a record each: found, how late, where, which channel.

Rows are those of the whole grid of the test part, rows that were left out included. Detectors are
presets by their public face, and one-liners; a fit is shared by scenarios of one training part.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imdiffusion import ImDiffusion, baselines, presets
from imdiffusion.arrays import Flags, Floats
from imdiffusion.baselines.simple import Random
from imdiffusion.data.frame import Frame
from imdiffusion.data.grid import regularize
from imdiffusion.durations import DAY_S
from imdiffusion.errors import ConfigError
from imdiffusion.schema import Value, one_of
from imdiffusion.scoring.event import Event, find_events
from imdiffusion_bench import detectors, provenance
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.scenarios import SCENARIOS, TestPart, make_series, scenario
from imdiffusion_bench.measure import listening
from imdiffusion_bench.metrics import NAN
from imdiffusion_bench.record import finite
from imdiffusion_bench.split import Cause

# Rows after a fault in which an alarm is still about it: online it may need them, and a window
# that holds the end of the fault may still be off.
GRACE = 10


@dataclass(frozen=True, slots=True)
class Reported:
    """An event as a detector reports it: rows start to end (exclusive), channels worst first."""

    start: int
    end: int
    score: float
    channels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a detector said of T rows.

    alarm: rows (T,) in alarm offline; online: scores (T,) online, above 1 = alarm, NaN =
    none; events: offline, in order of time; promised: the share of normal rows that it was to
    alarm on.
    """

    alarm: Flags
    online: Floats
    events: tuple[Reported, ...]
    promised: float


@dataclass(frozen=True, slots=True)
class FaultMeasures:
    """How one fault was met; NaN where there is nothing to measure.

    found            1 where an event shares a row with the fault, else 0
    found_online    1 where a row is in alarm online, in the fault or GRACE rows after it
    delay_offline  rows from its start to the first row of it in an event
    delay_online    rows from its start to the first alarm online
    start_error      first row of the first event that meets it, less its own; below 0 = too early
    end_error        end of the last event that meets it, less its own; below 0 = too short
    channel_first    1 where the worst channel of the strongest of these events is at fault; NaN
                     where no event names channels, or where all channels are at fault
    """

    found: float
    found_online: float
    delay_offline: float
    delay_online: float
    start_error: float
    end_error: float
    channel_first: float


@dataclass(frozen=True, slots=True)
class OutsideMeasures:
    """What happened beside all faults and the GRACE rows after each.

    false_events_a_day   events that meet none of these, a day of the rows outside; NaN without any
    promised             share of normal rows that were to be in alarm
    achieved_offline   share of the rows outside that are in alarm
    achieved_online     the same online, of the rows that have a score there
    """

    false_events_a_day: float
    promised: float
    achieved_offline: float
    achieved_online: float


def measure_faults(
    verdict: Verdict, faults: Sequence[Cause], channels: int
) -> tuple[FaultMeasures, ...]:
    """Each fault for itself: an event over two faults counts for both, with the error it makes."""
    return tuple(_measure_fault(verdict, fault, channels) for fault in faults)


def _measure_fault(verdict: Verdict, fault: Cause, channels: int) -> FaultMeasures:
    met = [one for one in verdict.events if one.start < fault.end and one.end > fault.start]
    late = np.flatnonzero(alarms(verdict.online)[fault.start : fault.end + GRACE])
    online = float(late[0]) if len(late) else NAN
    if not met:
        return FaultMeasures(0.0, float(len(late) > 0), NAN, online, NAN, NAN, NAN)
    strongest = max(met, key=lambda one: one.score)
    first = NAN
    if strongest.channels and len(fault.channels) < channels:
        first = float(strongest.channels[0] in fault.channels)
    return FaultMeasures(
        found=1.0,
        found_online=float(len(late) > 0),
        delay_offline=float(max(0, met[0].start - fault.start)),
        delay_online=online,
        start_error=float(met[0].start - fault.start),
        end_error=float(max(one.end for one in met) - fault.end),
        channel_first=first,
    )


def measure_outside(
    verdict: Verdict, faults: Sequence[Cause], *, period_s: float
) -> OutsideMeasures:
    """Alarms and events outside the faults. period_s: seconds between rows."""
    outside = np.ones(len(verdict.alarm), dtype=np.bool_)
    for fault in faults:
        outside[fault.start : fault.end + GRACE] = False
    false = sum(bool(outside[one.start : one.end].all()) for one in verdict.events)
    rows = int(outside.sum())
    scored = outside & ~np.isnan(verdict.online)
    return OutsideMeasures(
        false_events_a_day=false / (rows * period_s / DAY_S) if rows else NAN,
        promised=verdict.promised,
        achieved_offline=_share(verdict.alarm, outside),
        achieved_online=_share(alarms(verdict.online), scored),
    )


def alarms(score: Floats) -> Flags:
    """Rows (T,) in alarm: above 1; a row without a score is not."""
    return np.asarray(np.nan_to_num(score, nan=0.0) > 1.0)


def _share(alarm: Flags, of: Flags) -> float:
    rows = int(of.sum())
    return int((alarm & of).sum()) / rows if rows else NAN


# What stands in a table unless others are named; `linear` where the table of presets has it.
USUAL = (
    "fast",
    "linear",
    "mahalanobis_30",
    "mahalanobis",
    "zscore_30",
    "squared_difference",
    "random",
)
# A training of `paper` to its own end takes hours, and is no part of what a behaviour asks.
CAPPED: Mapping[str, Mapping[str, Value]] = {"paper": {"max_epochs": 1, "max_steps": 60}}
CONTEXT = 60  # rows up to and with the one that a one-liner scores online


class Fitted(Protocol):
    """A detector that was fitted on the training part of a scenario."""

    def verdict(self, part: TestPart) -> Verdict:
        """What it says of a test part."""


Fit = Callable[[Frame], Fitted]


def settings_of(name: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """The settings of a detector that are not its own, with `given` put over them.

    A one-liner takes its threshold from all of its training scores. Raises ConfigError for an
    unknown detector or setting.
    """
    one_of("detector", name, (*presets.PRESETS, *baselines.names()))
    usual = CAPPED.get(name, {}) if name in presets.PRESETS else {"calibrate_on": "all"}
    settings = {**usual, **given}
    detectors.settings_of(name, settings)  # checks
    return settings


def fitter(name: str, settings: Mapping[str, Value], *, seed: int, device: str = "auto") -> Fit:
    """A function that fits the detector on a training part; `settings` as of `settings_of`."""
    if name in presets.PRESETS:
        return lambda train: _Preset(name, settings, seed, device, train)
    return lambda train: _OneLiner(name, settings, seed, train)


class _Preset:
    """A preset through what any user can call: fit, decision_function, analyze."""

    def __init__(
        self, name: str, settings: Mapping[str, Value], seed: int, device: str, train: Frame
    ) -> None:
        given: dict[str, Any] = dict(settings)
        self.detector = ImDiffusion(preset=name, seed=seed, device=device, **given).fit(train)

    def verdict(self, part: TestPart) -> Verdict:
        analysis = self.detector.analyze(part.frame)
        online = self.detector.decision_function(part.frame, mode="online")
        place = _places(analysis.frame, part)
        return Verdict(
            alarm=_on_grid(analysis.alarm.astype(np.float64), place, part) > 0,
            online=_on_grid(online, part.positions, part),
            events=_reported(analysis.events, place, part.frame.channels),
            promised=float(self.detector.settings_.alarm_rate),
        )


class _OneLiner:
    """A row of the baselines' table with the label-free threshold that the benchmark gives it."""

    def __init__(self, name: str, settings: Mapping[str, Value], seed: int, train: Frame) -> None:
        self.settings = detectors.settings_of(name, settings)
        self.row = detectors.make(name, self.settings, seed=seed)
        self.row.fit(regularize(train))

    def verdict(self, part: TestPart) -> Verdict:
        frame = regularize(part.frame)
        place = _places(frame, part)
        found = self.row.score(frame)
        channel_scores = found.channel_scores
        nothing = np.full(frame.values.shape, np.nan)
        events = find_events(
            found.score,
            np.zeros(nothing.shape) if channel_scores is None else channel_scores,
            np.where(frame.observed, frame.values, np.nan),
            nothing,
            frame.channels,
            merge_gap=presets.PAPER.merge_gap,
        )
        named = () if channel_scores is None else frame.channels
        return Verdict(
            alarm=_on_grid(found.score, place, part) > 1.0,
            online=_on_grid(self._arrival(frame, found.score), place, part),
            events=_reported(events, place, named),
            promised=float(self.settings["alarm_rate"]),
        )

    def _arrival(self, frame: Frame, offline: Floats) -> Floats:
        """Each row's score from the CONTEXT rows that end with it."""
        if isinstance(getattr(self.row, "detector", None), Random):
            return offline  # it reads no row: what it draws depends on how many there are
        score = np.full(frame.length, np.nan)
        for row in range(frame.length):
            cut = frame.slice(max(0, row + 1 - CONTEXT), row + 1)
            score[row] = self.row.score(cut).score[-1]
        return score


def _reported(
    events: Sequence[Event], place: NDArray[np.int64], channels: tuple[str, ...]
) -> tuple[Reported, ...]:
    """Events in rows of the whole grid and positions of channels; none that `channels` lacks."""
    number = {name: k for k, name in enumerate(channels)}
    return tuple(
        Reported(
            int(place[one.start]),
            int(place[one.end - 1]) + 1,
            float(one.score),
            tuple(number[name] for name in one.channels if name in number),
        )
        for one in events
    )


def _places(frame: Frame, part: TestPart) -> NDArray[np.int64]:
    """The row of the whole grid of each row of a frame that has timestamps."""
    if frame.timestamps is None:
        return np.arange(frame.length, dtype=np.int64)
    nanoseconds = (frame.timestamps - part.times[0]).astype(np.int64)
    return np.asarray(np.rint(nanoseconds / (part.period_s * 1e9)), np.int64)


def _on_grid(values: Floats, place: NDArray[np.int64], part: TestPart) -> Floats:
    """Values of rows at their places in the whole grid, NaN where there is none."""
    grid = np.full(len(part.times), math.nan)
    grid[place] = values
    return grid


Record = dict[str, Any]
SCHEMA = 3  # 2 had "absent"; 1 said "arrival" for "online" and "hindsight" for "offline"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured. settings: of each detector, by name, as of `settings_of`."""

    detectors: tuple[str, ...]
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    dials: SystemDials = field(default_factory=SystemDials)
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    device: str = "auto"

    @property
    def total(self) -> int:
        """How many records there will be."""
        return len(self.detectors) * len(self.scenarios) * len(self.seeds)

    def all_settings(self) -> dict[str, dict[str, Value]]:
        """The settings of each detector by name; ConfigError for an unknown one."""
        return {name: settings_of(name, self.settings.get(name, {})) for name in self.detectors}


def run_behaviours(question: Question) -> Iterator[Record]:
    """A record for each detector, seed and scenario, in that order.

    status "ok" has `faults` (one measure each) and `outside`; "impossible" says why the scenario
    cannot exist under the dials; "failed" has the error and the stage. A detector never sees where
    the faults are. Raises ConfigError for an unknown detector, scenario or setting before anything
    is made.
    """
    for name in question.scenarios:
        scenario(name)
    for name, settings in question.all_settings().items():
        for seed in question.seeds:
            fits = _Fits(fitter(name, settings, seed=seed, device=question.device))
            for scenario_name in question.scenarios:
                head = {"detector": name, "scenario": scenario_name, "seed": seed}
                yield {**head, **_measured(scenario_name, question.dials, seed, fits)}


def document(question: Question, records: Sequence[Record]) -> Record:
    """Everything of a run as one JSON document: NaN is None."""
    device = "cpu" if question.device == "auto" else question.device
    found = {
        "schema": SCHEMA,
        "dials": asdict(question.dials),
        "seeds": list(question.seeds),
        "detectors": list(question.detectors),
        "settings": question.all_settings(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "host": provenance.host(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": list(records),
    }
    plain: Record = finite(found)
    return plain


@dataclass(frozen=True, slots=True)
class _Fit:
    """A fitted detector, the seconds it took, and the warnings it gave."""

    fitted: Fitted
    seconds: float
    warnings: list[str]


class _Fits:
    """Fits, each kept for the scenarios whose training part has the same bits."""

    def __init__(self, fit: Callable[[Frame], Fitted]) -> None:
        self.fit = fit
        self.by_training: dict[bytes, _Fit] = {}

    def of(self, train: Frame) -> _Fit:
        """The fit on this training part."""
        key = hashlib.sha256(np.ascontiguousarray(train.values).tobytes()).digest()
        if key not in self.by_training:
            began = time.perf_counter()
            with listening() as texts:
                fitted = self.fit(train)
            self.by_training[key] = _Fit(fitted, time.perf_counter() - began, texts)
        return self.by_training[key]


def _measured(name: str, dials: SystemDials, seed: int, fits: _Fits) -> Record:
    try:
        series = make_series(name, dials, seed=seed)
    except ConfigError as error:
        return {"status": "impossible", "why": str(error)}
    stage = "fit"
    try:
        fit = fits.of(series.train)
        stage = "score"
        began = time.perf_counter()
        with listening() as texts:
            verdict = fit.fitted.verdict(series.unlabelled)
        score_s = time.perf_counter() - began
    except Exception as error:  # noqa: BLE001 - written down as what it is, a failed run
        what = {"type": type(error).__name__, "message": str(error)}
        return {"status": "failed", "stage": stage, "error": what}
    faults = measure_faults(verdict, series.faults, len(series.test.channels))
    return {
        "status": "ok",
        "faults": [
            {**_place(fault), **asdict(one)}
            for fault, one in zip(series.faults, faults, strict=True)
        ],
        "outside": asdict(measure_outside(verdict, series.faults, period_s=series.period_s)),
        "events": [{"start": one.start, "end": one.end} for one in verdict.events],
        "warnings": list(dict.fromkeys([*fit.warnings, *texts])),
        "fit_s": round(fit.seconds, 3),
        "score_s": round(score_s, 3),
    }


def _place(fault: Cause) -> Record:
    return {"start": fault.start, "end": fault.end, "channels": sorted(fault.channels)}
