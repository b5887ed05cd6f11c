"""The detectors of the benchmark behind one face: presets, baselines, and those of other packages.

A detector is fitted on a frame and scores a frame. Every one gets the same held-out tail and
z-scores of the same training rows; only `paper` has the min-max scale of the released code. The
rows that a label-free threshold comes from are a setting, `calibrate_on`: all but presets take the
held-out ones unless a plan says "all", as the plans of the label-free tables do for every detector.

Another distribution adds a detector, and no line here, by an entry point:

    [project.entry-points."imdiffusion.detectors"]
    my_detector = "my_package:MyDetector"

It has the face of a baseline (`imdiffusion.baselines.Baseline`): called without arguments, or with
`seed` where its signature has one, it gives an object with `fit(x (T, K))` and
`decision_function(x) -> (T,)`; `imdiffusion_bench.testing.check_detector` holds it to that. What
needs packages that cannot live beside these starts a process of its own environment in `fit`, and
says `memory_mib_` and `versions_` of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from imdiffusion import baselines, presets, registry
from imdiffusion.baselines.simple import scores_of_training
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler
from imdiffusion.data.windows import held_out_from
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.progress import FitJob, OnProgress
from imdiffusion.schema import Value, checked, one_of, spelled
from imdiffusion.settings import SETTINGS, Settings
from imdiffusion_bench.split import Scores

# Of rows that are no diffusion model: what says how they are held out and given a threshold.
SHARED_SETTINGS = ("holdout", "threshold", "calibrate_on", "alarm_rate")


# How long an answer may take is no part of the question: of recorded runs.
LIMITS = frozenset({"timeout_s"})


class Detector(Protocol):
    """A detector in the benchmark."""

    def fit(self, train: Frame) -> Self:
        """Fit on normal rows."""

    def score(self, test: Frame) -> Scores:
        """Score the rows of another frame."""


# "seeds4:fast" is the mean score of four networks of that preset, fitted from different seeds.
SEEDS = {f"seeds4:{preset}": (preset, 4) for preset in presets.PRESETS}


def names() -> tuple[str, ...]:
    """Every detector by name: presets, means over seeds, baselines, those of other packages."""
    return tuple(dict.fromkeys((*_own(), *registry.names("detectors"))))


def _own() -> tuple[str, ...]:
    return (*presets.PRESETS, *SEEDS, *baselines.names())


def _joined(name: str) -> Any:
    """What the entry point of this name names; None where there is none. Raises ConfigError."""
    if name not in registry.names("detectors"):
        return None
    return registry.load("detectors", name, taken=_own())


def description(name: str) -> str:
    """What a detector is, in one sentence."""
    if name in presets.PRESETS:
        return f"this library, preset `{name}`"
    if name in SEEDS:
        preset, count = SEEDS[name]
        return f"the mean score of {count} networks of `{preset}`"
    if name in registry.names("detectors"):
        return f"of the distribution {registry.origin('detectors', name)}"
    return baselines.said(name)


def drawn(detector: str) -> bool:
    """Whether the seed changes what this detector says."""
    joined = _joined(detector)
    if joined is not None:
        return "seed" in inspect.signature(joined).parameters
    return detector not in baselines.names() or baselines.drawn(detector)


def plain(detector: str, *, seed: int) -> Any:
    """A fresh detector that is no preset, with the face of a baseline. Raises ConfigError."""
    joined = _joined(detector)
    if joined is None:
        return baselines.make(detector, seed=seed)
    return joined(**({"seed": seed} if drawn(detector) else {}))


def settings_of(detector: str, given: Mapping[str, Value]) -> dict[str, Value]:
    """All settings of a detector, `given` over them; ConfigError for an unknown name or key."""
    _joined(detector)
    if detector in presets.PRESETS or detector in SEEDS:
        return presets.resolve(
            SEEDS[detector][0] if detector in SEEDS else detector, given
        ).to_dict()
    one_of("detector", detector, names())
    known = {key: SETTINGS[key] for key in SHARED_SETTINGS}
    try:
        own = checked(known, given, "setting")
    except ConfigError as error:
        raise ConfigError(f"detector {detector!r}: {error.what}", remedy=error.remedy) from error
    return {key: item.default for key, item in known.items()} | own


def changed_settings(settings: Mapping[str, Value]) -> dict[str, Value]:
    """The settings that are not at their default: what tells one question from another.

    A setting that is added later, with a default that changes nothing, keeps all ids; and so does
    one that says how long to wait for an answer (`LIMITS`).
    """
    default = as_recorded(Settings().to_dict())
    return {
        key: value
        for key, value in as_recorded(settings).items()
        if default.get(key) != value and key not in LIMITS
    }


def as_recorded(settings: Mapping[str, Value]) -> dict[str, Value]:
    """Settings as runs hold them: a list as text, "10,30", as in all runs there are."""
    return {
        key: spelled(value) if isinstance(value, list | tuple) else value
        for key, value in settings.items()
    }


class DiffusionDetector:
    """A preset of this library with its settings; `like` borrows the fit of another one."""

    def __init__(
        self,
        settings: Settings,
        *,
        seed: int,
        device: str,
        checkpoint: Any = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self.settings, self.seed, self.device = settings, seed, device
        self.checkpoint, self.on_progress = checkpoint, on_progress

    def fit(self, train: Frame) -> Self:
        """Train and calibrate."""
        from imdiffusion.devices import device_of
        from imdiffusion.fitting import fit_entity

        self.entity_ = fit_entity(
            train,
            FitJob(
                self.settings,
                self.seed,
                device_of(self.device),
                checkpoint=self.checkpoint,
                on_progress=self.on_progress,
            ),
        )
        return self

    @property
    def earlier_seconds(self) -> float:
        """Seconds of the training that went into calls before, which were cut off."""
        return self.entity_.history.earlier_seconds

    @property
    def training_seconds(self) -> float:
        """Seconds of the whole training, without the calibration after it."""
        return self.entity_.history.seconds

    def like(self, fitted: DiffusionDetector, train: Frame) -> Self:
        """Take over the network of a row that differs in its scoring alone, and calibrate."""
        from imdiffusion.fitting import recalibrate

        self.entity_ = recalibrate(fitted.entity_, train, self.settings)
        return self

    def score(self, test: Frame) -> Scores:
        """One pass: score, errors of every step, each channel's part, and what was expected."""
        entity = self.entity_
        rows = entity.rows(entity.counters.rates(test))
        runs = list(entity.score_runs([rows], every_step=entity.settings.networked))
        if not runs:
            raise DataError(
                f"the test part has {len(test.values)} rows, fewer than a window "
                f"({self.settings.window} rows)",
                remedy="Leave this entity out, or set a shorter window.",
            )
        steps = [run.step_errors for run in runs if run.step_errors is not None]
        return Scores(
            entity.score(np.concatenate([run.errors for run in runs], axis=1)),
            np.concatenate(steps, axis=1) if steps else None,
            np.concatenate([run.channel_scores for run in runs]),
            np.concatenate([run.expected.astype(np.float32) for run in runs]),
        )


