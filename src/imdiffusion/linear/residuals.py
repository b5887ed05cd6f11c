"""From rows to the evidence of each view, and to its means over windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imdiffusion.arrays import Flags, Floats, Reals, Singles
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches
from imdiffusion.scoring.joining import dense, sparse
from imdiffusion.scoring.scan import trailing_means, whole_means
from imdiffusion.scoring.tail import TailLaws

SHIFTS = 12  # with half the values missing one of 4,000 still lacks
GOLDEN = 0.6180339887  # multiples of it, less whole numbers, lie evenly between 0 and 1
PIECE = 1_024  # rows whose channels are joined together: what the processor's cache holds


def residuals_of(
    law: GaussianPatches, held: Singles, observed: Flags, seen: Reals
) -> tuple[list[Singles], Singles]:
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


def evidence_of(
    tails: Sequence[TailLaws],
    residuals: Sequence[Singles],
    *,
    as_whole: bool = False,
) -> Singles:
    """Evidence (n, V, K) of the residuals of each view (n, K); a channel without a value counts as
    normal, or as `as_if_whole` has it.
    """
    pairs = zip(tails, residuals, strict=True)
    each = [tail.evidence(one) for tail, one in pairs]
    evidence = np.stack([as_if_whole(one) for one in each] if as_whole else each, axis=1)
    evidence[np.isnan(evidence)] = 1.0
    return evidence


def as_if_whole(evidence: Singles) -> Singles:
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
    return np.where(np.isnan(found), np.float32(1.0), found)


def joined_means(evidence: Singles, widths: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Evidence of views (n, V, K): trailing means of the dense join over channels, and the sparse
    join of their trailing means, (n, W, V) each.
    """
    thick = trailing_means(dense(evidence), widths)
    thin = np.full_like(thick, np.nan)
    for start in range(0, len(thin), PIECE):
        first, stop = max(0, start - widths[-1] + 1), min(start + PIECE, len(thin))
        for place, means in enumerate(whole_means(evidence[first:stop], widths)):
            new = means[-(stop - start) :]
            thin[stop - len(new) : stop, place] = sparse(new)
    return thick, thin


def where_known(values: Floats, known: Flags) -> Floats:
    """Values (n,) or (n, V), NaN in rows where nothing was observed."""
    return np.where(known if values.ndim == 1 else known[:, None], values, np.nan)
