"""Noise schedules: how much of the signal is left at each diffusion step.

A schedule is a function `(steps, *, beta_start, beta_end) -> Schedule`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
