"""The contract that every member of every table keeps, as checks anyone can run.

    from imdiffusion.testing import check_member
    check_member("masks", "diagonal")     # raises AssertionError with what is broken

A package that adds a member through an entry point runs the same checks as the built-in ones. A
source or sink has a far side; who adds one hands a rig for it to `check_source` or `check_sink`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imdiffusion import masks, registry
from imdiffusion.diffusion.noise import counter_normal
from imdiffusion.diffusion.schedule import Schedule, quadratic
from imdiffusion.presets import Settings
from imdiffusion.testing.backends import check_backend
from imdiffusion.testing.live import check_sink, check_source
from imdiffusion.testing.rigs import SinkRig, SourceRig

__all__ = ["CHECKS", "SinkRig", "SourceRig", "check_member", "check_sink", "check_source"]

SHAPES = ((1, 1), (2, 1), (7, 3), (20, 1), (24, 5), (100, 38))  # (L, K)


def check_member(table: str, name: str) -> None:
    """Check one member of a table against its contract; AssertionError says what is broken.

    Raises ConfigError for an unknown member and KeyError for a table without a contract.
    """
    CHECKS[table](name)


def _require(holds: bool | np.bool_ | Tensor, what: str) -> None:
    if not bool(holds):
        raise AssertionError(what)


def check_mask(name: str) -> None:
    """Shape, type, same seed same mask, and targets that cover the window unless partial."""
    options = Settings()
    for length, channels in SHAPES:
        drawn = [
            masks.draw(
                name, length, channels, options, bands=4, generator=np.random.default_rng(seed)
            )
            for seed in (1, 1, 2)
        ]
        at = f"mask {name!r} at L={length}, K={channels}"
        _require(drawn[0].dtype == bool and drawn[0].ndim == 3, f"{at} is not bool (M, L, K)")
        _require(drawn[0].shape[1:] == (length, channels), f"{at} has shape {drawn[0].shape}")
        _require(np.array_equal(drawn[0], drawn[1]), f"{at} is not a function of its generator")
        _require((~drawn[0]).any(), f"{at} hides nothing")
        if name not in registry.PARTIAL_MASKS:
            _require((~drawn[0]).any(axis=0).all(), f"{at} leaves points that are never a target")


def check_schedule(name: str) -> None:
    """Noise variances in (0, 1), alpha_bar falling strictly, products consistent."""
    make: Callable[..., Schedule] = registry.load("schedules", name)
    for steps in (1, 2, 50, 200):
        schedule = make(steps, beta_start=1e-4, beta_end=0.5)
        _require(len(schedule) == steps, f"schedule {name!r} has {len(schedule)} of {steps} steps")
        beta, bar = schedule.beta.double(), schedule.alpha_bar.double()
        _require(((beta > 0) & (beta < 1)).all(), f"schedule {name!r} leaves (0, 1)")
        _require((bar.diff() < 0).all(), f"alpha_bar of schedule {name!r} does not fall")
        product = torch.cumprod(1 - beta, 0)
        _require(torch.allclose(product, bar, rtol=1e-4), f"alpha_bar of {name!r} is no product")


def check_sampler(name: str) -> None:
    """A generator that descends to step 0, shows the seen values, and finds x0 by an oracle."""
    sampler = registry.load("samplers", name)
    schedule = quadratic(20)
    x0 = torch.linspace(-1.0, 1.0, 2 * 8 * 3).view(2, 8, 3)
    visible = torch.arange(48).view(2, 8, 3) % 2 == 0
    keys = torch.arange(16).view(2, 8)

    def noise(stream: int) -> Tensor:
        return counter_normal(keys, 3, stream=stream)

    def oracle(x_t: Tensor, t: int) -> Tensor:
        level = schedule.alpha_bar[t]
        return (x_t - level.sqrt() * x0) / (1 - level).sqrt()

    for steps in (1, 2, 5, 20):
        for estimate in ("x0", "sample"):
            found = list(
                sampler(oracle, x0, visible, schedule, noise=noise, steps=steps, estimate=estimate)
            )
            times = [t for t, _ in found]
            at = f"sampler {name!r} with {steps} steps, estimate {estimate!r}"
            _require(len(found) == steps, f"{at} yields {len(found)} estimates")
            _require(times == sorted(set(times), reverse=True), f"{at} does not descend")
            _require(
                torch.allclose(found[-1][1], x0, atol=0.02),
                f"{at} does not end at x0 although the noise was predicted exactly",
            )


def check_denoiser(name: str) -> None:
    """Shape kept, finite, batch-independent, and sensitive to step and values."""
    make = registry.load("denoisers", name)
    for conditioning in ("unconditional", "conditional"):
        network = make(12, 5, patch_length=3, width=8, heads=2, layers=1, conditioning=conditioning)
        network.eval()
        for parameter in network.parameters():  # the last projection starts at zero
            torch.nn.init.normal_(
                parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel())
            )
        x = counter_normal(torch.arange(48).view(4, 12), 5, stream=1)
        visible = x > 0
        t, mask_id = torch.tensor([0, 3, 9, 3]), torch.tensor([0, 1, 0, 1])
        with torch.no_grad():
            out = network(x, t, visible, mask_id)
            alone = network(x[1:2], t[1:2], visible[1:2], mask_id[1:2])
            later = network(x, t + 5, visible, mask_id)
        at = f"denoiser {name!r} ({conditioning})"
        _require(out.shape == x.shape, f"{at} turns {tuple(x.shape)} into {tuple(out.shape)}")
        _require(torch.isfinite(out).all(), f"{at} is not finite")
        _require(torch.allclose(out[1:2], alone, atol=1e-5), f"{at} mixes windows of a batch")
        _require(not torch.allclose(out, later, atol=1e-5), f"{at} ignores the diffusion step")


def check_threshold(name: str) -> None:
    """About `alarm_rate` of fresh scores of the same law exceed it; it scales with the scores."""
    rule = registry.load("thresholds", name)
    generator = np.random.default_rng(7)
    fresh = generator.exponential(size=400_000)
    for rate in (0.05, 0.01, 0.001):
        found = np.array(
            [rule(generator.exponential(size=5_000), alarm_rate=rate) for _ in range(20)]
        )
        share = float(np.median([(fresh > one).mean() for one in found]))
        _require(rate / 2 < share < rate * 2, f"threshold {name!r} at {rate} alarms at {share:.5f}")
    scores = generator.exponential(size=2_000)
    one, ten = rule(scores, alarm_rate=0.01), rule(10 * scores, alarm_rate=0.01)
    _require(np.isclose(10 * one, ten), f"threshold {name!r} does not scale with its scores")


def check_error_scale(name: str) -> None:
    """Positive, finite sizes (W, M, K), a channel without values among them; one floor for all.

    Errors a hundred times as large have a size a hundred times as large, or all have size one.
    """
    rule = registry.load("error_scales", name)
    errors = np.random.default_rng(5).exponential(size=(600, 2, 3, 2, 4)).astype(np.float32)
    errors[..., 3] = np.nan
    at = f"error scale {name!r}"

    def size(errors: NDArray[np.float32], *, least: float, split: int = 500) -> NDArray[np.float64]:
        with np.errstate(all="raise"):
            found = np.asarray(rule.size(errors, split, lambda times: least * times))
        _require(found.shape == (2, 3, 4), f"{at} has shape {found.shape}, not (W, M, K)")
        _require(np.isfinite(found).all() and (found > 0).all(), f"{at} is not positive")
        return found

    one, hundred = size(errors, least=1e-9), size(100 * errors, least=1e-9)
    fixed = np.array_equal(one, np.ones_like(one)) and np.array_equal(one, hundred)
    _require(fixed or np.allclose(100 * one, hundred), f"{at} does not grow with the errors")
    _require(fixed or (size(0 * errors, least=1e-3) >= 1e-3).all(), f"{at} has no floor")
    for split in (0, 600):
        size(errors, least=1e-9, split=split)


def check_ensemble(name: str) -> None:
    """Score (T,), finite and non-negative, NaN stays, and a planted outlier ranks first.

    Steps are joined along their axis to something between the least and the largest of them.
    """
    ensemble = registry.load("ensembles", name)
    generator = np.random.default_rng(3)
    held = generator.exponential(size=(10, 3_000)).astype(np.float32)
    errors = generator.exponential(size=(10, 1_000)).astype(np.float32)
    errors[:, 500] = 200.0
    errors[:, 7] = np.nan
    fitted = ensemble.fit(
        held,
        rule=registry.load("thresholds", "quantile"),
        alarm_rate=0.001,
        xi=0.5,
        anomaly_share=0.02,
    )
    score = type(fitted)(fitted.thresholds, 0.5, 0.02).score(errors)
    _require(score.shape == (1_000,), f"ensemble {name!r} returns {score.shape}")
    _require(np.isnan(score[7]), f"ensemble {name!r} scores a row where nothing was observed")
    known = np.delete(score, 7)
    _require(np.isfinite(known).all() and (known >= 0).all(), f"ensemble {name!r} leaves [0, inf)")
    at = f"ensemble {name!r}"
    parts = generator.exponential(size=(20, 10, 3)).astype(np.float32)
    parts[4, :, 1] = np.nan
    joined = np.asarray(fitted.join(parts, axis=1))
    _require(joined.shape == (20, 3), f"{at} joins steps to the shape {joined.shape}")
    gone = np.isnan(joined)
    _require(gone[4, 1] and gone.sum() == 1, f"{at} joins what was not observed")
    low, high = parts.min(axis=1) * 0.9999, parts.max(axis=1) * 1.0001
    inside = gone | ((joined >= low) & (joined <= high))
    _require(inside.all(), f"{at} joins steps to what none of them is near")
    _require(np.nanargmax(score) == 500 and score[500] > 1, f"ensemble {name!r} misses an outlier")


CHECKS: dict[str, Callable[[str], None]] = {
    "backends": check_backend,
    "masks": check_mask,
    "schedules": check_schedule,
    "samplers": check_sampler,
    "denoisers": check_denoiser,
    "error_scales": check_error_scale,
    "thresholds": check_threshold,
    "ensembles": check_ensemble,
    "sources": check_source,
    "sinks": check_sink,
}
