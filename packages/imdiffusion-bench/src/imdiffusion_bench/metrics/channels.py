"""Which channels caused it: the channels a detector names against those in the truth.

For each anomaly with known causes the channel scores are averaged over its rows, and the channels
ranked by them; channels without a score (NaN) rank last, equal ones in their order in the series.
HitRate@P% (Su et al., KDD 2019): of the n true channels, the share among the first
floor(P / 100 x n) ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imdiffusion.errors import DataError
from imdiffusion_bench.metrics.segments import NAN
from imdiffusion_bench.split import Cause

ChannelScores = NDArray[np.floating]


def hit_rate(channel_scores: ChannelScores, causes: Sequence[Cause], k: int = 100) -> float:
    """HitRate@k%, mean over the anomalies with known causes; NaN where there is none.

    channel_scores (T, K); k in percent of the number of true channels. An anomaly of which no row
    has a channel score names nothing: it counts 0. Raises DataError for a cause outside the series.
    """
    rates = []
    for ranked, true in _ranked(channel_scores, causes):
        named = ranked[: k * len(true) // 100]
        rates.append(len(true.intersection(named)) / len(true))
    return float(np.mean(rates)) if rates else NAN


def hit_top1(channel_scores: ChannelScores, causes: Sequence[Cause]) -> float:
    """Share of the anomalies with known causes whose first-ranked channel is a true one."""
    hits = [bool(ranked) and ranked[0] in true for ranked, true in _ranked(channel_scores, causes)]
    return float(np.mean(hits)) if hits else NAN


def _ranked(
    channel_scores: ChannelScores, causes: Sequence[Cause]
) -> list[tuple[list[int], frozenset[int]]]:
    """For each cause that names channels: channels that have a score, best first; the true ones."""
    rows, width = channel_scores.shape
    found = []
    for cause in causes:
        if not cause.channels:
            continue
        if not 0 <= cause.start < cause.end <= rows or not cause.channels <= set(range(width)):
            raise DataError(
                f"the cause of rows {cause.start} to {cause.end}, channels "
                f"{sorted(cause.channels)}, lies outside {rows} rows x {width} channels",
                remedy="Causes count rows and channels of the test part from 0, end exclusive.",
            )
        part = np.asarray(channel_scores[cause.start : cause.end], np.float64)
        seen = ~np.isnan(part)
        count = seen.sum(axis=0)
        mean = np.where(seen, part, 0.0).sum(axis=0) / np.maximum(count, 1)
        order = np.argsort(np.where(count > 0, -mean, np.inf), kind="stable")
        found.append((order[: int(np.sum(count > 0))].tolist(), cause.channels))
    return found
