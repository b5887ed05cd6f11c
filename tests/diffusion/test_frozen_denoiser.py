"""A network that was read is its weights alone, and says what the network says that had them."""

import copy
import gc
import threading

import pytest
import torch

from imdiffusion import presets, registry
from imdiffusion.diffusion.frozen import FrozenDenoiser, _shapes
from imdiffusion.diffusion.networks import new_network
from imdiffusion.errors import ModelError

CHANNELS = 3
CPU = torch.device("cpu")


def settings(denoiser: str, conditioning: str = "conditional"):
    own = {"denoiser": denoiser, "conditioning": conditioning, "window": 20}
    return presets.resolve("fast", {**own, "width": 16, "layers": 2, "heads": 2})


def drawn(given, seed: int):
    """A network none of whose weights are zero, as those of some outputs are at first."""
    network = new_network(given, CHANNELS, seed, None).eval()
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return network


def windows(given, number: int = 2):
    x = torch.randn(number, given.window, CHANNELS, generator=torch.Generator().manual_seed(number))
    mask_id = torch.zeros(number, dtype=torch.int64)
    return x, torch.tensor([0, 9] * number)[:number], x > 0, mask_id


@pytest.mark.parametrize("conditioning", ["conditional", "unconditional"])
@pytest.mark.parametrize("denoiser", registry.names("denoisers"))
@torch.no_grad()
def test_it_says_what_the_network_says_that_had_the_weights(denoiser, conditioning):
    given = settings(denoiser, conditioning)
    networks = [drawn(given, seed) for seed in (1, 2)]
    filled = [FrozenDenoiser(given, CHANNELS, one.state_dict(), device=CPU) for one in networks]
    parts = windows(given)
    for _ in range(2):  # in turn: nothing of one may stay behind for the other
        for network, one in zip(networks, filled, strict=True):
            assert torch.equal(one(*parts), network(*parts))
    assert not torch.equal(filled[0](*parts), filled[1](*parts))
    for network, one in zip(networks, filled, strict=True):
        own, theirs = one.state_dict(), network.state_dict()
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[name], theirs[name]) for name in own)
        assert all(tensor.data_ptr() % 64 == 0 for tensor in own.values())
        assert len({tensor.untyped_storage().data_ptr() for tensor in own.values()}) == 1
        assert sum(p.numel() for p in one.parameters()) == sum(
            p.numel() for p in network.parameters()
        )


@torch.no_grad()
def test_a_copy_says_the_same_and_moves_alone():
    given = settings("relay")
    one = FrozenDenoiser(given, CHANNELS, drawn(given, 1).state_dict(), device=CPU)
    other, parts = copy.deepcopy(one), windows(given)
    before = one(*parts)
    assert torch.equal(other(*parts), before)
    for parameter in other.parameters():
        parameter.add_(1.0)
    assert torch.equal(one(*parts), before)
    assert not torch.equal(other(*parts), before)


def test_threads_do_not_see_each_others_weights():
    given, wrong = settings("relay"), []
    networks = [drawn(given, seed) for seed in range(4)]
    filled = [FrozenDenoiser(given, CHANNELS, one.state_dict(), device=CPU) for one in networks]
    parts = windows(given, 8)
    start = threading.Barrier(len(networks))

    def ask(number: int) -> None:
        with torch.no_grad():
            expected = networks[number](*parts)
            start.wait()
            for _ in range(40):
                if not torch.equal(filled[number](*parts), expected):
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(networks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_weights_of_another_network_are_refused_by_name():
    given = settings("mixer")
    weights = new_network(given, CHANNELS, 0, None).state_dict()
    with pytest.raises(ModelError, match=r"not those of a network 'mixer' of 4 channels: .*input"):
        FrozenDenoiser(given, CHANNELS + 1, weights, device=CPU)
    del weights["norm.weight"]
    with pytest.raises(ModelError, match=r"norm\.weight.*fit again"):
        FrozenDenoiser(given, CHANNELS, weights, device=CPU)
    with pytest.raises(ModelError, match="more"):
        FrozenDenoiser(
            given,
            CHANNELS,
            new_network(given, CHANNELS, 0, None).state_dict() | {"more": torch.zeros(1)},
            device=CPU,
        )


def test_modules_go_with_the_last_network_of_their_shape():
    given = settings("rows")
    one = FrozenDenoiser(
        given, CHANNELS, new_network(given, CHANNELS, 0, None).state_dict(), device=CPU
    )
    other = FrozenDenoiser(given, CHANNELS, one.state_dict(), device=CPU)
    assert one.shape is other.shape
    gc.collect()
    held = len(_shapes)
    del one
    gc.collect()
    assert len(_shapes) == held
    del other
    gc.collect()
    assert len(_shapes) == held - 1
