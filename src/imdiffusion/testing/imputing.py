"""The contracts of what imputes: masks, schedules, samplers, denoisers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imdiffusion import masks, registry
from imdiffusion.diffusion.noise import counter_normal, private_rng
from imdiffusion.diffusion.sampler import timesteps
from imdiffusion.diffusion.schedule import Schedule, quadratic
from imdiffusion.settings import Settings
from imdiffusion.testing.contract import Expect, contract

SHAPES = ((1, 1), (2, 1), (7, 3), (20, 1), (24, 5), (100, 38))  # (L, K)
NOISE = 6.0  # deviations that noise does not reach


def check_mask(name: str) -> None:
    """bool (M, L, K) from its generator alone, and every point of the window a target.

    Those of `registry.PARTIAL_MASKS` leave points that never are.
    """
    registry.load("masks", name)
    for length, channels in SHAPES:
        with contract(f"mask {name!r} at L={length}, K={channels}") as expect:
            one, same = (
                masks.draw(
                    *(name, length, channels, Settings()),
                    bands=4,
                    generator=np.random.default_rng(1),
                )
                for _ in range(2)
            )
            expect(isinstance(one, np.ndarray), "a numpy array", type(one).__name__)
            right = one.dtype == bool and one.ndim == 3 and one.shape[1:] == (length, channels)
            expect(right, "bool (M, L, K)", f"{one.dtype} of shape {one.shape}")
            same_again = np.array_equal(one, same)
            expect(same_again, "the same mask from the same generator state", "another one")
            never = int(one.all(axis=0).sum())
            expect(never < length * channels, "a hidden point in some mask", "none")
            partial = name in registry.PARTIAL_MASKS
            expect(partial or not never, "every point hidden in some mask", f"{never} never are")


def check_schedule(name: str) -> None:
    """Noise variances in (0, 1), alpha_bar falling strictly, products consistent."""
    make: Callable[..., Schedule] = registry.load("schedules", name)
    for steps in (1, 2, 50, 200):
        with contract(f"schedule {name!r} of {steps} steps") as expect:
            schedule = make(steps, beta_start=1e-4, beta_end=0.5)
            expect(len(schedule) == steps, f"{steps} noise levels", len(schedule))
            beta, bar = schedule.beta.double(), schedule.alpha_bar.double()
            expect(((beta > 0) & (beta < 1)).all(), "every beta in (0, 1)", beta.tolist())
            expect((bar.diff() < 0).all(), "an alpha_bar that falls", bar.tolist())
            product = torch.cumprod(1 - beta, 0)
            right = torch.allclose(product, bar, rtol=1e-4)
            expect(right, "alpha_bar to be the product of 1 - beta", bar.tolist())


def check_sampler(name: str) -> None:
    """One estimate a level of `timesteps`, like x0 in shape, type and device; a function of noise.

    Visible points are shown under forward noise, hidden values of x0 are not looked at, and where
    the noise is predicted exactly the last estimate is x0.
    """
    sampler = registry.load("samplers", name)
    for steps, start, estimate in ((1, 1.0, "x0"), (5, 0.5, "sample"), (5, 1, "x0"), (20, 1, "x0")):
        what = f"sampler {name!r} with steps={steps}, start={start}, estimate={estimate!r}"
        with contract(what) as expect:
            _check_sampler(expect, sampler, {"steps": steps, "start": start, "estimate": estimate})

    def on(zeros: Tensor) -> Tensor:
        schedule, options = quadratic(20).to(zeros.device), {"steps": 5, "estimate": "x0"}
        noise = {"noise": lambda stream: torch.zeros_like(zeros)}
        found = sampler(lambda x_t, t: x_t, zeros, zeros > 0, schedule, **noise, **options)
        return torch.stack([estimate for _, estimate in found])

    _check_device(f"sampler {name!r}", on)


def _check_sampler(expect: Expect, sampler: Any, options: dict[str, Any]) -> None:
    schedule, keys = quadratic(20), torch.arange(16).view(2, 8)
    x0 = torch.linspace(-1.0, 1.0, 2 * 8 * 3).view(2, 8, 3)
    visible = torch.arange(48).view(2, 8, 3) % 2 == 0

    def noise(stream: int) -> Tensor:
        return counter_normal(keys, 3, stream=stream)

    def exact(x_t: Tensor, t: int) -> Tensor:
        level = schedule.alpha_bar[t]
        return (x_t - level.sqrt() * x0) / (1 - level).sqrt()

    def shown(x_t: Tensor, t: int) -> Tensor:
        level = schedule.alpha_bar[t]
        apart = (x_t - level.sqrt() * 50 * x0)[visible].abs().max() / (1 - level).sqrt()
        expect(apart < NOISE, "visible points of x0 under forward noise", f"{apart:.0f} deviations")
        return torch.zeros_like(x_t)

    def run(denoise: Any, x0: Tensor) -> list[Any]:
        return list(sampler(denoise, x0, visible, schedule, noise=noise, **options))

    found = run(exact, x0)
    times = [t for t, _ in found]
    levels = timesteps(len(schedule), options["steps"], options["start"])
    expect(times == levels, f"an estimate at each of the levels {levels}", times)
    for _, one in found:
        alike = one.shape == x0.shape and one.dtype == x0.dtype
        expect(alike, f"{x0.dtype} {tuple(x0.shape)}", f"{one.dtype} {tuple(one.shape)}")
    off = (found[-1][1] - x0).abs().max()
    expect(off < 0.02, "x0 at the end, where the noise was predicted exactly", f"{off:.3f} off")
    once = run(shown, 50 * x0)
    hidden = run(shown, torch.where(visible, 50 * x0, 7.0))
    for again, why in ((run(shown, 50 * x0), "the same noise"), (hidden, "other hidden values")):
        same = all(torch.equal(one[1], two[1]) for one, two in zip(once, again, strict=True))
        expect(same, f"the same estimates from {why}", "others")


def check_denoiser(name: str) -> None:
    """Like x_t in shape, type and device, finite, window by window, and aware of the step.

    All that it learns is in its state, which gradients reach unless it has `fit_rows`.
    """
    make = registry.load("denoisers", name)
    for length, channels in ((12, 5), (6, 1)):
        for conditioning in ("unconditional", "conditional"):
            with contract(f"denoiser {name!r}, {conditioning}, L={length}, K={channels}") as expect:
                network, other = (_network(make, length, channels, conditioning, s) for s in (0, 1))
                _check_denoiser(expect, network, other, length, channels)

    def on(zeros: Tensor) -> Any:
        network = _network(make, 12, 5, "unconditional", 0).to(zeros.device)
        t = torch.zeros(4, dtype=torch.int64, device=zeros.device)
        return network(zeros, t, zeros > 0, t)

    _check_device(f"denoiser {name!r}", on)


def _check_device(member: str, run: Callable[[Tensor], Tensor]) -> None:
    """What comes of zeros (4, 12, 5) lies on their device, "meta": it stands for accelerators."""
    with contract(f"{member} on the device 'meta'") as expect:
        zeros = torch.zeros(4, 12, 5, device="meta")
        try:
            device = run(zeros).device
        except RuntimeError as error:
            if "meta tensor" in str(error).lower():  # it looks at values, and this device has none
                return
            raise
        expect(device == zeros.device, "a result on the device of its input", device)


def _network(make: Any, length: int, channels: int, conditioning: str, seed: int) -> Any:
    with private_rng(seed):
        settings = {"patch_length": 3, "width": 8, "heads": 2, "layers": 1}
        network = make(length, channels, conditioning=conditioning, **settings).eval()
        for parameter in network.parameters():  # a last projection may start at zero
            nn.init.normal_(parameter, std=0.2)
    return network


def _check_denoiser(
    expect: Expect, network: Any, other: nn.Module, length: int, channels: int
) -> None:
    x = counter_normal(torch.arange(4 * length).view(4, length), channels, stream=1)
    visible, t, mask_id = x > 0, torch.tensor([0, 3, 9, 3]), torch.tensor([0, 1, 0, 1])
    trained = [one for one in network.parameters() if one.requires_grad]
    if hasattr(network, "fit_rows"):
        rows = counter_normal(torch.arange(300), channels, stream=2).numpy()
        network.fit_rows(rows, np.ones(rows.shape, bool))
    else:
        expect(trained, "a parameter to train, or a method fit_rows", "neither")
        network(x, t, visible, mask_id).square().mean().backward()
        expect(any(p.grad is not None for p in trained), "gradients of its parameters", "none")
    with torch.no_grad():
        out = network(x, t, visible, mask_id)
        right = out.shape == x.shape and out.dtype == x.dtype
        expect(right, f"{x.dtype} {tuple(x.shape)}", f"{out.dtype} {tuple(out.shape)}")
        expect(torch.isfinite(out).all(), "finite numbers", f"{(~out.isfinite()).sum()} others")
        alone = network(x[1:2], t[1:2], visible[1:2], mask_id[1:2])
        same = torch.allclose(out[1:2], alone, atol=1e-5)
        expect(same, "a window's prediction whatever else is in the batch", "another one alone")
        later = network(x, t + 5, visible, mask_id)
        expect(not torch.allclose(out, later, atol=1e-5), "another prediction at another t", "none")
        other.load_state_dict(network.state_dict())
        same = torch.equal(out, other(x, t, visible, mask_id))
        expect(same, "the same prediction from the same state", "another one")
