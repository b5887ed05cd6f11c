"""Two networks in turn: a mixer at the noisy steps, a network of single rows at the last one.

The two are wrong in different ways. The mixer is coarse: what it has never seen it cannot fill in,
and so it marks whatever is new. `RowMLP` is sharp: it fills in what the channels' ties allow, and
so marks ties that break, however usual each value is. Scoring reads both (docs/log.md, 2026-11-24).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from imdiffusion.diffusion.denoisers.mixer import Mixer
from imdiffusion.diffusion.denoisers.row_mlp import RowMLP


class TwoStage(nn.Module):
    """A denoiser: (x_t, t, visible, mask_id) -> prediction, all (B, L, K).

    Windows at t = 0, the last step of every reverse process of two or more, are predicted by
    `RowMLP`, all others by `Mixer`. length, channels and keywords go to both.
    """

    def __init__(self, length: int, channels: int, **settings: Any) -> None:
        super().__init__()
        self.coarse = Mixer(length, channels, **settings)
        self.sharp = RowMLP(length, channels, **settings)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        visible: Tensor,
        mask_id: Tensor,
        whose: Tensor | None = None,
    ) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        last = t == 0
        parts = (x_t, t, visible, mask_id) if whose is None else (x_t, t, visible, mask_id, whose)
        out = torch.empty_like(x_t)
        for network, chosen in ((self.coarse, ~last), (self.sharp, last)):
            if chosen.all():
                whole: Tensor = network(*parts)
                return whole
            if chosen.any():
                out[chosen] = network(*(part[chosen] for part in parts))
        return out
