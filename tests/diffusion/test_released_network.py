"""The paper's network gives the released network's output, and its fast attention the plain one's.

`released_network.npz` holds facts about the released code (github.com/17000cyh/IMDiffusion), run
once on a window of five channels: input `x` (B, L, K), `t`, `mask_id`, its `output`, and its tables
of steps and of places in time. Its parameters were drawn in the order of `names` from
numpy's default_rng(7), normal(0, .1) as float32, plus 1 for the weights of normalisations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from imdiffusion.diffusion.denoisers.attention import AttentionLayer
from imdiffusion.diffusion.denoisers.imtransformer import ImTransformer, step_table, time_table
from imdiffusion.diffusion.noise import private_rng
from imdiffusion.diffusion.schedule import quadratic

RELEASED = Path(__file__).with_name("released_network.npz")


@pytest.fixture(scope="module")
def released() -> dict[str, np.ndarray]:
    with np.load(RELEASED, allow_pickle=False) as file:
        return dict(file)


def with_drawn_weights(network: ImTransformer, names: np.ndarray) -> ImTransformer:
    generator, state = np.random.default_rng(7), network.state_dict()
    assert set(names) == set(state)
    for name in names:
        drawn = generator.normal(0, 0.1, tuple(state[name].shape)).astype(np.float32)
        whole = drawn + 1 if "norm" in name and name.endswith("weight") else drawn
        state[name] = torch.from_numpy(whole)
    network.load_state_dict(state)
    return network.eval()


def test_the_output_is_the_released_networks(released: dict[str, np.ndarray]) -> None:
    network = with_drawn_weights(ImTransformer(100, 5), released["names"])
    x = torch.from_numpy(released["x"])
    with torch.no_grad():
        output = network(
            x,
            torch.from_numpy(released["t"]),
            torch.zeros_like(x, dtype=torch.bool),
            torch.from_numpy(released["mask_id"]),
        )
    np.testing.assert_allclose(output.numpy(), released["output"], atol=1e-5)
    assert released["output"].std() > 0.05


def test_the_tables_are_the_released_ones(released: dict[str, np.ndarray]) -> None:
    steps, places = torch.arange(50), torch.arange(100)
    np.testing.assert_array_equal(step_table(steps, 128).numpy(), released["step_table"])
    np.testing.assert_array_equal(time_table(places, 128).numpy(), released["time_table"])


def test_noise_levels_are_the_released_ones(released: dict[str, np.ndarray]) -> None:
    schedule = quadratic(50, beta_start=1e-4, beta_end=0.5)
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), released["alpha_bar"], rtol=1e-6)


def test_the_output_bias_is_drawn_and_its_weights_are_zero() -> None:
    network = ImTransformer(100, 5)
    assert 0 < abs(float(network.output.bias.detach())) <= 1 / 8
    assert float(network.output.weight.detach().abs().max()) == 0


def plain(layer: AttentionLayer, split: Tensor) -> Tensor:
    query, key, value = split.permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(1, 2)


@pytest.mark.parametrize("sequences", [1, 7])
def test_attention_in_pieces_is_attention(sequences: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imdiffusion.diffusion.denoisers.attention.PIECE", 3 * 2 * 6 * 6)
    generator = torch.Generator().manual_seed(0)
    layer = AttentionLayer(8, 2, 8, 0.0).train()
    split = torch.randn(sequences, 6, 3, 2, 4, generator=generator, requires_grad=True)
    toward = torch.randn(sequences, 6, 2, 4, generator=generator)
    (found,) = torch.autograd.grad((layer._attend(split) * toward).sum(), split)
    (wanted,) = torch.autograd.grad((plain(layer, split) * toward).sum(), split)
    torch.testing.assert_close(layer._attend(split), plain(layer, split))
    torch.testing.assert_close(found, wanted)


def test_gradients_under_dropout_are_those_of_the_weights_that_it_left() -> None:
    layer = AttentionLayer(8, 2, 8, 0.4).train()
    split = torch.randn(5, 6, 3, 2, 4, dtype=torch.float64, requires_grad=True)

    def attend(split: Tensor) -> Tensor:
        with private_rng(3, torch.device("cpu")):
            return layer._attend(split)

    assert torch.autograd.gradcheck(attend, (split,))
    ones = torch.ones_like(split)
    left = attend(ones)[:, :, 0, 0] * 0.6  # equal weights: the share of them that dropout left
    assert 0.4 < float(left.mean()) < 0.8
