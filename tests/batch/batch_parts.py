"""Tiny entities, the smallest network, and what a batch left, byte for byte."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from imdiffusion.batch import Summary

TINY = {
    "window": 20,
    "stride": 10,
    "patch_length": 5,
    "width": 8,
    "heads": 2,
    "layers": 1,
    "feedforward": 8,
    "step_embedding": 8,
    "time_embedding": 8,
    "channel_embedding": 4,
    "diffusion_steps": 8,
    "sampling_steps": 3,
    "ensemble_steps": 2,
    "batch_size": 8,
    "max_steps": 6,
    "validate_every": 3,
    "smooth": (5,),
    "detrend": (0,),
}
WORKER = "imdiffusion.batch.worker"


def table(rows: int = 160, *, seed: int = 0) -> pd.DataFrame:
    """Three coupled channels, a row a minute."""
    generator = np.random.default_rng(seed)
    load = np.sin(np.arange(rows) / 9) + 0.1 * generator.normal(size=rows)
    return pd.DataFrame(
        {
            "timestamp": pd.date_range("2026-01-05", periods=rows, freq="1min", tz="UTC"),
            "cpu": load,
            "disk": 2 * load + 0.1 * generator.normal(size=rows),
            "net": generator.normal(size=rows),
        }
    )


def services(folder: Path, count: int) -> Path:
    """A folder with so many entities, e0 and on, a file each."""
    folder.mkdir(parents=True)
    for number in range(count):
        table(seed=number).to_parquet(folder / f"e{number}.parquet", index=False)
    return folder


def left(out: Path) -> dict[str, bytes]:
    """Every file of every result by its place, without the summary and what a call keeps."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".batch" not in path.parts and path.name != "batch.json"
    }


def statuses(summary: Summary) -> dict[str, str]:
    """How each entity ended."""
    return {name: one.answer.status for name, one in summary.outcomes.items()}


def workers(of: int | None = None) -> list[psutil.Process]:
    """The worker processes that a process (this one) has started."""
    found = psutil.Process(of).children(recursive=True)
    return [one for one in found if WORKER in " ".join(_command(one))]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it has ended since
        return []


def kill(process: psutil.Process) -> None:
    """At once, as the kernel does when memory is short."""
    os.kill(process.pid, signal.SIGKILL)
