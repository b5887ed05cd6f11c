"""Noise schedules: how much of the signal is left at each diffusion step.

A schedule is a function `(steps, *, beta_start, beta_end) -> Schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Schedule:
    """Noise levels of S steps: `beta`, `alpha = 1 - beta`, `alpha_bar = cumprod(alpha)`.

    Each is float32 (S,). Step t takes x0 to sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) eps
    (Ho et al. 2020, eq. 4).
    """

    beta: Tensor
    alpha: Tensor
    alpha_bar: Tensor

    @classmethod
    def from_beta(cls, beta: Tensor) -> Schedule:
        """The schedule with these noise variances (S,), computed in float64."""
        alpha = 1.0 - beta.double()
        return cls(beta.float(), alpha.float(), alpha.cumprod(0).float())

    def __len__(self) -> int:
        return int(self.beta.shape[0])

    def to(self, device: torch.device | str) -> Schedule:
        """The same schedule on `device`."""
        return Schedule(self.beta.to(device), self.alpha.to(device), self.alpha_bar.to(device))

    def diffuse(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t of the same shape as x0 (B, L, K) at the steps t (B,), with the noise eps."""
        level = self.alpha_bar[t].view(-1, *[1] * (x0.dim() - 1))
        return level.sqrt() * x0 + (1.0 - level).sqrt() * eps


def quadratic(steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.5) -> Schedule:
    """Square roots of beta on a straight line [code]."""
    line = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
    return Schedule.from_beta(line**2)


def linear(steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.5) -> Schedule:
    """Beta on a straight line (Ho et al. 2020)."""
    return Schedule.from_beta(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64))


def cosine(steps: int, *, beta_start: float = 1e-4, beta_end: float = 0.999) -> Schedule:
    """alpha_bar on a squared cosine (Nichol and Dhariwal 2021), beta clipped to the two ends."""
    offset = 0.008
    position = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_bar = torch.cos((position + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = 1.0 - alpha_bar[1:] / alpha_bar[:-1]
    return Schedule.from_beta(beta.clamp(beta_start, beta_end))


# -- the training loss: mean squared error of the predicted noise or window, on targets alone


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
