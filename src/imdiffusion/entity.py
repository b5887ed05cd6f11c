"""One fitted entity: scaler, views, calibration. It turns rows into scored runs.

    rows -> scaled rows -> windows -> estimates -> residuals -> errors -> ensemble --> score
                       \\-> views in closed form (`linear`) -------------------------/

Everything streams: a series may arrive in pieces, and what is held does not grow with its length.
An entity without a network knows no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from imdiffusion.arrays import Flags, Floats, Ints, Singles
from imdiffusion.checkpoint import fingerprint
from imdiffusion.checks import RowChecks
from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler
from imdiffusion.data.windows import RowQueue, Rows
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.errors import DataWarning
from imdiffusion.linear import LinearRun, LinearStream, LinearViews
from imdiffusion.progress import History
from imdiffusion.promise.record import FitNotes, PromiseRecord
from imdiffusion.promise.report import PromiseReport, promise_report
from imdiffusion.scored_run import (
    Pairing,
    ScoredRun,
    linear_parts,
    mixed_parts,
    row_evidence,
    with_checks,
)
from imdiffusion.scoring.error import NormalScale, residual_of, scored, smoothed_errors
from imdiffusion.scoring.joining import Join
from imdiffusion.series_imputer import NOBODY, SeriesImputer
from imdiffusion.settings import NETWORK, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

MODES = ("offline", "online")
SHARED = "shared"  # where a shared network stands among the weights of a model


@dataclass(frozen=True, slots=True)
class Calibration:
    """What normal rows say of errors: their units, and thresholds of the network's steps.

    band (2, K): of residuals, in scaled units. thresholds: of offline errors, none where there is
    no network; online: of online ones, None = an online score cannot be said.
    """

    units: NormalScale
    band: Singles
    thresholds: list[float]
    online: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it: arrays, and JSON facts."""
        return {
            "error_scale": self.units.scale,
            "view_unit": self.units.view,
            "view_past": self.units.recent,
            "band": self.band,
            "thresholds": self.thresholds,
            "online_thresholds": self.online,
        }

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> Calibration:
        """The calibration that `to_dict` describes."""
        scale, view, past, band = (
            np.array(facts[name], np.float32)
            for name in ("error_scale", "view_unit", "view_past", "band")
        )
        online = facts.get("online_thresholds")  # models from before it have none
        return cls(NormalScale(scale, view, past), band, facts["thresholds"], online)


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledEntity:
    """An entity before its calibration: how its rows are read, and the network that imputes them.

    number: its own in a shared model (0: it joined later). counters: channels that are read as
    rates before `rows` sees them. series: None where no network is among the views.
    """

    name: str | None
    channels: tuple[str, ...]
    settings: Settings
    scaler: Scaler
    seed: int
    number: int = NOBODY
    period: np.timedelta64 | None = None
    counters: Counters = field(default_factory=Counters)
    series: SeriesImputer | None = None

    @property
    def imputer(self) -> SeriesImputer:
        """The view of the network, of an entity whose settings are `networked`."""
        assert self.series is not None  # noqa: S101
        return self.series

    def rows(self, frame: Frame, *, origin: int = 0) -> Rows:
        """Scaled rows of a frame whose channels are in the model's order.

        origin: position of its first row, which keys the noise where there are no timestamps.
        """
        observed = frame.observed & self.scaler.known
        if observed.sum() < frame.observed.sum():
            unknown = np.flatnonzero(frame.observed.any(axis=0) & ~self.scaler.known)
            warnings.warn(
                "channels that had no value in training are ignored: "
                + ", ".join(self.channels[k] for k in unknown),
                DataWarning,
                stacklevel=2,
            )
        scaled = self.scaler.forward(np.where(observed, frame.values, np.nan))
        values = np.where(observed, scaled, np.float32(0.0))
        times: Ints | None = None
        if frame.timestamps is None:
            time = np.arange(origin, origin + len(frame.values), dtype=np.int64)
        else:
            time = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
            times = time
        # An odd factor spreads neighbouring times over all 64 bits; the entity shifts them.
        key = (time * -7046029254386353131) ^ seed_from(self.seed, "noise", self.name or "")
        return Rows(values, observed, key, times)


