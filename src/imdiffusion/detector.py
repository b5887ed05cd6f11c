"""`ImDiffusion`: the public face. Fit on normal data, then score, detect, impute and explain."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from imdiffusion import presets
from imdiffusion.course import OnProgress, Progress
from imdiffusion.data.frame import Frame, concat
from imdiffusion.devices import device_of
from imdiffusion.entity import Entity
from imdiffusion.errors import ConfigError, DataError, UsageError
from imdiffusion.fitting import fit_entities
from imdiffusion.inputs import Source, open_input, own_rows, scoring_frames, single_frame, too_short
from imdiffusion.online import online_runs
from imdiffusion.results import SECOND, Analysis, event_table, imputation_table, tables
from imdiffusion.runs import Number, ScoredRun
from imdiffusion.scoring.event import find_events
from imdiffusion.scoring.finding import Finding, Findings
from imdiffusion.scoring.unalarmed import find_unalarmed
from imdiffusion.state import FittedState

Result = TypeVar("Result")


class ImDiffusion(FittedState):
    """Anomaly detector for multivariate time series by diffusion imputation.

    preset: "fast" (default), "linear" (closed form alone, no torch) or "paper" (every constant of
    the released code). seed: same seed,
    same machine, same scores. device: "auto", "cpu" or "cuda". Every field of
    `presets.Settings` is a further keyword and overrides the preset (None = as in the preset).

    Input x of every method: numpy (T, K), pandas, polars, pyarrow, `Frame`, a dict of those (one
    independent detector an entity; a dict comes back), or a path (scored in pieces). NaN is a
    missing value. Fitted attributes: `channels_`, `threshold_`, `num_parameters_`, `history_`,
    `settings_`, `report_`, `entities_`, `failed_`, `n_features_in_`.

    The constructor only stores; `fit` validates. ConfigError for an unknown keyword.
    """

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
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(
                f"seed = {self.seed!r} is not a whole number from 0", remedy="For instance seed=0."
            )
        device = device_of(self.device) if settings.networked else None
        source = Source(timestamp=timestamp, ignore_columns=tuple(ignore_columns), sort=sort)
        data, many = open_input(x, source)
        if not data:
            raise DataError("there is no entity to fit", remedy="Give at least one series.")
        names = [None if key is None else str(key) for key in data]
        series = {
            name: partial(single_frame, one, source, entity=name)
            for name, one in zip(names, data.values(), strict=True)
        }
        how: dict[str, Any] = {
            "spans": list(exclude),
            "seed": self.seed,
            "device": device,
            "checkpoint": None if checkpoint is None else Path(checkpoint),
            "on_progress": on_progress,
        }
        if settings.scope == "shared":
            from imdiffusion.shared_model import fit_shared

            self._entities, self._failed = fit_shared(series, settings, **how)
        else:
            fitted = fit_entities((read() for read in series.values()), settings, **how)
            self._entities, self._failed = dict(zip(names, fitted, strict=True)), {}
        self._settings = settings
        self._many, self._source = many, source
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
        data, many = open_input(x, self._source)
        if not many:
            raise DataError(
                "an entity that joins a shared model needs a name",
                remedy="Give a dict: enroll({name: series}).",
            )
        series = {
            str(key): partial(single_frame, one, self._source, entity=str(key))
            for key, one in data.items()
        }
        joined, self._failed = enroll(entities, series, spans=list(exclude))
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
        presets.check_setting("alarm_rate", rate)
        if not self._settings.linear or self._settings.alarms_per_day:
            raise ConfigError(
                "this model keeps the thresholds of one alarm rate",
                remedy="Fit it again with alarm_rate, or with views in closed form.",
            )
        for entity in entities.values():
            entity.promise(rate)
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
        if mode not in ("offline", "online"):
            raise UsageError(f"unknown mode {mode!r}", remedy="Use 'offline' or 'online'.")

        def one(entity: Entity, frames: Iterator[Frame]) -> NDArray[np.float64]:
            own: list[NDArray[np.bool_]] = []
            runs = self._runs(
                entity, frames, on_progress, keep=lambda f: own.append(own_rows(f)), mode=mode
            )
            errors = np.concatenate([run.errors for run in runs], axis=1)
            score, mine = entity.score(errors, mode), np.concatenate(own)
            return score if mine.all() else score[mine]

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

        def one(entity: Entity, frames: Iterator[Frame]) -> NDArray[np.float32]:
            own: list[NDArray[np.bool_]] = []
            if not entity.settings.networked:
                raise UsageError(
                    "this model has no network, so no sampling steps",
                    remedy='Fit one with preset="fast" or "paper".',
                )
            errors = entity.all_step_errors(
                _rows(entity, frames, keep=lambda f: own.append(own_rows(f)))
            )
            mine = np.concatenate(own)
            if errors.shape[1] == 0:
                raise too_short(len(mine), entity.settings.window)
            return errors[:, mine]

        return self._each(x, ignore_extra, one)

    def channel_scores(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Each channel's part of the error, (T, K), smoothed as the score is; NaN: unobserved."""

        def one(entity: Entity, frames: Iterator[Frame]) -> NDArray[np.float32]:
            own: list[NDArray[np.bool_]] = []
            runs = self._runs(entity, frames, None, keep=lambda f: own.append(own_rows(f)))
            scores = np.concatenate([run.channel_scores for run in runs])
            return np.asarray(scores[np.concatenate(own)])

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

        def one(entity: Entity, frames: Iterator[Frame]) -> Analysis:
            kept: list[Frame] = []
            runs = list(self._runs(entity, frames, on_progress, keep=kept.append))
            frame = concat(kept)
            score = entity.score(np.concatenate([run.errors for run in runs], axis=1))
            channel_scores = np.concatenate([run.channel_scores for run in runs])
            expected = np.concatenate([run.expected for run in runs])
            lower, upper = entity.band(expected)
            settings, values = entity.settings, np.where(frame.observed, frame.values, np.nan)
            events = find_events(
                score,
                channel_scores,
                values,
                expected,
                frame.channels,
                evidence=_joined(run.evidence for run in runs),
                findings=_findings(entity, frame, runs),
                echo=entity.echo,
                merge_gap=settings.merge_gap,
                min_length=settings.min_length,
            )
            unalarmed = find_unalarmed(
                values, lower, upper, score, events, frame.channels, judged=entity.judged
            )
            alarm = score > 1.0
            return Analysis(
                frame, score, alarm, channel_scores, expected, lower, upper, events, unalarmed
            )

        return self._each(x, ignore_extra, one)

    def detect(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Events as a table of the caller's kind (numpy in: pyarrow out); see `event_table`."""
        return tables(self.analyze(x, ignore_extra=ignore_extra), event_table)

    def impute(self, x: Any, *, ignore_extra: bool = False) -> Any:
        """Expected value and band of every point as a long table; see `imputation_table`."""
        return tables(self.analyze(x, ignore_extra=ignore_extra), imputation_table)

    # -- inside

    def _each(
        self,
        x: Any,
        ignore_extra: bool,
        one: Callable[[Entity, Iterator[Frame]], Result],
    ) -> Result | dict[Any, Result]:
        """Apply `one` to every entity of the input; a dict comes back for a dict."""
        self._need_fit()
        data, many = open_input(x, self._source)
        results = {}
        for key, series in data.items():
            name = None if key is None else str(key)
            entity = self._entity(name)
            frames = scoring_frames(
                series,
                self._source,
                entity.channels,
                entity=name,
                period=entity.period,
                ignore_extra=ignore_extra,
                known=entity.scaler.known,
                window=entity.settings.window,
                gaps=entity.usual_gaps,
            )
            results[key] = one(entity, frames)
        return results if many else next(iter(results.values()))

    def _runs(
        self,
        entity: Entity,
        frames: Iterator[Frame],
        on_progress: OnProgress | None,
        *,
        keep: Callable[[Frame], Any],
        mode: str = "offline",
    ) -> Iterator[ScoredRun]:
        """Scored runs of a series, telling progress; DataError if it is shorter than a window."""
        total = done = 0

        def count(frame: Frame) -> None:
            nonlocal total
            total += len(frame.values)
            keep(frame)

        rows = _rows(entity, frames, keep=count)
        for run in online_runs(entity, rows) if mode == "online" else entity.score_runs(rows):
            done += run.errors.shape[1]
            if on_progress is not None:
                on_progress(Progress("score", done, total))
            yield run
        if total < entity.least_rows:
            raise too_short(total, entity.least_rows)


def _joined(parts: Iterable[NDArray[Number] | None]) -> NDArray[Number] | None:
    """What runs say of their rows (T, K); None where one of them does not."""
    found = list(parts)
    known = [one for one in found if one is not None]
    return np.concatenate(known) if known and len(known) == len(found) else None


def _findings(entity: Entity, frame: Frame, runs: Iterable[ScoredRun]) -> Findings | None:
    """What the checks found in the rows of a frame; None where there are none."""
    every = list(runs)
    kind, since = _joined(run.kind for run in every), _joined(run.since for run in every)
    if kind is None or since is None:
        return None
    times, step = frame.timestamps, frame.period
    period = None if step is None else float(step / SECOND)

    def of(code: int, ago: int, row: int) -> Finding:
        time = None if times is None else times[row]
        return entity.checks.finding(code, ago, time=time, period=period)

    return Findings(kind, since, of)


def _rows(
    entity: Entity, frames: Iterable[Frame], *, keep: Callable[[Frame], Any]
) -> Iterator[Any]:
    """Scaled rows of frames that follow each other; `keep` sees each frame first, with rates."""
    origin, rates = 0, entity.counters.reader()
    for raw in frames:
        frame = rates.push(raw)
        keep(frame)
        yield entity.rows(frame, origin=origin)
        origin += len(frame.values)
