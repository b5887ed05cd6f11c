"""The mixer, and predicting the clean window: what is learned, and what the algebra says."""

import numpy as np
import pytest
import torch
from torch import Tensor

from imdiffusion import ImDiffusion
from imdiffusion.diffusion.denoisers.mixer import Mixer
from imdiffusion.diffusion.imputer import Imputer
from imdiffusion.diffusion.noise import counter_normal, private_rng
from imdiffusion.diffusion.schedule import quadratic, target_loss
from imdiffusion.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
MIXER = {
    "denoiser": "mixer", "conditioning": "conditional", "prediction": "x0",
    "train_levels": "visited", "sampling_steps": 1, "sampling_start": 1.0, "ensemble_steps": 1,
    "window": 20, "stride": 20, "patch_length": 1, "width": 32, "feedforward": 64, "layers": 1,
    "mask_groups": 3, "batch_size": 16, "max_steps": 400, "validate_every": 200,
    "learning_rate": 5e-3, "smooth": (1,),
}  # fmt: skip


def coupled(rows: int, seed: int) -> np.ndarray:
    """Three channels; the third is the product of the others: no correlation tells it."""
    first, second = np.random.default_rng(seed).normal(size=(2, rows))
    return np.stack([first, second, first * second], axis=1)


def test_a_coupling_without_correlation_is_learned_and_its_break_found() -> None:
    train, test = coupled(3_000, 0), coupled(600, 1)
    assert abs(np.corrcoef(train.T)[2, :2]).max() < 0.1
    broken = np.arange(300, 340)
    test[broken, 2] = coupled(600, 2)[broken, 2]  # the same law, another history
    plain = {"detrend": (0,), "smooth": (1,), "error_scale": ("holdout",), "log_gain": 0.0}
    detector = ImDiffusion("fast", views=("network",), seed=0, **{**MIXER, **plain}).fit(train)
    part = detector.channel_scores(test)[:, 2]
    assert np.median(part[broken]) > 20 * np.median(np.delete(part, broken))


def test_patches_and_channels_come_back_in_place() -> None:
    with private_rng(3):
        network = Mixer(12, 2, patch_length=3, width=8, layers=1, feedforward=8).eval()
        torch.nn.init.normal_(network.output.weight)
    x = counter_normal(torch.arange(12).view(1, 12), 2, stream=1)
    visible, zero = torch.ones(1, 12, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        network.blocks = torch.nn.ModuleList()  # so that no token hears of another
        base = network(x, zero, visible, zero)
        x[0, 4, 1] += 1.0
        moved = (network(x, zero, visible, zero) - base).abs()[0].sum(dim=1) > 0
    assert moved.tolist() == [3 <= row < 6 for row in range(12)]  # its patch, and no other


def test_the_loss_of_x0_is_measured_against_the_window() -> None:
    shape = (1, 4, 2)
    x0, eps = torch.full(shape, 3.0), torch.full(shape, -1.0)
    everything = torch.ones(shape, dtype=torch.bool)

    def one(x_t: Tensor, t: Tensor, visible: Tensor, mask_id: Tensor) -> Tensor:
        return torch.ones(shape)

    ids = torch.zeros(1, dtype=torch.long)
    found = {
        prediction: float(
            target_loss(
                one,
                quadratic(10),
                x0,
                everything,
                ~everything,
                ids,
                ids,
                eps,
                prediction=prediction,
            )
        )
        for prediction in ("eps", "x0")
    }
    assert found == {"eps": pytest.approx(4.0), "x0": pytest.approx(4.0)}
    other = float(
        target_loss(
            one, quadratic(10), 2 * x0, everything, ~everything, ids, ids, eps, prediction="x0"
        )
    )
    assert other == pytest.approx(25.0)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_network_that_knows_the_window_imputes_it_at_every_step(sampler: str, steps: int) -> None:
    key = torch.arange(24).view(2, 12)
    x0 = counter_normal(key, 3, stream=5)
    masks = torch.zeros(2, 12, 3, dtype=torch.bool)
    masks[0, :6], masks[1, 6:] = True, True

    def oracle(x_t: Tensor, t: Tensor, visible: Tensor, mask_id: Tensor) -> Tensor:
        return x0.repeat(2, 1, 1)

    imputer = Imputer(
        oracle, quadratic(50), masks, sampler=sampler, steps=steps, prediction="x0",
        conditioning="conditional",
    )  # fmt: skip
    found = list(imputer(x0, torch.ones_like(x0, dtype=torch.bool), key))
    assert [t for t, _ in found] == imputer.visited()
    for _, estimate in found:
        # From the noisiest level an error of rounding is magnified by 1 / sqrt(3e-5) = 180.
        assert torch.allclose(estimate, x0, atol=1e-3)


def test_training_visits_the_levels_that_scoring_does() -> None:
    seen: set[int] = set()

    def watch(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.update(given[1].tolist())

    hook = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, given: watch(module, given) if isinstance(module, Mixer) else None
    )
    try:
        settings = {**MIXER, "max_steps": 5, "validate_every": 5}
        ImDiffusion("fast", **settings).fit(coupled(200, 0))
        assert seen == {49}
        ImDiffusion("fast", **{**settings, "train_levels": "all"}).fit(coupled(200, 0))
        assert len(seen) > 10
    finally:
        hook.remove()


def test_a_mixer_has_no_attention_to_leave_out() -> None:
    with pytest.raises(ConfigError, match="mixer"):
        ImDiffusion("fast", **{**MIXER, "attention": "spatial"}).fit(coupled(200, 0))
