"""What a network under gratings has to beat: a line between visible rows, or their mean.

Both take every channel by itself, and learn nothing but where a channel lies whose window shows no
value. With v the visible rows of a channel, a and b those before and after row i:

    interpolation   x_i = x_a + (x_b - x_a) (i - a) / (b - a); beyond the last visible row its value
    visible_mean    x_i = mean of x_v

They are denoisers as the closed forms are, so that masks, windows, errors and votes around them are
those of the network: `conditioning="conditional"` and `prediction="x0"` show them clean values.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imdiffusion.diffusion.denoisers.closed_form import ClosedForm


class Interpolation(ClosedForm):
    """A line between the visible rows next to a hidden one; keywords as in `ClosedForm`."""

    def learn(self, rows: NDArray[np.float64], observed: NDArray[np.bool_]) -> None:
        """Nothing beside centre and spread."""

    def window_mean(self, shown: Tensor, visible: Tensor, noise: Tensor) -> Tensor:
        """Means (B, L, K) of windows given what they show, zero where not visible."""
        length = shown.shape[1]
        place = torch.arange(length, device=shown.device)[:, None].expand_as(visible)
        before = torch.where(visible, place, -1).cummax(dim=1).values
        after = torch.where(visible, place, length).flip(1).cummin(dim=1).values.flip(1)
        none = (before < 0) & (after >= length)
        low = torch.where(before < 0, after, before).clamp(max=length - 1)
        high = torch.where(after >= length, before, after).clamp(min=0)
        start, end = shown.gather(1, low), shown.gather(1, high)
        share = (place - low) / (high - low).clamp(min=1)
        return torch.where(none, 0.0, start + (end - start) * share)


class VisibleMean(ClosedForm):
    """The mean of a channel's visible rows; keywords as in `ClosedForm`."""

    def learn(self, rows: NDArray[np.float64], observed: NDArray[np.bool_]) -> None:
        """Nothing beside centre and spread."""

    def window_mean(self, shown: Tensor, visible: Tensor, noise: Tensor) -> Tensor:
        """Means (B, L, K) of windows given what they show, zero where not visible."""
        mean = shown.sum(dim=1, keepdim=True) / visible.sum(dim=1, keepdim=True).clamp(min=1)
        return mean.expand_as(shown)
