"""`fast` on two SMD machines: seconds to fit, points scored a second, AUC-PR, VUS-PR, alarms.

Goals on 2 cores: machine-1-6 in 60 s, 10,000 points a second, AUC-PR .825; machine-2-1 AUC-PR .36.
Labels are read only after scoring. The random row is the floor; `moving_variance` is the one-liner
to beat. --small scores a synthetic series instead, and measures nothing.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import ledger
import numpy as np
import pyarrow.parquet as pq
from sklearn.metrics import average_precision_score

from imdiffusion import ImDiffusion
from imdiffusion_bench.metrics.range_based import vus_pr

MACHINES = ("machine-1-6", "machine-2-1")
SEEDS = (0,)


def recording(machine: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Training values, test values and test labels of one machine."""
    folder = ledger.data_folder()
    if folder is None:
        return None
    train = pq.read_table(folder / "SMD" / machine / "train.parquet").to_pandas().to_numpy()
    test = pq.read_table(folder / "SMD" / machine / "test.parquet").to_pandas()
    return train, test.drop(columns="label").to_numpy(), test["label"].to_numpy()


def synthetic() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A few coupled waves with one planted fault."""
    wave = np.sin(np.arange(1_200)[:, None] / np.arange(5, 11)) + 0.05 * np.random.default_rng(
        0
    ).normal(size=(1_200, 6))
    label = np.zeros(600, dtype=int)
    label[300:330] = 1
    test = wave[600:].copy()
    test[label == 1, 2] += 4.0
    return wave[:600], test, label


def moving_variance(train: np.ndarray, test: np.ndarray, width: int = 30) -> np.ndarray:
    """Sum over channels of the variance of the z-score over `width` rows, centred."""
    spread = train.std(axis=0)
    z = (test - train.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    padded = np.pad(z, ((width // 2, width - 1 - width // 2), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)
    return np.asarray(windows.var(-1).sum(1))


def quality(label: np.ndarray, score: np.ndarray) -> dict[str, float]:
    """AUC-PR and VUS-PR (buffer 100)."""
    return {
        "auc_pr": round(float(average_precision_score(label, score)), 4),
        "vus_pr": round(vus_pr(label == 1, score), 4),
    }


def measure(
    name: str, train: np.ndarray, test: np.ndarray, label: np.ndarray, seed: int, small: bool
) -> dict[str, object]:
    """Fit and score once."""
    settings: dict[str, Any] = {"max_steps": 20, "validate_every": 10} if small else {}
    detector = ImDiffusion(seed=seed, **settings)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(train)
    fitted = time.perf_counter()
    score = detector.decision_function(test)
    scored = time.perf_counter()
    alarm = score > 1
    return {
        "series": name,
        "row": "imdiffusion fast",
        "seed": seed,
        "fit_s": round(fitted - start, 1),
        "points_per_s": round(len(test) / (scored - fitted)),
        **quality(label, score),
        "alarm_share_normal": round(float(alarm[label == 0].mean()), 5),
        "alarm_share_anomalous": round(float(alarm[label == 1].mean()), 4),
    }


def floors(
    name: str, train: np.ndarray, test: np.ndarray, label: np.ndarray
) -> list[dict[str, object]]:
    """Quality of random scores and of the moving variance."""
    rows = {
        "random": np.random.default_rng(0).random(len(test)),
        "moving_variance": moving_variance(train, test),
    }
    return [
        {
            "series": name,
            "row": row,
            **quality(label, score),
        }
        for row, score in rows.items()
    ]


def main() -> None:
    """Measure every machine and keep the rows."""
    small = ledger.small()
    rows: list[dict[str, object]] = []
    for name in ("synthetic",) if small else MACHINES:
        parts = synthetic() if small else recording(name)
        if parts is None:
            return
        rows += [measure(name, *parts, seed, small) for seed in SEEDS]
        rows += floors(name, *parts)
    ledger.keep("detection", rows, small=small)


if __name__ == "__main__":
    main()
