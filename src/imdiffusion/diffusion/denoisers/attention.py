"""A transformer encoder layer whose attention runs in pieces that stay in the processor's cache.

    A = softmax(Q K^T / sqrt(d)),   O = D(A) V,   D: dropout of the weights

The weights of a whole batch of windows are 18 million numbers a layer (12 windows, 19 channels, 100
rows, 8 heads). Kept for the backward pass they cost three quarters of a training step on a
processor, all of it memory. Here both passes go over a few sequences at a time, and the backward
pass computes A once more (Rabe and Staats 2021; Dao et al. 2022). What is kept is Q, K, V and a
byte for each weight that dropout left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_STEPS = 2**16
PIECE = 1 << 18  # attention weights in one piece: 1 MiB of float32


class AttentionLayer(nn.Module):
    """A transformer encoder layer, norm after, GELU (Vaswani et al. 2017): (B, N, C) -> same."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feedforward)
        self.contract = nn.Linear(feedforward, width)
        self.norm_feedforward = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.join.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, N, C) -> tokens (B, N, C)."""
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        attended = self._attend(split)
        attended = self.join(attended.reshape(batch, tokens, width))
        x = self.norm_attention(x + self._drop(attended))
        hidden = self._drop(functional.gelu(self.expand(x)))
        out: Tensor = self.norm_feedforward(x + self._drop(self.contract(hidden)))
        return out

    def _attend(self, split: Tensor) -> Tensor:
        """Queries, keys and values (B, N, 3, heads, d) -> attended values (B, N, heads, d)."""
        if self.training:
            attended: Tensor = _PiecewiseAttention.apply(split, self.dropout)  # type: ignore[no-untyped-call]
            return attended
        query, key, value = split.permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)


class _PiecewiseAttention(torch.autograd.Function):
    """O = D(softmax(Q K^T / sqrt(d))) V over a few sequences at a time; see the module."""

    @staticmethod
    def forward(ctx: Any, split: Tensor, share: float) -> Tensor:
        """split (B, N, 3, heads, d) -> (B, N, heads, d)."""
        batch, tokens, _, heads, size = split.shape
        out = split.new_empty(batch, tokens, heads, size)
        kept = None
        if share > 0.0:
            kept = kept_entries((batch, heads, tokens, tokens), share, split.device)
        ctx.share = share
        for piece in _pieces(split):
            query, key, value = _heads_first(split[piece])
            weights = _weights(query, key)
            if kept is not None:
                weights *= kept[piece]
            out[piece] = (weights @ value).transpose(1, 2)
        out.mul_(1.0 / (1.0 - share))
        ctx.save_for_backward(split, kept, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """dS = dA D(A) - A sum_c(G O), the sum over the d entries of a head, without scales.

        G is the gradient of O, and dA = G V^T, dV = D(A)^T G, dQ = dS K, dK = dS^T Q.
        """
        split, kept, out = ctx.saved_tensors
        found = torch.empty_like(split)
        toward = (grad * out).sum(-1).transpose(1, 2)  # (B, heads, N)
        grad = grad * (1.0 / (1.0 - ctx.share))
        scale = 1.0 / math.sqrt(split.shape[-1])
        for piece in _pieces(split):
            query, key, value = _heads_first(split[piece])
            above = grad[piece].transpose(1, 2).contiguous()
            weights = _weights(query, key)
            remaining = weights if kept is None else weights * kept[piece]
            d_scores = above @ value.transpose(-1, -2)
            d_scores *= remaining
            d_scores.addcmul_(weights, toward[piece][..., None], value=-1.0)
            into = found[piece].permute(2, 0, 3, 1, 4)
            into[0] = d_scores @ key * scale
            into[1] = d_scores.transpose(-1, -2) @ query * scale
            into[2] = remaining.transpose(-1, -2) @ above
        return found, None


def _pieces(split: Tensor) -> list[slice]:
    """Slices of the sequences of (B, N, 3, heads, d), of `PIECE` attention weights or one."""
    batch, tokens, _, heads, _ = split.shape
    size = max(1, PIECE // (tokens * tokens * heads))
    return [slice(first, first + size) for first in range(0, batch, size)]


def _heads_first(split: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N, 3, heads, d) -> three of (B, heads, N, d), each in one piece of memory."""
    query, key, value = split.permute(2, 0, 3, 1, 4).contiguous()
    return query, key, value


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)): (B, heads, N, N)."""
    scores = (query * (1.0 / math.sqrt(query.shape[-1]))) @ key.transpose(-1, -2)
    return scores.softmax(-1)


# -- dropout that draws quickly: a share of 2**-16 is as fine as it needs to be


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """x with `share` of its entries zero and the others scaled to keep the mean (Srivastava 2014).

    The share is met to 2**-17.
    """
    if not training or share == 0.0:
        return x
    kept = kept_entries(x.shape, share, x.device)
    return x * kept.to(x.dtype).mul_(1.0 / (1.0 - share))


def kept_entries(shape: Sequence[int], share: float, device: torch.device) -> Tensor:
    """Which entries of such a shape dropout leaves, bool: all but `share` of them.

    Four entries come from one 64-bit draw of torch's generator: a third of the time of a training
    step on CPU went into one Bernoulli draw an entry.
    """
    entries = math.prod(shape)
    draws = torch.empty((entries + 3) // 4, dtype=torch.int64, device=device)
    parts = draws.random_(-(2**63), None).view(torch.int16)[:entries].view(shape)
    return parts >= round(share * _STEPS) - _STEPS // 2
