"""From rows to the evidence of each view, and to its means over windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches
from imdiffusion.scoring.joining import dense, sparse
from imdiffusion.scoring.scan import trailing_means

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SHIFTS = 12  # with half the values missing one of 4,000 still lacks
GOLDEN = 0.6180339887  # multiples of it, less whole numbers, lie evenly between 0 and 1


def residuals_of(
    law: GaussianPatches, held: NDArray[np.float32], observed: Flags, seen: NDArray[np.floating]
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32]]:
    """Standardised residual of each view (n, K), and the expected value (n, K).

    held, observed: (lags + n, K), cut to the usual range; seen (n, K) as it is, NaN = missing.
    The expected value is the mean of the views' conditional means, weighed by their precisions.
    """
    own = held[law.lags :], observed[law.lags :]
    moments = (law.forecast(held, observed), law.from_others(*own))
    residuals = [
        ((seen - mean) / np.sqrt(variance)).astype(np.float32) for mean, variance in moments
    ]
    weights = [1.0 / variance for _, variance in moments]
    weighed = sum(weight * mean for weight, (mean, _) in zip(weights, moments, strict=True))
    return residuals, np.asarray(weighed / sum(weights), np.float32)


def filled(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """A channel without a value counts as normal."""
    return np.where(np.isnan(evidence), np.float32(1.0), evidence)


def as_if_whole(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evidence of normal rows (T, K), NaN where a value is missing, as rows that are whole have it.

    A missing value counts as 1 where rows are scored, so thin rows vary less than whole ones do,
    and what is normal of the one is too low for the other. Here it has the evidence of its own
    channel in another row: the one so many rows before, the same for a whole stretch, so that
    values that are missing together come from one row, and rows side by side from rows side by
    side. Where none is found in `SHIFTS` trials it counts as 1.
    """
    found = evidence
    for trial in range(1, SHIFTS + 1):
        lacks = np.isnan(found)
        if not lacks.any():
            break
        shift = round(trial * GOLDEN % 1.0 * len(evidence))
        found = np.where(lacks, np.roll(evidence, shift, axis=0), found)
    return filled(found)


def joined_means(
    evidence: list[NDArray[np.float32]], widths: tuple[int, ...]
) -> tuple[Floats, Floats]:
    """Trailing means of the dense and the sparse join over channels, (n, W, V) each."""
    thick = trailing_means(np.stack([dense(one) for one in evidence], axis=-1), widths)
    thin = np.stack([sparse(trailing_means(one, widths)) for one in evidence], axis=-1)
    return thick, thin


def where_known(values: Floats, known: Flags) -> Floats:
    """Values (n,) or (n, V), NaN in rows where nothing was observed."""
    return np.where(known if values.ndim == 1 else known[:, None], values, np.nan)
