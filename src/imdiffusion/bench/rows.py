"""What stands in a row of a table: presets, baselines and peers behind one face.

A row is fitted on a frame and scores a frame. Every row gets the same held-out tail and z-scores of
the same training rows; only `paper` has the min-max scale of the released code. The rows that a
label-free threshold comes from are a setting, `calibrate_on`: baselines and peers take the held-out
ones unless a plan says "all", as the plans of the label-free tables do for every row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from imdiffusion import baselines, presets, registry
from imdiffusion.baselines.rows import scores_of_training
from imdiffusion.bench import peers
from imdiffusion.bench.seeds import SeedMean
from imdiffusion.bench.split import Scores
from imdiffusion.course import OnProgress
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler
from imdiffusion.data.windows import held_out_from
from imdiffusion.errors import ConfigError, DataError
from imdiffusion.settings import Scalar, Settings

# Of rows that are no diffusion model: what says how they are held out and given a threshold.
SHARED_SETTINGS = ("holdout", "threshold", "calibrate_on", "alarm_rate")


# How long an answer may take is no part of the question.
LIMITS = frozenset({"timeout_s"})


class Row(Protocol):
    """A detector in the benchmark."""

    def fit(self, train: Frame) -> Self:
        """Fit on normal rows."""

    def score(self, test: Frame) -> Scores:
        """Score the rows of another frame."""


# "seeds4:fast" is the mean score of four networks of that preset, fitted from different seeds.
SEEDS = {f"seeds4:{preset}": (preset, 4) for preset in presets.PRESETS}


def names() -> tuple[str, ...]:
    """Every row by name: presets, means over seeds, baselines, peers."""
    return (*presets.PRESETS, *SEEDS, *baselines.names(), *peers.names())


def drawn(row: str) -> bool:
    """Whether the seed changes what this row says."""
    return row not in baselines.names() or baselines.drawn(row)


def settings_of(row: str, given: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """All settings of a row with `given` put over them; ConfigError for an unknown row or key."""
    if row in presets.PRESETS or row in SEEDS:
        return presets.resolve(SEEDS[row][0] if row in SEEDS else row, given).to_dict()
    if row not in names():
        raise ConfigError(f"unknown row {row!r}", remedy=registry.nearest(row, names()))
    shared = presets.PAPER.to_dict()
    known = {key: shared[key] for key in SHARED_SETTINGS}
    if row in peers.names():
        known |= peers.SETTINGS
    for key in given:
        if key not in known:
            raise ConfigError(
                f"row {row!r} has no setting {key!r}", remedy=registry.nearest(key, known)
            )
    settings = {**known, **given}
    presets.resolve("fast", {key: settings[key] for key in SHARED_SETTINGS})
    return settings


def telling(settings: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The settings that are not at their default: what tells one question from another.

    A setting that is added later, with a default that changes nothing, keeps all ids; and so does
    one that says how long to wait for an answer (`LIMITS`).
    """
    default = Settings().to_dict()
    return {
        key: value
        for key, value in settings.items()
        if default.get(key) != value and key not in LIMITS
    }


class DiffusionRow:
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
            self.settings,
            excluded=np.zeros(len(train.values), bool),
            seed=self.seed,
            device=device_of(self.device),
            checkpoint=self.checkpoint,
            on_progress=self.on_progress,
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

    def like(self, fitted: DiffusionRow, train: Frame) -> Self:
        """Take over the network of a row that differs in its scoring alone, and calibrate."""
        from imdiffusion.fitting import recalibrate

        excluded = np.zeros(len(train.values), bool)
        self.entity_ = recalibrate(fitted.entity_, train, self.settings, excluded=excluded)
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


class CalibratedRow:
    """A baseline or a peer: fitted on scaled rows, its threshold from the held-out tail."""

    def __init__(self, detector: Any, settings: Mapping[str, Scalar]) -> None:
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
        steps, channels = (self._asked(one, scaled) for one in ("step_errors", "channel_scores"))
        return Scores(_over(score, self.level_), steps, channels)

    def _asked(self, name: str, scaled: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """What the detector's method of this name says; None where it has none."""
        said = getattr(self.detector, name, None)
        return None if said is None else np.asarray(said(scaled), np.float32)

    def _scaled(self, frame: Frame) -> NDArray[np.float64]:
        scaled = self.scaler_.forward(np.where(frame.observed, frame.values, np.nan))
        scaled[:, ~self.scaler_.known] = np.nan
        return scaled.astype(np.float64)


def _over(score: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Scores in units of their threshold; one at or below zero is moved, not divided."""
    return score / level if level > 0 else score - level + 1.0


def make(
    row: str,
    settings: Mapping[str, Scalar],
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Any = None,
    on_progress: OnProgress | None = None,
) -> Row:
    """The row of this name with settings as `settings_of` gave them. Raises ConfigError."""
    if row in SEEDS:
        preset, count = SEEDS[row]
        return SeedMean(
            lambda one: make(preset, settings, seed=one, device=device, on_progress=on_progress),
            count=count,
            seed=seed,
        )
    if row in presets.PRESETS:
        return DiffusionRow(
            Settings(**settings),  # type: ignore[arg-type]
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            on_progress=on_progress,
        )
    if row in peers.names():
        return CalibratedRow(peers.make(row, seed=seed, settings=settings, device=device), settings)
    return CalibratedRow(baselines.make(row, seed=seed), settings)
