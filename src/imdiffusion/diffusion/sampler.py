"""Samplers: the reverse process, as plain generators.

A sampler is a function

    (denoise, x0, visible, schedule, *, noise, steps, start, estimate) -> Iterator[(t, estimate)]

that yields one estimate of the clean window a step, from the noisiest level to the cleanest: the
ensemble, plots and progress bars read the same loop. `denoise(x_t, t)` predicts eps for x_t
(B, L, K) at step t. On visible points x_t is the seen value under forward noise; elsewhere it is
the current sample. `noise(stream)` gives standard normal numbers shaped like x0; the same stream
gives the same numbers.

estimate = "x0" yields the predicted clean window, "sample" the sample after the step (what the
released code compares with the seen values).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from imdiffusion.diffusion.schedule import Schedule

Denoise = Callable[[Tensor, int], Tensor]
Noise = Callable[[int], Tensor]

START = 0  # stream of the sample that the reverse process starts from


def timesteps(total: int, steps: int, start: float = 1.0) -> list[int]:
    """`steps` of `total` diffusion steps, evenly spread, descending to 0.

    They begin at the noisiest level, or later: at the share `start` of the levels.
    """
    first = max(round(start * (total - 1)), steps - 1)
    if steps == 1:
        return [first]
    line = torch.linspace(0, first, steps, dtype=torch.float64)
    return [int(t) for t in line.round().long().flip(0)]


def ddpm(
    denoise: Denoise,
    x0: Tensor,
    visible: Tensor,
    schedule: Schedule,
    *,
    noise: Noise,
    steps: int,
    start: float = 1.0,
    estimate: str = "x0",
) -> Iterator[tuple[int, Tensor]]:
    """Ancestral sampling (Ho et al. 2020, algorithm 2); fewer steps than levels are respaced.

    The forward noise on visible points is one Markov path, drawn once and kept [code].
    """
    levels = timesteps(len(schedule), steps, start)
    path = _forward_path(x0, schedule, levels, noise)
    x = noise(START)
    for position, t in enumerate(levels):
        level = schedule.alpha_bar[t]
        before = _level_before(schedule, levels, position)
        alpha = level / before
        x = torch.where(visible, path[t], x)
        eps = denoise(x, t)
        predicted = (x - (1 - level).sqrt() * eps) / level.sqrt()
        x = (x - (1 - alpha) / (1 - level).sqrt() * eps) / alpha.sqrt()
        if position + 1 < len(levels):
            spread = ((1 - before) / (1 - level) * (1 - alpha)).sqrt()
            x = x + spread * noise(2 * t + 2)
        yield t, predicted if estimate == "x0" else x


def ddim(
    denoise: Denoise,
    x0: Tensor,
    visible: Tensor,
    schedule: Schedule,
    *,
    noise: Noise,
    steps: int,
    start: float = 1.0,
    estimate: str = "x0",
) -> Iterator[tuple[int, Tensor]]:
    """Deterministic sampling (Song et al. 2021, eta = 0) from one draw of noise.

    That draw is also the forward noise on the visible points at every level, so the whole result
    is a function of it.
    """
    levels = timesteps(len(schedule), steps, start)
    eps_seen = noise(START)
    x = eps_seen
    for position, t in enumerate(levels):
        level = schedule.alpha_bar[t]
        before = _level_before(schedule, levels, position)
        x = torch.where(visible, level.sqrt() * x0 + (1 - level).sqrt() * eps_seen, x)
        eps = denoise(x, t)
        predicted = (x - (1 - level).sqrt() * eps) / level.sqrt()
        x = before.sqrt() * predicted + (1 - before).sqrt() * eps
        yield t, predicted if estimate == "x0" else x


def _level_before(schedule: Schedule, levels: list[int], position: int) -> Tensor:
    """alpha_bar of the next cleaner level; 1 after the last one."""
    if position + 1 < len(levels):
        return schedule.alpha_bar[levels[position + 1]]
    return torch.ones_like(schedule.alpha_bar[0])


def _forward_path(
    x0: Tensor, schedule: Schedule, levels: list[int], noise: Noise
) -> dict[int, Tensor]:
    """x_t on one noise path: each level adds fresh noise to the level before it."""
    path: dict[int, Tensor] = {}
    x, level = x0, torch.ones_like(schedule.alpha_bar[0])
    for t in reversed(levels):
        alpha = schedule.alpha_bar[t] / level
        x = alpha.sqrt() * x + (1 - alpha).sqrt() * noise(2 * t + 1)
        level = schedule.alpha_bar[t]
        path[t] = x
    return path
