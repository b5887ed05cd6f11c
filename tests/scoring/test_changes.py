"""Changes of discrete channels: rules and surprises by hand, scenarios, the promise, pieces"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion import ImDiffusion
from imdiffusion.checks import CheckStream, RowChecks
from imdiffusion.data.windows import Rows
from imdiffusion.errors import ConfigError, ModelError
from imdiffusion.scoring.change_rows import Counts, fit_rules, lists_of
from imdiffusion.scoring.changes import (
    CHANGED,
    KINDS,
    NEWS,
    NOT_CHANGED,
    STATE,
    ChangeModel,
    ChangeStream,
    Tail,
)

RATE = 0.0008  # what of alarm_rate = 0.01 is for changes
VALVE, PUMP, RANDOM, MODE, HEATER, RARE = range(6)


def telegraph(rng, rows, chance):
    return np.cumsum(rng.random(rows) < chance) % 2.0


def plant(rows, seed):
    """A valve, a pump that follows it a row later, a random flag, a mode of four values, a heater
    that is on in mode 2, a flag with a pulse in 2,000 rows, and two measurements.
    """
    rng = np.random.default_rng(seed)
    valve = telegraph(rng, rows, 0.02)
    mode = np.cumsum(rng.random(rows) < 0.01) % 4.0
    rare = np.zeros(rows)
    for start in range(500, rows, 2000):
        rare[start : start + 20] = 1.0
    discrete = [valve, np.r_[0.0, valve[:-1]], telegraph(rng, rows, 0.3), mode, mode == 2, rare]
    return np.column_stack([*discrete, rng.normal(size=(rows, 2)) + 2.0 * valve[:, None]])


def whole(values):
    return np.ones(values.shape, bool)


def run(model, values, rate=RATE):
    return ChangeStream(model, rate=rate).push(values, whole(values))


@pytest.fixture(scope="module", name="model")
def _model():
    train = plant(6000, 0)
    return ChangeModel.fit(train, whole(train))


# -- by hand


def test_a_rule_and_the_rate_of_the_rest_by_hand():
    features = np.zeros((100, 3), bool)
    features[::5, 1] = True  # 20 rows, all of which change
    changed = features[:, 1:2].copy()
    changed[1, 0] = True  # and one that does not tell why
    judged, state = np.ones((100, 1), bool), np.zeros((100, 1), np.int64)
    lists = lists_of(judged, state, 1)
    counts = Counts.of(features, changed, lists, 1)
    assert counts.held.tolist() == [[0.0, 20.0, 0.0]]
    rules = fit_rules(features, changed, lists, counts, [slice(0, 1)], 1)
    assert rules.column.tolist() == [[[1]]]
    assert rules.hazard[0, 0] == pytest.approx([20.5 / 21, 1.5 / 81])
    assert rules.of(features, state)[:2, 0] == pytest.approx([20.5 / 21, 1.5 / 81])
    own = fit_rules(features, changed, lists, counts, [slice(1, 2)], 1)  # its own is no cause
    assert own.column.size == 0
    assert own.hazard[0, 0] == pytest.approx([21.5 / 101])


def test_the_tail_by_hand():
    largest = np.zeros(64 * 32)
    largest[::64] = np.arange(32.0)  # one row in each span
    tail = Tail.fit(largest)
    assert (tail.start, tail.number, tail.spans, tail.share) == (23.0, 8.0, 32.0, 1 / 64)
    assert tail.excess == 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8
    told = tail.surprise(np.array([0.0, 23.0, 59.0]))
    base = -np.log(8 / 32 / 64)
    assert told == pytest.approx([0.0, base, base + 8 * np.log(2.0)])


# -- scenarios


def stopped(values):
    values[2950:3100, VALVE] = values[2950:3100, PUMP] = 0.0


def alone(values):
    stopped(values)
    values[3000:3030, PUMP] = 1.0


def stuck(values):
    stopped(values)
    values[3000:3060, VALVE] = 1.0


def flapping(values):
    stopped(values)
    values[3000:3040, VALVE] = np.arange(40) % 2


def forbidden(values):
    values[2950:3100, MODE], values[2950:3100, HEATER] = 1.0, 0.0
    values[3000:3030, HEATER] = 1.0


def third(values):
    values[3000:3020, RANDOM] = 0.5


def pulses(values):
    values[2500:3500, RARE] = 0.0
    values[3000:3040, RARE] = np.arange(40) // 2 % 2


@pytest.mark.parametrize(
    ("fault", "channel", "kinds"),
    [
        (alone, PUMP, {CHANGED, STATE}),
        (stuck, PUMP, {NOT_CHANGED}),
        (flapping, VALVE, {CHANGED}),
        (forbidden, HEATER, {CHANGED, STATE}),
        (third, RANDOM, {STATE}),
        (pulses, RARE, {CHANGED}),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_unlike_the_rest_is_found(model, fault, channel, kinds, seed):
    values = plant(4000, seed)
    fault(values)
    found = run(model, values)
    told = found.kind[2999:3060, list(found.channel).index(channel)]
    assert kinds & set(told.tolist())
    assert (found.score[2999:3060].max(axis=1) > 1).sum() <= 64
    assert ((found.kind > 0) == (found.score > 1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_promise_holds_on_fresh_rows(model, seed):
    values = plant(12_000, 10 + seed)
    assert (run(model, values).kind > 0).any(axis=1).mean() <= 3 * RATE


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_of_thin_rows_less_is_said(model, share):
    values = plant(12_000, 20)
    observed = np.random.default_rng(0).random(values.shape) > share
    found = ChangeStream(model, rate=RATE).push(values, observed)
    assert (found.kind > 0).any(axis=1).mean() <= 3 * RATE


@pytest.mark.parametrize("rows", [3200, 5000])
def test_random_flags_and_counts_do_not_fill_the_score(rows):
    def made(rows, seed):
        rng = np.random.default_rng(seed)
        flags = [telegraph(rng, rows, chance) for chance in (0.005, 0.02, 0.1, 0.3, 0.5)]
        counts = np.minimum(rng.poisson(0.3, (rows, 2)), 6)
        return np.column_stack([*flags, counts, rng.normal(size=rows)])

    shares = []
    for seed in range(4):
        train, test = made(rows, seed), made(8000, 100 + seed)
        model = ChangeModel.fit(train, whole(train))
        shares.append((run(model, test).kind > 0).any(axis=1).mean())
    assert np.mean(shares) <= 3 * RATE


def test_a_flag_that_was_active_three_times_may_be_so_a_fourth_time():
    train = np.random.default_rng(0).normal(size=(3200, 3))
    train[:, 0] = 0.0
    for start in (400, 1500, 2200):
        train[start : start + 30, 0] = 1.0
    test = np.random.default_rng(1).normal(size=(1000, 3))
    test[:, 0] = 0.0
    test[500:530, 0] = 1.0
    model = ChangeModel.fit(train, whole(train))
    assert (run(model, test).kind == 0).all()
    train[1000:, 0] = 0.0  # active once is no less known to happen
    assert (run(ChangeModel.fit(train, whole(train)), test).kind == 0).all()


def test_what_goes_on_is_news_for_a_while(model):
    values = plant(6000, 3)
    values[1000:, VALVE] = np.arange(5000) % 2  # flaps for good
    values[1000:, PUMP] = 0.0
    told = (run(model, values).kind > 0)[:, [VALVE, PUMP]]
    assert 1 <= told.sum(axis=0).max() <= NEWS


# -- what cannot be judged


def test_no_law_without_discrete_channels_or_with_few_rows():
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(3200, 3))
    assert ChangeModel.fit(plain, whole(plain)) is None
    few = plant(1000, 0)
    assert ChangeModel.fit(few, whole(few)) is None
    constant = np.ones((3200, 2))
    assert ChangeModel.fit(constant, whole(constant)) is None


def test_after_a_gap_nobody_knows_when_it_changed(model):
    values = plant(3200, 4)
    values[500:900, VALVE] = values[500:900, PUMP] = 0.0
    values[690:900, PUMP] = 1.0
    observed = whole(values)
    observed[600:700, PUMP] = False
    found = ChangeStream(model, rate=RATE).push(values, observed)
    assert (found.changed[600:701, PUMP] < 1.0).all()


# -- pieces, restarts


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=5), seed=st.integers(0, 9))
def test_pieces_are_the_whole_and_a_restart_changes_nothing(model, cuts, seed):
    values = plant(700, seed)
    values[300:340, VALVE] = np.arange(40) % 2
    observed = np.random.default_rng(seed).random(values.shape) > 0.05
    wanted = ChangeStream(model, rate=RATE).push(values, observed)
    stream, found = ChangeStream(model, rate=RATE), []
    loaded = ChangeModel.from_dict(model.to_dict())
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 700], strict=True):
        found.append(stream.push(values[start:stop], observed[start:stop]))
        stream = ChangeStream.from_state(stream.to_state(), ChangeStream(loaded, rate=RATE))
    for name in ("changed", "not_changed", "state", "score", "kind"):
        joined = np.concatenate([getattr(one, name) for one in found])
        assert np.array_equal(joined, getattr(wanted, name)), name


def test_a_state_of_another_model_is_refused(model):
    other = plant(3200, 0)[:, 2:]
    state = ChangeStream(ChangeModel.fit(other, whole(other)), rate=RATE).to_state()
    with pytest.raises(ModelError, match="state of a change rows has 'last' of shape"):
        ChangeStream.from_state(state, ChangeStream(model, rate=RATE))


# -- as a check of a detector


def test_a_detector_tells_it_and_keeps_it(tmp_path):
    train, test = plant(5000, 0), plant(4000, 1)
    alone(test)
    detector = ImDiffusion("linear", alarm_rate=0.01).fit(train)
    entity = detector.entity()
    assert entity.checks.changes is not None
    rows = Rows(entity.scaler.forward(test), whole(test), np.arange(len(test)))
    kind = CheckStream(entity.checks, rate=0.01).push(rows).kind
    assert set(kind[3000:3003, PUMP]) & set(KINDS)
    score = detector.decision_function(test)
    assert score[3000:3003].max() > 1.0
    detector.save(tmp_path / "model")
    loaded = ImDiffusion.load(tmp_path / "model")
    assert np.array_equal(loaded.decision_function(test), score)
    strict = detector.set_alarm_rate(1e-5).decision_function(test)
    assert (strict > 1).sum() < (score > 1).sum()


def test_it_can_be_turned_off():
    train = plant(3000, 0)
    off = ImDiffusion("linear", changes=False).fit(train)
    assert off.entity().checks.changes is None
    assert RowChecks.from_dict(RowChecks().to_dict()).changes is None
    with pytest.raises(ConfigError, match="changes"):
        ImDiffusion("paper", changes=True).fit(train)