@dataclass(frozen=True, eq=False, kw_only=True)
class Entity(ScaledEntity):
    """A detector of one entity: `fitting.fit_entity` makes one, `Entity.restore` reads one.

    It never changes; `with_alarm_rate` makes another. linear, checks, joins (by mode): the views in
    closed form, what is looked at beside them, and how views are joined, where such views are
    scored. alarm_rate: the setting, or what a budget of events comes to. record: how training rows
    keep a promise, None = not kept. saved_version: what a model folder says was fitted; empty: it
    is worked out.
    """

    calibration: Calibration
    alarm_rate: float
    linear: LinearViews | None = None
    checks: RowChecks = field(default_factory=RowChecks)
    joins: Mapping[str, Join] = field(default_factory=dict)
    history: History = field(default_factory=History)
    record: PromiseRecord | None = None
    notes: FitNotes | None = None
    saved_version: str = ""

    @cached_property
    def version(self) -> str:
        """What was fitted, as 16 hexadecimal digits: the same fit and settings, the same version.

        A folder says it beside the sha256 of the weights, which were checked when it was read; they
        are not read a second time.
        """
        if self.saved_version:
            return self.saved_version
        facts = {name: value for name, value in self.to_dict().items() if name != "history"}
        arrays = {name: value for name, value in facts.items() if isinstance(value, np.ndarray)}
        plain = {name: value for name, value in facts.items() if name not in arrays}
        return fingerprint(
            {
                "fitted": plain,
                "settings": self.settings.to_dict(),
                "seed": self.seed,
                "weights": "" if self.series is None else _digest(self.series.network),
            },
            *(arrays[name] for name in sorted(arrays)),
        )[:16]

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the network; 0 where there is none."""
        if self.series is None:
            return 0
        return sum(p.numel() for p in self.series.network.parameters() if p.requires_grad)

    @property
    def thresholds(self) -> list[float]:
        """What stands for a score of 1 offline: of the join of views, or of each step."""
        if self.linear is None:
            return list(self.calibration.thresholds)
        return [self.joins["offline"].threshold(self.alarm_rate)]

    def with_alarm_rate(self, rate: float) -> Entity:
        """The same under another promise; of an entity with views in closed form."""
        settings, checks = replace(self.settings, alarm_rate=rate), self.checks.at_rate(rate)
        return replace(self, settings=settings, alarm_rate=rate, checks=checks, saved_version="")

    def report(self) -> PromiseReport:
        """The promise in force, and how the training rows kept it."""
        return promise_report(self.to_dict(), self.settings)

    @property
    def view_names(self) -> tuple[str, ...]:
        """The views that are joined, in the order of their columns; the network is the last."""
        law = () if self.linear is None else self.linear.names
        return (*law, NETWORK) if self.settings.networked else law

    @property
    def least_rows(self) -> int:
        """Rows that a series must have to be scored."""
        return self.settings.window if self.settings.networked else 1

    @property
    def usual_gaps(self) -> Floats:
        """Rows in a row that each channel may be without a value (K,)."""
        absence = self.checks.absence
        gaps = np.full(len(self.channels), np.inf) if absence is None else absence.missing
        return np.where(self.scaler.known, gaps, np.inf)

    # -- scores

    def score_runs(
        self, pieces: Iterable[Rows], *, every_step: bool = False
    ) -> Iterator[ScoredRun]:
        """Score a series that arrives in pieces; runs come out in order and cover every row.

        every_step: also hand out the errors of all steps, not of the ensemble's alone.
        """
        if self.linear is None:
            yield from self.network_runs(pieces, every_step=every_step)
            return
        stream, pairs = self.linear_stream(self.linear), self.pairing()

        def watched() -> Iterator[Rows]:
            for piece in pieces:
                pairs.linear.append(stream.push(piece)[1])
                yield piece
            pairs.linear.append(stream.finish())

        if not self.settings.networked:
            for _ in watched():
                yield from pairs.take()
        else:
            for run in self.network_runs(watched(), every_step=every_step):
                pairs.network.append(run)
                yield from pairs.take()
        yield from pairs.take()

    def pairing(self) -> Pairing:
        """What joins offline runs of the views as they come."""
        return Pairing(
            lambda linear, network: self.merged(linear, network, "offline"),
            networked=self.settings.networked,
        )

    def linear_stream(self, views: LinearViews, *, offline: bool = True) -> LinearStream:
        """A fresh pass of the views in closed form over a series."""
        return LinearStream(views, self.checks, rate=self.alarm_rate, offline=offline)

    def network_runs(
        self, pieces: Iterable[Rows], *, every_step: bool = False
    ) -> Iterator[ScoredRun]:
        """What `score_runs` says of the network alone."""
        imputer, chosen = self.imputer, self.imputer.chosen_steps
        steps = list(range(self.settings.sampling_steps)) if every_step else chosen
        picked = [steps.index(step) for step in chosen]
        expected = RowQueue()

        def residuals() -> Iterator[Singles]:
            for run in imputer.estimates(pieces, steps):
                expected.push(self.scaler.backward(run.estimates[:, -1]))
                yield residual_of(run.seen, run.estimates, run.target)

        recipe, units = imputer.recipe, self.calibration.units
        for joined, parts in scored(smoothed_errors(residuals(), recipe), units, recipe):
            # Copies: a caller who keeps the errors alone must not keep the channels with them.
            errors = np.array(joined[:, picked].T, order="C")
            each = np.array(joined.T, order="C") if every_step else None
            own = imputer.join_steps(parts[:, picked])
            yield ScoredRun(errors, own, expected.pop(len(joined)), each)

    def merged(self, linear: LinearRun, network: ScoredRun | None, mode: str) -> ScoredRun:
        """The views of a run of rows as one: `errors` (1, n) are the score itself.

        Each channel has a view's contribution to the score in the shares that the view gives it.
        """
        views = linear.views
        expected = network.expected if network is not None else None
        if expected is None:
            expected = self.scaler.backward(linear.expected)
        elif mode == "online":
            # Before its first whole window the network expects nothing yet.
            early = self.scaler.backward(linear.expected)
            expected = np.where(np.isnan(expected), early, expected)
        join, names = self.joins[mode], self.view_names
        if network is not None:
            own = self.network_score(network.errors, mode)
            views = np.concatenate([views, own[:, None]], axis=1)
        added = join.shares(views, linear.sparse)
        parts = linear_parts(linear, names, added)
        if network is not None:
            place = names.index(NETWORK)
            others = np.delete(added, place, axis=1).sum(axis=1)
            parts = mixed_parts((parts, others), (network.channel_scores, added[:, place]))
        joined = added.sum(axis=1)
        score = join.score_of(joined, linear.sparse, self.alarm_rate, linear.ease)
        score[~linear.known] = np.nan
        parts = with_checks(score, parts, linear)
        steps = None if network is None else network.step_errors
        scores = score[None].astype(np.float32)
        evidence = row_evidence(linear)
        return ScoredRun(scores, parts, expected, steps, linear.kind, evidence, linear.since)

    def network_score(self, errors: Singles, mode: str) -> Floats:
        """Errors of the ensemble's steps (S, n) as the score of the network alone (n,)."""
        limits = self.calibration.online if mode == "online" else self.calibration.thresholds
        return self.imputer.score(errors, limits)

    def score(self, errors: Singles, mode: str = "offline") -> Floats:
        """What runs of a mode carry as errors (S, T) -> score (T,), above 1 = anomalous."""
        if self.linear is not None:
            return np.asarray(errors[0], np.float64)
        return self.network_score(errors, mode)

    @property
    def judged(self) -> Flags | None:
        """Which channels (K,) some view scores, None = all; the others only condition."""
        return None if self.linear is None or self.settings.networked else self.linear.measured

    @property
    def echo(self) -> int:
        """Rows after a bad one whose forecast still reads it."""
        return 0 if self.linear is None else self.linear.law.lags

    def band(self, expected: Floats) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper bounds (n, K) around expected values, both in the caller's units."""
        unit = self.scaler.scale / self.scaler.factor
        low, high = self.calibration.band.astype(np.float64) * unit
        return expected + low, expected + high

    # -- saved state

    def to_dict(self) -> dict[str, Any]:
        """Fitted state: arrays, and JSON facts. The weights are apart."""
        period, series = self.period, self.series
        return {
            "name": self.name,
            "number": self.number,
            "channels": list(self.channels),
            "alarm_rate": self.alarm_rate,
            "centre": self.scaler.centre,
            "scale": self.scaler.scale,
            "known": self.scaler.known,
            "ceiling": np.full(len(self.channels), np.inf, np.float32)
            if series is None
            else series.ceiling,
            **self.calibration.to_dict(),
            **({} if self.linear is None else self.linear.to_dict() | self.checks.to_dict()),
            **{
                name: value
                for mode, join in self.joins.items()
                for name, value in join.to_dict(f"join_{mode}").items()
            },
            "period_ns": None if period is None else int(period / np.timedelta64(1, "ns")),
            "history": self.history.to_dict(),
            "counters": self.counters.to_dict(),
            **({} if self.record is None else self.record.to_dict()),
            **({} if self.notes is None else {"fit_notes": self.notes.to_dict()}),
        }

    @classmethod
    def restore(
        cls,
        facts: Mapping[str, Any],
        settings: Settings,
        *,
        seed: int,
        network: nn.Module | None = None,
        device: torch.device | None = None,
    ) -> Entity:
        """The entity that `to_dict` describes, with its network, or the one that it shares."""
        centre, scale = (np.array(facts[name], np.float64) for name in ("centre", "scale"))
        ceiling = np.array(facts["ceiling"], np.float32)
        known, number = np.array(facts["known"], dtype=bool), facts.get("number", NOBODY)
        series = None
        if network is not None and device is not None:
            own = {"number": number, "seed": seed, "device": device}
            series = SeriesImputer.of(network, settings, ceiling, **own)
        views: dict[str, Any] = {}
        if settings.linear:
            views["linear"], views["checks"] = (
                LinearViews.from_dict(facts),
                RowChecks.from_dict(facts),
            )
            views["joins"] = {
                mode: Join.from_dict(facts, f"join_{mode}")
                for mode in MODES
                if f"join_{mode}_unit" in facts
            }
        period, notes = facts["period_ns"], facts.get("fit_notes")
        return cls(
            name=facts["name"],
            channels=tuple(facts["channels"]),
            settings=settings,
            scaler=Scaler(centre, scale, known, settings.scale_factor),
            seed=seed,
            number=number,
            period=None if period is None else np.timedelta64(period, "ns"),
            counters=Counters.from_dict(facts.get("counters")),
            series=series,
            calibration=Calibration.restore(facts),
            alarm_rate=facts.get("alarm_rate", settings.alarm_rate),
            history=History(**facts["history"]),
            record=PromiseRecord.from_dict(facts),
            notes=None if notes is None else FitNotes.from_dict(notes),
            saved_version=str(facts.get("version", "")),
            **views,
        )


