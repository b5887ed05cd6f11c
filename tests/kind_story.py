"""Two weeks of a shop with a fault of every kind, and what each of them is"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from imdiffusion import ImDiffusion
from imdiffusion.errors import DataWarning

STEP, DAY = 10, 144  # minutes, rows
NAMES = ("orders", "cpu", "latency", "load", "flag")
START = "2026-01-05"  # a Monday
# First row, row after the last, kind of the first channel, how the sentence begins.
FAULTS = (
    (2 * DAY + 10, 2 * DAY + 44, "missing", "latency missing for 34 rows (5.67 h)"),
    (3 * DAY + 10, 3 * DAY + 50, "frozen", "cpu frozen at one value for 40 rows (6.67 h)"),
    (4 * DAY + 50, 4 * DAY + 51, "", "load 3.2 where "),
    (5 * DAY, 6 * DAY, "unusual_hour", "orders unusual for a Saturday"),
    (8 * DAY + 50, 8 * DAY + 53, "left_constant", "flag away from its constant value for 3 rows"),
    (9 * DAY + 50, 9 * DAY + 80, "missing", "all 5 channels missing for 30 rows (5 h)"),
)


def shop(days: int, seed: int) -> pd.DataFrame:
    """Normal rows: a day's course, half of it at weekends; one channel is a constant."""
    rng, rows = np.random.default_rng(seed), days * DAY
    times = pd.date_range(START, periods=rows, freq=f"{STEP}min", tz="UTC")
    course = np.sin(2 * np.pi * np.arange(rows) / DAY)
    weekend = (times.dayofweek >= 5).astype(float)
    noise = rng.normal(size=(rows, 4))
    cpu = 30 + 5 * course + noise[:, 1]
    values = {
        "orders": 50 + (20 - 18 * weekend) * (1 + course) + noise[:, 0],
        "cpu": cpu,
        "latency": 2 * cpu + noise[:, 2],
        "load": 1.1 + 0.05 * noise[:, 3],
        "flag": 0.0,
    }
    return pd.DataFrame({"timestamp": times, **values})


def faulty() -> pd.DataFrame:
    """Two other weeks, with FAULTS; the rows of the last one are not there."""
    table = shop(14, seed=1)
    (gone, frozen, spike, saturday, left, silent) = (slice(a, b) for a, b, _, _ in FAULTS)
    table.loc[gone.start : gone.stop - 1, "latency"] = np.nan
    table.loc[frozen.start : frozen.stop - 1, "cpu"] = table["cpu"][frozen.start]
    table.loc[spike.start, "load"] = 3.2
    table.loc[saturday.start : saturday.stop - 1, "orders"] = shop(1, seed=2)["orders"].to_numpy()
    table.loc[left.start : left.stop - 1, "flag"] = 0.05
    return table.drop(index=range(silent.start, silent.stop))


def fitted(days: int = 28, **settings: object) -> ImDiffusion:
    """A detector of the shop in closed form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # of the constant
        return ImDiffusion("linear", alarm_rate=0.001, **settings).fit(shop(days, seed=0))
