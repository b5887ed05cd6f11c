"""Worker of the environment tsb_ad: detectors of TSB-AD 1.5, with its settings for many channels.

Where TSB-AD places the score of a window of several channels at the window's first row, it is
moved: to the last row where the last row alone is scored, to the middle where all of them are.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]

VERSIONS = ("TSB-AD", "torch", "numpy")

# The settings are TSB-AD's chosen ones for multivariate series (its HP_list), epochs its defaults.
# range: the output layer is a sigmoid, so rows go in scaled to [0, 1] over the training part.
# place: the row of a window that its score belongs to, None = the package has placed it.
METHODS: dict[str, dict[str, Any]] = {
    "tran_ad": {"of": "TranAD", "window": 10, "lr": 1e-4, "range": True, "place": "last"},
    "omni_anomaly": {
        "of": "OmniAnomaly",
        "window": 5,
        "lr": 2e-3,
        "range": True,
        "place": "middle",
    },
    "usad": {"of": "USAD", "window": 100, "lr": 1e-3, "range": True, "place": "middle"},
    "cnn": {"of": "CNN", "window": 50, "lr": 8e-4, "range": False, "place": None},
    "lstm_ad": {"of": "LSTMAD", "window": 100, "lr": 8e-4, "range": False, "place": None},
    "times_net": {"of": "TimesNet", "window": 32, "lr": 1e-4, "range": False, "place": "last"},
}
_KEYWORDS = {  # every class has its own names for the window and the channels
    "CNN": ("window_size", "feats"),
    "LSTMAD": ("window_size", "feats"),
    "TimesNet": ("win_size", "enc_in"),
}
_EPOCHS = {"USAD": 10}
_VALIDATION = 0.2


def fit(train: Floats, job: Mapping[str, Any]) -> Score:
    """Train on rows (T, K); what comes back scores rows (N, K) -> (N,)."""
    method = METHODS[job["method"]]
    window = job["window"] or method["window"]
    held_out = len(train) - int((1 - _VALIDATION) * len(train))
    if held_out <= window:
        raise SystemExit(
            f"{job['method']} holds out a fifth of the training rows, and needs more than a window "
            f"({window}) there: {held_out} of {len(train)} rows"
        )
    torch.set_num_threads(job["threads"])
    torch.default_generator.manual_seed(job["seed"])
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(job["seed"])
    random.seed(job["seed"])
    low, span = _range(train) if method["range"] else (0.0, 1.0)
    module = importlib.import_module(f"TSB_AD.models.{method['of']}")
    if job["steps"]:
        module.DataLoader = _shortened(module.DataLoader, job["steps"])  # type: ignore[attr-defined]
    window_word, channel_word = _KEYWORDS.get(method["of"], ("win_size", "feats"))
    keywords = {window_word: window, channel_word: train.shape[1], "lr": method["lr"]}
    epochs = job["epochs"] or _EPOCHS.get(method["of"], 50)
    detector = getattr(module, method["of"])(**keywords, epochs=epochs)
    detector.fit((train - low) / span)

    def score(test: Floats) -> Floats:
        if len(test) <= window:
            raise SystemExit(f"{len(test)} rows to score, a window has {window}")
        raw = np.asarray(detector.decision_function((test - low) / span), np.float64).ravel()
        return raw if method["place"] is None else _placed(raw, window, method["place"])

    return score


def _placed(raw: Floats, window: int, place: str) -> Floats:
    """Scores (N,) of the windows that start at each row -> of rows; the ends repeat the nearest.

    The last window - 1 of them are the last window again, so they are left out.
    """
    windows = raw[: len(raw) - window + 1]
    before = window - 1 if place == "last" else (window - 1) // 2
    return np.pad(windows, (before, len(raw) - len(windows) - before), mode="edge")


def _range(train: Floats) -> tuple[Floats, Floats]:
    low, span = train.min(axis=0), np.ptp(train, axis=0)
    return low, np.where(span > 0, span, 1.0)


def _shortened(loader: Any, steps: int) -> Callable[..., Any]:
    """A loader whose shuffled epochs end after `steps` batches, of other windows each time."""

    def load(dataset: Any, batch_size: int, shuffle: bool) -> Any:
        if not shuffle:
            return loader(dataset, batch_size=batch_size, shuffle=False)
        most = min(len(dataset), steps * batch_size)
        sampler = torch.utils.data.RandomSampler(dataset, num_samples=most)
        return loader(dataset, batch_size=batch_size, sampler=sampler)

    return load
