"""Under which promise a row would be in alarm, and how well a share of alarms is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.scoring.joining import (
    LEAST_OTHERS,
    Join,
    alarm_share,
    blocks_apart,
    critical_rates,
    held_out_rates,
)

WEIGHT = np.array([1.0, 1.0, 0.25])


def scores(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, size=(rows, 2)), rng.gamma(1.0, size=rows)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), log_rate=st.floats(-6, -0.32), rows=st.integers(60, 3000))
def test_a_row_is_in_alarm_where_its_critical_rate_is_promised(seed, log_rate, rows) -> None:
    views, evidence = scores(rows, seed)
    join = Join.fit(views, evidence, WEIGHT, rule="pot")
    rate = 10.0**log_rate
    views, evidence = (3 * one for one in scores(400, seed + 1))
    found = critical_rates(join, views, evidence)
    alarm = join.score(views, evidence, rate) > 1.0
    sure = np.abs(found / rate - 1.0) > 1e-9
    assert np.array_equal((found <= rate)[sure], alarm[sure])


def test_a_row_without_a_score_has_no_critical_rate() -> None:
    views, evidence = scores(200, 0)
    views[7], evidence[7] = np.nan, np.nan
    rates = held_out_rates(views, evidence, WEIGHT, rule="pot")
    assert np.flatnonzero(np.isnan(rates)).tolist() == [7]


def test_no_row_has_a_part_in_what_judges_it() -> None:
    views, evidence = scores(1000, 3)
    before = held_out_rates(views, evidence, WEIGHT, rule="quantile")
    views[450:460] *= 50.0  # of the third block: the others are judged by it, it is not
    after = held_out_rates(views, evidence, WEIGHT, rule="quantile")
    assert np.array_equal(before[410:450], after[410:450])
    assert not np.array_equal(before[:200], after[:200])


def test_rows_that_are_too_few_judge_nobody() -> None:
    assert not list(blocks_apart(np.ones(LEAST_OTHERS, bool)))
    (start, stop, others), *_ = blocks_apart(np.ones(1000, bool))
    assert (start, stop) == (0, 200)
    assert np.flatnonzero(others)[0] == 200 + 32


def test_of_independent_rows_the_share_is_as_wilson_has_it() -> None:
    alarm = np.zeros(100, bool)
    alarm[[10, 80]] = True
    # n = 100, p = .02: (p + z2/2n +- z sqrt(p q/n + z2/4n2)) / (1 + z2/n), z2 = 3.8414588
    share = alarm_share(alarm, 100)
    assert share.share == 0.02
    assert share.low == pytest.approx(0.0055018, abs=1e-6)
    assert share.high == pytest.approx(0.0700117, abs=1e-6)


def test_runs_of_alarms_say_less_and_no_alarm_is_not_surely_none() -> None:
    apart, together = np.zeros(4000, bool), np.zeros(4000, bool)
    apart[::100] = True
    together[2000:2040] = True
    wide, narrow = alarm_share(together, 4000), alarm_share(apart, 4000)
    assert wide.share == narrow.share
    assert wide.worth < 110 < 3000 < narrow.worth
    none = alarm_share(np.zeros(4000, bool), 4000)
    assert none.low == pytest.approx(0.0, abs=1e-12)
    assert none.high == pytest.approx(3.8414588 / (4000 / 32 + 3.8414588))
