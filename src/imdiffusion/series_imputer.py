"""The view of the network: a series of scaled rows, imputed window by window.

    rows -> windows -> estimates of every step -> errors -> the ensemble's steps as one

The network is one module among the weights; everything else of it stands in the settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from imdiffusion import registry
from imdiffusion.arrays import Flags, Floats, Singles
from imdiffusion.data.scaling import compress, expand
from imdiffusion.data.windows import Rows, WindowBatch, WindowGrid
from imdiffusion.scoring.error import ErrorConfig
from imdiffusion.scoring.units import recipe_of
from imdiffusion.scoring.vote import Rule
from imdiffusion.settings import Settings

if TYPE_CHECKING:
    import torch
    from torch import nn

    from imdiffusion.diffusion.imputer import Imputer
    from imdiffusion.diffusion.schedule import Denoiser

NOBODY = 0  # the number in a shared model of an entity that joined it later
BATCH_TOKENS = 20_000  # windows scored at once are chosen so that this many points are in flight


@dataclass(frozen=True, slots=True)
class Estimates:
    """A run of n rows: seen (n, K) scaled, estimates (n, S, K) scaled, target bool (n, K)."""

    seen: Singles
    estimates: Singles
    target: Flags


@dataclass(frozen=True, eq=False, slots=True)
class SeriesImputer:
    """Imputes the series of one entity, K channels in scaled units.

    network: the module whose weights are fitted; with scope = "shared" other entities have it too.
    windows: the imputer of windows under it. ceiling (K,): no estimate is expanded beyond it.
    """

    settings: Settings
    recipe: ErrorConfig
    network: nn.Module
    windows: Imputer
    device: torch.device
    ceiling: Singles

    @classmethod
    def of(
        cls,
        network: nn.Module,
        settings: Settings,
        ceiling: Singles,
        *,
        number: int,
        seed: int,
        device: torch.device,
    ) -> SeriesImputer:
        """Under this network; `number` is the entity's own in one that is shared."""
        import torch

        from imdiffusion.diffusion.imputer import imputer_of
        from imdiffusion.diffusion.networks import SharedDenoiser

        denoiser: Denoiser = network
        if isinstance(network, SharedDenoiser):
            denoiser = network.of(torch.tensor([number], device=device))
        windows = imputer_of(denoiser, settings, len(ceiling), seed=seed, device=device)
        return cls(settings, recipe_of(settings), network, windows, device, ceiling)

    @property
    def chosen_steps(self) -> list[int]:
        """Positions in the reverse process that the ensemble reads, ascending; the last is last."""
        last, apart = self.settings.sampling_steps - 1, self.settings.ensemble_every
        return sorted(range(last, -1, -apart)[: self.settings.ensemble_steps])

    @property
    def batch(self) -> int:
        """Windows that are scored at once."""
        points = self.settings.window * len(self.ceiling) * len(self.windows.masks)
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
    ) -> Singles:
        """Estimates of windows at these steps, scaled: (B, L, S, K), NaN where nothing is hidden.

        chosen: positions of the masks to impute under, None = all.
        """
        import torch

        limit = self.settings.compress
        x0 = torch.from_numpy(compress(windows.values, limit)).to(self.device)
        observed = torch.from_numpy(windows.observed).to(self.device)
        keys = torch.from_numpy(windows.keys).to(self.device)
        kept: list[Singles] = []
        for position, (_, estimate) in enumerate(self.windows(x0, observed, keys, chosen)):
            if position in steps:
                kept.append(expand(estimate.cpu().numpy(), limit, self.ceiling))
        return np.stack(kept, axis=2)

    def estimated(self, windows: WindowBatch, steps: list[int]) -> Estimates:
        """The kept rows of windows and their estimates at these steps."""
        covered = self.windows.covered().cpu().numpy()
        return Estimates(
            *(windows.stitch(windows.values), windows.stitch(self.impute(windows, steps))),
            windows.stitch(windows.observed & covered),
        )

    def estimates(self, pieces: Iterable[Rows], steps: list[int]) -> Iterator[Estimates]:
        """Impute a series and yield its estimates at these steps, in consecutive runs."""
        for windows in self.grid().cut(pieces):
            yield self.estimated(windows, steps)

    def join_steps(self, values: Singles, *, axis: int = 1) -> Singles:
        """Values of the ensemble's steps, which lie along an axis, as one."""
        return np.asarray(self._ensemble.join(values, axis=axis))

    def fit_ensemble(self, errors: Singles, rate: float, rule: Rule | None = None) -> list[float]:
        """Thresholds of steps that normal errors (S, n) exceed at this rate, by the setting's rule
        or another one.
        """
        found: list[float] = self._ensemble.fit(
            errors,
            rule=rule or registry.load("thresholds", self.settings.threshold),
            alarm_rate=rate,
            xi=self.settings.xi,
            anomaly_share=self.settings.anomaly_share,
        ).thresholds
        return found

    def score(self, errors: Singles, thresholds: Sequence[float] | None) -> Floats:
        """Errors of the ensemble's steps (S, n) under such thresholds: score (n,)."""
        ensemble = self._ensemble(thresholds, self.settings.xi, self.settings.anomaly_share)
        return np.asarray(ensemble.score(errors))

    @property
    def _ensemble(self) -> Any:
        return registry.load("ensembles", self.settings.ensemble)


def shown(rows: Rows, settings: Settings) -> Rows:
    """Scaled rows as a network sees them: far values compressed."""
    return Rows(compress(rows.values, settings.compress), rows.observed, rows.keys)
