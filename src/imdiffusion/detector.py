"""`ImDiffusion`: the public face. Fit on normal data, then score, detect, impute and explain."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from imdiffusion import __version__, presets
from imdiffusion.arrays import Arrays, Floats, Singles
from imdiffusion.checkpoint import flat_weights, read_model, write_model
from imdiffusion.data.layout import FileOptions
from imdiffusion.devices import device_of
from imdiffusion.entity import MODES, SHARED, Entity, restore_entities
from imdiffusion.errors import ConfigError, DataError, DataWarning, NotFittedError, UsageError
from imdiffusion.fitting import fit_entities
from imdiffusion.inputs import SeriesRows, open_input, scoring_frames, single_frame, too_short
from imdiffusion.online import online_runs
from imdiffusion.progress import FitJob, OnProgress, Progress
from imdiffusion.results import Analysis, event_table, imputation_table, tables
from imdiffusion.schema import Value, checked, one_of
from imdiffusion.scored_run import ScoredRun
from imdiffusion.settings import SETTINGS, Settings

Result = TypeVar("Result")


class ImDiffusion:
    """Anomaly detector for multivariate time series by diffusion imputation.

    preset: "fast" (default), "linear" (closed form alone, no torch) or "paper" (every constant of
    the released code). seed: same seed, same machine, same scores. device: "auto", "cpu" or "cuda".
    Every field of `settings.Settings` is a further keyword and overrides the preset (None = as in
    the preset).

    Input x of every method: numpy (T, K), pandas, polars, pyarrow, `Frame`, a dict of those (one
    independent detector an entity; a dict comes back), or a path (scored in pieces). NaN is a
    missing value. Fitted attributes: `channels_`, `threshold_`, `num_parameters_`, `history_`,
    `settings_`, `report_`, `entities_`, `failed_`, `n_features_in_`.

    The constructor only stores; `fit` validates. ConfigError for an unknown keyword.
    """

    _entities: dict[str | None, Entity]
    _settings: Settings
    _reading: FileOptions
    _many: bool
    _failed: dict[str, str]
    _fitted_as: tuple[str, int, dict[str, Any]]  # preset, seed, overrides when `fit` was called

    def __init__(
        self,
        preset: str = "fast",
        *,
        seed: int = 0,
        device: str = "auto",
        **settings: Value,
    ) -> None:
        for key in settings:
            one_of("setting", key, SETTINGS)
        self.preset, self.seed, self.device = preset, seed, device
        self._overrides = {key: value for key, value in settings.items() if value is not None}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor arguments: preset, seed, device and every setting (None = the preset's)."""
        settings = {name: self._overrides.get(name) for name in SETTINGS}
        return {"preset": self.preset, "seed": self.seed, "device": self.device, **settings}

    def set_params(self, **params: Any) -> Self:
        """Change constructor arguments; they take effect at the next `fit`."""
        own = {key: params.pop(key) for key in ("preset", "seed", "device") if key in params}
        for key in params:
            one_of("setting", key, SETTINGS)
        for key, value in own.items():
            setattr(self, key, value)
        merged = {**self._overrides, **params}
        self._overrides = {key: value for key, value in merged.items() if value is not None}
        return self

    def __repr__(self) -> str:
        named = {"seed": self.seed, "device": self.device, **self._overrides}
        words = "".join(f", {key}={value!r}" for key, value in named.items())
        return f"{type(self).__name__}({self.preset!r}{words})"

    # -- fit

    def fit(
        self,
        x: Any,
        y: None = None,
        *,
        exclude: Iterable[tuple[Any, Any]] = (),
        timestamp: str = "timestamp",
        ignore_columns: Sequence[str] = (),
        sort: bool = False,
        checkpoint: str | Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """Fit on data that is normal for the most part; returns self.

        y is ignored: labels never reach a detector. exclude: spans (start, end) of times or row
        positions known to be bad, end exclusive. timestamp: name of the time column;
        ignore_columns: non-numeric columns to leave out; sort: sort rows by time first, here and
        whenever this detector reads rows; scores are then of the sorted rows.
        checkpoint: folder for the state of an interrupted fit; the same call continues it, to
        bit-identical weights on CPU. With `scope="shared"` an entity that cannot be fitted is left
        out: `failed_` names it. Raises ConfigError, DataError.
        """
        settings = presets.resolve(self.preset, self._overrides)
        presets.FACE["seed"].check(self.seed, "setting seed")
        device = device_of(self.device) if settings.networked else None
        reading = FileOptions(timestamp, ignore_columns=tuple(ignore_columns), sort=sort)
        data, many = open_input(x, reading)
        if not data:
            raise DataError("there is no entity to fit", remedy="Give at least one series.")
        series = {
            name: partial(single_frame, one, reading, entity=name)
            for name, one in ((_name(key), one) for key, one in data.items())
        }
        job = FitJob(
            settings,
            self.seed,
            device,
            tuple(exclude),
            None if checkpoint is None else Path(checkpoint),
            on_progress,
        )
        if settings.scope == "shared":
            from imdiffusion.shared_model import fit_shared

            self._entities, self._failed = fit_shared(series, job)
        else:
            fitted = fit_entities((read() for read in series.values()), job)
            self._entities, self._failed = dict(zip(series, fitted, strict=True)), {}
        self._settings = settings
        self._many, self._reading = many, reading
        self._fitted_as = (self.preset, self.seed, dict(self._overrides))
        return self

    def enroll(self, x: Any, *, exclude: Iterable[tuple[Any, Any]] = ()) -> Self:
        """Add entities to a shared model (`scope="shared"`) without training; returns self.

        x: a dict of series or a file of several entities: their first hours, a window of rows at
        least. Each gets a scaler, units and thresholds of its own; the weights are shared. An
        entity that is there already is calibrated again, on these rows; one that cannot be is left
        as it is, or out, and `failed_` names it. exclude: as in `fit`. Raises NotFittedError,
        ConfigError (no shared model), DataError (no entity can join).
        """
        from imdiffusion.shared_model import enroll, shared_denoiser_of

        entities = self._need_fit()
        shared_denoiser_of(next(iter(entities.values())))
        data, many = open_input(x, self._reading)
        if not many:
            raise DataError(
                "an entity that joins a shared model needs a name",
                remedy="Give a dict: enroll({name: series}).",
            )
        series = {
            str(key): partial(single_frame, one, self._reading, entity=str(key))
            for key, one in data.items()
        }
        joined, self._failed = enroll(entities, series, spans=tuple(exclude))
        self._entities = {**entities, **joined}
        return self

    def set_alarm_rate(self, rate: float) -> Self:
        """Promise another share of normal rows in alarm, without a new fit; returns self.

        Scores are then those of a fit with `alarm_rate=rate`. Raises NotFittedError; ConfigError
        for a rate out of range, for a budget of events (`alarms_per_day`), and for a model of the
        network alone, which keeps the thresholds of one rate.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(400, 3))
        >>> detector = ImDiffusion("linear", alarm_rate=0.05).fit(x)
        >>> strict = detector.predict(x).sum(), detector.set_alarm_rate(0.001).predict(x).sum()
        >>> bool(strict[1] <= strict[0])
        True
        """
        entities = self._need_fit()
        rate = SETTINGS["alarm_rate"].check(rate, "setting alarm_rate")
        if not self._settings.linear or self._settings.alarms_per_day:
            raise ConfigError(
                "this model keeps the thresholds of one alarm rate",
                remedy="Fit it again with alarm_rate, or with views in closed form.",
            )
        self._entities = {name: one.with_alarm_rate(rate) for name, one in entities.items()}
        self._settings = replace(self._settings, alarm_rate=rate)
        self._overrides = {**self._overrides, "alarm_rate": rate}
        preset, seed, overrides = self._fitted_as
        self._fitted_as = (preset, seed, {**overrides, "alarm_rate": rate})
        return self

    # -- score

    def decision_function(
        self,
        x: Any,
        *,
        mode: str = "offline",
        ignore_extra: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Score of every row, float64 (T,): higher is more anomalous, above 1 is anomalous.

        mode: "offline", from the rows on both sides; or "online", from the rows up to it alone, as
        a live stream has it (slower, NaN before the first whole window). NaN where a row has
        nothing observed. ignore_extra: pass over channels the model does not know. Raises
        NotFittedError, UsageError, DataError; ModelError for a model without
        thresholds of online scores.
        """
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}", remedy="Use 'offline' or 'online'.")

        def one(entity: Entity, rows: SeriesRows) -> Floats:
            runs = _runs(entity, rows, on_progress, mode)
            score = entity.score(np.concatenate([run.errors for run in runs], axis=1), mode)
            return score if rows.own.all() else score[rows.own]

        return self._each(x, ignore_extra, one)

    def predict(
        self,
        x: Any,
        *,
        mode: str = "offline",
        ignore_extra: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """1 where the score is above 1, else 0: int64 (T,). A row without any value is 0."""
        score = self.decision_function(
            x, mode=mode, ignore_extra=ignore_extra, on_progress=on_progress
        )
        if isinstance(score, dict):
            return {name: (one > 1.0).astype(np.int64) for name, one in score.items()}
        return (score > 1.0).astype(np.int64)

    def step_errors(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Unsmoothed error of every sampling step: (S, T), the last step last."""

        def one(entity: Entity, rows: SeriesRows) -> Singles:
            if not entity.settings.networked:
                raise UsageError(
                    "this model has no network, so no sampling steps",
                    remedy='Fit one with preset="fast" or "paper".',
                )
            runs = [run.step_errors for run in entity.network_runs(rows, every_step=True)]
            found = [each for each in runs if each is not None]
            if not found:
                raise too_short(rows.count, entity.settings.window)
            return np.concatenate(found, axis=1)[:, rows.own]

        return self._each(x, ignore_extra, one)

    def channel_scores(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Each channel's part of the error, (T, K), smoothed as the score is; NaN: unobserved."""

        def one(entity: Entity, rows: SeriesRows) -> Singles:
            scores = np.concatenate([run.channel_scores for run in _runs(entity, rows)])
            return np.asarray(scores[rows.own])

        return self._each(x, ignore_extra, one)

    # -- explain

    def analyze(
        self, x: Any, *, ignore_extra: bool = False, on_progress: OnProgress | None = None
    ) -> Any:
        """Score, alarm, events, expected values and bands in one pass: an `Analysis`.

        A row is in alarm where its score, which looks at the rows around it too, is above 1; an
        event has the rows of such a run that carry the evidence, where a view in closed form is
        scored. So a run of alarms may hold several events, and reach beyond their edges.
        """

        def one(entity: Entity, rows: SeriesRows) -> Analysis:
            runs = list(_runs(entity, rows, on_progress))
            return Analysis.of(entity, rows.frame, runs)

        return self._each(x, ignore_extra, one, keep=True)

    def detect(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Events as a table of the caller's kind (numpy in: pyarrow out); see `event_table`."""
        return tables(self.analyze(x, ignore_extra=ignore_extra), event_table)

    def impute(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Expected value and band of every point as a long table; see `imputation_table`."""
        return tables(self.analyze(x, ignore_extra=ignore_extra), imputation_table)

    # -- save and load

    def save(self, folder: str | Path) -> None:
        """Write the fitted detector to a model folder (JSON and safetensors), atomically.

        Raises NotFittedError, OutputError.
        """
        entities = self._need_fit()
        weights: Arrays = {}
        shared = self._settings.scope == "shared"
        for number, entity in enumerate(entities.values()):
            if self._settings.networked and (number == 0 or not shared):
                weights |= flat_weights(entity.imputer.network, SHARED if shared else str(number))
        config = {
            "version": __version__,
            "preset": self._fitted_as[0],
            "seed": self._fitted_as[1],
            "many": self._many,
            "timestamp": self._reading.timestamp,
            "ignore_columns": list(self._reading.ignore_columns),
            "sort": self._reading.sort,
            "overrides": self._fitted_as[2],
            "settings": self._settings.to_dict(),
        }
        # Of entities that share one it is soon worked out: their network's digest is one for all.
        facts = [
            entity.to_dict() | ({} if shared else {"version": entity.version})
            for entity in entities.values()
        ]
        write_model(Path(folder), config, facts, weights)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a model folder, checking every file. Raises ModelError, ConfigError."""
        config, facts, weights = read_model(Path(folder))
        own = checked(SETTINGS, config["overrides"], "setting")  # lists as tuples
        detector = cls(config["preset"], seed=config["seed"], device=device, **own)
        settings = detector._settings = Settings(**config["settings"])
        detector._many, detector._failed = config["many"], {}
        detector._fitted_as = (config["preset"], config["seed"], own)
        detector._reading = FileOptions(
            config["timestamp"], ignore_columns=tuple(config["ignore_columns"]), sort=config["sort"]
        )
        on = device_of(device) if settings.networked else None
        found = restore_entities(facts, weights, settings, seed=detector.seed, device=on)
        detector._entities = {one.name: one for one in found}
        return detector

    # -- fitted attributes

    @property
    def settings_(self) -> Settings:
        """Every setting as it was resolved at `fit`."""
        self._need_fit()
        return self._settings

    @property
    def entities_(self) -> tuple[str | None, ...]:
        """Names of the fitted entities; (None,) for a single unnamed one."""
        return tuple(self._need_fit())

    def entity(self, name: str | None = None) -> Entity:
        """The fitted entity of that name; without a name the only one there is.

        Raises NotFittedError, and DataError for a name that was not fitted.
        """
        entities = self._need_fit()
        if name is None and len(entities) == 1:
            return next(iter(entities.values()))
        if name not in entities:
            known = ", ".join(repr(known) for known in entities)
            raise DataError(
                f"the model has no entity {name!r}", remedy=f"It knows: {known}. Fit it first."
            )
        return entities[name]

    @property
    def failed_(self) -> dict[str, str]:
        """Entities that the last `fit` or `enroll` of a shared model left out, with the reason."""
        self._need_fit()
        return dict(self._failed)

    @property
    def channels_(self) -> tuple[str, ...]:
        """Channel names in the model's order (of the first entity)."""
        return next(iter(self._need_fit().values())).channels

    @property
    def n_features_in_(self) -> int:
        """Number of channels K."""
        return len(self.channels_)

    @property
    def num_parameters_(self) -> int:
        """Trainable parameters of one entity's network."""
        return next(iter(self._need_fit().values())).num_parameters

    @property
    def threshold_(self) -> Any:
        """What stands for a score of 1, raw: a list of floats, or a dict of lists.

        Of several views the value of their join; of the network alone an error for each step.
        """
        return self._per_entity(lambda entity: entity.thresholds)

    @property
    def report_(self) -> Any:
        """What is promised and how training rows kept it: a `PromiseReport`, or a dict of them.

        It follows `set_alarm_rate`, and is saved with the model.

        Examples
        --------
        >>> from imdiffusion import ImDiffusion
        >>> x = np.random.default_rng(0).normal(size=(4000, 3))
        >>> report = ImDiffusion("linear", alarm_rate=0.02).fit(x).report_
        >>> report.promised, report.rows, report.low < report.achieved < report.high
        (0.02, 4000, True)
        """
        return self._per_entity(lambda entity: entity.report())

    @property
    def history_(self) -> Any:
        """Course of the training: step, loss, holdout_rmse, best_step, converged, seconds."""
        return self._per_entity(lambda entity: entity.history.to_dict())

    # -- inside

    def _need_fit(self) -> dict[str | None, Entity]:
        entities: dict[str | None, Entity] | None = getattr(self, "_entities", None)
        if entities is None:
            raise NotFittedError(
                "this detector is not fitted", remedy="Call fit(train) first, or load a model."
            )
        return entities

    def _per_entity(self, read: Callable[[Entity], Result]) -> Result | dict[Any, Result]:
        entities = self._need_fit()
        if self._many:
            return {name: read(entity) for name, entity in entities.items()}
        return read(next(iter(entities.values())))

    def _entity(self, name: str | None) -> Entity:
        entities = self._need_fit()
        if len(entities) == 1 and (name is None or None in entities):
            return next(iter(entities.values()))
        guest = self._settings.scope == "shared" and name not in entities
        return self._guest(name) if guest else self.entity(name)

    def _guest(self, name: str | None) -> Entity:
        warnings.warn(
            f"entity {name!r} is new to this shared model: it is scored by the median scaler and "
            "thresholds until it is enrolled with rows of its own",
            DataWarning,
            stacklevel=4,
        )
        from imdiffusion.shared_model import fallback_entity

        return fallback_entity(list(self._need_fit().values()), name)

    def _each(
        self,
        x: Any,
        ignore_extra: bool,
        one: Callable[[Entity, SeriesRows], Result],
        *,
        keep: bool = False,
    ) -> Result | dict[Any, Result]:
        """Apply `one` to every entity of the input; a dict comes back for a dict."""
        self._need_fit()
        data, many = open_input(x, self._reading)
        results = {}
        for key, series in data.items():
            name = _name(key)
            entity = self._entity(name)
            frames = scoring_frames(
                series, self._reading, entity, name=name, ignore_extra=ignore_extra
            )
            results[key] = one(entity, SeriesRows(frames, entity, keep=keep))
        return results if many else next(iter(results.values()))


def _name(key: object) -> str | None:
    return None if key is None else str(key)


def _runs(
    entity: Entity,
    rows: SeriesRows,
    on_progress: OnProgress | None = None,
    mode: str = "offline",
) -> Iterator[ScoredRun]:
    """Scored runs of a series, telling progress; DataError if it is shorter than a window."""
    done = 0
    for run in online_runs(entity, rows) if mode == "online" else entity.score_runs(rows):
        done += len(run)
        if on_progress is not None:
            on_progress(Progress("score", done, rows.count))
        yield run
    if rows.count < entity.least_rows:
        raise too_short(rows.count, entity.least_rows)