def restore_entities(
    facts: Sequence[Mapping[str, Any]],
    weights: Mapping[str, NDArray[Any]],
    settings: Settings,
    *,
    seed: int,
    device: torch.device | None,
) -> list[Entity]:
    """The entities that were saved, each with its own network, or all with one, or without any."""
    networks: list[nn.Module | None] = [None] * len(facts)
    if device is not None:
        import torch

        from imdiffusion.diffusion.frozen import FrozenDenoiser
        from imdiffusion.diffusion.networks import restored_shared

        split: dict[str, dict[str, torch.Tensor]] = {}
        for name, array in weights.items():
            owner, _, parameter = name.partition("/")
            split.setdefault(owner, {})[parameter] = torch.from_numpy(array)
        channels = [len(one["channels"]) for one in facts]
        if settings.scope == "shared":
            shared = restored_shared(settings, channels[0], split[SHARED], seed=seed, device=device)
            networks = [shared] * len(facts)
        else:
            networks = [
                FrozenDenoiser(settings, count, split[str(number)], device=device)
                for number, count in enumerate(channels)
            ]
    return [
        Entity.restore(one, settings, seed=seed, network=network, device=device)
        for one, network in zip(facts, networks, strict=True)
    ]


_digests: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def _digest(network: nn.Module) -> str:
    """sha256 of the weights; that of a shared network is worked out once for all its entities."""
    from imdiffusion.diffusion.networks import SharedDenoiser

    if isinstance(network, SharedDenoiser) and network in _digests:
        return _digests[network]
    weights = network.state_dict()
    found = fingerprint({}, *(weights[name].cpu().numpy() for name in sorted(weights)))
    if isinstance(network, SharedDenoiser):
        _digests[network] = found
    return found
