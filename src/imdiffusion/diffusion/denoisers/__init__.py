"""Networks: `(x_t, t, visible, mask_id) -> prediction`, one file each."""

from __future__ import annotations

from torch import nn

from imdiffusion import registry
from imdiffusion.settings import Settings

MASK_IDS = 2  # rows of the mask embedding [code]


def build(settings: Settings, channels: int) -> nn.Module:
    """The network that the settings ask for, untrained, for windows of so many channels."""
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
    )
    return network
