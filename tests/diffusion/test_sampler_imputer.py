"""Samplers, loss, network and imputer at tiny size, with known answers."""

import math

import pytest
import torch
from torch import Tensor

from imdiffusion.diffusion.denoisers.attention import AttentionLayer
from imdiffusion.diffusion.denoisers.imtransformer import ImTransformer
from imdiffusion.diffusion.imputer import Imputer
from imdiffusion.diffusion.noise import counter_normal, mask_stream, private_rng
from imdiffusion.diffusion.sampler import ddim, ddpm, timesteps
from imdiffusion.diffusion.schedule import quadratic, shown, target_loss


def keys(batch: int, length: int) -> Tensor:
    return torch.arange(batch * length).view(batch, length)


def test_timesteps_hold_both_ends() -> None:
    assert timesteps(50, 50) == list(range(49, -1, -1))
    assert timesteps(50, 2) == [49, 0]
    assert timesteps(50, 1) == [49]
    assert timesteps(50, 6)[0] == 49
    assert timesteps(50, 6)[-1] == 0
    assert timesteps(50, 6, 0.5) == [24, 19, 14, 10, 5, 0]  # round(.5 * 49) = 24
    assert timesteps(50, 6, 0.0) == [5, 4, 3, 2, 1, 0]


def test_ddpm_samples_a_gaussian_prior() -> None:
    # With data ~ N(2, .5^2) the best eps is known in closed form; ancestral sampling from pure
    # noise with nothing visible must return that very distribution.
    schedule, mean, spread = quadratic(50), 2.0, 0.5
    x0 = torch.zeros(200, 10, 10)

    def best(x_t: Tensor, t: int) -> Tensor:
        bar = schedule.alpha_bar[t]
        variance = bar * spread**2 + 1 - bar
        return (1 - bar).sqrt() * (x_t - bar.sqrt() * mean) / variance

    def noise(stream: int) -> Tensor:
        return counter_normal(keys(200, 10), 10, stream=stream)

    for sampler in (ddpm, ddim):
        *_, (_, sample) = sampler(
            best,
            x0,
            torch.zeros_like(x0, dtype=torch.bool),
            schedule,
            noise=noise,
            steps=50,
            estimate="sample",
        )
        assert float(sample.mean()) == pytest.approx(mean, abs=0.03)
        # Posterior variance and 50 coarse steps leave the sample a little narrow (.46).
        assert float(sample.std()) == pytest.approx(spread, abs=0.05)


@pytest.mark.parametrize("sampler", [ddpm, ddim])
def test_samplers_show_seen_values_under_forward_noise(sampler) -> None:
    schedule = quadratic(50)
    x0 = torch.full((500, 4, 4), 3.0)
    visible = torch.zeros_like(x0, dtype=torch.bool)
    visible[:, :, :2] = True
    inputs: dict[int, Tensor] = {}

    def spy(x_t: Tensor, t: int) -> Tensor:
        inputs[t] = x_t
        return torch.zeros_like(x_t)

    def noise(stream: int) -> Tensor:
        return counter_normal(keys(500, 4), 4, stream=stream)

    list(sampler(spy, x0, visible, schedule, noise=noise, steps=10, estimate="x0"))
    for t, x_t in inputs.items():
        bar = float(schedule.alpha_bar[t])
        seen = x_t[visible]
        assert float(seen.mean()) == pytest.approx(3.0 * math.sqrt(bar), abs=0.06)
        assert float(seen.std()) == pytest.approx(math.sqrt(1 - bar), abs=0.06)
    # One path: neighbouring levels share their noise.
    late, last = sorted(inputs)[1], sorted(inputs)[0]
    a, b = inputs[late][visible], inputs[last][visible]
    if sampler is ddpm:
        assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.05
    else:
        assert float(torch.corrcoef(torch.stack([a, b]))[0, 1]) > 0.99


def test_released_network_has_446817_parameters() -> None:
    network = ImTransformer(100, 38)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 446_817


def test_conditional_network_has_one_more_side_channel() -> None:
    plain, conditional = ImTransformer(100, 38), ImTransformer(100, 38, conditioning="conditional")
    # 145 instead of 144 side channels in four blocks of 128 outputs; one more input plane of 64.
    extra = 4 * 128 + 64
    count = [sum(p.numel() for p in n.parameters()) for n in (plain, conditional)]
    assert count[1] - count[0] == extra


