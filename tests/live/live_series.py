"""Tiny fitted entities, and rows for them, for tests of live detection."""

from __future__ import annotations

import warnings

import numpy as np

from imdiffusion import ImDiffusion
from imdiffusion.data.frame import Frame
from imdiffusion.entity import Entity
from imdiffusion.errors import ConvergenceWarning

NAMES = ("cpu", "memory", "disk")
START = np.datetime64("2026-01-01T00:00:00", "ns")
# As `fast` in what a score hangs on: several scales of time, three views, one of which follows
# the past; and a network of no size.
SETTINGS = {
    "window": 20, "patch_length": 5, "width": 8, "layers": 1, "feedforward": 8,
    "step_embedding": 8, "max_steps": 30, "validate_every": 30, "batch_size": 4,
    "detrend": (5, 10), "smooth": (3, 10), "mask_groups": 2, "alarm_rate": 0.01,
}  # fmt: skip


def series(rows: int = 300, channels: int = 3, seed: int = 0) -> np.ndarray:
    time = np.arange(rows)[:, None]
    noise = np.random.default_rng(seed).normal(size=(rows, channels))
    return np.sin(time / np.linspace(5, 11, channels)) + 0.1 * noise


def live(values: np.ndarray, names: tuple[str, ...] = NAMES, start: int = 0) -> Frame:
    """Rows a minute apart, NaN = missing."""
    times = START + (start + np.arange(len(values))) * np.timedelta64(60, "s")
    return Frame(values, ~np.isnan(values), times, names, "one")


def fit(values: np.ndarray, names: tuple[str, ...] = NAMES, **settings) -> ImDiffusion:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return ImDiffusion(**{**SETTINGS, **settings}).fit(live(values, names))


def entity_of(detector: ImDiffusion) -> Entity:
    return detector.entity()


def faulty(rows: int = 230) -> np.ndarray:
    """A series with a fault, a missing channel for a while, missing cells and a missing row."""
    test = series(rows, seed=1)
    test[100:110, 1] += 6.0
    test[130:160, 0] = np.nan
    test[40:60:3, 2] = np.nan
    test[170] = np.nan
    return test
