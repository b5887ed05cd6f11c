"""A peer with the face of a baseline: its process is started by fit and ends with the object."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imdiffusion.baselines.rows import carried, checked_rows, fitted, unobserved
from imdiffusion.errors import ConfigError
from imdiffusion.settings import Scalar
from imdiffusion_bench.peers.environment import default_home, environment
from imdiffusion_bench.peers.run import call_peer

Floats = NDArray[np.float64]

# epochs, steps of an epoch, rows of a window: 0 = as the worker has it (README.md lists them).
SETTINGS: dict[str, Scalar] = {"epochs": 0, "steps": 0, "window": 0, "timeout_s": 6 * 3600}


class Peer:
    """One method of one environment; the environment is made on first use.

    Missing values carry the last observed value forward: no peer takes them. timeout_s is the
    longest that training may take, and again the longest of one scoring. device: "cpu" hides a GPU
    from the process; with any other the method takes one that it sees.
    """

    def __init__(
        self,
        environment: str,
        method: str,
        *,
        seed: int = 0,
        epochs: int = 0,
        steps: int = 0,
        window: int = 0,
        timeout_s: int = 6 * 3600,
        device: str = "auto",
        home: Path | None = None,
    ) -> None:
        self.environment = environment
        self.method = method
        self.seed = seed
        self.epochs = epochs
        self.steps = steps
        self.window = window
        self.timeout_s = timeout_s
        self.device = device
        self.home = home

    def fit(self, x: Floats) -> Peer:
        """Train on scaled rows x (T, K), NaN = missing.

        Raises ConfigError for a setting out of range, UsageError where the environment cannot be
        made, DataError where the method fails on these rows or takes longer than `timeout_s`.
        """
        for name in ("epochs", "steps", "window"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"{name} is {getattr(self, name)}", remedy="Give 0 (its own) or more."
                )
        if self.timeout_s <= 0:
            raise ConfigError(f"timeout_s is {self.timeout_s}", remedy="Give at least 1 second.")
        rows = checked_rows(x, least=2)
        python = environment(self.environment, self.home or default_home())
        job = {
            "method": self.method,
            "seed": self.seed,
            "epochs": self.epochs or None,
            "steps": self.steps or None,
            "window": self.window or None,
            "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        }
        worker = Path(__file__).parent / "workers" / f"{self.environment}.py"
        self.channels_ = rows.shape[1]
        self.process_ = call_peer(
            python,
            worker,
            job,
            carried(rows),
            name=f"{self.environment}:{self.method}",
            timeout_s=self.timeout_s,
            gpu=self.device != "cpu",
        )
        self.versions_ = self.process_.versions
        return self

    def decision_function(self, x: Floats) -> Floats:
        """Scores (T,) of scaled rows x (T, K): higher is worse, NaN where nothing was observed.

        Raises DataError as `fit` does.
        """
        fitted(self, "process_")
        rows = checked_rows(x, channels=self.channels_)
        score = self.process_.score(carried(rows))
        self.memory_mib_ = round(self.process_.memory_mib, 1)
        return np.where(unobserved(rows), np.nan, score)
