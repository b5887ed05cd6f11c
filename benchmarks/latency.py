"""How long one new point takes: of one entity, of 600 entities in turn, and from a cold start.

A point is scored from the 200 rows that end with it: a window and what the score reads around its
row. In a stream it is pushed, and scored as it arrives and, where that is asked for, in offline:
the pushes with which a window becomes whole are the slowest percent. The 600 entities share one
model here, as the time of one does not hang on its weights. The cold start is a fresh process that
loads a saved model and scores once, torch import included. Goals on 2 cores, 38 channels: median 20
ms, 99th percentile 50 ms, 600 entities in 10 s, cold start in 2 s.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import ledger
import numpy as np

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.live.scorers.fitted import EntityScorer

CHANNELS, HISTORY = 38, 200
COLD = """
import sys
import numpy as np
from imdiffusion import ImDiffusion
ImDiffusion.load(sys.argv[1], device="cpu").decision_function(np.load(sys.argv[2]))
"""


def series(rows: int, seed: int) -> np.ndarray:
    """Coupled waves with noise, (rows, CHANNELS)."""
    wave = np.sin(np.arange(rows)[:, None] / np.linspace(5, 90, CHANNELS))
    return wave + 0.1 * np.random.default_rng(seed).normal(size=wave.shape)


def seconds_of(detector: ImDiffusion, calls: int) -> np.ndarray:
    """Wall time of each of so many calls, every one with rows of its own."""
    histories = [series(HISTORY, seed) for seed in range(calls)]
    taken = []
    for rows in histories:
        start = time.perf_counter()
        detector.decision_function(rows)
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def seconds_pushed(detector: ImDiffusion, calls: int, *, offline: bool) -> np.ndarray:
    """Wall time of each of so many pushes of one row into a stream that is under way."""
    entity = detector.entity()
    rows = series(HISTORY + calls, 0)
    times = np.datetime64("2026-01-01", "ns") + np.arange(len(rows)) * np.timedelta64(60, "s")
    frame = Frame(rows, np.ones(rows.shape, bool), times, detector.channels_)
    scorer = EntityScorer(entity, offline=offline)
    scorer.push(frame.slice(0, HISTORY))
    taken = []
    for row in range(HISTORY, len(rows)):
        start = time.perf_counter()
        scorer.push(frame.slice(row, row + 1))
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def cold_start(detector: ImDiffusion, times: int) -> np.ndarray:
    """Wall time of fresh processes that load the model and score once."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        detector.save(Path(folder) / "model")
        np.save(Path(folder) / "rows.npy", series(HISTORY, 0))
        command = [sys.executable, "-c", COLD, f"{folder}/model", f"{folder}/rows.npy"]
        for _ in range(times):
            start = time.perf_counter()
            subprocess.run(command, check=True)
            taken.append(time.perf_counter() - start)
    return np.array(taken)


def main() -> None:
    """Measure all of them and keep the rows."""
    small = ledger.small()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = ImDiffusion(max_steps=5, validate_every=5).fit(series(2_000, 0))
    seconds_of(detector, 3)  # warm
    one = seconds_of(detector, 10 if small else 1_000) * 1e3
    pushed = {
        name: seconds_pushed(detector, 10 if small else 1_000, offline=again) * 1e3
        for name, again in (("online", False), ("online and offline", True))
    }
    fleet = seconds_of(detector, 20 if small else 600).sum()
    cold = cold_start(detector, 1 if small else 7)
    rows = [
        {
            "what": "one new point, warm",
            "median_ms": round(float(np.median(one)), 2),
            "p99_ms": round(float(np.quantile(one, 0.99)), 2),
        },
        *(
            {
                "what": f"one new point pushed, {name}",
                "median_ms": round(float(np.median(taken)), 2),
                "p99_ms": round(float(np.quantile(taken, 0.99)), 2),
            }
            for name, taken in pushed.items()
        ),
        {"what": "one new point of 600 entities each", "total_s": round(float(fleet), 2)},
        {
            "what": "process start to first score",
            "median_s": round(float(np.median(cold)), 2),
            "worst_s": round(float(cold.max()), 2),
        },
    ]
    ledger.keep("latency", rows, small=small)


if __name__ == "__main__":
    main()
