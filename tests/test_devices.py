"""Devices by name: one grammar for the constructor, the command line and live configurations."""

import pytest
import torch

from imdiffusion import ImDiffusion
from imdiffusion.cli.setting_options import keywords
from imdiffusion.devices import check_device, device_of
from imdiffusion.errors import ConfigError
from imdiffusion.live.config.errors import ProblemsError
from imdiffusion.live.config.parser import read_configuration

CONFIGURATION = """
[detector]
device = "{}"
[[source]]
type = "stdin"
[[sink]]
type = "stdout"
"""


def asked_by_command(name: str) -> None:
    keywords(device=name)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_what_a_device_may_be_called_is_the_same_everywhere(name, tmp_path):
    file = tmp_path / "imdiffusion.toml"
    file.write_text(CONFIGURATION.format(name))
    assert check_device(name) == name
    assert keywords(device=name)["device"] == name
    assert read_configuration(file).detector["device"] == name


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:01", "CPU", "cpu:0", "", "mps"])
def test_another_name_is_refused_everywhere_with_the_same_words(name, tmp_path):
    file = tmp_path / "imdiffusion.toml"
    file.write_text(CONFIGURATION.format(name))
    for ask in (check_device, asked_by_command, device_of):
        with pytest.raises(ConfigError, match=f"unknown device '{name}'. Use auto, cpu, cuda or"):
            ask(name)
    with pytest.raises(ProblemsError, match=f"unknown device '{name}'"):
        read_configuration(file)
    with pytest.raises(ConfigError, match="unknown device"):
        ImDiffusion("fast", device=name).fit([[0.0, 1.0]] * 300)


def test_what_is_no_text_is_no_device():
    with pytest.raises(ConfigError, match="unknown device 0"):
        check_device(0)


@pytest.mark.parametrize(
    ("gpus", "name", "says"),
    [
        (0, "cuda", "torch finds no CUDA GPU here. Use device='auto' or 'cpu'"),
        (0, "cuda:1", "torch finds no CUDA GPU here"),
        (1, "cuda:1", "torch finds 1 CUDA GPU here. Use device='auto' or one from cuda:0"),
        (2, "cuda:2", "torch finds 2 CUDA GPUs here. .* to cuda:1"),
    ],
)
def test_a_gpu_that_is_not_here_is_told(gpus, name, says, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=says):
        device_of(name)


@pytest.mark.parametrize(("gpus", "auto"), [(0, "cpu"), (2, "cuda")])
def test_auto_is_a_gpu_where_there_is_one(gpus, auto, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert device_of("auto") == torch.device(auto)
    assert device_of("cpu") == torch.device("cpu")
    if gpus:
        assert device_of("cuda:1") == torch.device("cuda", 1)
