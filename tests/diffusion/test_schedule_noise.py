"""Schedules and counter-based noise against independent numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.diffusion.noise import counter_normal, private_rng
from imdiffusion.diffusion.schedule import cosine, linear, quadratic
from imdiffusion.diffusion.seeds import seed_from

MASK = (1 << 64) - 1


def test_quadratic_golden() -> None:
    # By hand: sqrt(1e-4) = .01 and sqrt(.5) = .7071; the middle of three steps squared is .12858.
    schedule = quadratic(3, beta_start=1e-4, beta_end=0.5)
    middle = ((0.01 + 0.5**0.5) / 2) ** 2
    assert schedule.beta.tolist() == pytest.approx([1e-4, middle, 0.5])
    assert schedule.alpha_bar.tolist() == pytest.approx(
        [0.9999, 0.9999 * (1 - middle), 0.9999 * (1 - middle) * 0.5]
    )


def test_paper_schedule_ends_in_noise() -> None:
    # numpy, independently of torch
    beta = np.linspace(1e-4**0.5, 0.5**0.5, 50) ** 2
    assert float(quadratic(50).alpha_bar[-1]) == pytest.approx(np.prod(1 - beta), rel=1e-4)


def test_linear_and_cosine_respect_their_ends() -> None:
    line = linear(11, beta_start=0.1, beta_end=0.3)
    assert line.beta.tolist() == pytest.approx(np.linspace(0.1, 0.3, 11).tolist())
    curve = cosine(50, beta_start=0.01, beta_end=0.2)
    assert curve.beta.min() >= 0.01 - 1e-7
    assert curve.beta.max() == pytest.approx(0.2)


def test_diffuse_golden() -> None:
    schedule = quadratic(3)
    x0, eps = torch.ones(2, 1, 1), torch.full((2, 1, 1), 2.0)
    bar = schedule.alpha_bar.double()
    out = schedule.diffuse(x0, torch.tensor([0, 2]), eps).flatten().double()
    expected = [float(bar[t] ** 0.5 + 2 * (1 - bar[t]) ** 0.5) for t in (0, 2)]
    assert out.tolist() == pytest.approx(expected, rel=1e-5)


def reference_normal(key: int, channel: int, stream: int) -> float:
    """The same hash in plain Python integers."""

    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    row = mix((key + stream * 0xD1B54A32D192ED03) & MASK)
    bits = mix((row + (channel + 1) * 0x9E3779B97F4A7C15) & MASK)
    radius = (-2 * np.log(((bits >> 40) + 0.5) / 2**24)) ** 0.5
    return float(radius * np.cos(2 * np.pi * (bits & 0xFFFFFF) / 2**24))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 40), st.integers(0, 5000))
def test_counter_normal_is_splitmix(key: int, channel: int, stream: int) -> None:
    found = counter_normal(torch.tensor([key]), channel + 1, stream=stream)[0, channel]
    assert float(found) == pytest.approx(reference_normal(key & MASK, channel, stream), abs=2e-3)


def test_counter_normal_is_standard_and_independent() -> None:
    draws = counter_normal(torch.arange(40_000), 8, stream=3).double()
    assert abs(float(draws.mean())) < 0.01
    assert float(draws.std()) == pytest.approx(1.0, abs=0.01)
    assert float((draws**4).mean()) == pytest.approx(3.0, abs=0.1)
    correlation = torch.corrcoef(draws.T) - torch.eye(8)
    assert float(correlation.abs().max()) < 0.03
    other = counter_normal(torch.arange(40_000), 8, stream=4).double()
    assert abs(float((draws * other).mean())) < 0.01
    ahead = (draws[1:, 0] * draws[:-1, 0]).mean()
    assert abs(float(ahead)) < 0.03


def test_private_rng_leaves_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    with private_rng(5):
        first = torch.rand(3)
    with private_rng(5):
        again = torch.rand(3)
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())


def test_seed_from_is_stable() -> None:
    assert seed_from(0, "noise", "a") == seed_from(0, "noise", "a")
    assert len({seed_from(s, w) for s in range(50) for w in ("a", "b")}) == 100
    assert 0 <= seed_from("x") < 2**63
