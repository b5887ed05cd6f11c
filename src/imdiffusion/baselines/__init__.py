"""Plain detectors to measure against: nothing here is diffusion, and all of it is cheap.

A baseline is fitted on scaled rows, `fit(x (T,K) float64, NaN = missing) -> self`, and scores rows,
`decision_function(x) -> float64 (T,)`: higher is worse, NaN where a row has no observation at all.
Where it has a natural share for each channel it also has `channel_scores(x) -> (T, K)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from imdiffusion.arrays import Floats
from imdiffusion.schema import one_of


class Baseline(Protocol):
    """What every member of the table can do; constructor keywords are stored and nothing else."""

    def fit(self, x: Floats) -> Baseline:
        """Learn from training rows (T, K), NaN = missing; what was learned ends in an underscore.

        Raises DataError for rows it cannot learn from.
        """

    def decision_function(self, x: Floats) -> Floats:
        """One score for each row of x (T, K): higher is worse, NaN where nothing was observed.

        A member that finds the rows it was fitted on again, and so scores them too low, also has
        `training_scores(x) -> (T,)`, what those rows would get if they had not been seen.
        """


_SIMPLE = "imdiffusion.baselines.simple"
_LINEAR = "imdiffusion.baselines.linear"
_RESIDUALS = "imdiffusion.baselines.linear"
_LEARNED = "imdiffusion.baselines.learned"
_PYOD = "imdiffusion.baselines.learned"

# name -> ("module:attribute", keywords)
BASELINES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "random": (f"{_SIMPLE}:Random", {}),
    "squared_difference": (f"{_SIMPLE}:SquaredDifference", {}),
    "moving_variance": (f"{_SIMPLE}:MovingVariance", {}),
    "zscore": (f"{_SIMPLE}:ZScore", {}),
    "zscore_30": (f"{_SIMPLE}:ZScore", {"smooth": 30}),
    "pca": (f"{_LINEAR}:Pca", {}),
    "pca_30": (f"{_LINEAR}:Pca", {"smooth": 30}),
    "mahalanobis": (f"{_LINEAR}:Mahalanobis", {}),
    "mahalanobis_30": (f"{_LINEAR}:Mahalanobis", {"smooth": 30}),
    "forecast_s30": (f"{_RESIDUALS}:LinearForecast", {}),
    "channel_s30": (f"{_RESIDUALS}:OtherChannels", {}),
    "neighbours_32": ("imdiffusion.baselines.neighbours:PatchNeighbours", {}),
    "kmeans": (f"{_LEARNED}:KMeansWindows", {}),
    "isolation_forest": (f"{_LEARNED}:IsolationForestRows", {}),
    "joined_logs": ("imdiffusion.baselines.simple:JoinedLogs", {}),
    "standardised_mean": ("imdiffusion.baselines.simple:StandardisedMean", {}),
    "lstm_ad": (f"{_PYOD}:LstmAd", {}),
    "matrix_profile": (f"{_PYOD}:MatrixProfileRows", {}),
}


def names() -> tuple[str, ...]:
    """The names of all baselines, in the order of the tables."""
    return tuple(BASELINES)


def make(name: str, *, seed: int = 0) -> Baseline:
    """A fresh, unfitted baseline; `seed` goes to those that draw anything.

    Raises ConfigError with the nearest names if there is none called `name`.
    """
    kind, keywords = _kind(name)
    chance = {"seed": seed} if drawn(name) else {}
    return cast(Baseline, kind(**keywords, **chance))


def said(name: str) -> str:
    """What a baseline is, in one sentence. Raises ConfigError."""
    kind, keywords = _kind(name)
    first = (inspect.getdoc(kind) or "").partition("\n")[0].rstrip(".:")
    given = ", ".join(f"{key} {value}" for key, value in keywords.items())
    return f"{first} ({given})" if given else first


def drawn(name: str) -> bool:
    """Whether a baseline draws anything: its scores then depend on the seed. Raises ConfigError."""
    return "seed" in inspect.signature(_kind(name)[0]).parameters


def _kind(name: str) -> tuple[Any, Mapping[str, Any]]:
    target, keywords = BASELINES[one_of("baseline", name, BASELINES)]
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute), keywords