def test_attention_layer_agrees_with_torch() -> None:
    ours = AttentionLayer(16, 4, 24, dropout=0.0)
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0.0, activation="gelu", batch_first=True
    )
    with torch.no_grad():
        theirs.self_attn.in_proj_weight.copy_(ours.qkv.weight)
        theirs.self_attn.in_proj_bias.copy_(ours.qkv.bias)
        theirs.self_attn.out_proj.load_state_dict(ours.join.state_dict())
        theirs.linear1.load_state_dict(ours.expand.state_dict())
        theirs.linear2.load_state_dict(ours.contract.state_dict())
    x = counter_normal(keys(3, 7), 16, stream=0)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_patches_come_back_in_place() -> None:
    network = ImTransformer(12, 2, patch_length=4, width=8, heads=2, layers=1)
    x = torch.arange(24.0).view(1, 12, 2)
    patches = network._patches(x)
    assert patches.shape == (1, 2, 3, 4)
    assert patches[0, 1, 2].tolist() == x[0, 8:12, 1].tolist()


@pytest.mark.parametrize("attention", ["both", "temporal", "spatial"])
def test_attention_option_decides_what_a_point_hears(attention: str) -> None:
    network = ImTransformer(12, 4, patch_length=3, width=8, heads=2, layers=1, attention=attention)
    network.eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    x = counter_normal(keys(1, 12), 4, stream=0)
    t, ids = torch.tensor([3]), torch.tensor([0])
    base = network(x, t, x > 0, ids)
    poked = x.clone()
    poked[0, 0, 0] += 1.0
    change = (network(poked, t, x > 0, ids) - base).abs() > 1e-7
    assert change[0, 0, 0]
    assert bool(change[0, 9:, 0].any()) == (attention != "spatial")  # another time, same channel
    assert bool(change[0, :3, 1:].any()) == (attention != "temporal")  # another channel, same time


def test_loss_counts_targets_alone() -> None:
    schedule = quadratic(10)
    shape = (2, 4, 3)
    x0, eps = torch.zeros(shape), torch.full(shape, 2.0)
    observed = torch.ones(shape, dtype=torch.bool)
    observed[0, 0, 0] = False
    visible = torch.zeros(shape, dtype=torch.bool)
    visible[:, :2] = True
    seen: list[Tensor] = []

    def zero(x_t: Tensor, t: Tensor, shown_: Tensor, mask_id: Tensor) -> Tensor:
        seen.append(shown_)
        out = torch.zeros(shape)
        out[:, :2] = 99.0  # wrong where visible: must not matter
        return out

    ids, t = torch.zeros(2, dtype=torch.long), torch.tensor([1, 5])
    loss = target_loss(zero, schedule, x0, observed, visible, ids, t, eps)
    assert float(loss) == pytest.approx(4.0)
    assert not seen[0][0, 0, 0]  # unobserved is never visible
    nothing = target_loss(zero, schedule, x0, observed & False, visible, ids, t, eps)
    assert float(nothing) == 0.0


def test_conditional_shows_clean_values() -> None:
    x0, x_t = torch.ones(1, 2, 1), torch.full((1, 2, 1), 5.0)
    visible = torch.tensor([[[True], [False]]])
    assert shown(x0, x_t, visible, "conditional").flatten().tolist() == [1.0, 5.0]
    assert shown(x0, x_t, visible, "unconditional").flatten().tolist() == [5.0, 5.0]


def tiny_imputer(masks: Tensor, **options) -> Imputer:
    with private_rng(1):
        network = ImTransformer(12, 4, patch_length=3, width=8, heads=2, layers=1).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return Imputer(network, quadratic(10), masks, steps=4, **options)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_imputer_does_not_depend_on_the_batch(sampler: str) -> None:
    masks = torch.zeros(2, 12, 4, dtype=torch.bool)
    masks[0, :6], masks[1, 6:] = True, True
    imputer = tiny_imputer(masks, sampler=sampler)
    key = keys(5, 12) * 7919
    x0 = counter_normal(key, 4, stream=9)
    observed = torch.ones_like(x0, dtype=torch.bool)
    whole = [e for _, e in imputer(x0, observed, key)]
    order = torch.tensor([3, 0, 4])
    part = [e for _, e in imputer(x0[order], observed[order], key[order])]
    for a, b in zip(whole, part, strict=True):
        assert torch.allclose(a[order], b, atol=1e-5)


