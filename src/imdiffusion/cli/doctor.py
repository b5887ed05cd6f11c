"""`imdiffusion doctor`: what this machine has, and how fast it would be."""

from __future__ import annotations

import platform
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdiffusion import __version__
from imdiffusion.cli.options import AsJson, Device, flag
from imdiffusion.cli.terminal import Terminal
from imdiffusion.devices import core_count

if TYPE_CHECKING:
    from imdiffusion.cli.terminal import Step

EXAMPLES = "imdiffusion doctor --json"

PACKAGES = (
    "torch",
    "numpy",
    "pyarrow",
    "narwhals",
    "safetensors",
    "psutil",
    "scipy",
    "rich",
    "typer",
)
OPTIONAL = {"pandas": "", "polars": "", "matplotlib": "plot"}  # package -> our extra that has it
CHANNELS = 38  # as in a machine of SMD, the usual yardstick
TRAINED_ROWS, STEPS = 400, 6
SCORED_ROWS = 2_000


def doctor(
    ctx: typer.Context,
    as_json: AsJson = False,
    device: Device = "auto",
    measure: Annotated[
        bool, flag("--measure/--no-measure", help="Time a small fit and detection.")
    ] = True,
) -> None:
    """Show versions, processors, memory, CUDA and extras, and measure the speed of `fast` here."""
    terminal: Terminal = ctx.obj
    facts = {**software(), **machine()}
    if measure:
        terminal.notice("Measuring for a few seconds …")
        facts["speed"] = speed(device)
    if as_json:
        terminal.emit_json(facts)
        return
    terminal.emit_table(("what", "here"), list(_lines(facts)))


def software() -> dict[str, Any]:
    """Versions of Python, this library, what it needs and what it can use."""
    return {
        "imdiffusion": __version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "optional": {name: _version(name) if find_spec(name) else None for name in OPTIONAL},
    }


def machine() -> dict[str, Any]:
    """Cores, memory in bytes, threads, and how torch was built."""
    import psutil
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": core_count(),
        "threads": torch.get_num_threads(),
        "memory": {
            "total": psutil.virtual_memory().total,
            "available": psutil.virtual_memory().available,
        },
        "torch_build": f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only",
        "cuda_devices": devices,
    }


def speed(device: str) -> dict[str, float]:
    """Measured with `fast` on noise of 38 channels: points a second, seconds of a whole fit."""
    import warnings

    import numpy as np

    from imdiffusion import ImDiffusion
    from imdiffusion.errors import ImDiffusionWarning
    from imdiffusion.presets import PRESETS

    at: dict[int, float] = {}

    def told(step: Step) -> None:
        at.setdefault(step.done, time.perf_counter())

    noise = np.random.default_rng(0).normal(size=(SCORED_ROWS, CHANNELS)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImDiffusionWarning)  # noise does not converge
        detector = ImDiffusion(device=device, max_steps=STEPS, validate_every=STEPS)
        detector.fit(noise[:TRAINED_ROWS], on_progress=told)
        detector.decision_function(noise[:TRAINED_ROWS])  # warm up
        began = time.perf_counter()
        detector.decision_function(noise)
        scored = time.perf_counter() - began
    a_step = (at[STEPS] - at[1]) / max(STEPS - 1, 1)  # the first one warms up
    return {
        "channels": CHANNELS,
        "points_per_second": round(SCORED_ROWS / scored, 1),
        "fit_seconds": round(a_step * PRESETS["fast"].max_steps, 1),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    memory = facts["memory"]
    lines = [
        ("imdiffusion", facts["imdiffusion"]),
        ("python", f"{facts['python']} ({sys.executable})"),
        *((name, found) for name, found in facts["packages"].items()),
        *((name, found or _absent(name)) for name, found in facts["optional"].items()),
        ("platform", facts["platform"]),
        ("cores", f"{facts['cores']} ({facts['threads']} threads in torch)"),
        (
            "memory",
            f"{memory['total'] / 2**30:.1f} GiB, {memory['available'] / 2**30:.1f} GiB available",
        ),
        ("torch build", facts["torch_build"]),
        ("CUDA devices", ", ".join(facts["cuda_devices"]) or "none"),
    ]
    if "speed" in facts:
        rate, seconds = facts["speed"]["points_per_second"], facts["speed"]["fit_seconds"]
        lines += [
            ("scoring", f"about {rate:,.0f} points a second at K = {CHANNELS} with fast"),
            ("training", f"about {seconds / 60:.1f} minutes at K = {CHANNELS} with fast"),
        ]
    return lines


def _absent(name: str) -> str:
    extra = OPTIONAL[name]
    how = f"'imdiffusion[{extra}]'" if extra else name
    return f"not installed (optional: pip install {how})"
