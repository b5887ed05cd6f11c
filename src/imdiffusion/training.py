"""Training: a resumable loop over random windows, with a held-out tail to stop it.

Nothing random is carried from step to step: batch order depends on (seed, epoch), masks, levels,
noise and dropout on (seed, step). So a run that was killed and resumed ends in the same bits.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imdiffusion import masks
from imdiffusion.arrays import Ints
from imdiffusion.checkpoint import fingerprint, read_state, write_state
from imdiffusion.data.windows import Rows, starts, window_batches
from imdiffusion.diffusion.denoisers.closed_form import ClosedForm
from imdiffusion.diffusion.imputer import Imputer
from imdiffusion.diffusion.networks import NOBODY, SharedDenoiser
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.diffusion.schedule import Denoiser, target_loss
from imdiffusion.diffusion.seeds import seed_from
from imdiffusion.errors import ConvergenceWarning
from imdiffusion.progress import FitJob, History, Progress
from imdiffusion.settings import Settings

log = logging.getLogger(__name__)

SAVE_SECONDS = 20.0  # a kill costs at most about this much work
STILL_FALLING = 0.02  # a second half better by this share: training ended too early
UNOWNED = 0.1  # share of a shared network's windows that are shown without their entity


@dataclass(frozen=True, slots=True)
class Part:
    """What one entity brings to a training: scaled, compressed rows, and its own imputer."""

    imputer: Imputer
    train: Rows
    held: Rows


def window_starts(parts: Sequence[Rows], settings: Settings) -> tuple[Ints, Ints]:
    """First rows of all training windows that show anything, in the parts' rows one after another.

    And the number of each window's entity in a shared network, from 1.
    """
    found, owners, offset = [], [], 0
    for number, rows in enumerate(parts, start=1):
        first = starts(len(rows), settings.window, settings.train_stride)
        seen = np.concatenate([[0], rows.observed.any(axis=1).cumsum()])
        first = first[seen[first + settings.window] > seen[first]]
        found.append(first + offset)
        owners.append(np.full(len(first), number, np.int64))
        offset += len(rows)
    return np.concatenate(found), np.concatenate(owners)


def squares(part: Part, length: int, device: torch.device) -> tuple[float, int]:
    """Sum of squared imputation errors of a part's held-out rows, last step, and their number."""
    covered = part.imputer.covered()
    total, count = 0.0, 0
    for batch in window_batches([part.held], length=length, stride=length, batch=16):
        x0 = torch.from_numpy(batch.values).to(device)
        observed = torch.from_numpy(batch.observed).to(device)
        keys = torch.from_numpy(batch.keys).to(device)
        estimate = x0
        for _, estimate in part.imputer(x0, observed, keys):  # noqa: B007
            pass
        target = observed & covered
        total += float((estimate - x0)[target].double().square().sum())
        count += int(target.sum())
    return total, count


def total_steps(settings: Settings, epoch_steps: int) -> int:
    """Steps until one of the limits; 0 = only patience ends the training."""
    limits = [settings.max_steps, settings.max_epochs * epoch_steps]
    return min((limit for limit in limits if limit), default=0)


