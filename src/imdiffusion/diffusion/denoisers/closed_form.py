"""Denoisers that are fitted in closed form: the Gaussian law of patches, and their memory.

They stand where the networks stand, (x_t, t, visible, mask_id) -> prediction, all (B, L, K), and
learn from the training rows at once, by `fit_rows`, instead of by gradient steps. A row of a window
is told by the visible values of the patch around it, `reach` rows to either side, whatever a mask
hides; a missing value is not visible. With a the share of the signal at t (alpha_bar), a visible
value is x_t / sqrt(a) under noise of variance (1 - a) / a in the unconditional design, and the
value itself in the conditional one:

    gaussian   x0 = S_UV (S_VV + D)^-1 x_V, D the noise of visible values (denoisers/gaussian.py)
    memory     x0 = sum of w_i p_i, w_i ~ exp(-(x_V - p_iV)' D^-1 (x_V - p_iV) / 2) (.../memory.py)

and eps = (x_t - sqrt(a) x0) / sqrt(1 - a). The current sample at hidden values is not looked at: it
was made of noise and of visible values, and the mean of what a mask hides is asked for, not a draw.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from imdiffusion.arrays import Flags, Floats, Reals
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches, LagMoments, patterns
from imdiffusion.diffusion.denoisers.memory import MOST_PATCHES, PatchMemory
from imdiffusion.diffusion.schedule import quadratic

MOST_NUMBERS = 300  # of a patch, where it has more than a row on either side
MOST_STORED = 400_000  # numbers of all patches that a memory keeps
NOISE = 0.05  # variance on standardised values that no other value tells of
NOISES = (0.05, 0.3, 1.5)  # of few rows, that which tells the last fifth of them best
FEW_ROWS = 4  # training rows for each number of a patch
LEAST_SPREAD = 1e-6  # of a channel, in scaled units
LEAST_NOISE = 1e-4
MOST_SOLVED = 1 << 25  # numbers of the solved masks that are kept
CHUNK = 1 << 22  # numbers that are worked on at once


class ClosedForm(nn.Module):
    """What denoisers in closed form share: the patches around rows, noise levels and units.

    length, channels: window shape (L, K). lags: rows to either side that a row is told by, fewer
    where they would come to more than MOST_NUMBERS values. alpha_bar (S,): the share of the signal
    at each step, None = the schedule of the paper. All other keywords have no part in it.
    """

    centre: Tensor
    spread: Tensor
    alpha_bar: Tensor

    def __init__(
        self,
        length: int,
        channels: int,
        *,
        lags: int = 10,
        conditioning: str = "unconditional",
        prediction: str = "eps",
        alpha_bar: Tensor | None = None,
        **_network: object,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.conditional = conditioning == "conditional"
        self.prediction = prediction
        most = max(1, (MOST_NUMBERS // channels - 1) // 2)
        self.reach = max(0, min(lags, most, length - 1))
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("spread", torch.ones(channels))
        level = quadratic(50).alpha_bar if alpha_bar is None else alpha_bar
        self.register_buffer("alpha_bar", level.double(), persistent=False)

    @property
    def size(self) -> int:
        """Numbers of a patch: (2 reach + 1) K."""
        return (2 * self.reach + 1) * self.channels

    @torch.no_grad()
    def fit_rows(self, values: Reals, observed: Flags) -> None:
        """Learn from normal rows (T, K), scaled, zero where not observed."""
        seen = np.maximum(observed.sum(axis=0), 1)
        own = np.where(observed, values, 0.0).astype(np.float64)
        centre = own.sum(axis=0) / seen
        own = np.where(observed, own - centre, 0.0)
        spread = np.sqrt(np.square(own).sum(axis=0) / seen)
        spread = np.where(spread > LEAST_SPREAD, spread, 1.0)
        self.centre.copy_(torch.from_numpy(centre))
        self.spread.copy_(torch.from_numpy(spread))
        self.learn(own / spread, observed)

    def learn(self, rows: Floats, observed: Flags) -> None:
        """Take the state from standardised rows (T, K), zero where not observed."""
        raise NotImplementedError

    def window_mean(self, shown: Tensor, visible: Tensor, noise: Tensor) -> Tensor:
        """Means (B, L, K) of windows given what they show: each row from the patch around it.

        shown (B, L, K) is zero where it is not visible. All standardised.
        """
        batch, length, _ = shown.shape
        sides = (0, 0, self.reach, self.reach)
        patches, seen = (
            # (B, L, K, width) -> (B L, width K), the oldest row first
            functional.pad(part, sides).unfold(1, 2 * self.reach + 1, 1).transpose(2, 3)
            .reshape(batch * length, self.size)
            for part in (shown, visible)
        )  # fmt: skip
        return self.centre_row(patches, seen, noise).reshape(shown.shape)

    def centre_row(self, patches: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """Means (n, K) of the middle row of patches (n, size) given what is seen of them.

        noise (K,): variance on visible values beside the state's own. All standardised.
        """
        raise NotImplementedError

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        visible: Tensor,
        mask_id: Tensor,
        whose: Tensor | None = None,
    ) -> Tensor:
        """Prediction (B, L, K) for x_t (B, L, K) at steps t (B,) under visible (B, L, K)."""
        out = torch.empty_like(x_t)
        for step in torch.unique(t).tolist():
            alike = t == step
            out[alike] = self._at_step(x_t[alike], step, visible[alike])
        return out

    def _at_step(self, x_t: Tensor, step: int, visible: Tensor) -> Tensor:
        level = self.alpha_bar[step]
        spread = self.spread.clamp(min=LEAST_SPREAD)
        noise, shown = torch.zeros_like(spread), x_t
        if not self.conditional:
            noise = ((1.0 - level) / level / spread.double().square()).to(x_t.dtype)
            shown = x_t / level.sqrt().to(x_t.dtype)
        own = torch.where(visible, (shown - self.centre) / spread, 0.0)
        mean = self.window_mean(own, visible, noise)
        x0 = self.centre + spread * mean
        if self.prediction == "x0":
            return x0
        root = level.sqrt().to(x_t.dtype)
        return (x_t - root * x0) / (1.0 - level).sqrt().to(x_t.dtype)


class Gaussian(ClosedForm):
    """The Gaussian law of patches of rows as a denoiser; keywords as in `ClosedForm`.

    A mask is solved once for each pattern of visible values in a patch and each noise level, and
    the solution kept; under random masks or values that are missing here and there most patches
    have a pattern of their own, and scoring is as slow as solving them.
    """

    covariances: Tensor
    noise: Tensor

    def __init__(self, length: int, channels: int, **settings: object) -> None:
        super().__init__(length, channels, **settings)  # type: ignore[arg-type]
        covariances = torch.zeros(2 * self.reach + 1, channels, channels)
        covariances[0] = torch.eye(channels)
        self.register_buffer("covariances", covariances)
        self.register_buffer("noise", torch.tensor([NOISE]))

    def learn(self, rows: Floats, observed: Flags) -> None:
        """Covariances of rows up to 2 reach apart; of few rows, also how much noise is right."""
        span, noise = 2 * self.reach, NOISE
        if len(rows) < FEW_ROWS * self.size:
            noise = _right_noise(rows, observed, min(span, max(1, len(rows) // 5 - 1)))
        found = LagMoments.of(rows, observed, span).covariances(noise=noise)
        self.covariances.copy_(torch.from_numpy(found))
        self.noise.fill_(noise)

    def centre_row(self, patches: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """Means (n, K) of the middle row of patches (n, size) given what is seen of them."""
        state, own = self.covariances, self.noise.clamp(min=LEAST_NOISE)
        extra = (own + noise).double().repeat(2 * self.reach + 1)
        level = extra.cpu().numpy().tobytes(), own.item()
        covariance: Tensor | None = None  # made where some mask is not solved yet
        middle = slice(self.reach * self.channels, (self.reach + 1) * self.channels)
        mean = patches.new_zeros(len(patches), self.channels)
        for flags, alike in patterns(seen.cpu().numpy()):
            known = torch.from_numpy(np.flatnonzero(flags)).to(patches.device)
            if not len(known):
                continue
            key = (*level, np.packbits(flags).tobytes())
            weights = _solutions.get(state, key)
            if weights is None:
                if covariance is None:
                    law = GaussianPatches(state.double().cpu().numpy(), noise=0.0)
                    covariance = torch.from_numpy(law.covariance).to(patches.device)
                inner = covariance[known[:, None], known] + torch.diag(extra[known])
                exact = torch.linalg.solve(inner, covariance[known, middle])
                weights = exact.to(patches.dtype)
                _solutions.keep(state, key, weights)
            rows = torch.from_numpy(alike).to(patches.device)
            mean[rows] = patches[rows[:, None], known] @ weights
        return mean


class Memory(ClosedForm):
    """Training patches as a denoiser; keywords as in `ClosedForm`.

    It keeps as many patches as MOST_STORED numbers hold, at most `denoisers.memory.MOST_PATCHES`.
    """

    patches: Tensor
    known: Tensor
    kept: Tensor
    noise: Tensor

    def __init__(self, length: int, channels: int, **settings: object) -> None:
        super().__init__(length, channels, **settings)  # type: ignore[arg-type]
        most = min(MOST_PATCHES, max(1, MOST_STORED // self.size))
        self.register_buffer("patches", torch.zeros(most, self.size))
        # Numbers, as all weights are: above a half = yes.
        self.register_buffer("known", torch.ones(most, self.size))
        self.register_buffer("kept", torch.ones(most))
        self.register_buffer("noise", torch.ones(1))

    def learn(self, rows: Floats, observed: Flags) -> None:
        """Evenly chosen patches, and how far one normal patch is from another."""
        short = max(0, 2 * self.reach + 1 - len(rows))  # rows that one patch would need
        found = PatchMemory.fit(
            np.pad(rows, ((0, short), (0, 0))),
            np.pad(observed, ((0, short), (0, 0))),
            width=2 * self.reach + 1,
            most=len(self.patches),
        )
        count = len(found.patches)
        self.patches.zero_()[:count] = torch.from_numpy(found.patches.reshape(count, -1))
        self.known.fill_(1.0)[:count] = torch.from_numpy(found.observed.reshape(count, -1)).float()
        self.kept.zero_()[:count] = 1.0
        self.noise.fill_(found.noise)

    def centre_row(self, patches: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """Means (n, K) of the middle row of patches (n, size) given what is seen of them."""
        extra = (self.noise.clamp(min=LEAST_NOISE) + noise).repeat(2 * self.reach + 1)
        middle = slice(self.reach * self.channels, (self.reach + 1) * self.channels)
        known = self.known > 0.5
        precise = torch.where(known, 1.0 / extra, 1.0 / (extra + 1.0))
        pulled, constant = precise * self.patches, precise * self.patches.square()
        whole = bool(known.all())
        if not whole:
            constant = constant + torch.where(known, 0.0, torch.log((extra + 1.0) / extra))
        barred = torch.where(self.kept > 0.5, 0.0, -torch.inf)
        parts, some = [], max(1, CHUNK // len(self.patches))
        for start in range(0, len(patches), some):
            own, flags = patches[start : start + some], seen[start : start + some]
            logits = own @ pulled.T - 0.5 * (flags.to(own.dtype) @ constant.T) + barred
            if not whole:  # else x^2 counts the same for all patches
                logits = logits - 0.5 * (own.square() @ precise.T)
            parts.append(logits.softmax(dim=1) @ self.patches[:, middle])
        return torch.cat(parts)


def _right_noise(rows: Floats, observed: Flags, lags: int) -> float:
    """The noise under which the first four fifths of rows forecast the last fifth best."""
    split = max(1, len(rows) * 4 // 5)
    moments = LagMoments.of(rows[:split], observed[:split], lags)
    first = max(0, split - lags)
    short = lags - (split - first)
    held = np.pad(rows[first:], ((short, 0), (0, 0)))
    seen = np.pad(observed[first:], ((short, 0), (0, 0)))
    wrong = []
    for noise in NOISES:
        law = GaussianPatches(moments.covariances(noise=noise), noise=noise)
        mean, _ = law.forecast(held, seen)
        wrong.append(float(np.square(np.where(seen[lags:], held[lags:] - mean, 0.0)).sum()))
    return NOISES[int(np.argmin(wrong))]


class _Solutions:
    """Solved masks of laws, the newest MOST_SOLVED numbers of them; for all threads.

    They belong to the tensor that holds a law, not on a module: one module is lent many laws
    (`frozen.FrozenDenoiser`).
    """

    def __init__(self, most: int) -> None:
        self.most, self.numbers = most, 0
        self._found: OrderedDict[Hashable, tuple[weakref.ref[Tensor], Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, state: Tensor, key: Hashable) -> Tensor | None:
        """The solution under a key for this state as it is now, if it is there."""
        whole = id(state), state._version, key
        with self._lock:
            entry = self._found.get(whole)
            if entry is None or entry[0]() is not state:  # a place in memory is used again
                return None
            self._found.move_to_end(whole)
            return entry[1]

    def keep(self, state: Tensor, key: Hashable, solution: Tensor) -> None:
        """Keep a solution, and let the oldest go where there are too many."""
        whole = id(state), state._version, key
        with self._lock:
            before = self._found.pop(whole, None)
            self.numbers += solution.numel() - (0 if before is None else before[1].numel())
            self._found[whole] = weakref.ref(state), solution
            while self.numbers > self.most and len(self._found) > 1:
                self.numbers -= self._found.popitem(last=False)[1][1].numel()


_solutions = _Solutions(MOST_SOLVED)
