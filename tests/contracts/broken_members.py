"""Members that break their contract, each in one way, and what its check has to say of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from imdiffusion.diffusion.denoisers.closed_form import Gaussian
from imdiffusion.diffusion.denoisers.row_mlp import RowMLP
from imdiffusion.diffusion.sampler import ddim
from imdiffusion.diffusion.schedule import quadratic
from imdiffusion.live.sinks.files import FilesSink
from imdiffusion.live.sources.files import FilesSource
from imdiffusion.masks import grating
from imdiffusion.records import Record
from imdiffusion.scoring.threshold import quantile
from imdiffusion.scoring.units import spread
from imdiffusion.scoring.vote import MeanEnsemble

BROKEN: list[tuple[str, Any, str]] = []


def breaks(table: str, said: str) -> Callable[[Any], Any]:
    """This is a broken member of a table, of which its check says so."""

    def keep(member: Any) -> Any:
        BROKEN.append((table, member, said))
        return member

    return keep


# -- masks


@breaks("masks", r"expected bool \(M, L, K\), got float64 of shape \(2, 1, 1\)")
def weights(length, channels, **options):
    return grating(length, channels, **options).astype(float)


@breaks("masks", r"expected bool \(M, L, K\), got bool of shape \(2, 1, 2\)")
def turned(length, channels, **options):
    return grating(length, channels, **options).transpose(0, 2, 1)


@breaks("masks", "expected a hidden point in some mask, got none")
def open_everywhere(length, channels, **_):
    return np.ones((2, length, channels), bool)


@breaks("masks", "expected every point hidden in some mask, got [0-9]+ never are")
def half(length, channels, **_):
    return grating(max(length, 2), channels)[:1, :length]


@breaks("masks", "expected the same mask from the same generator state")
def of_its_own(length, channels, **_):
    odd = np.random.default_rng().random((length, channels)) < 0.5
    return np.stack([odd, ~odd])


@breaks("masks", r"no global generator to be touched, got another state of \['random'\]")
def of_pythons_generator(length, channels, **_):
    random.random()
    return grating(length, channels)


@breaks("masks", r"got another state of \['numpy.random'\]")
def of_numpys_generator(length, channels, **_):
    np.random.rand()
    return grating(length, channels)


@breaks("masks", "expected no error, got TypeError: .*unexpected keyword")
def without_options(length, channels):
    return grating(length, channels)


# -- schedules


@breaks("schedules", "expected 1 noise levels, got 2")
def longer(steps, **options):
    return quadratic(steps + 1, **options)


# -- samplers


@breaks("samplers", "expected an estimate at each of the levels")
def upwards(*given, **options):
    yield from reversed(list(ddim(*given, **options)))


@breaks("samplers", r"expected torch.float32 \(2, 8, 3\), got torch.float64 \(2, 8, 3\)")
def doubled(*given, **options):
    yield from ((t, one.double()) for t, one in ddim(*given, **options))


@breaks("samplers", "expected x0 at the end")
def halved(*given, **options):
    yield from ((t, one / 2) for t, one in ddim(*given, **options))


@breaks("samplers", "expected visible points of x0 under forward noise")
def without_what_is_visible(denoise, x0, visible, *given, **options):
    yield from ddim(denoise, x0, torch.zeros_like(visible), *given, **options)


@breaks("samplers", "the same estimates from other hidden values, got others")
def with_the_truth(denoise, x0, visible, *given, **options):
    for t, one in ddim(denoise, x0, visible, *given, **options):
        yield t, one + 0.01 * (x0 - one)


@breaks("samplers", "the same estimates from the same noise, got others")
def with_noise_of_its_own(denoise, x0, visible, *given, **options):
    generator = torch.Generator()
    generator.seed()
    for t, one in ddim(denoise, x0, visible, *given, **options):
        yield t, one + 1e-4 * torch.randn(one.shape, generator=generator).to(one.device)


@breaks("samplers", r"another state of \['torch'\]")
def with_global_noise(*given, **options):
    torch.randn(1)
    yield from ddim(*given, **options)


@breaks("samplers", "on the device 'meta': expected no error, got RuntimeError")
def on_the_processor(denoise, x0, *given, **options):
    for t, one in ddim(denoise, x0, *given, **options):
        yield t, one + torch.zeros(x0.shape)


# -- denoisers


@breaks("denoisers", r"expected torch.float32 \(4, 12, 5\), got torch.float32 \(4, 5, 12\)")
class Turned(RowMLP):
    def forward(self, *given):
        return super().forward(*given).transpose(1, 2)


@breaks("denoisers", "got torch.float64")
class Doubled(RowMLP):
    def forward(self, *given):
        return super().forward(*given).double()


@breaks("denoisers", "expected finite numbers, got 240 others")
class Endless(RowMLP):
    def forward(self, *given):
        return super().forward(*given) / 0.0


@breaks("denoisers", "expected a window's prediction whatever else is in the batch")
class OfTheBatch(RowMLP):
    def forward(self, *given):
        out = super().forward(*given)
        return out - out.mean(dim=0)


@breaks("denoisers", "expected another prediction at another t")
class Timeless(RowMLP):
    def forward(self, x_t, t, visible, mask_id):
        return super().forward(x_t, 0 * t, visible, mask_id)


@breaks("denoisers", "expected the same prediction from the same state")
class Hidden(RowMLP):
    def __init__(self, *given, **settings):
        super().__init__(*given, **settings)
        self.shift = float(torch.randn(()))

    def forward(self, *given):
        return super().forward(*given) + self.shift


@breaks("denoisers", "expected the same prediction from the same state")
class FittedBeside(Gaussian):
    def learn(self, rows, observed):
        super().learn(rows, observed)
        self.shift = rows.mean() + 1.0

    def forward(self, *given):
        return super().forward(*given) + getattr(self, "shift", 0.0)


@breaks("denoisers", "expected a parameter to train, or a method fit_rows, got neither")
class Untaught(nn.Module):
    def __init__(self, *given, **settings):
        super().__init__()

    def forward(self, x_t, t, visible, mask_id):
        return x_t * t[:, None, None]


@breaks("denoisers", "expected no error, got RuntimeError: .*does not require grad")
class Detached(RowMLP):
    def forward(self, *given):
        return super().forward(*given).detach()


@breaks("denoisers", "on the device 'meta': expected no error, got RuntimeError")
class OnTheProcessor(RowMLP):
    def forward(self, x_t, *given):
        return super().forward(x_t, *given) + torch.zeros(x_t.shape)


@breaks("denoisers", r"another state of \['torch'\]")
class Dropping(RowMLP):
    def forward(self, *given):
        return nn.functional.dropout(super().forward(*given), 1e-9)


# -- scales of errors, ensembles, thresholds


@breaks("error_scales", r"expected sizes \(W, M, K\)")
class Whole:
    @staticmethod
    def size(errors, split, floor):
        return spread.size(errors, split, floor).sum(axis=0)


@breaks("error_scales", "expected a hundredfold size of a hundredfold error")
class Rooted:
    @staticmethod
    def size(errors, split, floor):
        return np.sqrt(spread.size(errors, split, floor))


@breaks("error_scales", "expected finite sizes above zero, got ")
class Below:
    @staticmethod
    def size(errors, split, floor):
        return spread.size(errors, split, floor) - 1e3


@breaks("error_scales", "expected sizes of at least the floor, 0.001, got ")
class Floorless:
    @staticmethod
    def size(errors, split, floor):
        return spread.size(errors, split, lambda times: floor(times) / 1e3)


@breaks("ensembles", r"expected steps joined within their range, got \[")
class Summed(MeanEnsemble):
    @staticmethod
    def join(parts, *, axis):
        return MeanEnsemble.join(parts, axis=axis) * 10


@breaks("ensembles", "expected a score above 1 at the planted row, got ")
class Shrunk(MeanEnsemble):
    def score(self, errors):
        return super().score(errors) / 1e6


@breaks("ensembles", "expected NaN for a row where nothing was observed, got 0.0")
class Filled(MeanEnsemble):
    def score(self, errors):
        return np.nan_to_num(super().score(errors))


@breaks("thresholds", "expected alarms on 0.05 of fresh scores, got 0.5")
def middle(scores, *, alarm_rate):
    return quantile(scores, alarm_rate=0.5)


@breaks("thresholds", "expected no error, got ValueError: .*read-only")
def sorting_in_place(scores, *, alarm_rate):
    scores.sort()
    return quantile(scores, alarm_rate=alarm_rate)


@breaks("thresholds", r"expected 40\.35\d+ for ten times the scores, got 40\.26")
def moved(scores, *, alarm_rate):
    return quantile(scores, alarm_rate=alarm_rate) + 0.01


@breaks("thresholds", "in another order, with NaN and infinity among them, got nan")
def with_what_is_missing(scores, *, alarm_rate):
    return float(np.quantile(scores, 1 - alarm_rate))


@breaks("thresholds", r"expected DataError for the scores \[\], got 1.0")
def whatever_comes(scores, *, alarm_rate):
    return quantile(scores, alarm_rate=alarm_rate) if np.isfinite(scores).any() else 1.0


# -- sources and sinks, held against the rig of `files`


@breaks("sources", "expected .* after an offset and what was rejected|after an offset within")
class Forgetful(FilesSource):
    """Starts from its end, whatever the offset."""

    def open(self, offset):
        super().open(None)
        if offset is not None:
            while self.read(0.0) is not None:
                pass


@breaks("sources", "expected an entity for every frame, got ''")
class Nameless(FilesSource):
    def read(self, timeout):
        batch = super().read(timeout)
        return batch and replace(batch, frames=tuple(replace(f, entity="") for f in batch.frames))


@breaks("sources", "expected `observed` where values are finite")
class Blind(FilesSource):
    def read(self, timeout):
        batch = super().read(timeout)
        frames = (replace(f, observed=~f.observed) for f in batch.frames) if batch else ()
        return batch and replace(batch, frames=tuple(frames))


@breaks("sources", "expected an offset that is text, got 7")
class Numbered(FilesSource):
    def read(self, timeout):
        batch = super().read(timeout)
        return batch and replace(batch, offset=7)


@breaks("sources", "expected nothing more, got Batch")
class Repeating(FilesSource):
    def read(self, timeout):
        self.last = super().read(timeout) or self.last
        return self.last


@breaks("sources", r"expected \{.* within 0.3 s, got \[")
class Starting(FilesSource):
    """Passes over the first row of each entity in what it reads at once."""

    def read(self, timeout):
        batch = super().read(timeout)
        return batch and replace(batch, frames=tuple(f.slice(1) for f in batch.frames))


@breaks("sources", r"expected \{.* and what was rejected within 0.3 s, got \[")
class Silent(FilesSource):
    def read(self, timeout):
        batch = super().read(timeout)
        return batch and replace(batch, rejected=())


@breaks("sources", "got Positional: 'path' has to be a keyword-only option")
class Positional(FilesSource):
    def __init__(self, path: str) -> None:
        super().__init__(path=path)


@breaks("sources", r"'path' has the type list\[str\], which no field has")
class Listed(FilesSource):
    def __init__(self, *, path: list[str]) -> None:
        super().__init__(path=path[0])


@breaks("sinks", "expected 8 records, got 1[0-9]: ")
class Doubling(FilesSink):
    """Writes what it is sent as often as it is sent."""

    def send(self, records: Sequence[Record]) -> None:
        super().send(records)
        self.flush()
        self._pending.clear()


@breaks("sinks", "expected 8 records, got 7: ")
class Losing(FilesSink):
    def send(self, records: Sequence[Record]) -> None:
        super().send([one for one in records if one.key != ("e1", 1)])


@breaks("sinks", "expected no good record to be refused, got 1")
class Refusing(FilesSink):
    def flush(self):
        super().flush()
        self.refused = 1


@breaks("sinks", r"expected takes to be of \('score', 'event'\), got \{'alerts'\}")
class Taking(FilesSink):
    def __init__(self, *, path: str) -> None:
        super().__init__(path=path)
        self.takes = {"alerts"}


@breaks("sinks", "expected a method flush, got None")
class Endlessly(FilesSink):
    flush = None
