"""Denoisers whose weights know no channel count, and two without any weights, for `zero_shot.py`.

All are called as every denoiser is. What they know of an entity is not learned: the covariance of
its scaled rows, and a few numbers that describe each channel. Visible points must be the same in
all rows of a window, as under a mask of whole channels on data without gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imdiffusion import masks
from imdiffusion.data.frame import Frame
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.denoisers.mixer import MixerBlock
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.diffusion.shared_denoiser import SharedDenoiser
from imdiffusion.entity import Entity
from imdiffusion.errors import DataError
from imdiffusion.fitting import Prepared, prepare
from imdiffusion.presets import resolve
from imdiffusion.runs import Calibration
from imdiffusion.scoring.error import residual_of, scored, smoothed_errors
from imdiffusion.scoring.threshold import peaks_over_threshold
from imdiffusion.scoring.units import fit_units

RIDGE = 0.3  # the size of the noise: the best one in the log's entry on scores without a network
FACTS = 5  # numbers that describe a channel
FEWEST = 120  # rows from which a training step may describe an entity
LEAST_LOSS = 0.05  # beside that of the mean: an entity that hardly moves is no news


PROMISE: dict[str, Any] = {"alarm_rate": 0.01, "calibrate_on": "all"}  # as every row promises
# `fast` in one step: its second network, and the view of that network's errors, have no part here.
SETTINGS = resolve(
    "fast",
    {**PROMISE, "sampling_steps": 1, "ensemble_steps": 1, "error_scale": "spread,peak,level"},
)
CPU = torch.device("cpu")

Make = Callable[[Rows], nn.Module]  # a denoiser from an entity's scaled rows


@dataclass(frozen=True, slots=True)
class Description:
    """What scaled rows say of an entity: covariance (K, K), and FACTS numbers a channel (K, F)."""

    covariance: Tensor
    facts: Tensor

    @classmethod
    def of(cls, rows: Rows) -> Description:
        """Whether a channel moves, how far, how much the others leave open, how fast, its tails."""
        x = torch.from_numpy(rows.values)
        z = x - x.mean(0)
        covariance = (z.double().T @ z.double() / len(z)).float()
        variance = z.square().mean(0)
        left = torch.linalg.inv(covariance + RIDGE * torch.eye(len(variance))).diag().reciprocal()
        speed = (z[1:] - z[:-1]).square().mean(0) / (2 * variance + 1e-6)
        tails = (z.pow(4).mean(0) / (variance.square() + 1e-6)).log1p() / 3
        moves = (variance > 1e-6).float()
        facts = torch.stack([moves, variance, left - RIDGE, speed, tails], dim=1)
        return cls(covariance, facts.clamp(min=0).minimum(torch.tensor([1.0, 4.0, 2.0, 2.0, 4.0])))

    def flipped(self, sign: Tensor) -> Description:
        """The same entity with channels (K,) turned upside down where the sign is -1."""
        return Description(self.covariance * sign[:, None] * sign, self.facts)


@dataclass(frozen=True, slots=True)
class Told:
    """What is told of windows x (B, L, K) before any weight is asked.

    estimate (B, L, K): where a network sets out, visible points as they are. odd (B, L, K): visible
    points less what the other visible ones say of them. open (B, K): what the covariance leaves of
    a hidden channel. ties, like (B, K, K): how much each channel hears from each visible one, by
    two weights. share (B, K): one over the number of visible channels.
    """

    estimate: Tensor
    odd: Tensor
    open: Tensor
    ties: Tensor
    like: Tensor
    share: Tensor

    @classmethod
    def of(cls, x: Tensor, visible: Tensor, covariance: Tensor, *, start: str) -> Told:
        """All of it. start: "covariance", the conditional mean of a Gaussian, or "mean".

        DataError where a window shows other channels in some rows than in others.
        """
        if bool((visible != visible[:, :1]).any()):
            raise DataError(
                "a window shows other channels in some of its rows than in others",
                remedy="Use a mask of whole channels, and data without missing values.",
            )
        patterns, which = torch.unique(visible[:, 0], dim=0, return_inverse=True)
        shown, eye = patterns.float(), torch.eye(x.shape[2])
        within = shown[:, :, None] * covariance * shown[:, None, :] + RIDGE * eye
        inverse = torch.linalg.inv(within)
        weight = inverse @ (shown[:, :, None] * covariance * (1 - shown[:, None, :]))
        said = (covariance @ weight).diagonal(dim1=1, dim2=2)
        spread = ((covariance.diag() - said).clamp(min=1e-4) * (1 - shown)).sqrt()
        deviation = covariance.diag().sqrt()
        signed = covariance / (deviation[:, None] * deviation + 1e-3) * (1 - eye)
        like = signed.square() * shown[:, None, :]
        ties, estimate = like * signed.sign(), torch.where(visible, x, 0.0)
        odd = torch.zeros_like(x)
        if start == "covariance":
            ties = weight.abs().transpose(1, 2)
            own = inverse.diagonal(dim1=1, dim2=2)[which][:, None]
            odd = torch.where(visible, (estimate @ inverse[which]) / own, 0.0)
            estimate = torch.where(visible, x, estimate @ weight[which])
        share = shown / shown.sum(-1, keepdim=True).clamp(min=1)
        parts = (spread, _in_parts(ties), _in_parts(like), share)
        return cls(estimate, odd, *(part[which] for part in parts))


def _in_parts(weight: Tensor) -> Tensor:
    return weight / (weight.abs().sum(-1, keepdim=True) + 1e-3)


class Nothing(nn.Module):
    """No network and no weights: every hidden value is expected at its mean."""

    def forward(self, x: Tensor, t: Tensor, visible: Tensor, *_others: Tensor) -> Tensor:
        return torch.where(visible, x, 0.0)


class Linear(nn.Module):
    """No network and no weights: hidden channels from visible ones by the covariance alone."""

    def __init__(self, known: Description) -> None:
        super().__init__()
        self.known = known

    def forward(self, x: Tensor, t: Tensor, visible: Tensor, *_others: Tensor) -> Tensor:
        return Told.of(x, visible, self.known.covariance, start="covariance").estimate


class Countless(nn.Module):
    """What to add to where it sets out, learned for any channels: (B, L, K) -> (B, L, K).

    A token is a patch of rows of one channel; `layers` times channels hear from visible ones,
    weighed by the covariance, and the tokens of a channel are mixed over time.
    """

    def __init__(
        self, start: str, *, length: int, patch: int = 10, width: int = 32, layers: int = 2
    ) -> None:
        super().__init__()
        self.start = start
        self.patch, tokens = patch, length // patch
        self.read = nn.Sequential(
            nn.Linear(2 * patch + 2 + FACTS, width), nn.GELU(), nn.Linear(width, width)
        )
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.say = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.hear = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(layers))
        self.blocks = nn.ModuleList(
            MixerBlock(tokens, width, 2 * width, 0.0) for _ in range(layers)
        )
        self.norm, self.write = nn.LayerNorm(width), nn.Linear(width, patch)

    def forward(self, x: Tensor, visible: Tensor, known: Description) -> Tensor:
        batch, length, channels = visible.shape
        given = Told.of(x, visible, known.covariance, start=self.start)
        tokens = length // self.patch
        sides = [visible[:, 0, :, None].float(), given.open[:, :, None]]
        side = torch.cat([*sides, known.facts.expand(batch, -1, -1)], dim=-1)
        cut = [
            plane.transpose(1, 2).reshape(batch, channels, tokens, self.patch)
            for plane in (given.estimate, given.odd)
        ]
        x = self.read(torch.cat([*cut, side[:, :, None].expand(-1, -1, tokens, -1)], dim=-1))
        x = x + self.position
        layers = zip(self.norms, self.say, self.hear, self.blocks, strict=True)
        for norm, say, hear, block in layers:
            said = say(norm(x)).flatten(2)
            usual = (given.share[:, None] @ said).expand(-1, channels, -1)
            heard = [part.view(x.shape) for part in (given.ties @ said, given.like @ said)]
            x = x + hear(torch.cat([*heard, usual.reshape(x.shape)], dim=-1))
            x = block(x.flatten(0, 1)).view(x.shape)
        more = self.write(self.norm(x)).reshape(batch, channels, length).transpose(1, 2)
        return torch.where(visible, given.estimate, given.estimate + more)


class Described(nn.Module):
    """A `Countless` network as the denoiser of one entity."""

    def __init__(self, network: Countless, known: Description) -> None:
        super().__init__()
        self.network, self.known = network, known

    def forward(self, x: Tensor, t: Tensor, visible: Tensor, *_others: Tensor) -> Tensor:
        out: Tensor = self.network(x, visible, self.known)
        return out


def untrained(start: str, seed: int, *, loud: bool) -> Countless:
    """Fresh weights. loud: the last layer says something; otherwise it begins with nothing."""
    with private_rng(seed_from(seed, "countless")):
        network = Countless(start, length=SETTINGS.window)
        nn.init.normal_(network.write.weight, std=0.1 if loud else 0.0)
        nn.init.zeros_(network.write.bias)
    return network.eval()


def train(
    start: str, sets: Sequence[Sequence[Rows]], *, seed: int, steps: int, batch: int = 16
) -> Countless:
    """Weights from the entities of several sets, each set as often as the others.

    A step takes windows of one entity, some channels upside down, and hides whole channels; half
    of the time the entity is described by a few of its rows alone. The loss is the mean square of
    what was hidden, by that of expecting the mean.
    """
    network = untrained(start, seed, loud=False).train()
    optimizer = torch.optim.Adam(network.parameters(), SETTINGS.learning_rate)
    course = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, SETTINGS.learning_rate, total_steps=steps, pct_start=0.1
    )
    whole = [[Description.of(rows) for rows in one] for one in sets]
    for step in range(steps):
        generator = np.random.default_rng(seed_from(seed, "step", step))
        which = int(generator.integers(len(sets)))
        entity = int(generator.integers(len(sets[which])))
        rows, known = sets[which][entity], whole[which][entity]
        if generator.random() < 0.5 and len(rows) > FEWEST:
            few = int(np.exp(generator.uniform(np.log(FEWEST), np.log(len(rows)))))
            first = int(generator.integers(len(rows) - few + 1))
            known = Description.of(rows.slice(first, first + few))
        x0, visible = _windows(rows, generator, batch)
        sign = torch.from_numpy(generator.choice(np.array([-1, 1], np.float32), x0.shape[2]))
        x0, known = x0 * sign, known.flipped(sign)
        predicted = network(x0, visible, known)
        loss = (predicted - x0)[~visible].square().mean()
        usual = x0[~visible].square().mean()
        optimizer.zero_grad(set_to_none=True)
        (loss / (usual + LEAST_LOSS)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        course.step()
    return network.eval()


def _windows(rows: Rows, generator: np.random.Generator, batch: int) -> tuple[Tensor, Tensor]:
    """Windows (B, L, K) from anywhere in the rows, and what each of them shows."""
    length, channels = SETTINGS.window, rows.values.shape[1]
    first = generator.integers(len(rows) - length + 1, size=batch)
    visible = np.empty((batch, length, channels), bool)
    for one in visible:
        drawn = masks.channel_subset(
            length, channels, generator=generator, mask_groups=SETTINGS.mask_groups
        )
        one[:] = drawn[int(generator.integers(len(drawn)))]
    index = first[:, None] + np.arange(length)
    return torch.from_numpy(rows.values[index]), torch.from_numpy(visible)


# -- an entity under one of them


def ready(frame: Frame, denoiser: nn.Module) -> Prepared:
    """An entity under this denoiser: scaled, not calibrated yet."""
    shared = SharedDenoiser(denoiser, 0, 1).eval()
    none = np.zeros(len(frame.values), bool)
    return prepare(frame, SETTINGS, excluded=none, seed=0, device=CPU, shared=shared)


def shown(frame: Frame) -> Rows:
    """The rows that a training may see, as the network sees them."""
    return ready(frame, Nothing()).part.train


def calibrated(frame: Frame, make: Make) -> Entity:
    """An entity calibrated as `calibrate` does it, less the thresholds of scores online."""
    one = ready(frame, make(shown(frame)))
    entity, recipe = one.entity, one.entity.recipe
    held = one.split if one.split < len(one.rows) else 0
    runs = entity.estimates([one.rows], entity.chosen_steps)
    residual = np.concatenate([residual_of(run.seen, run.estimates, run.target) for run in runs])
    errors = np.concatenate(list(smoothed_errors([residual], recipe)))
    units = fit_units(errors, held, recipe, unit=SETTINGS.scale_factor)
    normal = np.concatenate([joined for joined, _ in scored([errors], units, recipe)])
    limit = peaks_over_threshold(normal[:, 0], alarm_rate=SETTINGS.alarm_rate)
    band = entity.calibration.band
    entity.calibration = Calibration(units, band, [limit])
    return entity
