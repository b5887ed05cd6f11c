"""Dropout: its share, its scale, its generator and its gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers.attention import AttentionLayer, dropout
from imdiffusion.diffusion.noise import private_rng

CPU = torch.device("cpu")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_the_share_is_dropped_and_the_mean_is_kept(share: float) -> None:
    x = torch.ones(300, 1001)
    with private_rng(7, CPU):
        out = dropout(x, share, training=True)
    assert set(torch.unique(out).tolist()) == {0.0, torch.tensor(1 / (1 - share)).item()}
    # 300,300 draws: five standard deviations of the share are at most .0046.
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert torch.corrcoef((out[:, :-1] == 0).float().T[:50]).triu(1).abs().max() < 0.35


@given(st.lists(st.integers(0, 7), min_size=0, max_size=3), st.integers(0, 2**31))
def test_any_shape_and_the_same_draws_from_the_same_seed(shape: list[int], seed: int) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    with private_rng(seed, CPU):
        first = dropout(x, 0.3, training=True)
    with private_rng(seed, CPU):
        again = dropout(x, 0.3, training=True)
    assert first.shape == x.shape
    assert torch.equal(first, again)


def test_nothing_is_dropped_or_drawn_outside_training() -> None:
    x = torch.randn(5, 3)
    state = torch.get_rng_state()
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_the_gradient_passes_through_what_was_kept_alone() -> None:
    x = torch.ones(64, requires_grad=True)
    with private_rng(1, CPU):
        out = dropout(x, 0.25, training=True)
    torch.autograd.backward(out.sum())
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
    assert 0 < int((x.grad == 0).sum()) < 64


def test_attention_under_dropout_is_attention_in_the_mean() -> None:
    torch_layer = AttentionLayer(16, 2, 32, dropout=0.2)
    split = torch.randn(4, 9, 3, 2, 8, generator=torch.Generator().manual_seed(3))
    wanted = torch_layer.eval()._attend(split)
    torch_layer.train()
    with private_rng(5, CPU):
        drawn = torch.stack([torch_layer._attend(split) for _ in range(4000)])
    # The spread of one draw is below 1, so that of the mean is below .016.
    assert (drawn.mean(0) - wanted).abs().max() < 0.08
    assert (drawn[0] - wanted).abs().max() > 0.01
