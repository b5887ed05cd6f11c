"""One fitted entity: scaler, network, calibration. It turns rows into scored runs.

    rows -> scaled rows -> windows -> estimates -> residuals -> errors -> ensemble -> score

Everything streams: a series may arrive in pieces, and what is held does not grow with its length.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from imdiffusion import registry
from imdiffusion.course import History
from imdiffusion.data.counters import Counters
from imdiffusion.data.frame import Frame
from imdiffusion.data.scaling import Scaler, compress, expand
from imdiffusion.data.windows import RowQueue, Rows, WindowBatch, WindowGrid
from imdiffusion.diffusion.denoisers import new_network
from imdiffusion.diffusion.fleet import NOBODY, Fleet
from imdiffusion.diffusion.imputer import imputer_of
from imdiffusion.diffusion.loss import Denoiser
from imdiffusion.diffusion.noise import seed_from
from imdiffusion.errors import DataWarning
from imdiffusion.runs import Calibration, Estimates, Floats, ScoredRun
from imdiffusion.scoring.error import (
    Units,
    residual_of,
    scored,
    smoothed_errors,
)
from imdiffusion.scoring.units import recipe_of
from imdiffusion.settings import Settings

BATCH_TOKENS = 20_000  # windows scored at once are chosen so that this many points are in flight


class Entity:
    """A detector of one entity: `fitting.fit_entity` makes one, `Entity.restore` reads one.

    Network and calibration are untrained and neutral until one of them has filled them in. network:
    one that is there already; of a fleet it is shared with others, and `number` is the entity's own
    in it (0: a newcomer). version: what a model folder says was fitted; empty = not said.
    """

    def __init__(
        self,
        name: str | None,
        channels: tuple[str, ...],
        settings: Settings,
        scaler: Scaler,
        *,
        seed: int,
        device: torch.device,
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
            Units.neutral(self.recipe, len(channels)), np.zeros((2, len(channels)), np.float32), []
        )
        self.number, self.version = number, ""
        if network is None:
            network = new_network(settings, len(channels), seed, name).to(device)
        self.network = network
        denoiser: Denoiser = network
        if isinstance(network, Fleet):
            denoiser = network.of(torch.tensor([number], device=device))
        self.imputer = imputer_of(denoiser, settings, len(channels), seed=seed, device=device)

    @property
    def num_parameters(self) -> int:
        """Trainable parameters of the network."""
        return sum(p.numel() for p in self.network.parameters() if p.requires_grad)

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
        if frame.timestamps is None:
            time = np.arange(origin, origin + len(frame.values), dtype=np.int64)
        else:
            time = frame.timestamps.astype("datetime64[ns]").astype(np.int64)
        # An odd factor spreads neighbouring times over all 64 bits; the entity shifts them.
        key = (time * -7046029254386353131) ^ seed_from(self.seed, "noise", self.name or "")
        return Rows(values, observed, key)

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

    def joined(self, parts: Floats) -> Floats:
        """Parts of the ensemble's steps (n, S, K) as those of its score (n, K)."""
        joined: Floats = registry.load("ensembles", self.settings.ensemble).join(parts, axis=1)
        return joined

    def all_step_errors(self, pieces: Iterable[Rows]) -> Floats:
        """Errors of *every* step of the reverse process: (S, T), the last step last."""
        runs = [run.step_errors for run in self.score_runs(pieces, every_step=True)]
        found = [each for each in runs if each is not None]
        empty = np.empty((self.settings.sampling_steps, 0), np.float32)
        return np.concatenate(found, axis=1) if found else empty

    def score(self, errors: Floats, thresholds: list[float] | None = None) -> NDArray[np.float64]:
        """Ensemble of errors (S, T) -> score (T,), above 1 = anomalous.

        thresholds: None = those of hindsight.
        """
        settings = self.settings
        ensemble = registry.load("ensembles", settings.ensemble)
        limits = self.calibration.thresholds if thresholds is None else thresholds
        score: NDArray[np.float64] = ensemble(limits, settings.xi, settings.anomaly_share).score(
            errors
        )
        return score

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
            "centre": self.scaler.centre,
            "scale": self.scaler.scale,
            "known": self.scaler.known,
            "ceiling": self.ceiling,
            **self.calibration.to_dict(),
            "period_ns": None
            if self.period is None
            else int(self.period / np.timedelta64(1, "ns")),
            "history": self.history.to_dict(),
            "counters": self.counters.to_dict(),
        }

    @classmethod
    def restore(
        cls,
        facts: dict[str, Any],
        network: nn.Module,
        settings: Settings,
        *,
        seed: int,
        device: torch.device,
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
        entity.counters = Counters.restore(facts.get("counters"))
        return entity