def test_a_target_never_sees_its_own_value() -> None:
    masks = torch.zeros(2, 12, 4, dtype=torch.bool)
    masks[0, :, :2], masks[1, :, 2:] = True, True
    imputer = tiny_imputer(masks, sampler="ddim")
    key = keys(1, 12)
    x0 = counter_normal(key, 4, stream=9)
    observed = torch.ones_like(x0, dtype=torch.bool)
    *_, (_, base) = imputer(x0, observed, key)
    poked = x0.clone()
    poked[0, 5, 0] += 10.0  # channels 0 and 1 are imputed under mask 1, from 2 and 3 alone
    *_, (_, after) = imputer(poked, observed, key)
    assert torch.equal(base[:, :, :2], after[:, :, :2])
    assert float((base - after)[:, :, 2:].abs().max()) > 1e-6


def test_unobserved_values_change_nothing() -> None:
    masks = torch.zeros(2, 12, 4, dtype=torch.bool)
    masks[0, :6], masks[1, 6:] = True, True
    imputer = tiny_imputer(masks, sampler="ddim")
    key = keys(1, 12)
    x0 = counter_normal(key, 4, stream=9)
    observed = torch.ones_like(x0, dtype=torch.bool)
    observed[0, 3:5, 1] = False
    other = torch.where(observed, x0, 55.0)
    *_, (_, a) = imputer(x0, observed, key)
    *_, (_, b) = imputer(other, observed, key)
    assert torch.equal(a, b)


def test_points_no_mask_hides_are_nan() -> None:
    masks = torch.ones(1, 12, 4, dtype=torch.bool)
    masks[0, 9:] = False
    imputer = tiny_imputer(masks)
    key = keys(1, 12)
    x0 = counter_normal(key, 4, stream=9)
    *_, (_, estimate) = imputer(x0, torch.ones_like(x0, dtype=torch.bool), key)
    assert estimate[0, :9].isnan().all()
    assert estimate[0, 9:].isfinite().all()
    assert not imputer.covered()[:9].any()


def test_some_masks_alone_give_what_they_give_in_company() -> None:
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(2, 12, 4, generator=generator)
    masks = torch.ones(4, 12, 4, dtype=torch.bool)
    for m in range(4):
        masks[m, :, m] = False
    imputer = tiny_imputer(masks)
    observed = torch.ones_like(x0, dtype=torch.bool)
    together = [estimate for _, estimate in imputer(x0, observed, keys(2, 12))]
    alone = [estimate for _, estimate in imputer(x0, observed, keys(2, 12), chosen=[3, 1])]
    for one, other in zip(alone, together, strict=True):
        assert torch.allclose(one[:, :, [1, 3]], other[:, :, [1, 3]], atol=1e-5)
        assert torch.isnan(one[:, :, [0, 2]]).all()


def test_no_two_masks_and_streams_share_their_noise() -> None:
    pairs = [(stream, mask) for stream in (0, 1, 2, 201, 2**26 - 1) for mask in range(200)]
    assert len({mask_stream(*pair) for pair in pairs}) == len(pairs)
    assert mask_stream(3, 5) == 3 * 64 + 5  # as it was with up to 64 masks: scores stay the same


def test_masks_beyond_the_64th_have_noise_of_their_own() -> None:
    seen = {}

    def sampler(denoise, x0, visible, schedule, *, noise, steps, start, estimate):
        seen.update({stream: noise(stream) for stream in (0, 1)})
        yield 0, x0

    masks = torch.ones(70, 4, 2, dtype=torch.bool)
    masks[:, 0] = False
    imputer = Imputer(lambda *_: torch.zeros(()), quadratic(5, beta_start=0.1, beta_end=0.2), masks)
    imputer.sampler = sampler
    list(
        imputer(torch.zeros(1, 4, 2), torch.ones(1, 4, 2, dtype=torch.bool), torch.arange(4)[None])
    )
    both = torch.cat([seen[0], seen[1]]).flatten(1)  # (140, 8): every mask in two streams
    assert len({tuple(row.tolist()) for row in both}) == 140
