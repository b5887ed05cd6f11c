"""ImTransformer: attention over time, then over channels, in gated residual blocks.

Tokens are kept as (B, K, N, C): N = L / patch_length tokens along time, C the width. With
patch_length = 1 this is the paper's network; longer patches join rows into one token, which
divides the cost of everything but the two outer projections.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from imdiffusion.diffusion.denoisers.attention import AttentionLayer


class ResidualBlock(nn.Module):
    """One gated block: step and mask added, attention, side information, residual and skip."""

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward: int,
        dropout: float,
        step_embedding: int,
        side: int,
        attention: str,
    ) -> None:
        super().__init__()
        self.step = nn.Linear(step_embedding, width)
        self.mask = nn.Linear(step_embedding, width)
        layer = (width, heads, feedforward, dropout)
        self.temporal = AttentionLayer(*layer) if attention != "spatial" else None
        self.spatial = AttentionLayer(*layer) if attention != "temporal" else None
        self.middle = _projection(width, 2 * width)
        self.side = _projection(side, 2 * width)
        self.out = _projection(width, 2 * width)

    def forward(self, x: Tensor, step: Tensor, mask: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """x, residual, skip: (B, K, N, C); step, mask: (B, E); side: (·, K, N, side)."""
        y = x + (self.step(step) + self.mask(mask))[:, None, None, :]
        batch, channels, tokens, width = y.shape
        if self.temporal is not None and tokens > 1:
            y = self.temporal(y.reshape(-1, tokens, width)).view(y.shape)
        if self.spatial is not None and channels > 1:
            across = y.transpose(1, 2).reshape(-1, channels, width)
            y = self.spatial(across).view(batch, tokens, channels, width).transpose(1, 2)
        gate, content = (self.middle(y) + self.side(side)).chunk(2, dim=-1)
        residual, skip = self.out(torch.sigmoid(gate) * torch.tanh(content)).chunk(2, dim=-1)
        return (x + residual) / math.sqrt(2.0), skip


class ImTransformer(nn.Module):
    """The denoiser of ImDiffusion.

    length, channels: window shape (L, K); patch_length divides L. conditioning = "conditional"
    takes two input planes (clean visible values, noisy targets) and the mask as side information.
    attention = "temporal" or "spatial" leaves the other layer out. Defaults are the released
    code's; with K = 38 it has 446,817 parameters.
    """

    def __init__(
        self,
        length: int,
        channels: int,
        *,
        patch_length: int = 1,
        width: int = 64,
        layers: int = 4,
        heads: int = 8,
        feedforward: int = 64,
        dropout: float = 0.1,
        step_embedding: int = 128,
        time_embedding: int = 128,
        channel_embedding: int = 16,
        conditioning: str = "unconditional",
        attention: str = "both",
        mask_ids: int = 2,
        entity_embedding: int = 0,
        **_closed_form: object,
    ) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.conditional = conditioning == "conditional"
        planes = 2 if self.conditional else 1
        side = time_embedding + channel_embedding + (patch_length if self.conditional else 0)
        self.input = _projection(planes * patch_length, width)
        self.step = nn.Sequential(
            nn.Linear(step_embedding, step_embedding),
            nn.SiLU(),
            nn.Linear(step_embedding, step_embedding),
            nn.SiLU(),
        )
        self.step_embedding = step_embedding
        self.mask = nn.Embedding(mask_ids, step_embedding)
        self.channel = nn.Embedding(channels, channel_embedding)
        self.entity = entity_projection(entity_embedding, step_embedding)
        centre = torch.arange(length // patch_length) * patch_length + (patch_length - 1) / 2
        self.register_buffer("time", time_table(centre, time_embedding), persistent=False)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, heads, feedforward, dropout, step_embedding, side, attention)
            for _ in range(layers)
        )
        self.skip = _projection(width, width)
        self.output = nn.Linear(width, patch_length)
        nn.init.zeros_(self.output.weight)  # the bias keeps its draw from U(-1/8, 1/8) [code]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        visible: Tensor,
        mask_id: Tensor,
        whose: Tensor | None = None,
    ) -> Tensor:
        """Predicted eps (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        batch, length, channels = x_t.shape
        if self.conditional:
            shown = torch.where(visible, x_t, 0.0)
            planes = [self._patches(shown), self._patches(x_t - shown)]
            x = functional.relu(self.input(torch.cat(planes, dim=-1)))
        else:
            x = functional.relu(self.input(self._patches(x_t)))
        step = self.step(step_table(t, self.step_embedding))
        mask = self.mask(mask_id)
        if whose is not None:
            step = step + self.entity(whose)
        side = self._side(visible)
        skips = torch.zeros_like(x)
        for block in self.blocks:
            x, skip = block(x, step, mask, side)
            skips = skips + skip
        y = functional.relu(self.skip(skips / math.sqrt(len(self.blocks))))
        out: Tensor = self.output(y)
        return out.reshape(batch, channels, length).transpose(1, 2)

    def _patches(self, x: Tensor) -> Tensor:
        """(B, L, K) -> (B, K, N, patch_length)."""
        batch, _, channels = x.shape
        return x.transpose(1, 2).reshape(batch, channels, -1, self.patch_length)

    def _side(self, visible: Tensor) -> Tensor:
        """Time and channel embedding of every token, and its mask if conditional."""
        time: Tensor = self.time  # type: ignore[assignment]
        channel = self.channel.weight
        shape = (len(channel), len(time), -1)
        side = torch.cat([time.expand(shape), channel[:, None, :].expand(shape)], dim=-1)[None]
        if not self.conditional:
            return side
        mask = self._patches(visible.float())
        return torch.cat([side.expand(len(mask), -1, -1, -1), mask], dim=-1)


def step_table(t: Tensor, width: int) -> Tensor:
    """Embedding of diffusion steps t (B,): (B, width), sines, then cosines [code].

    sin(t f_i) and cos(t f_i), f_i = 10^(4 i / (h - 1)), i = 0 ... h - 1, h = width / 2. The
    frequencies grow to 10^4 radians a step, so all but the first few are as good as random numbers,
    fixed for each step: the released code has this sign, and its weights depend on it. The other
    denoisers embed steps by `sinusoidal`.
    """
    half = width // 2
    frequency = 10.0 ** (torch.arange(half, device=t.device) / max(half - 1, 1) * 4.0)
    angle = t[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    return functional.pad(wave, (0, width - 2 * half))


def time_table(position: Tensor, width: int) -> Tensor:
    """Embedding of places in the window (N,): (N, width), sines at even, cosines at odd columns.

    sin(p f_i) and cos(p f_i), f_i = 10000^(-2 i / width) (Vaswani et al. 2017, section 3.5).
    """
    frequency = 1.0 / 10_000.0 ** (torch.arange(0, width, 2, device=position.device) / width)
    angle = position.float()[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]


def sinusoidal(position: Tensor, width: int, *, longest: float) -> Tensor:
    """Sine and cosine of positions (N,) at geometric frequencies: (N, width) [code]."""
    half = width // 2
    frequency = longest ** (-torch.arange(half, device=position.device) / max(half - 1, 1))
    angle = position.float()[:, None] * frequency
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)
    return functional.pad(wave, (0, width - 2 * half))


def entity_projection(inputs: int, outputs: int) -> nn.Module:
    """What a shared network makes of an entity's embedding (B, E); nothing where E is 0."""
    return nn.Linear(inputs, outputs, bias=False) if inputs else nn.Identity()


def _projection(inputs: int, outputs: int) -> nn.Linear:
    """A 1x1 projection with Kaiming-normal weights [code]."""
    layer = nn.Linear(inputs, outputs)
    nn.init.kaiming_normal_(layer.weight)
    return layer
