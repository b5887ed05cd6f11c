"""The smallest settings and series that still show everything a verb does."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

import numpy as np
import pandas as pd

TINY = [
    word
    for pair in (
        "window=20",
        "stride=10",
        "patch_length=5",
        "width=8",
        "heads=2",
        "layers=1",
        "feedforward=8",
        "step_embedding=8",
        "time_embedding=8",
        "channel_embedding=4",
        "diffusion_steps=8",
        "sampling_steps=3",
        "ensemble_steps=2",
        "batch_size=8",
        "max_steps=20",
        "validate_every=10",
        "smooth=5",
        "detrend=0",
    )
    for word in ("--set", pair)
]


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    code: int
    out: str
    err: str


def series(rows: int, *, seed: int = 0, start: str = "2026-01-05", fault: slice | None = None):
    """Four coupled channels, one row a second; a `fault` lifts cpu far up."""
    generator = np.random.default_rng(seed)
    wave = np.sin(np.arange(rows) * (2 * np.pi / 60))
    noise = generator.normal(0, 0.05, (rows, 4))
    load = 50 + 20 * (wave + noise[:, 0])
    table = pd.DataFrame(
        {
            "timestamp": pd.date_range(start, periods=rows, freq="1s", tz="UTC"),
            "cpu": load,
            "memory": 4 + 0.02 * load + noise[:, 1],
            "disk": 100 * (1 + wave**2 + noise[:, 2]),
            "net": 10 * load + 20 * noise[:, 3],
        }
    )
    if fault is not None:
        table.loc[fault, "cpu"] = 400.0
    return table


def ended(process: subprocess.Popen[str], seconds: float = 60) -> Done:
    """Wait for a process to end."""
    out, err = process.communicate(timeout=seconds)
    return Done(process.returncode, out, err)
