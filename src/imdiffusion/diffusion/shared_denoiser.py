"""One network for many entities of the same channels, and each entity's view of it.

The network is told whose window it sees by a small learned vector. The first of them is nobody's:
now and then a window is shown without its owner, so that an entity that joins later is served from
the first row on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

NOBODY = 0


class SharedDenoiser(nn.Module):
    """A denoiser that `entities` share, and the table of their embeddings (1 + entities, E)."""

    def __init__(self, denoiser: nn.Module, entities: int, embedding: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.entities = nn.Embedding(1 + entities, embedding)
        nn.init.normal_(self.entities.weight, std=0.1)
        with torch.no_grad():
            self.entities.weight[NOBODY] = 0.0

    def of(self, number: Tensor) -> EntityView:
        """The denoiser for windows of the entities with these numbers (B,)."""
        return EntityView(self, number)


class EntityView:
    """A `Denoiser`: the shared network, for windows whose entities are known.

    number: int64 (B,) for a batch of that size, or (1,) for any number of windows of one entity.
    """

    def __init__(self, shared: SharedDenoiser, number: Tensor) -> None:
        self.shared, self.number = shared, number

    def __call__(self, x_t: Tensor, t: Tensor, visible: Tensor, mask_id: Tensor) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        whose = self.shared.entities(self.number).expand(len(x_t), -1)
        out: Tensor = self.shared.denoiser(x_t, t, visible, mask_id, whose)
        return out
