"""The training loss: mean squared error of the predicted noise or window, on targets alone."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from imdiffusion.diffusion.schedule import Schedule


class Denoiser(Protocol):
    """The network: (x_t (B,L,K), t (B,), visible (B,L,K), mask_id (B,)) -> eps or x0 (B,L,K)."""

    def __call__(  # noqa: D102
        self, x_t: Tensor, t: Tensor, visible: Tensor, mask_id: Tensor
    ) -> Tensor: ...


def shown(x0: Tensor, x_t: Tensor, visible: Tensor, conditioning: str) -> Tensor:
    """What the network sees (B, L, K): under "conditional", visible points are clean."""
    return torch.where(visible, x0, x_t) if conditioning == "conditional" else x_t


def target_loss(
    denoiser: Denoiser,
    schedule: Schedule,
    x0: Tensor,
    observed: Tensor,
    visible: Tensor,
    mask_id: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    conditioning: str = "unconditional",
    prediction: str = "eps",
) -> Tensor:
    """Mean over targets of (eps - predicted eps)^2 (Ho et al. 2020, eq. 14); a scalar.

    prediction = "x0": of (x0 - predicted x0)^2 (Salimans and Ho 2022, section 4).

    x0, observed, visible, eps: (B, L, K); mask_id, t: (B,). Unobserved points are neither
    visible nor targets. A batch without any target has a loss of zero.
    """
    visible = visible & observed
    target = observed & ~visible
    x_t = schedule.diffuse(x0, t, eps)
    predicted = denoiser(shown(x0, x_t, visible, conditioning), t, visible, mask_id)
    goal = eps if prediction == "eps" else x0
    squared = (predicted - goal).square() * target
    return squared.sum() / target.sum().clamp(min=1)
