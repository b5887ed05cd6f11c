"""One group of runs: one entity, one seed, the variants that share a fit. Frames in, records out.

Labels come last: a detector is fitted and scores before `Truth.label` is ever called.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from imdiffusion import presets
from imdiffusion.errors import ImDiffusionWarning
from imdiffusion.fitting import SCORING_SETTINGS
from imdiffusion.progress import OnProgress
from imdiffusion.schema import Value
from imdiffusion_bench import provenance
from imdiffusion_bench.detectors import (
    CalibratedDetector,
    Detector,
    DiffusionDetector,
    as_recorded,
    changed_settings,
    drawn,
    make,
    settings_of,
)
from imdiffusion_bench.plan import Variant
from imdiffusion_bench.protocols import ensemble_curve, evaluate
from imdiffusion_bench.record import SCHEMA, Record, keep_scores, run_id
from imdiffusion_bench.split import Scores, Split, digest_of

Settings = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that share data, seed and fit: `variants` differ in their scoring alone.

    leader: whose settings the fit is made under, measured here or not; None = the first variant.
    The held-out checks of a training impute as the scoring does and choose among its weights, so
    who fits must not depend on which runs are left to do.
    """

    plan: str
    dataset: str
    entity: str
    seed: int
    variants: tuple[Variant, ...]
    leader: Variant | None = None

    @property
    def fitted_as(self) -> Variant:
        """The variant whose settings the fit is made under."""
        return self.leader or self.variants[0]

    def ids(self) -> dict[str, Variant]:
        """The id of each variant's run."""
        return {
            question_id(self.dataset, self.entity, one, self.seed): one for one in self.variants
        }


def question_id(dataset: str, entity: str, variant: Variant, seed: int) -> str:
    """What stands for one run: the same question has the same id in every plan."""
    return run_id(
        dataset=dataset,
        entity=entity,
        variant=variant.name,
        row=variant.detector,  # the word of schema 1: another would change every id
        seed=seed,
        settings=changed_settings(settings_of(variant.detector, variant.settings)),
    )


def fit_key(variant: Variant) -> str:
    """Variants of one key share a fit: presets whose training settings agree; others have none."""
    settings = settings_of(variant.detector, variant.settings)
    if variant.detector not in presets.PRESETS:
        return run_id(name=variant.name, row=variant.detector, settings=settings)
    training = {key: value for key, value in settings.items() if key not in SCORING_SETTINGS}
    return run_id(settings=training)