class CalibratedDetector:
    """One that is no preset: fitted on scaled rows, its threshold from the held-out tail."""

    def __init__(self, detector: Any, settings: Mapping[str, Value]) -> None:
        self.detector, self.settings = detector, settings

    def fit(self, train: Frame) -> Self:
        """Fit scaler and detector on all but the held-out tail, then the threshold.

        With `holdout` 0 there is no tail: what has nothing to hold out for learns from every row.
        """
        share, rows = float(self.settings["holdout"]), len(train.values)
        split = held_out_from(rows, presets.preset("fast").window, share) if share else rows
        if split < 2:
            raise DataError(
                f"the training part has {len(train.values)} rows", remedy="Give more rows."
            )
        observed = train.observed[:split]
        self.scaler_ = Scaler.fit(train.values[:split], observed, kind="zscore")
        scaled = self._scaled(train)
        self.detector.fit(scaled[:split])
        # The tail has the rows before it as the context that it has in life.
        score = np.array(self.detector.decision_function(scaled), np.float64)
        if hasattr(self.detector, "training_scores"):
            score[:split] = scores_of_training(self.detector, scaled[:split])
        if self.settings["calibrate_on"] == "holdout" and split < len(score):
            score = score[split:]
        rule = registry.load("thresholds", str(self.settings["threshold"]))
        self.level_ = rule(score, alarm_rate=float(self.settings["alarm_rate"]))
        return self

    def score(self, test: Frame) -> Scores:
        """Score, divided by the threshold, so that above 1 is an alarm."""
        scaled = self._scaled(test)
        score = np.asarray(self.detector.decision_function(scaled), np.float64)
        steps, channels = (self._optional(one, scaled) for one in ("step_errors", "channel_scores"))
        return Scores(_over(score, self.level_), steps, channels)

    def _optional(self, name: str, scaled: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """What the method of this name gives; None where the detector has none."""
        method = getattr(self.detector, name, None)
        return None if method is None else np.asarray(method(scaled), np.float32)

    def _scaled(self, frame: Frame) -> NDArray[np.float64]:
        scaled = self.scaler_.forward(np.where(frame.observed, frame.values, np.nan))
        scaled[:, ~self.scaler_.known] = np.nan
        return scaled.astype(np.float64)


def _over(score: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Scores in units of their threshold; one at or below zero is moved, not divided."""
    return score / level if level > 0 else score - level + 1.0


def make(
    detector: str,
    settings: Mapping[str, Value],
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Any = None,
    on_progress: OnProgress | None = None,
) -> Detector:
    """The detector of this name with settings as `settings_of` gave them. Raises ConfigError."""
    if detector in SEEDS:
        preset, count = SEEDS[detector]
        return SeedMean(
            lambda one: make(preset, settings, seed=one, device=device, on_progress=on_progress),
            count=count,
            seed=seed,
        )
    if detector in presets.PRESETS:
        return DiffusionDetector(
            Settings(**settings),
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            on_progress=on_progress,
        )
    return CalibratedDetector(plain(detector, seed=seed), settings)


class SeedMean:
    """Fits `count` members and joins what they say.

    make: seed -> member. Member i of the detector with seed s has seed count x s + i, so that
    detectors of different seeds have no member in common. Raises ConfigError for count < 2.
    """

    def __init__(self, make: Callable[[int], Detector], *, count: int, seed: int) -> None:
        if count < 2:
            raise ConfigError(
                f"a mean over {count} seeds is none", remedy="Take two seeds or more."
            )
        self.make, self.count, self.seed = make, count, seed

    def fit(self, train: Frame) -> Self:
        """Fit all members on the same rows, one after another."""
        seeds = range(self.count * self.seed, self.count * (self.seed + 1))
        self.members_ = [self.make(seed) for seed in seeds]
        for member in self.members_:
            member.fit(train)
        return self

    def score(self, test: Frame) -> Scores:
        """The mean of the members' scores."""
        return mean_of([member.score(test) for member in self.members_])


def mean_of(scores: Sequence[Scores]) -> Scores:
    """Means over detectors; NaN where any has no score, None where any has no such part.

    Each score is in units of its own label-free threshold, so the mean is above 1 where they
    agree on average: alarms become rarer than each one's alarm rate says, never more frequent on
    rows where no member alarms.
    """
    steps = [one.step_errors for one in scores if one.step_errors is not None]
    parts = [one.channel_scores for one in scores if one.channel_scores is not None]
    return Scores(
        np.mean([one.score for one in scores], axis=0),
        np.mean(steps, axis=0, dtype=np.float32) if len(steps) == len(scores) else None,
        np.mean(parts, axis=0, dtype=np.float32) if len(parts) == len(scores) else None,
    )
