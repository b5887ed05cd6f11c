"""Where a number comes from: versions, commit, machine; and how much memory a process took."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from imdiffusion.devices import core_count

# What computes a number of a run, or reads the data it is computed from.
PACKAGES = ("imdiffusion", "torch", "numpy", "pyarrow", "scikit-learn", "scipy", "pyod")


def versions() -> dict[str, str]:
    """The version of Python, and of those of PACKAGES that are installed.

    Other packages of this environment are not in it, nor are those of a detector's own process,
    which it tells itself.
    """
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # an extra that is not installed has no say in the number
    return found


def commit() -> str | None:
    """Commit of the checkout that tracks this file, 12 hex digits; "+" where it was changed.

    None outside a checkout, also where this package is merely installed inside another project's,
    such as in a virtual environment there; None without git.
    """
    if _git("ls-files", "--error-unmatch", "--", Path(__file__).name) is None:
        return None
    return _git("describe", "--always", "--abbrev=12", "--dirty=+", "--match=")


def _git(*words: str) -> str | None:
    """What git says in the folder of this file; None where it fails, says nothing or is absent."""
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None


def host(device: str) -> dict[str, Any]:
    """Name of the processor, cores this process may use, memory in GiB; the GPU of `device`.

    gpu: its name where `device` is "cuda" or "cuda:N", otherwise None.
    """
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = torch.cuda.get_device_name(device)
    return {
        "cpu": _processor(),
        "cores": core_count(),
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


def forget_peak_memory(device: str = "cpu") -> bool:
    """Start the peaks of this process (Linux) and of `device` again; False where the system cannot.

    What the process holds already counts into its next peak.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_memory_mib() -> float:
    """Peak resident memory of this process in MiB; on Linux since it was last forgotten."""
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


def peaks(device: str) -> dict[str, float | None]:
    """`memory_mib` of this process, and `gpu_memory_mib` of its tensors: None without a GPU."""
    gpu = None
    if device.startswith("cuda"):
        import torch

        gpu = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return {"memory_mib": peak_memory_mib(), "gpu_memory_mib": gpu}
