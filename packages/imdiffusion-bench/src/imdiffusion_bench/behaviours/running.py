"""Scenarios x seeds x detectors, one record each; a fit is shared by scenarios of one training."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ConfigError, ImDiffusionWarning
from imdiffusion.settings import Scalar
from imdiffusion_bench import provenance
from imdiffusion_bench.behaviours.config import SystemDials
from imdiffusion_bench.behaviours.measuring import (
    USUAL,
    Fitted,
    fitter,
    known,
    measure_faults,
    measure_outside,
    settings_of,
)
from imdiffusion_bench.behaviours.scenarios import SCENARIOS, make_series, scenario
from imdiffusion_bench.split import Cause

Record = dict[str, Any]
SCHEMA = 2  # 1 said "arrival" for "online" and "hindsight" for "offline"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be measured. settings: of each detector, by name, as of `settings_of`."""

    detectors: tuple[str, ...]
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    dials: SystemDials = field(default_factory=SystemDials)
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    device: str = "auto"

    @property
    def absent(self) -> tuple[str, ...]:
        """Usual detectors that this version does not have: left out, and said."""
        return tuple(name for name in self.detectors if name in USUAL and not known(name))

    @property
    def present(self) -> tuple[str, ...]:
        """The others."""
        return tuple(name for name in self.detectors if name not in self.absent)

    @property
    def total(self) -> int:
        """How many records there will be."""
        return len(self.present) * len(self.scenarios) * len(self.seeds)


def run_behaviours(question: Question) -> Iterator[Record]:
    """A record for each present detector, seed and scenario, in that order.

    status "ok" has `faults` (one measure each) and `outside`; "impossible" says why the scenario
    cannot exist under the dials; "failed" has the error and the stage. A detector never sees where
    the faults are. Raises ConfigError for an unknown detector, scenario or setting before anything
    is made.
    """
    for name in question.scenarios:
        scenario(name)
    settings = {
        name: settings_of(name, question.settings.get(name, {})) for name in question.present
    }
    for name in question.present:
        for seed in question.seeds:
            fits = _Fits(fitter(name, settings[name], seed=seed, device=question.device))
            for asked in question.scenarios:
                head = {"detector": name, "scenario": asked, "seed": seed}
                yield {**head, **_measured(asked, question.dials, seed, fits)}


def document(question: Question, records: Sequence[Record]) -> Record:
    """Everything of a run as one JSON document: NaN is None."""
    device = "cpu" if question.device == "auto" else question.device
    found = {
        "schema": SCHEMA,
        "dials": asdict(question.dials),
        "seeds": list(question.seeds),
        "detectors": list(question.detectors),
        "absent": list(question.absent),
        "settings": {
            name: settings_of(name, question.settings.get(name, {})) for name in question.present
        },
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "host": provenance.host(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": list(records),
    }
    plain: Record = _plain(found)
    return plain


@dataclass(frozen=True, slots=True)
class _Fit:
    """A fitted detector, the seconds it took, and the warnings it gave."""

    fitted: Fitted
    seconds: float
    told: tuple[str, ...]


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
            with _listening() as told:
                fitted = self.fit(train)
            self.by_training[key] = _Fit(fitted, time.perf_counter() - began, _texts(told))
        return self.by_training[key]


@contextmanager
def _listening() -> Iterator[list[warnings.WarningMessage]]:
    """The library's warnings as a list; those of others are passed over."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ImDiffusionWarning)
        yield caught


def _texts(caught: Sequence[warnings.WarningMessage]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(one.message) for one in caught))


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
        with _listening() as told:
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
        "warnings": list(dict.fromkeys([*fit.told, *_texts(told)])),
        "fit_s": round(fit.seconds, 3),
        "score_s": round(score_s, 3),
    }


def _place(fault: Cause) -> Record:
    return {"start": fault.start, "end": fault.end, "channels": sorted(fault.channels)}


def _plain(value: Any) -> Any:
    """The same with None for numbers that JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
