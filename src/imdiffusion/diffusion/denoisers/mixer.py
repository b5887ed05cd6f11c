"""Mixer: all channels of a patch of rows are one token, mixed densely; then tokens are mixed.

Attention over channels learns which channel depends on which from many examples; a dense layer
over all channels learns it from few, and costs one token a patch instead of one a channel and
patch (docs/log.md, 2026-11-24). After Tolstikhin et al., MLP-Mixer (2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from imdiffusion.diffusion.denoisers.attention import dropout
from imdiffusion.diffusion.denoisers.imtransformer import entity_projection, sinusoidal


class MixerBlock(nn.Module):
    """Tokens (B, N, C) -> same: a dense layer over N, then two over C, each beside a shortcut."""

    def __init__(self, tokens: int, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm_time = nn.LayerNorm(width)
        self.time = nn.Linear(tokens, tokens)
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> tokens (B, N, C)."""
        x = x + self._drop(self.time(self.norm_time(x).transpose(1, 2)).transpose(1, 2))
        hidden = self._drop(functional.gelu(self.expand(self.norm(x))))
        out: Tensor = x + self._drop(self.contract(hidden))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)


class Mixer(nn.Module):
    """A denoiser without attention: (x_t, t, visible, mask_id) -> prediction, all (B, L, K).

    length, channels: window shape (L, K); patch_length divides L. conditioning = "conditional"
    takes clean visible values, noisy targets and the mask as three planes; "unconditional" takes
    x_t alone. width, feedforward, layers, dropout and step_embedding are as in ImTransformer; what
    concerns attention or embeds time and channel has no part in it: both are told by position.
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
        mask_ids: int = 2,
        entity_embedding: int = 0,
        **_attention: object,
    ) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.conditional = conditioning == "conditional"
        tokens, points = length // patch_length, patch_length * channels
        self.input = nn.Linear((3 if self.conditional else 1) * points, width)
        self.position = nn.Parameter(torch.zeros(tokens, width))
        nn.init.normal_(self.position, std=0.02)
        self.step_embedding = step_embedding
        self.step = nn.Sequential(nn.Linear(step_embedding, width), nn.SiLU())
        self.mask = nn.Embedding(mask_ids, width)
        nn.init.zeros_(self.mask.weight)
        self.entity = entity_projection(entity_embedding, width)
        self.blocks = nn.ModuleList(
            MixerBlock(tokens, width, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, points)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        visible: Tensor,
        mask_id: Tensor,
        whose: Tensor | None = None,
    ) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        batch, length, channels = x_t.shape
        if self.conditional:
            shown = torch.where(visible, x_t, 0.0)
            planes = torch.cat([shown, x_t - shown, visible.to(x_t.dtype)], dim=-1)
        else:
            planes = x_t
        x = self.input(planes.reshape(batch, length // self.patch_length, -1))
        context = self.step(sinusoidal(t, self.step_embedding, longest=10_000.0))
        context = context + self.mask(mask_id)
        if whose is not None:
            context = context + self.entity(whose)
        x = x + self.position + context[:, None, :]
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.output(self.norm(x))
        return out.reshape(batch, length, channels)