def measure(
    group: Group,
    load: Callable[[], Split],
    *,
    device: str = "cpu",
    threads: int = 1,
    work: Path | None = None,
    keep: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[Record]:
    """Fit once, score and evaluate every variant; one record each, failures among them.

    work: folder for the states of fits that were cut off, so that the same call continues them.
    keep: folder for the scores of each run, on the disk before its record is handed out.
    """
    runs = [_Run(group, variant, device, threads) for variant in group.variants]
    try:
        split = load()
    except Exception as error:  # noqa: BLE001 - written down as what it is, a failed run
        yield from (run.failed("load", type(error).__name__, str(error)) for run in runs)
        return
    fitted: _Fit | None = None
    for run in runs:
        checkpoint = None if work is None else work / fit_key(run.variant)
        try:
            with listening() as texts:
                provenance.forget_peak_memory(run.device)
                fitted, detector = run.fit(
                    split, fitted, checkpoint=checkpoint, on_progress=on_progress
                )
                scores = run.score(detector, split)
            if keep is not None:
                run.keep(scores, keep)
            yield run.evaluated(scores, split, texts)
        except Exception as error:  # noqa: BLE001 - written down as what it is, a failed run
            yield run.failed(run.stage, type(error).__name__, str(error))
        if checkpoint is not None and fitted is not None:
            shutil.rmtree(checkpoint, ignore_errors=True)


@contextmanager
def listening() -> Iterator[list[str]]:
    """The texts of the library's warnings, each once, at the end; those of others are ignored."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ImDiffusionWarning)
        yield texts
        texts += dict.fromkeys(str(one.message) for one in caught)


@dataclass(frozen=True, slots=True)
class _Fit:
    """The first fit of a group, which the other variants borrow."""

    detector: Detector
    seconds: float


class _Run:
    """One variant on its way through fit, score and evaluate; `stage` says how far it came."""

    def __init__(self, group: Group, variant: Variant, device: str, threads: int) -> None:
        if device == "auto":
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.group, self.variant, self.device, self.threads = group, variant, device, threads
        self.stage, self.shared = "fit", False
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float | None] = {}
        self.versions: dict[str, dict[str, str]] = {}

    @cached_property
    def head(self) -> Record:
        """Of the record and of the kept scores: one head, for it says when."""
        group, variant = self.group, self.variant
        return {
            "schema": SCHEMA,
            "id": question_id(group.dataset, group.entity, variant, group.seed),
            "plan": group.plan,
            "dataset": group.dataset,
            "entity": group.entity,
            "variant": variant.name,
            "detector": variant.detector,
            "seed": group.seed,
            "drawn": drawn(variant.detector),
            "settings": as_recorded(settings_of(variant.detector, variant.settings)),
            **_machine(self.device),
            "device": self.device,
            "threads": self.threads,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def failed(self, stage: str, kind: str, message: str) -> Record:
        error = {"type": kind, "message": message}
        return {**self.head, "status": "failed", "stage": stage, "error": error}

    def fit(
        self,
        split: Split,
        fitted: _Fit | None,
        *,
        checkpoint: Path | None,
        on_progress: OnProgress | None,
    ) -> tuple[_Fit, Detector]:
        leader = self.group.fitted_as
        if fitted is None:
            made = self._made(leader, checkpoint=checkpoint, on_progress=on_progress)
            began = time.perf_counter()
            made.fit(split.train)
            earlier = made.earlier_seconds if isinstance(made, DiffusionDetector) else 0.0
            fitted = _Fit(made, earlier + time.perf_counter() - began)
        if self.variant == leader:
            self.seconds["fit"] = fitted.seconds
            return fitted, fitted.detector
        borrowing = self._made(self.variant)
        if not isinstance(borrowing, DiffusionDetector) or not isinstance(
            fitted.detector, DiffusionDetector
        ):
            raise TypeError(f"{self.variant.detector} cannot borrow a fit")
        began = time.perf_counter()
        borrowing.like(fitted.detector, split.train)
        self.shared = True
        # What it would have taken alone: the training, and this calibration.
        self.seconds["fit"] = fitted.detector.training_seconds + time.perf_counter() - began
        return fitted, borrowing

    def _made(
        self,
        variant: Variant,
        *,
        checkpoint: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Detector:
        return make(
            variant.detector,
            settings_of(variant.detector, variant.settings),
            seed=self.group.seed,
            device=self.device,
            checkpoint=checkpoint,
            on_progress=on_progress,
        )

    def score(self, detector: Detector, split: Split) -> Scores:
        self.stage = "score"
        began = time.perf_counter()
        scores = detector.score(split.test)
        self.seconds["score"] = time.perf_counter() - began
        self.memory = provenance.peaks(self.device)
        if isinstance(detector, CalibratedDetector) and hasattr(detector.detector, "memory_mib_"):
            # It ran in a process and an environment of its own.
            self.memory["memory_mib"] = detector.detector.memory_mib_
            self.versions = {"detector_versions": detector.detector.versions_}
        return scores

    def keep(self, scores: Scores, folder: Path) -> None:
        self.stage = "keep"
        keep_scores(folder, self.head, scores)

    def evaluated(self, scores: Scores, split: Split, texts: list[str]) -> Record:
        self.stage = "evaluate"
        began = time.perf_counter()
        known: dict[str, Any] = {"period_s": split.period_s, "tsb_ad_window": split.tsb_ad_window}
        where, seed = f"{split.dataset} {split.entity}", self.group.seed
        metrics = evaluate(scores, split.truth, where=where, seed=seed, **known)
        label = split.truth.label()
        extra = {} if scores.step_errors is None else ensemble_curve(scores.step_errors, label)
        self.seconds["evaluate"] = time.perf_counter() - began
        return {
            **self.head,
            "status": "ok",
            "rows": {"train": len(split.train.values), "test": len(split.test.values)},
            "channels": split.test.values.shape[1],
            "data": digest_of(split, label),
            "anomalous_share": float(label.mean()),
            "seconds": {key: round(value, 3) for key, value in self.seconds.items()},
            **self.memory,
            **self.versions,
            "fit_shared": self.shared,
            "fit_of": self.group.fitted_as.name,
            "warnings": texts,
            "metrics": metrics,
            "extra": extra,
        }


@cache
def _machine(device: str) -> dict[str, Any]:
    return {
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "host": provenance.host(device),
    }


def failure(
    group: Group, variant: Variant, stage: str, why: str, *, device: str, threads: int
) -> Record:
    """The record of a run that ended without saying why itself, such as a killed process."""
    return _Run(group, variant, device, threads).failed(stage, "ProcessDied", why)
