"""Networks by name: built from settings, untrained; weights depend on seed and name alone."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from imdiffusion import registry
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.diffusion.schedule import Schedule
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.errors import ConfigError
from imdiffusion.settings import Settings

MASK_IDS = 2  # rows of the mask embedding [code]


def build(settings: Settings, channels: int, *, entity_embedding: int = 0) -> nn.Module:
    """The network that the settings ask for, untrained, for windows of so many channels.

    entity_embedding: width of the vector that tells a shared network whose window it sees; of a
    denoiser that cannot be told it is a ConfigError.
    """
    network: nn.Module = registry.load("denoisers", settings.denoiser)(
        settings.window,
        channels,
        patch_length=settings.patch_length,
        width=settings.width,
        layers=settings.layers,
        heads=settings.heads,
        feedforward=settings.feedforward,
        dropout=settings.dropout,
        step_embedding=settings.step_embedding,
        time_embedding=settings.time_embedding,
        channel_embedding=settings.channel_embedding,
        conditioning=settings.conditioning,
        attention=settings.attention,
        mask_ids=MASK_IDS,
        lags=settings.lags,
        prediction=settings.prediction,
        alpha_bar=_signal(settings),
        entity_embedding=entity_embedding,
    )
    if entity_embedding and "whose" not in inspect.signature(network.forward).parameters:
        raise ConfigError(
            f"the denoiser {settings.denoiser!r} cannot be shared: it is not told whose window it "
            "sees",
            remedy="Use scope='entity', or another denoiser.",
        )
    return network


def _signal(settings: Settings) -> Tensor:
    """The share of the signal at each noise level (S,)."""
    schedule: Schedule = registry.load("schedules", settings.schedule)(
        settings.diffusion_steps, beta_start=settings.beta_start, beta_end=settings.beta_end
    )
    return schedule.alpha_bar


def new_network(
    settings: Settings, channels: int, seed: int, name: str | None, *, embedding: int = 0
) -> nn.Module:
    """An untrained network; its weights depend on the seed and the name alone."""
    with private_rng(seed_from(seed, "weights", name or "")):
        return build(settings, channels, entity_embedding=embedding)


def new_shared(
    settings: Settings, channels: int, entities: int, *, seed: int, device: torch.device
) -> SharedDenoiser:
    """An untrained network for so many entities; its weights hang on the seed alone."""
    size = settings.entity_embedding
    network = new_network(settings, channels, seed, None, embedding=size)
    with private_rng(seed_from(seed, "embeddings")):
        return SharedDenoiser(network, entities, size).to(device)


def restored_shared(
    settings: Settings,
    channels: int,
    weights: Mapping[str, Tensor],
    *,
    seed: int,
    device: torch.device,
) -> SharedDenoiser:
    """The network that entities share from its saved weights, for scoring."""
    shared = new_shared(
        settings, channels, len(weights["entities.weight"]) - 1, seed=seed, device=device
    )
    shared.load_state_dict(weights)
    return shared.eval()


# -- one network for many entities of the same channels, and each entity's view of it
#
# The network is told whose window it sees by a small learned vector. The first of them is nobody's:
# now and then a window is shown without its owner, so that an entity that joins later is served
# from the first row on.

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
