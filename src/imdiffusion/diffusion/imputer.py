"""The imputer: a sampler under every mask, with the targets joined to one window.

Imputation, forecasting and reconstruction are this same class under three masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imdiffusion import registry
from imdiffusion.diffusion.networks import MASK_IDS
from imdiffusion.diffusion.noise import counter_normal, mask_stream
from imdiffusion.diffusion.sampler import timesteps
from imdiffusion.diffusion.schedule import Denoiser, Schedule, shown
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.masks import draw
from imdiffusion.settings import Settings


class Imputer:
    """Imputes windows step by step.

    masks: bool (M, L, K), True = visible; `mask_id` m is that of masks[m] in a table of
    `mask_ids` identities (the network's embedding has one row each).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        masks: Tensor,
        *,
        sampler: str = "ddpm",
        steps: int = 50,
        start: float = 1.0,
        estimate: str = "x0",
        conditioning: str = "unconditional",
        prediction: str = "eps",
        mask_ids: int = 2,
    ) -> None:
        self.denoiser = denoiser
        self.schedule = schedule
        self.masks = masks
        self.sampler = registry.load("samplers", sampler)
        self.steps, self.start = steps, start
        self.estimate = estimate
        self.conditioning = conditioning
        self.prediction = prediction
        self.mask_ids = mask_ids

    def visited(self) -> list[int]:
        """The noise levels that scoring looks at, the noisiest first."""
        return timesteps(len(self.schedule), self.steps, self.start)

    def covered(self) -> Tensor:
        """Which points of a window are a target under some mask: bool (L, K)."""
        return (~self.masks).any(0)

    @torch.no_grad()
    def __call__(
        self, x0: Tensor, observed: Tensor, keys: Tensor, chosen: Sequence[int] | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield (t, estimate (B, L, K)) for every step, from noisy to clean.

        x0 (B, L, K): zero where not observed; observed: bool (B, L, K); keys: int64 (B, L), one
        for each row's entity and timestamp: all randomness depends on them. Points that no mask
        hides are NaN in the estimate. chosen: positions of the masks to impute under, None = all;
        the noise of a mask is the same whatever others are chosen.
        """
        names = list(range(len(self.masks))) if chosen is None else list(chosen)
        own = self.masks if chosen is None else self.masks[names]
        masks, (batch, length, channels) = len(names), x0.shape
        strategic = own[:, None].expand(-1, batch, -1, -1).reshape(-1, length, channels)
        x0 = x0.repeat(masks, 1, 1)
        visible = strategic & observed.repeat(masks, 1, 1)
        mask_id = torch.tensor(names, device=x0.device).repeat_interleave(batch) % self.mask_ids

        def noise(stream: int) -> Tensor:
            # One stream a mask: two estimates of a point must not share their noise.
            streams = [mask_stream(stream, m) for m in names]
            return counter_normal(keys, channels, stream=streams).flatten(0, 1)

        def denoise(x_t: Tensor, t: int) -> Tensor:
            step = torch.full((len(x_t),), t, device=x_t.device)
            seen = shown(x0, x_t, visible, self.conditioning)
            predicted = self.denoiser(seen, step, visible, mask_id)
            if self.prediction == "eps":
                return predicted
            level = self.schedule.alpha_bar[t]
            return (x_t - level.sqrt() * predicted) / (1 - level).sqrt()

        weight = (~own).float()
        weight = weight / weight.sum(0)  # 0/0 = NaN where no mask hides the point
        for t, estimate in self.sampler(
            denoise,
            x0,
            visible,
            self.schedule,
            noise=noise,
            steps=self.steps,
            start=self.start,
            estimate=self.estimate,
        ):
            yield (
                t,
                torch.einsum(
                    "mblk,mlk->blk", estimate.view(masks, batch, length, channels), weight
                ),
            )


def imputer_of(
    denoiser: Denoiser, settings: Settings, channels: int, *, seed: int, device: torch.device
) -> Imputer:
    """The imputer that the settings ask for; equal settings share masks and schedule."""
    kinds = registry.load("masks", settings.mask), registry.load("schedules", settings.schedule)
    visible, schedule = _plan(kinds, settings, channels, seed, device)
    return Imputer(
        denoiser,
        schedule,
        visible,
        sampler=settings.sampler,
        steps=settings.sampling_steps,
        start=settings.sampling_start,
        estimate=settings.estimate,
        conditioning=settings.conditioning,
        prediction=settings.prediction,
        mask_ids=MASK_IDS,
    )


@lru_cache(maxsize=16)
def _plan(
    kinds: tuple[Any, Any], settings: Settings, channels: int, seed: int, device: torch.device
) -> tuple[Tensor, Schedule]:
    """Masks (M, L, K) and noise levels. kinds: what the names of both stand for right now."""
    visible = draw(
        *(settings.mask, settings.window, channels, settings),
        bands=settings.bands,
        generator=np.random.default_rng(seed_from(seed, "scoring masks")),
    )
    schedule: Schedule = kinds[1](
        settings.diffusion_steps, beta_start=settings.beta_start, beta_end=settings.beta_end
    )
    return torch.from_numpy(visible).to(device), schedule.to(device)
