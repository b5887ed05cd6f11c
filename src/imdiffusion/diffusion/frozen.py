"""Networks of weights that are there already, for scoring: quick to make, and little beside them.

To build a network costs several times what reading its weights does, and its modules take more
memory than the rows that an entity holds. So a network that was read is its weights alone; modules
of one shape are built once a thread, and lent the weights of the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from imdiffusion import registry
from imdiffusion.diffusion.networks import build
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.errors import ModelError
from imdiffusion.settings import Settings

ALIGNED = 64  # bytes; torch's own tensors begin at such places, and sums may depend on it


class Template:
    """The modules of one shape, without weights. Belongs to one thread."""

    def __init__(self, settings: Settings, channels: int, device: torch.device) -> None:
        with private_rng(0):
            self.network = build(settings, channels).eval()
        kept = self.network.state_dict()
        # Where weights are put: the table of a module, the name in it, the name among weights.
        self.places: list[tuple[dict[str, Any], str, str]] = []
        for prefix, module in self.network.named_modules(remove_duplicate=False):
            for table in (module._parameters, module._buffers):
                for name, tensor in table.items():
                    whole = f"{prefix}.{name}" if prefix else name
                    if tensor is not None and whole in kept:
                        self.places.append((table, name, whole))
                    elif tensor is not None:  # a constant
                        table[name] = tensor.to(device)
        self.buffers = {name for name, _ in self.network.named_buffers()}
        self.sizes = {name: tensor.shape for name, tensor in kept.items()}
        self._nothing = dict.fromkeys(self.sizes)
        self._give(self._nothing)

    def _give(self, weights: Mapping[str, Tensor | None]) -> None:
        for table, name, whole in self.places:
            table[name] = weights[whole]

    def __call__(self, weights: Mapping[str, Tensor | None], *parts: Tensor) -> Tensor:
        """What the network of these weights says. It holds none of them afterwards."""
        self._give(weights)
        try:
            out: Tensor = self.network(*parts)
        finally:
            self._give(self._nothing)
        return out


class Shape:
    """Networks that differ in their weights alone. Every thread has its own modules for them."""

    def __init__(self, settings: Settings, channels: int, device: torch.device) -> None:
        self._facts = (settings, channels, device)
        self._own = threading.local()

    @property
    def pattern(self) -> Template:
        """This thread's modules; they go with the last network of the shape."""
        found: Template | None = getattr(self._own, "pattern", None)
        if found is None:
            found = self._own.pattern = Template(*self._facts)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return shape_of, self._facts


_shapes: WeakValueDictionary[tuple[Any, ...], Shape] = WeakValueDictionary()
_lock = threading.Lock()


def shape_of(settings: Settings, channels: int, device: torch.device) -> Shape:
    """The shape of these settings, once for all networks of it."""
    # What a name stands for may change, be it in a test.
    key = (registry.load("denoisers", settings.denoiser), settings, channels, device)
    with _lock:
        found = _shapes.get(key)
        if found is None:
            found = _shapes[key] = Shape(settings, channels, device)
        return found


class FrozenDenoiser(nn.Module):
    """A denoiser of given weights: (x_t, t, visible, mask_id) -> prediction, all (B, L, K).

    Its `state_dict` is that of the network that the settings ask for. weights: by name; they are
    copied. Raises ModelError where they are another network's.
    """

    def __init__(
        self,
        settings: Settings,
        channels: int,
        weights: Mapping[str, Tensor],
        *,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.shape = shape_of(settings, channels, device)
        pattern = self.shape.pattern
        odd = sorted(
            name
            for name in {*pattern.sizes, *weights}
            if name not in weights or weights[name].shape != pattern.sizes.get(name)
        )
        if odd:
            raise ModelError(
                f"the weights are not those of a network {settings.denoiser!r} of {channels} "
                f"channels: {', '.join(odd[:5])}",
                remedy="Read them with the version that wrote them, or fit again.",
            )
        # Straight into the tables: the names have dots, as in a tree of modules.
        for name, tensor in _together({name: weights[name] for name in pattern.sizes}, device):
            if name in pattern.buffers:
                self._buffers[name] = tensor
            else:  # torch takes other ways through some layers where it may not be trained
                self._parameters[name] = nn.Parameter(tensor)

    def forward(self, *parts: Tensor) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        return self.shape.pattern({**self._parameters, **self._buffers}, *parts)


def _together(weights: Mapping[str, Tensor], device: torch.device) -> Iterator[tuple[str, Tensor]]:
    """Copies of tensors, in one piece of memory for all of a kind: a piece each takes more for the
    bookkeeping than small ones have bytes.
    """
    places: dict[str, int] = {}
    ends: dict[torch.dtype, int] = {}
    for name, tensor in weights.items():
        places[name] = ends.get(tensor.dtype, 0)
        room = -(-tensor.numel() * tensor.itemsize // ALIGNED) * ALIGNED
        ends[tensor.dtype] = places[name] + room // tensor.itemsize
    pieces = {kind: torch.empty(end, dtype=kind, device=device) for kind, end in ends.items()}
    for name, tensor in weights.items():
        own = pieces[tensor.dtype][places[name] :][: tensor.numel()].view(tensor.shape)
        yield name, own.copy_(tensor)