def learning_rate(settings: Settings, step: int, epoch: int, total: int) -> float:
    """The rate at a step: constant, dropped tenfold after named epochs, or warmed-up cosine."""
    rate = settings.learning_rate
    if settings.lr_schedule == "step":
        return float(rate * 0.1 ** sum(epoch >= drop for drop in settings.lr_drops))
    if settings.lr_schedule == "cosine" and total:
        warm = max(1, total // 20)
        if step < warm:
            return rate * (step + 1) / warm
        return rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
    return rate


class Trainer:
    """Trains the denoiser of one entity, or a `SharedDenoiser` of many; see `fit`.

    parts: in the order of its entities. device: where the network is. length: a shared network
    trains this many times as long as the settings say for one entity.
    """

    def __init__(
        self,
        network: nn.Module,
        parts: Sequence[Part],
        job: FitJob,
        *,
        device: torch.device,
        length: float = 1.0,
    ) -> None:
        settings = job.settings
        self.network, self.parts, self.settings = network, parts, settings
        self.imputer = parts[0].imputer  # of all, what training needs of it is the same
        self.seed, self.device, self.on_progress = job.seed, device, job.on_progress
        folder = job.checkpoint
        self.state_path = None if folder is None else folder / "training.safetensors"
        self.starts, self.owners = window_starts([part.train for part in parts], settings)
        self.values, self.observed = (
            torch.from_numpy(np.concatenate(all_rows)).to(device)
            for all_rows in (
                [part.train.values for part in parts],
                [part.train.observed for part in parts],
            )
        )
        visited, schedule = settings.train_levels == "visited", self.imputer.schedule
        self.levels = torch.tensor(self.imputer.visited() if visited else range(len(schedule)))
        self.epoch_steps = max(1, math.ceil(len(self.starts) / settings.batch_size))
        self.optimizer: torch.optim.Adam | None = None
        if isinstance(network, ClosedForm):  # learns everything in one step
            self.total = self.check_every = 1
        else:
            self.total = round(length * total_steps(settings, self.epoch_steps))
            self.check_every = round(length * settings.validate_every) or self.epoch_steps
            self.optimizer = torch.optim.Adam(
                network.parameters(),
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
                fused=device.type in ("cpu", "cuda"),  # one call, not one a weight
            )
        self.history = History()
        self.best: dict[str, Tensor] = {}
        self.step, self.epoch, self.order = 0, -1, np.arange(len(self.starts))
        self.whole = True  # False while a step or a check is half written into this object
        self.losses: list[float] = []

    def fit(self) -> History:
        """Train to the end; the network holds the best weights afterwards, in eval mode.

        Continues from the checkpoint if there is one of this very training. Warns with
        ConvergenceWarning where the held-out error was still falling at the end.
        """
        if self.state_path is not None:
            self._resume(read_state(self.state_path))
        began = saved = time.monotonic()
        before = self.history.earlier_seconds = self.history.seconds
        try:
            while True:
                if self._check_due():
                    self._check()
                    self.history.seconds = before + time.monotonic() - began
                if self._finished():
                    break
                if self.optimizer is None:
                    self._fit_rows()
                else:
                    self._train_step(self.optimizer)
                self._report()
                self.history.seconds = before + time.monotonic() - began
                if time.monotonic() - saved > SAVE_SECONDS:
                    self._save()
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if self.whole:  # else the last saved state is the one to continue from
                self._save()
            raise
        self._save()
        self.network.load_state_dict(self.best)
        self.network.eval()
        self._judge()
        return self.history

    # -- one step

    def _fit_rows(self) -> None:
        """The one step of a denoiser in closed form; its loss is that of a first batch."""
        assert isinstance(self.network, ClosedForm)  # noqa: S101
        rows = self.parts[0].train  # settings allow it no shared network
        self.whole = False
        self.network.fit_rows(rows.values, rows.observed)
        with torch.no_grad():
            self.losses.append(float(self._loss()))
        self.step += 1
        self.whole = True

    def _train_step(self, optimizer: torch.optim.Adam) -> None:
        for group in optimizer.param_groups:
            epoch = self.step // self.epoch_steps
            group["lr"] = learning_rate(self.settings, self.step, epoch, self.total)
        self.network.train()
        loss = self._loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.whole = False
        optimizer.step()
        self.losses.append(float(loss.detach()))
        self.step += 1
        self.whole = True

    def _loss(self) -> Tensor:
        """The loss of this step's batch of windows, under masks and noise of its own."""
        settings = self.settings
        epoch, position = divmod(self.step, self.epoch_steps)
        if epoch != self.epoch:
            order = np.random.default_rng(seed_from(self.seed, "order", epoch))
            self.epoch, self.order = epoch, order.permutation(len(self.starts))
        first = position * settings.batch_size
        chosen = self.order[first : first + settings.batch_size]
        rows = self.starts[chosen][:, None] + np.arange(settings.window)
        index = torch.from_numpy(rows).to(self.device)
        x0, observed = self.values[index], self.observed[index]
        visible, mask_id = self._masks(len(chosen), x0.shape[2])
        generator = torch.Generator().manual_seed(seed_from(self.seed, "noise", self.step))
        t = self.levels[torch.randint(len(self.levels), (len(chosen),), generator=generator)]
        eps = torch.randn(x0.shape, generator=generator).to(self.device)
        with private_rng(seed_from(self.seed, "dropout", self.step), self.device):
            return target_loss(
                self._denoiser(self.owners[chosen]),
                self.imputer.schedule,
                x0,
                observed,
                visible,
                mask_id,
                t.to(self.device),
                eps,
                conditioning=settings.conditioning,
                prediction=settings.prediction,
            )

    def _denoiser(self, owners: Ints) -> Denoiser:
        """The network for windows of these entities, some of which it is not told."""
        if not isinstance(self.network, SharedDenoiser):
            return self.network
        generator = np.random.default_rng(seed_from(self.seed, "owners", self.step))
        told = np.where(generator.random(len(owners)) < UNOWNED, NOBODY, owners)
        return self.network.of(torch.from_numpy(told).to(self.device))

    def _masks(self, batch: int, channels: int) -> tuple[Tensor, Tensor]:
        """One freshly drawn mask a window: visible (B, L, K) and its number (B,)."""
        settings = self.settings
        generator = np.random.default_rng(seed_from(self.seed, "mask", self.step))
        visible = np.empty((batch, settings.window, channels), dtype=bool)
        number = np.empty(batch, dtype=np.int64)
        for b in range(batch):
            drawn = masks.draw(
                settings.train_mask,
                settings.window,
                channels,
                settings,
                bands=settings.train_bands,
                generator=generator,
            )
            m = int(generator.integers(len(drawn)))
            visible[b], number[b] = drawn[m], m % self.imputer.mask_ids
        return torch.from_numpy(visible).to(self.device), torch.from_numpy(number).to(self.device)

    # -- checks

    def _check_due(self) -> bool:
        """Whether this step ends with a check that was not made yet."""
        due = self.step > 0 and (self.step % self.check_every == 0 or self.step == self.total)
        return due and self.step not in self.history.step[-1:]

    def _check(self) -> None:
        rmse = self.holdout_rmse()
        history = self.history
        self.whole = False
        if not history.holdout_rmse or rmse < min(history.holdout_rmse):
            history.best_step = self.step
            self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        history.step.append(self.step)
        history.loss.append(float(np.mean(self.losses)))
        history.holdout_rmse.append(rmse)
        log.info("step %d: loss %.4g, held-out RMSE %.4g", self.step, history.loss[-1], rmse)
        self.losses = []
        self.whole = True
        self._report()

    def holdout_rmse(self) -> float:
        """Root mean square imputation error on the held-out rows, as in scoring, last step."""
        self.network.eval()
        found = [squares(part, self.settings.window, self.device) for part in self.parts]
        total, count = (sum(column) for column in zip(*found, strict=True))
        return math.sqrt(total / count) if count else math.inf

    def _finished(self) -> bool:
        history, patience = self.history, self.settings.patience
        if self.total and self.step >= self.total:
            return True
        stale = sum(step > history.best_step for step in history.step)
        history.converged = patience > 0 and stale > patience
        return history.converged

    def _judge(self) -> None:
        """Say whether training settled: stopped by patience, or no longer falling at the end."""
        rmse = self.history.holdout_rmse
        if self.optimizer is None:
            self.history.converged = True
        if self.history.converged:
            return
        half = len(rmse) // 2
        if half == 0:
            why = "one check of the held-out error cannot show that it settled"
        elif min(rmse[half:]) < (1 - STILL_FALLING) * min(rmse[:half]):
            why = f"the held-out error still fell in the second half, to an RMSE of {min(rmse):.4g}"
        else:
            self.history.converged = True
            return
        warnings.warn(
            f"training ended after {self.step} steps: {why}. Raise max_steps or max_epochs.",
            ConvergenceWarning,
            stacklevel=2,
        )

    def _report(self) -> None:
        if self.on_progress is not None:
            info = {"loss": self.losses[-1]} if self.losses else {}
            if self.history.holdout_rmse:
                info["holdout_rmse"] = self.history.holdout_rmse[-1]
            self.on_progress(Progress("fit", self.step, self.total, info))

    # -- resume

    @cached_property
    def identity(self) -> str:
        """sha256 of everything that decides this training: another one must not be continued."""
        facts = {"seed": self.seed, "settings": self.settings.to_dict(), "torch": torch.__version__}
        facts["total"] = self.total
        rows = [rows for part in self.parts for rows in (part.train, part.held)]
        return fingerprint(facts, *(a for r in rows for a in (r.values, r.observed, r.keys)))

    def _save(self) -> None:
        if self.state_path is None:
            return
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        tensors = {f"weights/{k}": v for k, v in self.network.state_dict().items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        if self.optimizer is not None:
            for number, moments in self.optimizer.state_dict()["state"].items():
                tensors |= {f"adam/{number}/{k}": v for k, v in moments.items()}
        facts = {
            "identity": self.identity,
            "step": self.step,
            "losses": self.losses,
            "history": self.history.to_dict(),
        }
        write_state(self.state_path, tensors, facts)

    def _resume(self, state: tuple[dict[str, Tensor], dict[str, Any]] | None) -> None:
        if state is None or state[1].get("identity") != self.identity:
            return
        tensors, facts = state
        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            kind, _, key = name.partition("/")
            groups[kind][key] = tensor
        self.network.load_state_dict(groups["weights"])
        self.best = {k: v.to(self.device) for k, v in groups["best"].items()}
        if self.optimizer is not None:
            moments: dict[int, dict[str, Tensor]] = {}
            for key, tensor in groups["adam"].items():
                number, _, name = key.partition("/")
                moments.setdefault(int(number), {})[name] = tensor
            whole = self.optimizer.state_dict()
            self.optimizer.load_state_dict({**whole, "state": moments})
        self.step, self.losses = facts["step"], facts["losses"]
        log.info("continuing at step %d from %s", self.step, self.state_path)
        self.history = History(**facts["history"])
