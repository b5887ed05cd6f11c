"""Seconds that VUS-PR takes over every entity of every data set, for one detector's scores."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ledger
import numpy as np
from numpy.typing import NDArray

from imdiffusion_bench.datasets import available, open_dataset
from imdiffusion_bench.metrics.range_based import BUFFER, surface

SMALL_ROWS = 2_000  # of the drawn series that stands in where the data is absent or not wanted


def main() -> None:
    """Random scores: all distinct, which is the dearest case."""
    small = ledger.small()
    root = None if small else ledger.data_folder()
    if not small and root is None:
        return
    rows = [drawn(SMALL_ROWS)] if root is None else [whole(root, name) for name in available(root)]
    if root is not None:
        seconds = sum(row["seconds"] for row in rows)
        points = sum(row["rows"] for row in rows)
        rows.append({"data set": "all", "rows": points, "seconds": seconds})
        rows[0] |= against_aeon(root)
    ledger.keep("vus_time", rows, small=small)


def whole(root: Path, name: str) -> dict[str, Any]:
    """Every entity of one data set."""
    dataset, seconds, rows = open_dataset(name, root), 0.0, 0
    for entity in dataset.entities():
        label = dataset.load(entity).truth.label()
        score = np.random.default_rng(0).random(len(label))
        began = time.perf_counter()
        surface(label, score)
        seconds += time.perf_counter() - began
        rows += len(label)
    return {"data set": name, "rows": rows, "seconds": seconds}


def against_aeon(root: Path) -> dict[str, Any]:
    """The first entity once more by aeon's own code: seconds of each, and how far they differ."""
    from aeon.benchmarking.metrics.anomaly_detection import range_pr_roc_auc_support

    dataset = open_dataset(available(root)[0], root)
    label = dataset.load(dataset.entities()[0]).truth.label()
    score = np.random.default_rng(0).random(len(label))

    def aeon(label: NDArray[np.bool_], score: NDArray[np.float64]) -> tuple[float, float]:
        areas = range_pr_roc_auc_support(
            label.astype(np.int64), score, buffer_size=BUFFER, skip_check=True
        )
        return float(areas[0]), float(areas[1])

    aeon(label[:500] | (np.arange(500) < 9), score[:500])  # compiles
    began = time.perf_counter()
    theirs = aeon(label, score)
    middle = time.perf_counter()
    ours = surface(label, score)
    ended = time.perf_counter()
    return {
        "R-AUC of one entity by aeon": middle - began,
        "R-AUC and VUS by ours": ended - middle,
        "largest difference": max(
            abs(theirs[0] - ours["r_auc_pr"]), abs(theirs[1] - ours["r_auc_roc"])
        ),
    }


def drawn(rows: int) -> dict[str, Any]:
    """A series of random scores with one anomaly."""
    label = np.zeros(rows, bool)
    label[rows // 2 : rows // 2 + 50] = True
    began = time.perf_counter()
    surface(label, np.random.default_rng(0).random(rows))
    return {"data set": "drawn", "rows": rows, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    main()
