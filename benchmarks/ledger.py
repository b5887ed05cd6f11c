"""How a benchmark keeps its numbers: printed, and in results/NAME.json with the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent


def small() -> bool:
    """Whether `--small` was given: sizes that check the plumbing and measure nothing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="tiny sizes; results are not kept")
    return bool(parser.parse_args().small)


def data_folder() -> Path | None:
    """The benchmark data, where IMDIFFUSION_DATA says; None, said aloud, where it is absent."""
    folder = Path(os.environ.get("IMDIFFUSION_DATA") or "no such folder")
    if folder.is_dir():
        return folder
    print("not measured: IMDIFFUSION_DATA names no folder with the benchmark data")
    return None


def keep(name: str, rows: Sequence[Mapping[str, Any]], *, small: bool) -> None:
    """Print `rows` as a table; unless small, write them to results/NAME.json too.

    A row may lack columns that others have.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    cells = [columns, *([_shown(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if small:
        return
    target = HERE / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps({"machine": machine(), "rows": list(rows)}, indent=1) + "\n")
    print(f"written to benchmarks/results/{target.name}")


def machine() -> dict[str, Any]:
    """What the numbers depend on: processor, cores, versions, commit, day."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "numpy", "imdiffusion")},
        "commit": _commit(),
        "day": datetime.now(UTC).date().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _commit() -> str:
    """The checkout's commit; "-dirty" where anything but these results was changed."""
    commit = _git("describe", "--always", "--abbrev=12")
    dirty = _git("status", "--porcelain", "--", "..", ":(exclude)results")
    return (commit or "not a checkout") + ("-dirty" if dirty else "")


def _git(*words: str) -> str:
    git = ["git", "-C", str(HERE), *words]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
