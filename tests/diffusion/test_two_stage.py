"""Rows and the relay: ties learned a row at a time, and two networks that take turns."""

import numpy as np
import pytest
import torch

from imdiffusion import ImDiffusion
from imdiffusion.diffusion.denoisers.row_mlp import RowMLP, TwoStage
from imdiffusion.diffusion.noise import counter_normal, private_rng

pytestmark = pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
SMALL = {
    "window": 20, "patch_length": 5, "width": 32, "feedforward": 64, "layers": 1, "mask_groups": 3,
    "max_steps": 400, "validate_every": 200, "learning_rate": 5e-3,
    "views": ("network",), "detrend": (0,), "smooth": (1,), "log_gain": 0.0,
}  # fmt: skip


def tied(rows: int, seed: int) -> np.ndarray:
    """Three channels; the third is the product of the others: no correlation tells it."""
    first, second = np.random.default_rng(seed).normal(size=(2, rows))
    return np.stack([first, second, first * second], axis=1)


def test_a_tie_between_channels_is_learned_through_patches_and_its_break_found() -> None:
    """A mixer with patches of five rows is blind to it: the score hangs on the second step."""
    train, test = tied(3_000, 0), tied(600, 1)
    broken = np.arange(300, 340)
    test[broken, 2] = tied(600, 2)[broken, 2]  # the same law, another history
    detector = ImDiffusion("fast", seed=0, error_scale=("spread",), **SMALL).fit(train)
    coarse, sharp = detector.step_errors(test)

    def contrast(errors: np.ndarray) -> float:
        return float(np.median(errors[broken]) / np.median(np.delete(errors, broken)))

    assert contrast(coarse) < 2
    assert contrast(sharp) > 5
    both = ImDiffusion("fast", seed=0, error_scale=("spread", "tie"), **SMALL).fit(train)
    assert contrast(both.decision_function(test)) > 1.5
    shares = both.channel_scores(test)[broken].mean(axis=0)
    assert shares.min() > 0


def test_the_relay_hands_each_window_to_one_network() -> None:
    with private_rng(3):
        relay = TwoStage(
            10, 2, patch_length=5, width=8, layers=1, feedforward=8, conditioning="conditional"
        ).eval()
        for network in (relay.coarse.output, relay.sharp.write[-1], relay.sharp.tell):
            torch.nn.init.normal_(network.weight)
    x = counter_normal(torch.arange(40).view(4, 10), 2, stream=1)
    t, ids = torch.tensor([0, 7, 0, 49]), torch.zeros(4, dtype=torch.long)
    visible = counter_normal(torch.arange(40).view(4, 10), 2, stream=2) > 0
    with torch.no_grad():
        mixed = relay(x, t, visible, ids)
        for one, when in enumerate(t.tolist()):
            own = relay.sharp if when == 0 else relay.coarse
            window = slice(one, one + 1)
            alone = own(x[window], t[window], visible[window], ids[window])
            torch.testing.assert_close(mixed[window], alone)
        hidden = torch.where(visible, x, x + 100.0)
        torch.testing.assert_close(
            relay.sharp(hidden, t, visible, ids), relay.sharp(x, t, visible, ids)
        )


def test_a_row_hears_of_its_neighbours_through_patches_alone() -> None:
    with private_rng(4):
        network = RowMLP(12, 2, patch_length=3, width=8, layers=1, feedforward=8).eval()
        torch.nn.init.normal_(network.write[-1].weight)
    x = counter_normal(torch.arange(12).view(1, 12), 2, stream=1)
    visible, zero = torch.ones(1, 12, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)

    def moved() -> list[bool]:
        changed = x.clone()
        changed[0, 4, 1] += 1.0
        with torch.no_grad():
            apart = network(changed, zero, visible, zero) - network(x, zero, visible, zero)
        return (apart.abs()[0].sum(dim=1) > 0).tolist()

    assert moved() == [row == 4 for row in range(12)]  # untrained, nothing is told
    torch.nn.init.normal_(network.tell.weight)
    network.blocks = torch.nn.ModuleList()
    assert moved() == [3 <= row < 6 for row in range(12)]
