"""Where a number comes from: versions, commit, machine; and how much memory a process took."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("imdiffusion", "torch", "numpy", "aeon", "scikit-learn", "pyod", "scipy")


def versions() -> dict[str, str]:
    """Python and every installed package that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an extra that is not installed has no say in the number
    return found


def commit() -> str | None:
    """The checkout's commit, with "+" where tracked files were changed; None outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=12"]
    try:
        done = subprocess.run(
            [*git, "--dirty=+", "--match="], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def host(device: str) -> dict[str, Any]:
    """Processor, cores, memory, and the GPU where one is used."""
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "cores": cores,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def forget_peak_memory() -> bool:
    """Start the peak of this process anew (Linux); False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_mib() -> float:
    """Peak resident memory of this process, on Linux since it was last forgotten."""
    own = 0.0
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                own = int(line.split()[1]) / 1024
    except OSError:
        own = 0.0
    unit = 2**20 if sys.platform == "darwin" else 2**10
    if not own:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return round(own, 1)
