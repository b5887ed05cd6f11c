"""Rows: every row is read alone, then told of its neighbours through patches, then written alone.

A dense layer over a patch has to learn a tie between channels once for each row of the patch; a
network that reads a row at a time learns it from every row it sees. So it follows non-linear ties
from few examples, where a mixer of patches follows none of them (docs/log.md, 2026-11-24).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from imdiffusion.diffusion.denoisers.imtransformer import entity_projection, sinusoidal
from imdiffusion.diffusion.denoisers.mixer import Mixer, MixerBlock


class RowMLP(nn.Module):
    """A denoiser row by row: (x_t, t, visible, mask_id) -> prediction, all (B, L, K).

    length, channels: window shape (L, K); patch_length divides L. conditioning = "conditional"
    takes the clean visible values and the mask, and does not look at x_t elsewhere: what it
    predicts is the clean window, in one look. "unconditional" takes x_t alone. width, feedforward,
    layers, dropout and step_embedding are as in Mixer; all other keywords have no part in it.
    """

    def __init__(
        self,
        length: int,
        channels: int,
        *,
        patch_length: int = 1,
        width: int = 64,
        layers: int = 4,
        feedforward: int = 64,
        dropout: float = 0.1,
        step_embedding: int = 128,
        conditioning: str = "unconditional",
        entity_embedding: int = 0,
        **_others: object,
    ) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.conditional = conditioning == "conditional"
        tokens, planes = length // patch_length, 2 if self.conditional else 1
        self.read = nn.Sequential(
            nn.Linear(planes * channels, width), nn.GELU(), nn.Linear(width, width)
        )
        self.step_embedding = step_embedding
        self.step = nn.Sequential(nn.Linear(step_embedding, width), nn.SiLU())
        self.entity = entity_projection(entity_embedding, width)
        self.gather = nn.Linear(patch_length * width, width)
        self.position = nn.Parameter(torch.zeros(tokens, width))
        nn.init.normal_(self.position, std=0.02)
        self.blocks = nn.ModuleList(
            MixerBlock(tokens, width, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.tell = nn.Linear(width, patch_length * width)
        self.norm_row = nn.LayerNorm(width)
        self.write = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, channels))
        for layer in (self.tell, self.write[-1]):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        visible: Tensor,
        mask_id: Tensor,
        whose: Tensor | None = None,
    ) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        batch, length, _ = x_t.shape
        planes = x_t
        if self.conditional:
            seen = torch.where(visible, x_t, 0.0)
            planes = torch.cat([seen, visible.to(x_t.dtype)], dim=-1)
        row = self.read(planes)
        if whose is not None:
            row = row + self.entity(whose)[:, None, :]
        step = self.step(sinusoidal(t, self.step_embedding, longest=10_000.0))
        x = self.gather(row.reshape(batch, length // self.patch_length, -1))
        x = x + self.position + step[:, None, :]
        for block in self.blocks:
            x = block(x)
        row = row + self.tell(self.norm(x)).reshape(row.shape)
        out: Tensor = self.write(functional.gelu(self.norm_row(row)))
        return out


# -- two networks in turn: a mixer at the noisy steps, a network of single rows at the last one
#
# The two are wrong in different ways. The mixer is coarse: what it has never seen it cannot fill
# in, and so it marks whatever is new. `RowMLP` is sharp: it fills in what the channels' ties allow,
# and so marks ties that break, however usual each value is. Scoring reads both (docs/log.md,
# 2026-11-24).


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
