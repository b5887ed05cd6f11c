"""Cost against the number of channels and against the window: points scored a second, fit time.

The exponent is the slope of log(seconds a row) against log(size): 1 = twice the channels take twice
as long.
"""

from __future__ import annotations

import time
import warnings

import ledger
import numpy as np

from imdiffusion import ImDiffusion

CHANNELS = (8, 19, 38, 75, 150, 300)
WINDOWS = (50, 100, 200, 400)


def series(rows: int, channels: int) -> np.ndarray:
    """Coupled waves with noise."""
    wave = np.sin(np.arange(rows)[:, None] / np.linspace(5, 90, channels))
    return wave + 0.1 * np.random.default_rng(0).normal(size=wave.shape)


def measure(rows: int, channels: int, window: int, steps: int) -> tuple[float, float]:
    """Seconds of a training step, and of a scored row: the fastest of three."""
    values = series(rows, channels)
    detector = ImDiffusion(window=window, max_steps=steps, validate_every=steps)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector.fit(values[: max(2_000, 4 * window)])
    fit = (time.perf_counter() - start) / steps
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        detector.decision_function(values)
        taken.append(time.perf_counter() - start)
    return fit, min(taken) / rows


def curve(
    name: str, sizes: tuple[int, ...], found: list[tuple[float, float]]
) -> list[dict[str, object]]:
    """A row a size, and the exponent of the whole curve."""
    rows: list[dict[str, object]] = [
        {
            "curve": name,
            "size": size,
            "ms_a_training_step": round(1e3 * fit, 1),
            "points_per_s": round(1 / score),
        }
        for size, (fit, score) in zip(sizes, found, strict=True)
    ]
    slope = np.polyfit(np.log(sizes), np.log([score for _, score in found]), 1)[0]
    return [*rows, {"curve": name, "exponent": round(float(slope), 2)}]


def main() -> None:
    """Measure both curves and keep the rows."""
    small = ledger.small()
    rows, steps = (1_000, 2) if small else (20_000, 20)
    channels = CHANNELS[:2] if small else CHANNELS
    windows = WINDOWS[:2] if small else WINDOWS
    kept = curve("channels", channels, [measure(rows, k, 100, steps) for k in channels])
    kept += curve("window", windows, [measure(rows, 38, length, steps) for length in windows])
    ledger.keep("scaling", kept, small=small)


if __name__ == "__main__":
    main()
