"""The contracts of detectors and metrics, for built-in ones and those of other distributions alike.

    from imdiffusion_bench.testing import check_detector, check_metric
    check_detector("my_detector")
    check_metric("my_metric")

As in `imdiffusion.testing`, a check raises AssertionError with what was expected and what came.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from imdiffusion import registry
from imdiffusion.arrays import Flags, Floats
from imdiffusion.errors import DataError
from imdiffusion.schema import one_of
from imdiffusion.testing.contract import Expect, contract
from imdiffusion_bench import columns, detectors, protocols

Measure = Callable[[Flags, Floats], float]


def check_detector(name: str) -> None:
    """One score a row, NaN only where nothing was observed, the same for the same seed.

    The highest ones are near rows where all channels leave their law. Not for presets: those are
    held to scikit-learn's contract of estimators.
    """
    detectors.settings_of(name, {})
    generator = np.random.default_rng(0)
    train, test = (generator.standard_normal((rows, 3)) for rows in (600, 300))
    train[5, 1], test[7, 2], test[100] = np.nan, np.nan, np.nan
    test[200:210] += 12.0
    with contract(f"detector {name!r}", may_draw=True):  # what it imports only now may
        detectors.plain(name, seed=1).fit(train.copy())
    with contract(f"detector {name!r}") as expect:
        scores = []
        for _ in range(2):
            rows = train.copy(), test.copy()
            fitted = detectors.plain(name, seed=1)
            fitted.fit(rows[0])
            scores.append(np.asarray(fitted.decision_function(rows[1]), np.float64))
            for one, before in zip(rows, (train, test), strict=True):
                kept = np.array_equal(one, before, equal_nan=True)
                expect(kept, "rows that are left as they are", "others")
        score = scores[0]
        expect(score.shape == (300,), "a score a row, (300,)", score.shape)
        seen = np.isfinite(np.delete(score, 100))
        expect(seen.all(), "a finite score where a value was observed", f"{(~seen).sum()} others")
        same = np.array_equal(scores[0], scores[1], equal_nan=True)
        expect(same, "the same scores from the same seed", "others")
        near = np.abs(np.arange(300) - 205) < 20
        top, there, apart = np.nanargmax(score), np.nanmean(score[near]), np.nanmean(score[~near])
        expect(
            near[top] and there > apart,
            "the highest scores around the rows 200 to 210",
            f"the top at row {top}, {there:.3g} on average there and {apart:.3g} elsewhere",
        )


def check_metric(name: str) -> None:
    """A function of label and score, or label and alarm, alone; more is better, from 0 to 1.

    Those of `columns.LOWER_IS_BETTER` are from 0 on, less is better. A perfect score is above one
    that is wrong everywhere, and a constant one is no better than it. A score of NaN ranks lowest,
    and is no alarm; only where no row is in alarm NaN may come out. DataError is raised for a label
    of another length, or without an anomaly.
    """
    joined = registry.names("metrics")
    measure = protocols.joined_metrics()[name] if name in joined else _built_in(name)
    with contract(f"metric {name!r}") as expect:
        if name in joined:
            taken = list(inspect.signature(registry.load("metrics", name)).parameters)[:2]
            right = taken in (["label", "score"], ["label", "alarm"])
            expect(right, "the parameters label, and score or alarm", taken)
        _check_metric(expect, measure, -1 if name in columns.LOWER_IS_BETTER else 1)


def _check_metric(expect: Expect, measure: Measure, sign: int) -> None:
    generator = np.random.default_rng(0)
    label = np.zeros(300, bool)
    label[40:60] = label[150:155] = label[220:260] = True
    low, chosen = generator.random(300), generator.random(300) < 0.5

    def measured(score: Floats, label: Flags = label) -> float:
        own, given = label.copy(), score.copy()
        own.flags.writeable = given.flags.writeable = False
        found = measure(own, given)
        expect(isinstance(found, float | int | np.number), "a number", type(found).__name__)
        return float(found)

    perfect, wrong = measured(low + 2 * label), measured(low + 2 * ~label)
    alike, silent = measured(np.full(300, 2.0)), measured(np.full(300, 0.5))
    for found in (perfect, wrong, alike, 0.0 if np.isnan(silent) else silent):
        inside = 0 <= found <= (1 if sign > 0 else np.inf)
        expect(inside, "a number from 0 on" + " to 1" * (sign > 0), found)
    expect(sign * perfect > sign * wrong, f"a perfect score to be better than {wrong}", perfect)
    quiet = measured((low + 2 * label) / 4), measured((low + 2 * ~label) / 4)
    ranks = quiet == (perfect, wrong)  # whatever is in alarm
    better = sign * (alike - perfect)
    expect(better < 0 if ranks else better <= 0, f"a constant score to be below {perfect}", alike)
    again = measured(low + 2 * label)
    expect(again == perfect, f"{perfect} again for the same score", again)
    missing = measured(np.where(chosen, np.nan, low + 2 * label))
    lowest = measured(np.where(chosen, -1.0, low + 2 * label))
    expect(missing == lowest, f"{lowest} where NaN ranks lowest and is no alarm", missing)
    for other in (label[1:], np.zeros(300, bool)):
        came: object
        try:
            came = measured(low, other)
        except DataError:
            continue
        expect(None, f"DataError for {other.sum()} anomalies in {len(other)} rows", came)


def _built_in(name: str) -> Measure:
    """One of those that a protocol makes of label and score alone; ConfigError for another name."""
    label = np.arange(9) > 6
    known = _every_metric(label.tobytes(), label.astype(np.float64).tobytes())
    one_of("metric", name, known)
    return lambda label, score: _every_metric(label.tobytes(), score.tobytes())[name]


@lru_cache(maxsize=32)
def _every_metric(label: bytes, score: bytes) -> protocols.Results:
    given = np.frombuffer(label, bool), np.frombuffer(score, np.float64)
    return {
        **protocols.paper(*given, None),
        **protocols.oracle(*given),
        **protocols.label_free(*given, period_s=3600.0),
    }
