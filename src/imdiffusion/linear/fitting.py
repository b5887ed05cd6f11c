"""What the rows of a fit say: which channels are judged, how far back a forecast reads, and the
residuals of each block of rows under a law of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from imdiffusion.arrays import Flags, Floats, Reals, Singles
from imdiffusion.data.windows import Rows
from imdiffusion.diffusion.denoisers.gaussian import GaussianPatches, LagMoments, completed, cost_of
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


VIEWS = ("forecast", "channel")  # of the law; `memory` stands beside them
BLOCKS = 5  # of the training rows, each of which is judged by a law of the others
NOISE = 0.05  # variance on standardised values: what is smaller is not trusted
NOISES = (0.05, 0.3, 1.5)  # tried where rows are few for the size of a patch
MOST_NUMBERS = 600  # in the rows that a forecast reads
ROWS_A_NUMBER = 4  # training rows for each of them, at least
FEW_ROWS = 4  # with fewer rows for each, how much noise is right is measured
THIN = 0.2  # share of training rows with gaps from which a forecast reads two rows alone
FAR = 3.0  # usual ranges beyond the usual range: what a value farther off is worth as context
USUAL = (0.001, 0.999)
ROUNDS = 3  # of completing what is missing
MOST_PRODUCTS = 1e9  # of numbers in one of them: under a second


def measured_channels(rows: Rows) -> Flags:
    """Channels that take more than two values: measurements (K,). All where there is none.

    Commands of 0 and 1 are context: they condition the others, and an unpredictable one must not
    fill the score.
    """
    found = np.zeros(rows.values.shape[1], bool)
    for channel in range(len(found)):
        seen = rows.values[rows.observed[:, channel], channel]
        found[channel] = len(seen) > 0 and bool(((seen != seen.min()) & (seen != seen.max())).any())
    return found if found.any() else np.ones_like(found)


def moving_channels(rows: Rows) -> int:
    """How many channels take more than one value."""
    found = 0
    for channel in range(rows.values.shape[1]):
        seen = rows.values[rows.observed[:, channel], channel]
        found += bool(len(seen) and (seen != seen[0]).any())
    return found


def thin(rows: Rows) -> bool:
    """Whether so many rows have gaps that few patches are whole."""
    return float((~rows.observed.all(axis=1)).mean()) > THIN


def lags_for(rows: Rows, wanted: int) -> int:
    """Rows that a forecast reads: as many as wanted, if channels are few and rows many."""
    total, channels = len(rows), max(1, moving_channels(rows))
    most = min(MOST_NUMBERS // channels, total // (ROWS_A_NUMBER * channels))
    most = min(most, 2 if thin(rows) else wanted)
    return max(1, min(wanted, most))


def usual_range(rows: Rows) -> tuple[Singles, Singles]:
    """What context is cut to, (K,) each: the usual range and as far again on either side."""
    low = np.zeros(rows.values.shape[1], np.float32)
    high = np.zeros_like(low)
    for channel in range(len(low)):
        seen = rows.values[rows.observed[:, channel], channel]
        if len(seen):
            least, most = np.quantile(seen, USUAL)
            low[channel], high[channel] = least - FAR * (most - least), most + FAR * (most - least)
    return low, high


Block = tuple[slice, LagMoments]


def moments_of_blocks(rows: Rows, low: Singles, high: Singles, lags: int) -> list[Block]:
    """The blocks of rows that leave each other out, with the sums of their rows cut to a range."""
    edges = np.linspace(0, len(rows), min(BLOCKS, len(rows)) + 1).astype(int)
    found = []
    for start, stop in pairwise(edges):
        values, observed = rows.values[start:stop], rows.observed[start:stop]
        own = np.where(observed, np.clip(values, low, high), np.float32(0))
        found.append((slice(start, stop), LagMoments.of(own, observed, lags)))
    return found


def completed_blocks(blocks: list[Block], rows: Rows, low: Singles, high: Singles) -> list[Block]:
    """The blocks of `moments_of_blocks` as they are, or, where many rows have gaps, with the sums
    that a law of all of them expects.

    Where that would take long the pairs that were seen have to do: rows are many there.
    """
    lags = len(blocks[0][1].products) - 1
    if not thin(rows) or cost_of(rows.observed, lags) > MOST_PRODUCTS:
        return blocks
    clipped = np.clip(rows.values, low, high)
    for _ in range(ROUNDS):
        law = summed(moments for _, moments in blocks).covariances(noise=0.0)
        blocks = [
            (where, completed(clipped[where], rows.observed[where], law)) for where, _ in blocks
        ]
    return blocks


def summed(moments: Iterable[LagMoments]) -> LagMoments:
    """The sums of all blocks."""
    total: LagMoments | None = None
    for one in moments:
        total = one if total is None else total + one
    assert total is not None  # noqa: S101
    return total


def cross_fitted(
    rows: Rows,
    limits: tuple[Singles, Singles],
    blocks: list[Block],
    total: LagMoments,
    lags: int,
) -> tuple[float, list[Singles], Singles]:
    """The noise under which rows that a law has not seen are told best; with it, the residuals of
    the views (T, K) and seen less expected (T, K).
    """
    few = len(rows) < FEW_ROWS * (lags + 1) * moving_channels(rows)
    tried = NOISES if few else (NOISE,)
    clipped = np.clip(rows.values, *limits)
    best: tuple[float, float, list[Singles], Singles] | None = None
    for noise in tried:
        residuals = [np.empty(rows.values.shape, np.float32) for _ in VIEWS]
        apart = np.empty(rows.values.shape, np.float32)
        for where, moments in blocks:
            law = GaussianPatches((total - moments).covariances(noise=noise), noise=noise)
            first = max(0, where.start - lags)
            short = lags - (where.start - first)
            held = np.pad(clipped[first : where.stop], ((short, 0), (0, 0)))
            observed = np.pad(rows.observed[first : where.stop], ((short, 0), (0, 0)))
            seen = np.where(rows.observed[where], rows.values[where], np.nan)
            found, expected = residuals_of(law, held, observed, seen)
            for one, part in zip(residuals, found, strict=True):
                one[where] = part
            apart[where] = seen - expected
        wrong = float(np.nansum(np.log1p(np.square(apart) / NOISE)))
        if best is None or wrong < best[0]:
            best = wrong, noise, residuals, apart
    assert best is not None  # noqa: S101
    return best[1:]
