"""One fitted entity: scaler, views, calibration. It turns rows into scored runs.

    rows -> scaled rows -> windows -> estimates -> residuals -> errors -> ensemble --> score
                       \\-> views in closed form (`linear`) -------------------------/

Everything streams: a series may arrive in pieces, and what is held does not grow with its length.
An entity without a network knows no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.checks import RowChecks
from imdiffusion.course import History
from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler, compress, expand
from imdiffusion.data.windows import RowQueue, Rows, WindowBatch, WindowGrid
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.errors import DataWarning
from imdiffusion.linear import LinearRun, LinearStream, LinearViews
from imdiffusion.merging import Pairing, linear_parts, mixed_parts, row_evidence, with_checks
from imdiffusion.promise.record import FitNotes, PromiseRecord
from imdiffusion.promise.report import PromiseReport, promise_report
from imdiffusion.runs import NOBODY, Calibration, Estimates, Floats, ScoredRun
from imdiffusion.scoring.error import (
    NormalScale,
    residual_of,
    scored,
    smoothed_errors,
)
from imdiffusion.scoring.joining import Join
from imdiffusion.scoring.units import recipe_of
from imdiffusion.settings import NETWORK, Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imdiffusion.diffusion.imputer import Imputer
    from imdiffusion.diffusion.loss import Denoiser

MODES = ("offline", "online")
BATCH_TOKENS = 20_000  # windows scored at once are chosen so that this many points are in flight


class Entity:
    """A detector of one entity: `fitting.fit_entity` makes one, `Entity.restore` reads one.

    Views and calibration are unfitted and neutral until one of them has filled them in. network:
    one that is there already; with scope = 'shared' others have it too, and `number` is the
    entity's own in it (0: a newcomer). device: None where no network is among the views. version:
    what a model folder says was fitted; empty = not said.
    """

    network: nn.Module  # this and `imputer` are there where `settings.networked`
    imputer: Imputer

    def __init__(
        self,
        name: str | None,
        channels: tuple[str, ...],
        settings: Settings,
        scaler: Scaler,
        *,
        seed: int,
        device: torch.device | None = None,
        network: nn.Module | None = None,
        number: int = NOBODY,
    ) -> None:
        self.name, self.channels, self.settings = name, channels, settings
        self.scaler = scaler
        self.ceiling = np.full(len(channels), np.inf, np.float32)
        self.seed, self.device = seed, device
        self.period: np.timedelta64 | None = None
        self.history = History()
        self.counters = Counters()  # channels that are read as rates before `rows` sees them
        self.recipe = recipe_of(settings)
        self.calibration = Calibration(
            NormalScale.neutral(self.recipe, len(channels)),
            np.zeros((2, len(channels)), np.float32),
            [],
        )
        self.number, self.version = number, ""
        self.alarm_rate = settings.alarm_rate  # or what a budget of events comes to
        self.linear: LinearViews | None = None
        self.checks = RowChecks()
        self.joins: dict[str, Join] = {}  # by mode, where several views are scored
        self.kept: PromiseRecord | None = None  # how training rows keep a promise
        self.notes: FitNotes | None = None
        if settings.networked:
            self._take(network)

    def _take(self, network: nn.Module | None) -> None:
        """Impute with this network, or with a new one."""
        import torch

        from imdiffusion.diffusion.imputer import imputer_of
        from imdiffusion.diffusion.networks import new_network
        from imdiffusion.diffusion.shared_denoiser import SharedDenoiser

        count = len(self.channels)
        device = torch.device("cpu") if self.device is None else self.device
        if network is None:
            network = new_network(self.settings, count, self.seed, self.name).to(device)
        self.network = network
        denoiser: Denoiser = network
        if isinstance(network, SharedDenoiser):
            denoiser = network.of(torch.tensor([self.number], device=device))
        self.imputer = imputer_of(denoiser, self.settings, count, seed=self.seed, device=device)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the network; 0 where there is none."""
        if not self.settings.networked:
            return 0
        return sum(p.numel() for p in self.network.parameters() if p.requires_grad)

    @property
    def thresholds(self) -> list[float]:
        """What stands for a score of 1 offline: of the join of views, or of each step."""
        if self.linear is None:
            return list(self.calibration.thresholds)
        return [self.joins["offline"].threshold(self.alarm_rate)]

    def promise(self, rate: float) -> None:
        """Score under another promise from now on; of an entity with views in closed form."""
        self.settings = replace(self.settings, alarm_rate=rate)
        self.alarm_rate, self.checks = rate, self.checks.at_rate(rate)
        self.version = ""  # other scores, another version

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
    def usual_gaps(self) -> NDArray[np.float64]:
        """Rows in a row that each channel may be without a value (K,)."""
        absence = self.checks.absence
        gaps = np.full(len(self.channels), np.inf) if absence is None else absence.missing
        return np.where(self.scaler.known, gaps, np.inf)

    # -- rows

    def rows(self, frame: Frame, *, origin: int = 0) -> Rows:
        """Scaled rows of a frame whose channels are in the model's order.

        origin: position of its first row, which keys the noise where there are no timestamps.
        """
        observed = frame.observed & self.scaler.known
        if observed.sum() < frame.observed.sum():
            unknown = np.flatnonzero(frame.observed.any(axis=0) & ~self.scaler.known)
            warnings.warn(
                "channels that had no value in training are passed over: "
                + ", ".join(self.channels[k] for k in unknown),
                DataWarning,
                stacklevel=2,
            )
        scaled = self.scaler.forward(np.where(observed, frame.values, np.nan))
        values = np.where(observed, scaled, np.float32(0.0))
        times: NDArray[np.int64] | None = None
        if frame.timestamps is None:
            time = np.arange(origin, origin + len(frame.values), dtype=np.int64)
        else:
            time = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
            times = time
        # An odd factor spreads neighbouring times over all 64 bits; the entity shifts them.
        key = (time * -7046029254386353131) ^ seed_from(self.seed, "noise", self.name or "")
        return Rows(values, observed, key, times)

    def shown(self, rows: Rows) -> Rows:
        """The same rows as the network sees them: far values compressed."""
        return Rows(compress(rows.values, self.settings.compress), rows.observed, rows.keys)

    # -- estimates and errors

    @property
    def chosen_steps(self) -> list[int]:
        """Positions in the reverse process that the ensemble reads, ascending; the last is last."""
        last, apart = self.settings.sampling_steps - 1, self.settings.ensemble_every
        return sorted(range(last, -1, -apart)[: self.settings.ensemble_steps])

    @property
    def batch(self) -> int:
        """Windows that are scored at once."""
        points = self.settings.window * len(self.channels) * len(self.imputer.masks)
        return max(1, min(64, BATCH_TOKENS * self.settings.patch_length // points))

    def grid(self) -> WindowGrid:
        """How a series is cut into windows to score it."""
        settings = self.settings
        stride, lead = settings.stride or settings.window, None
        if settings.mask in registry.PARTIAL_MASKS:  # its targets lie at the end of a window
            stride = min(stride, settings.horizon)
            lead = settings.window - stride
        return WindowGrid(length=settings.window, stride=stride, batch=self.batch, lead=lead)

    def impute(
        self, windows: WindowBatch, steps: list[int], chosen: Sequence[int] | None = None
    ) -> Floats:
        """Estimates of windows at these steps, scaled: (B, L, S, K), NaN where nothing is hidden.

        chosen: positions of the masks to impute under, None = all.
        """
        import torch

        limit = self.settings.compress
        x0 = torch.from_numpy(compress(windows.values, limit)).to(self.device)
        observed = torch.from_numpy(windows.observed).to(self.device)
        keys = torch.from_numpy(windows.keys).to(self.device)
        kept: list[Floats] = []
        for position, (_, estimate) in enumerate(self.imputer(x0, observed, keys, chosen)):
            if position in steps:
                kept.append(expand(estimate.cpu().numpy(), limit, self.ceiling))
        return np.stack(kept, axis=2)

    def estimated(self, windows: WindowBatch, steps: list[int]) -> Estimates:
        """The kept rows of windows and their estimates at these steps."""
        covered = self.imputer.covered().cpu().numpy()
        return Estimates(
            *(windows.stitch(windows.values), windows.stitch(self.impute(windows, steps))),
            windows.stitch(windows.observed & covered),
        )

    def estimates(self, pieces: Iterable[Rows], steps: list[int]) -> Iterator[Estimates]:
        """Impute a series and yield its estimates at these steps, in consecutive runs."""
        for windows in self.grid().cut(pieces):
            yield self.estimated(windows, steps)

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
        chosen = self.chosen_steps
        steps = list(range(self.settings.sampling_steps)) if every_step else chosen
        picked = [steps.index(step) for step in chosen]
        expected = RowQueue()

        def residuals() -> Iterator[Floats]:
            for run in self.estimates(pieces, steps):
                expected.push(self.scaler.backward(run.estimates[:, -1]))
                yield residual_of(run.seen, run.estimates, run.target)

        smoothed = smoothed_errors(residuals(), self.recipe)
        for joined, parts in scored(smoothed, self.calibration.units, self.recipe):
            # Copies: a caller who keeps the errors alone must not keep the channels with them.
            errors = np.array(joined[:, picked].T, order="C")
            each = np.array(joined.T, order="C") if every_step else None
            yield ScoredRun(errors, self.joined(parts[:, picked]), expected.pop(len(joined)), each)

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

    def network_score(self, errors: Floats, mode: str) -> NDArray[np.float64]:
        """Errors of the ensemble's steps (S, n) as the score of the network alone (n,)."""
        settings, calibration = self.settings, self.calibration
        limits = calibration.online if mode == "online" else calibration.thresholds
        kind = registry.load("ensembles", settings.ensemble)
        score: NDArray[np.float64] = kind(limits, settings.xi, settings.anomaly_share).score(errors)
        return score

    def joined(self, parts: Floats) -> Floats:
        """Parts of the ensemble's steps (n, S, K) as those of its score (n, K)."""
        joined: Floats = registry.load("ensembles", self.settings.ensemble).join(parts, axis=1)
        return joined

    def all_step_errors(self, pieces: Iterable[Rows]) -> Floats:
        """Errors of *every* step of the reverse process: (S, T), the last step last."""
        runs = [run.step_errors for run in self.network_runs(pieces, every_step=True)]
        found = [each for each in runs if each is not None]
        empty = np.empty((self.settings.sampling_steps, 0), np.float32)
        return np.concatenate(found, axis=1) if found else empty

    def score(self, errors: Floats, mode: str = "offline") -> NDArray[np.float64]:
        """What runs of a mode carry as errors (S, T) -> score (T,), above 1 = anomalous."""
        if self.linear is not None:
            return np.asarray(errors[0], np.float64)
        return self.network_score(errors, mode)

    @property
    def judged(self) -> NDArray[np.bool_] | None:
        """Which channels (K,) some view scores, None = all; the others only condition."""
        return None if self.linear is None or self.settings.networked else self.linear.measured

    @property
    def echo(self) -> int:
        """Rows after a bad one whose forecast still reads it."""
        return 0 if self.linear is None else self.linear.law.lags

    def band(self, expected: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Lower and upper bounds (n, K) around expected values, both in the caller's units."""
        unit = self.scaler.scale / self.scaler.factor
        low, high = self.calibration.band.astype(np.float64) * unit
        return expected + low, expected + high

    # -- saved state

    def to_dict(self) -> dict[str, Any]:
        """Fitted state: arrays, and JSON facts. The weights are apart."""
        return {
            "name": self.name,
            "number": self.number,
            "channels": list(self.channels),
            "alarm_rate": self.alarm_rate,
            "centre": self.scaler.centre,
            "scale": self.scaler.scale,
            "known": self.scaler.known,
            "ceiling": self.ceiling,
            **self.calibration.to_dict(),
            **({} if self.linear is None else self.linear.to_dict() | self.checks.to_dict()),
            **{
                name: value
                for mode, join in self.joins.items()
                for name, value in join.to_dict(f"join_{mode}").items()
            },
            "period_ns": None
            if self.period is None
            else int(self.period / np.timedelta64(1, "ns")),
            "history": self.history.to_dict(),
            "counters": self.counters.to_dict(),
            **({} if self.kept is None else self.kept.to_dict()),
            **({} if self.notes is None else {"fit_notes": self.notes.to_dict()}),
        }

    @classmethod
    def restore(
        cls,
        facts: dict[str, Any],
        network: nn.Module | None,
        settings: Settings,
        *,
        seed: int,
        device: torch.device | None,
    ) -> Entity:
        """The entity that `to_dict` describes, with its network, or the one that it shares."""
        scaler = Scaler(
            np.array(facts["centre"]),
            np.array(facts["scale"]),
            np.array(facts["known"], dtype=bool),
            settings.scale_factor,
        )
        own: dict[str, Any] = {"seed": seed, "device": device, "network": network}
        number, channels = facts.get("number", NOBODY), tuple(facts["channels"])
        entity = cls(facts["name"], channels, settings, scaler, number=number, **own)
        entity.ceiling = np.array(facts["ceiling"], np.float32)
        entity.calibration = Calibration.restore(facts)
        if facts["period_ns"] is not None:
            entity.period = np.timedelta64(facts["period_ns"], "ns")
        entity.history = History(**facts["history"])
        entity.counters = Counters.from_dict(facts.get("counters"))
        entity.alarm_rate = facts.get("alarm_rate", settings.alarm_rate)
        entity.kept = PromiseRecord.from_dict(facts)
        if "fit_notes" in facts:
            entity.notes = FitNotes.from_dict(facts["fit_notes"])
        if settings.linear:
            entity.linear = LinearViews.from_dict(facts)
            entity.checks = RowChecks.from_dict(facts)
            entity.joins = {
                mode: Join.from_dict(facts, f"join_{mode}")
                for mode in MODES
                if f"join_{mode}_unit" in facts
            }
        return entity
