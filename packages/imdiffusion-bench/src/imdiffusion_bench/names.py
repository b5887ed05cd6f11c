"""What can be asked for by name: the rows of a table, and the metrics that its columns show."""

from __future__ import annotations

import numpy as np

from imdiffusion import baselines, presets
from imdiffusion_bench import columns, detectors, peers
from imdiffusion_bench.protocols import evaluate
from imdiffusion_bench.split import Scores, Truth


def row_names() -> list[tuple[str, str]]:
    """(name, what it is) of every row, in the order of `detectors.names`."""
    return [(name, _said(name)) for name in detectors.names()]


def metric_names() -> list[tuple[str, str, str]]:
    """(name, its heading, the protocols that have it) of every metric.

    They are read off an evaluation of eight rows, so that none can be forgotten.
    """
    error = np.arange(8, dtype=np.float32)
    label = error > 5
    scores = Scores(error.astype(np.float64), np.tile(error, (2, 1)), error[:, None])
    truth = Truth(lambda: label, list)
    everything = evaluate(scores, truth, period_s=None, where="eight rows", tsb_ad_window=2)
    found: dict[str, list[str]] = {}
    for protocol, metrics in everything.items():
        for metric in metrics:
            found.setdefault(metric, []).append(protocol)
    return [(name, columns.heading(name), ", ".join(where)) for name, where in found.items()]


def _said(name: str) -> str:
    if name in presets.PRESETS:
        return f"this library, preset `{name}`"
    if name in detectors.SEEDS:
        preset, count = detectors.SEEDS[name]
        return f"the mean score of {count} networks of `{preset}`"
    if name in baselines.names():
        return baselines.said(name)
    environment, method = peers.PEERS[name]
    return f"{method} of the package {environment}, in an environment of its own"
