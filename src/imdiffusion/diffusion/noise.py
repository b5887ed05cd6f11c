"""Randomness that depends on what it is for, and on nothing else.

Two tools. `counter_normal` hashes a key (entity and timestamp of a row), a channel and a stream
into a normal number: the noise of a point is the same whatever window, batch, order or shard it
is computed in. `private_rng` lends torch's own generator, seeded, to code that takes none
(initialisation, dropout) and hands it back untouched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The same 64 bits read as a signed number, which is what torch has."""
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)


def _apart(stream: int) -> int:
    """What sets the keys of a stream apart from those of others."""
    return _signed((stream * 0xD1B54A32D192ED03) & ((1 << 64) - 1))


def mask_stream(stream: int, mask: int) -> int:
    """The stream of one mask; no two pairs of a stream (0 to 2^26 - 1) and a mask share one."""
    above, within = divmod(mask, 64)
    return (above << 32) + 64 * stream + within


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64 (torch's own keeps the sign)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014); int64 wraps like uint64."""
    z = (z ^ _shift(z, 30)) * _MIX_1
    z = (z ^ _shift(z, 27)) * _MIX_2
    return z ^ _shift(z, 31)


def counter_normal(keys: Tensor, channels: int, *, stream: int | Sequence[int]) -> Tensor:
    """Standard normal numbers (..., K), float32, a pure function of key, channel and stream.

    keys: int64 (...), one a row. Of several streams S, numbers (S, ..., K). Largest possible
    magnitude: about 5.9.
    """
    index = torch.arange(1, channels + 1, device=keys.device) * _GOLDEN
    if isinstance(stream, int):
        row = _mix(keys + _apart(stream))
    else:
        apart = torch.tensor([_apart(one) for one in stream], dtype=torch.int64, device=keys.device)
        row = _mix(keys + apart.view(-1, *[1] * keys.dim()))
    bits = _mix(row.unsqueeze(-1) + index)
    scale = 1.0 / (1 << 24)
    radius = (_shift(bits, 40).float() + 0.5) * scale
    angle = (bits & 0xFFFFFF).float() * (2.0 * math.pi * scale)
    return (-2.0 * radius.log()).sqrt() * angle.cos()


@contextmanager
def private_rng(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside, torch's default generators are seeded; outside, they are as they were before."""
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield
