"""Where networks are computed: devices by name, the torch device behind one, and cores."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from imdiffusion.errors import ConfigError

if TYPE_CHECKING:
    import torch

CHOICES = "auto, cpu, cuda or cuda:N"
_NAME = re.compile(r"auto|cpu|cuda(:(0|[1-9][0-9]*))?")


def check_device(name: object) -> str:
    """The name itself: auto, cpu, cuda, or cuda:N for the N-th GPU; ConfigError otherwise.

    Whether the machine has it is not asked here: a configuration may be written for another one.

    >>> check_device("cuda:1")
    'cuda:1'
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"unknown device {name!r}", remedy=f"Use {CHOICES}.")
    return name


def device_of(name: str) -> torch.device:
    """The torch device behind a name; ConfigError if it is none, or is not here."""
    import torch

    check_device(name)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        seen = f"torch finds {count or 'no'} CUDA GPU{'s' if count > 1 else ''} here"
        raise ConfigError(
            f"device {name!r} was requested, but {seen}",
            remedy="Use device='auto' or 'cpu', or install a CUDA build of torch."
            if not count
            else f"Use device='auto' or one from cuda:0 to cuda:{count - 1}.",
        )
    return device


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
