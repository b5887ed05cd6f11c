"""The contracts of what scores: thresholds, scales of errors, ensembles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imdiffusion import registry
from imdiffusion.errors import DataError
from imdiffusion.testing.contract import contract


def check_threshold(name: str) -> None:
    """About `alarm_rate` of fresh scores of the same law exceed it; it scales with the scores.

    A function of the finite scores, whatever their order; DataError where there is none.
    """
    rule = registry.load("thresholds", name)
    generator = np.random.default_rng(7)
    fresh = np.sort(generator.exponential(size=400_000))
    with contract(f"threshold {name!r}") as expect:
        for rate in (0.05, 0.01, 0.001):
            found = [rule(generator.exponential(size=5_000), alarm_rate=rate) for _ in range(20)]
            share = 1 - float(np.median(np.searchsorted(fresh, found))) / fresh.size
            expect(rate / 2 < share < rate * 2, f"alarms on {rate} of fresh scores", f"{share:.5f}")
        scores = generator.exponential(size=2_000)
        scores.flags.writeable = False
        one, ten = rule(scores, alarm_rate=0.01), rule(10 * scores, alarm_rate=0.01)
        expect(isinstance(one, float), "a float", type(one).__name__)
        expect(np.isclose(10 * one, ten), f"{10 * one} for ten times the scores", ten)
        rarer = rule(scores, alarm_rate=0.001)
        expect(rarer >= one, f"at least {one} for fewer alarms", rarer)
        mixed = rule(np.append(scores[::-1], [np.nan, np.inf]), alarm_rate=0.01)
        expect(mixed == one, f"{one} in another order, with NaN and infinity among them", mixed)
        for none in (np.array([]), np.array([np.nan, np.nan])):
            try:
                came: object = rule(none, alarm_rate=0.01)
            except DataError:
                continue
            expect(False, f"DataError for the scores {none}", came)


def check_error_scale(name: str) -> None:
    """Positive, finite sizes (W, M, K), a channel without values among them; one floor for all.

    Errors a hundred times as large have a size a hundred times as large, or all have size one.
    """
    rule = registry.load("error_scales", name)
    errors = np.random.default_rng(5).exponential(size=(600, 2, 3, 2, 4)).astype(np.float32)
    errors[..., 3] = np.nan
    with contract(f"error scale {name!r}") as expect:

        def size(
            errors: NDArray[np.float32], *, least: float, split: int = 500
        ) -> NDArray[np.float64]:
            with np.errstate(all="raise"):
                found = np.asarray(rule.size(errors, split, lambda times: least * times))
            expect(found.shape == (2, 3, 4), "sizes (W, M, K) = (2, 3, 4)", found.shape)
            positive = np.isfinite(found) & (found > 0)
            expect(positive.all(), "finite sizes above zero", found[~positive])
            return found

        one, hundred = size(errors, least=1e-9), size(100 * errors, least=1e-9)
        fixed = np.array_equal(one, np.ones_like(one)) and np.array_equal(one, hundred)
        grows = fixed or np.allclose(100 * one, hundred)
        expect(grows, "a hundredfold size of a hundredfold error", (hundred / one).ravel())
        least = size(0 * errors, least=1e-3).min()
        expect(fixed or least >= 1e-3, "sizes of at least the floor, 0.001", least)
        for split in (0, 600):
            size(errors, least=1e-9, split=split)


def check_ensemble(name: str) -> None:
    """Score (T,), finite and non-negative, NaN stays, and a planted outlier ranks first.

    Steps are joined along their axis to something between the least and the largest of them.
    """
    ensemble = registry.load("ensembles", name)
    generator = np.random.default_rng(3)
    held = generator.exponential(size=(10, 3_000)).astype(np.float32)
    errors = generator.exponential(size=(10, 1_000)).astype(np.float32)
    errors[:, 500] = 200.0
    errors[:, 7] = np.nan
    rule = registry.load("thresholds", "quantile")
    with contract(f"ensemble {name!r}") as expect:
        fitted = ensemble.fit(held, rule=rule, alarm_rate=0.001, xi=0.5, anomaly_share=0.02)
        score = type(fitted)(fitted.thresholds, 0.5, 0.02).score(errors)
        expect(score.shape == (1_000,), "a score a row, (1000,)", score.shape)
        expect(np.isnan(score[7]), "NaN for a row where nothing was observed", score[7])
        known = np.delete(score, 7)
        right = np.isfinite(known) & (known >= 0)
        expect(right.all(), "finite scores from 0 on", known[~right])
        first = int(np.nanargmax(score))
        expect(first == 500, "the highest score at the planted row 500", f"at row {first}")
        expect(score[500] > 1, "a score above 1 at the planted row", score[500])
        parts = generator.exponential(size=(20, 10, 3)).astype(np.float32)
        parts[4, :, 1] = np.nan
        joined = np.asarray(fitted.join(parts, axis=1))
        expect(joined.shape == (20, 3), "steps joined to (20, 3)", joined.shape)
        gone = np.isnan(joined)
        expect(gone[4, 1] and gone.sum() == 1, "NaN where nothing was observed", np.argwhere(gone))
        low, high = parts.min(axis=1) * 0.9999, parts.max(axis=1) * 1.0001
        inside = gone | ((joined >= low) & (joined <= high))
        expect(inside.all(), "steps joined within their range", joined[~inside])
