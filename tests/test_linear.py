"""Preset linear: the closed-form views over a stream, on rows as users have them"""

import time

import numpy as np
import pytest
from linear_series import entity_of, rows_of, series, stream_of

from imdiffusion import ImDiffusion
from imdiffusion.data.windows import Rows
from imdiffusion.errors import ConfigError, DataWarning
from imdiffusion.linear import LinearViews
from imdiffusion.linear.fitting import VIEWS, as_if_whole, lags_for, measured_channels, residuals_of
from imdiffusion.linear.views import LEAST_RESIDUAL
from imdiffusion.online import OnlineScorer
from imdiffusion.scoring.joining import dense, sparse
from imdiffusion.scoring.scan import trailing_means
from imdiffusion.scoring.tail import TailLaws

WIDTHS = (1, 2, 4, 8)
PROMISE = 0.01


def thinned(values, share, seed=3):
    return np.where(np.random.default_rng(seed).random(values.shape) < share, np.nan, values)


def detector(train, **more):
    return ImDiffusion("linear", **{"alarm_rate": PROMISE, **more}).fit(train)


def plain_rows(values) -> Rows:
    """Rows as the views read them, without a scaler."""
    seen = ~np.isnan(values)
    filled = np.where(seen, values, 0.0).astype(np.float32)
    return Rows(filled, seen, np.arange(len(values)))


def alike(one, two, *, exact=False):
    others = two.to_state().arrays
    for name, array in one.to_state().arrays.items():
        other = others[name]
        if exact:
            assert np.array_equal(array, other, equal_nan=array.dtype.kind == "f"), name
        else:
            assert np.allclose(array, other, rtol=1e-4, atol=1e-5, equal_nan=True), name


@pytest.fixture(scope="module")
def fitted():
    return detector(series(1500, 0), absence=False, scan=8)


@pytest.fixture(scope="module")
def trusted():
    """With enough rows that the promise can be asked for."""
    return detector(series(4000, 0), absence=False)


# -- the stream


@pytest.mark.parametrize("at", [0, 7, 30])
def test_online_nothing_is_known_of_later_rows(fitted, at):
    entity = entity_of(fitted)
    one = series(40, 3)
    two = one.copy()
    two[at + 1 :] = thinned(two[at + 1 :] * 50 + 7, 0.3)
    first, second = (stream_of(entity).push(rows_of(entity, v))[0] for v in (one, two))
    alike(first.split(at + 1)[0], second.split(at + 1)[0])
    assert not np.allclose(first.views[at + 1 :], second.views[at + 1 :], equal_nan=True)


def test_offline_is_what_was_defined_at_the_fit(fitted):
    """The last lines of the fit, on the whole of a fresh series."""
    entity = entity_of(fitted)
    views, values = entity.linear, thinned(series(80, 4), 0.05)
    values[40, 0] = 1e4  # as context it is cut to the usual range, as evidence it is not
    rows = rows_of(entity, values)
    stream = stream_of(entity)
    early, late = stream.push(rows)
    late = late.join(stream.finish())
    lags = views.law.lags
    held = np.pad(np.clip(rows.values, views.low, views.high), ((lags, 0), (0, 0)))
    observed = np.pad(rows.observed, ((lags, 0), (0, 0)))
    residuals, expected = residuals_of(
        views.law, held, observed, np.where(rows.observed, rows.values, np.nan)
    )
    evidence = [
        np.nan_to_num(tail.evidence(one), nan=1.0)
        for tail, one in zip(views.tails, residuals, strict=True)
    ]
    thick = trailing_means(np.stack([dense(one) for one in evidence], axis=-1), WIDTHS)
    thin = np.stack([sparse(trailing_means(one, WIDTHS)) for one in evidence], axis=-1)
    wanted = views.judged(thick, thin)
    for found, same in zip(
        (early.views, early.sparse, late.views, late.sparse), wanted, strict=True
    ):
        law = found if found.ndim == 1 else found[:, : len(VIEWS)]
        assert np.allclose(law, same, rtol=1e-4)
    assert np.allclose(late.expected, expected, atol=1e-5)
    assert np.allclose(np.isnan(late.parts), ~rows.observed)


def test_each_block_of_training_rows_is_judged_by_a_law_that_has_not_seen_it():
    values = series(500, 5, channels=3)
    one = LinearViews.fit(plain_rows(values), lags=2, widths=WIDTHS)[1].residual
    changed = values.copy()
    changed[499, 0] = np.quantile(values[:, 0], 0.6)  # within the last block of five
    two = LinearViews.fit(plain_rows(changed), lags=2, widths=WIDTHS)[1].residual
    assert np.array_equal(one[400:499], two[400:499])
    assert not np.array_equal(one[:400], two[:400])


def test_tails_say_that_training_rows_are_normal():
    rows = plain_rows(series(800, 6, channels=4))
    views, fit = LinearViews.fit(rows, lags=3, widths=WIDTHS)
    assert views.law.lags == 3
    assert len(views.tails) == len(VIEWS) == fit.views_online.shape[1]
    stream = LinearViews.from_dict(views.to_dict())
    assert np.array_equal(stream.law.covariances, views.law.covariances)
    for high in (fit.views_online, fit.views_offline):
        assert np.nanquantile(high, 0.5) < 1 < np.nanmax(high)
        assert 0.005 < np.nanmean(high > 1) < 0.05  # a unit is what few rows exceed
    fresh = residuals_of(
        views.law,
        np.clip(plain_rows(series(3003, 7, channels=4)).values, views.low, views.high),
        np.ones((3003, 4), bool),
        series(3003, 7, channels=4)[3:],
    )[0]
    for tail, one in zip(views.tails, fresh, strict=True):
        assert tail.evidence(one).mean() == pytest.approx(1.0, abs=0.12)


def test_pushed_rows_end_with_the_scores_of_the_whole_series(fitted):
    entity, values = entity_of(fitted), thinned(series(70, 8), 0.1)
    values[30:33] += 9
    online = OnlineScorer(entity, offline=True)
    pushed = [online.push(rows_of(entity, values[t : t + 9])) for t in range(0, 70, 9)]
    late = [run for _, runs in pushed for run in runs] + online.finish()
    found = np.concatenate([entity.score(run.errors) for run in late])
    whole = fitted.decision_function(values)
    assert np.allclose(found, whole, rtol=1e-4)
    early = np.concatenate([entity.score(run.errors, "online") for run, _ in pushed])
    assert early.shape == whole.shape
    assert (early[:30] < 1).all()
    assert (early[30:33] > 1).all()


# -- kinds of channels


def test_two_valued_channels_are_context_alone():
    rng = np.random.default_rng(0)

    def made(rows, seed):
        rng = np.random.default_rng(seed)
        command = np.repeat(rng.random(rows // 10 + 1) < 0.5, 10)[:rows].astype(float)
        follower = 3 * command + 0.2 * rng.normal(size=rows)
        return np.stack([command, follower, rng.normal(size=rows)], axis=1)

    model = detector(made(3000, 0), absence=False)
    entity = entity_of(model)
    assert entity.linear.measured.tolist() == [False, True, True]
    values = made(600, 1)
    clean = model.analyze(values)
    assert (clean.channel_scores[:, 0] == 0).all()  # never a reason
    # It conditions: the follower that does not follow is found, and it alone is named.
    broken = values.copy()
    broken[300:310, 1] = 3 * (1 - broken[300:310, 0]) + 0.2 * rng.normal(size=10)
    found = model.analyze(broken)
    assert found.score[300:310].max() > 1.3
    assert found.channel_scores[300:310].sum(axis=0).argmax() == 1
    # And a command that toggles as it likes, its follower with it, is no news.
    odd = values.copy()
    odd[200:400, 0] = np.arange(200) % 2
    odd[200:400, 1] = 3 * odd[200:400, 0] + 0.2 * rng.normal(size=200)
    assert np.median(model.decision_function(odd)[200:400]) < np.median(found.score[300:310])


def test_measured_are_channels_of_three_values_or_all_where_there_is_none():
    values = np.array([[0, 0, 1, np.nan], [1, 0, 2, np.nan], [0, 0, 3, np.nan], [1, 0, 1, 5.0]])
    assert measured_channels(plain_rows(values)).tolist() == [False, False, True, False]
    assert measured_channels(plain_rows(values[:, [0, 1]])).tolist() == [True, True]


@pytest.mark.filterwarnings("ignore:.*repeat others:imdiffusion.errors.DataWarning")
def test_all_channels_discrete():
    rng = np.random.default_rng(0)
    base = rng.random(2000) < 0.3
    values = np.stack([base, ~base, rng.random(2000) < 0.5], axis=1).astype(float)
    model = detector(values[:1500])
    assert entity_of(model).linear.measured.all()
    broken = values[1500:].copy()
    broken[200:220, 1] = broken[200:220, 0]  # never alike in training
    score = model.decision_function(broken)
    assert score[200:220].max() > 1
    assert np.mean(score[:168] > 1) < 0.1  # no window there reaches the fault


@pytest.mark.filterwarnings("ignore:.*constant in the training data:imdiffusion.errors.DataWarning")
@pytest.mark.parametrize("absence", [False, True])
def test_constant_channels(absence):
    values = np.concatenate([series(1200, 0, 2), np.full((1200, 2), [0.0, 7.0])], axis=1)
    model = detector(values[:900], absence=absence)
    clean = values[900:]
    left = clean.copy()
    left[100:130, 2] = 0.05
    score = model.decision_function(left)
    assert np.isfinite(score).all()
    assert np.isfinite(entity_of(model).linear.law.covariances).all()
    if absence:
        assert (score[101:129] > 1).all()
        assert model.analyze(left).events[0].channels
    still = detector(np.full((200, 2), [3.0, 0.0]), absence=absence)
    found = still.decision_function(np.full((50, 2), [3.0, 0.0]))
    assert (found <= 1).all()
    moved = np.full((50, 2), [3.0, 0.0])
    moved[20:25, 1] = 4.0
    assert (still.decision_function(moved)[20:25] > 1).all()


# -- missing values


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_values_missing_at_random_are_no_alarm(trusted, share):
    clean = series(3000, 1)
    score = trusted.decision_function(thinned(clean, share))
    assert np.mean(score > 1) <= 3 * PROMISE
    faulty = clean.copy()
    faulty[1000:1020, 0] += 5.0
    assert np.nanmax(trusted.decision_function(thinned(faulty, share))[1000:1020]) > 2


def test_of_rows_that_were_thin_in_training_too(trusted):
    model = detector(thinned(series(4000, 0), 0.3, seed=5), absence=False)
    assert entity_of(model).linear.law.lags == 2  # a forecast reads less where rows are thin
    assert entity_of(trusted).linear.law.lags == 10
    score = model.decision_function(thinned(series(3000, 1), 0.3))
    assert np.mean(score > 1) <= 3 * PROMISE


@pytest.fixture(scope="module", params=[0.1, 0.3, 0.5])
def thin(request):
    """Fitted on rows with so many values missing."""
    return detector(thinned(series(4000, 0), request.param, seed=5), absence=False)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_rows_of_any_share_after_thin_training_rows_are_no_alarm(thin, share):
    clean = series(3000, 1)
    assert np.mean(thin.decision_function(thinned(clean, share)) > 1) <= 3 * PROMISE
    clean[1000:1020, 0] += 5.0
    assert np.nanmax(thin.decision_function(thinned(clean, share))[1000:1020]) > 1.8


@pytest.mark.filterwarnings("ignore:.*which training had:imdiffusion.errors.DataWarning")
@pytest.mark.parametrize("left", [0, 1, 5])
def test_one_channel_of_six_after_thin_training_rows_is_no_alarm(thin, left):
    values = series(3000, 2)
    values[:, np.arange(6) != left] = np.nan
    assert np.mean(thin.decision_function(values) > 1) <= 3 * PROMISE


def test_evidence_of_thin_rows_is_drawn_out_to_whole_ones_for_what_is_normal():
    rng = np.random.default_rng(0)
    whole = rng.exponential(size=(4000, 5)).astype(np.float32)
    holes = thinned(whole, 0.5)
    found = as_if_whole(holes)
    seen = ~np.isnan(holes)
    assert np.array_equal(found[seen], holes[seen])
    assert dense(found).std() == pytest.approx(dense(whole).std(), rel=0.03)
    assert dense(np.nan_to_num(holes, nan=1.0)).std() < 0.75 * dense(whole).std()
    assert np.array_equal(as_if_whole(whole), whole)
    assert (as_if_whole(np.full((9, 2), np.nan, np.float32)) == 1).all()
    # Values that are missing together come from one row.
    together = whole.copy()
    together[:, 1] = together[:, 0]
    together[1000:1400, :2] = np.nan
    again = as_if_whole(together)
    assert np.array_equal(again[:, 0], again[:, 1])


def test_values_missing_at_random_are_no_absence():
    model = detector(series(4000, 0))
    assert np.mean(model.decision_function(thinned(series(3000, 1), 0.3)) > 1) <= 3 * PROMISE


def test_the_promise_holds_after_a_short_training():
    shares = [
        np.mean(
            detector(series(300, seed), absence=False).decision_function(series(1500, 50 + seed))
            > 1
        )
        for seed in range(4)
    ]
    assert np.mean(shares) <= 3 * PROMISE


@pytest.mark.filterwarnings("ignore:.*which training had:imdiffusion.errors.DataWarning")
def test_whole_channels_gone(trusted):
    values = series(2000, 1)
    values[:, 1:] = np.nan
    found = trusted.analyze(values)
    assert np.mean(found.score > 1) <= 3 * PROMISE
    assert np.isfinite(found.score).all()
    assert np.isnan(found.channel_scores[:, 1:]).all()
    assert np.isfinite(found.expected).all()  # what they should be is still said
    values[700:712, 0] += 12 * np.nanstd(values[:, 0])
    assert np.nanmax(trusted.decision_function(values)[700:712]) > 1


@pytest.mark.filterwarnings("ignore:.*which training had:imdiffusion.errors.DataWarning")
def test_all_rows_gone(trusted):
    values = series(300, 1)
    whole = trusted.decision_function(values)
    values[100:150] = np.nan
    entity = entity_of(trusted)
    early, _ = stream_of(entity).push(rows_of(entity, values))
    assert np.array_equal(np.isnan(early.views).all(axis=1), np.isnan(values).all(axis=1))
    score = trusted.decision_function(values)
    assert np.array_equal(np.isnan(score), np.isnan(values).all(axis=1))
    # Nothing is held against the first rows that come again.
    assert not ((score > 1) & (whole <= 1))[150:].any()
    assert np.isnan(trusted.decision_function(np.full((40, 6), np.nan))).all()


# -- sizes


@pytest.mark.filterwarnings("ignore:.*rows are few:imdiffusion.errors.DataWarning")
@pytest.mark.parametrize("channels", [1, 2, 30, 300])
def test_any_number_of_channels_quickly(channels):
    train, clean = series(900, 0, channels), series(400, 1, channels)
    start = time.process_time()
    model = detector(train)
    fault = clean.copy()
    fault[200:210, channels // 2] += 15 * train[:, channels // 2].std()
    found = model.analyze(fault)
    assert time.process_time() - start < 10
    assert found.score[200:210].max() > 1.2
    assert found.channel_scores[200:210].sum(axis=0).argmax() == channels // 2
    assert np.median(model.decision_function(clean)) < 1
    assert entity_of(model).linear.law.lags * channels <= 600


@pytest.mark.parametrize(
    ("rows", "channels", "wanted", "lags"),
    [
        (1000, 3, 10, 10),
        (1000, 300, 10, 1),
        (90, 3, 10, 7),
        (10, 2, 10, 1),
        (2000, 100, 9, 5),
        (4000, 150, 10, 4),
    ],
)
def test_a_forecast_reads_fewer_rows_of_many_channels(rows, channels, wanted, lags):
    values = np.random.default_rng(0).normal(size=(rows, channels))
    assert lags_for(plain_rows(values), wanted) == lags
    # Channels that never move are no reason to read less.
    still = np.concatenate([values, np.zeros((rows, 500))], axis=1)
    assert lags_for(plain_rows(still), wanted) == lags


def test_the_settings_lags_and_scan_are_what_is_read():
    model = detector(series(600, 0), lags=3, scan=4, views=("forecast", "channel"))
    views = entity_of(model).linear
    assert views.law.lags == 3
    assert views.dense.widths == views.sparse.widths == (1, 2, 4)
    assert views.reach == 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scan": 12}, "no power of two"),
        ({"scan": 0}, "out of range"),
        ({"lags": 0}, "out of range"),
        ({"views": ("forecast",)}, "scored together"),
        ({"views": ("network", "forecast", "channel")}, "scored together"),
        ({"views": ("memory",)}, "scored together"),
        ({"views": ("forecast", "channel", "network", "memory")}, "scored together"),
        ({"scope": "shared", "views": ("forecast", "channel")}, "shares a network"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        ImDiffusion("linear", **changes).fit(series(50, 0))


# -- what a fit survives


def test_seeds_are_irrelevant_to_the_last_bit():
    train, test = series(400, 0), series(200, 1)
    one, two = (ImDiffusion("linear", seed=seed).fit(train) for seed in (0, 7))
    facts, same = entity_of(one).to_dict(), entity_of(two).to_dict()
    assert set(facts) == set(same)
    for name, value in facts.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(value, same[name], equal_nan=value.dtype.kind == "f"), name
        else:
            assert value == same[name], name
    assert np.array_equal(one.decision_function(test), two.decision_function(test))


def test_two_per_cent_of_faulty_training_rows_do_not_deafen():
    train, test = series(2000, 0, 3), series(200, 1, 3)
    test[100:110, 0] += 15.0
    train[700:740, 1] += 15.0
    assert detector(train).decision_function(test)[100:110].max() > 1


@pytest.mark.parametrize("absence", [False, True])
def test_saved_and_loaded_it_scores_the_same_to_the_last_bit(absence, tmp_path):
    test = thinned(series(100, 9), 0.1)
    fitted = detector(series(500, 0), absence=absence)
    fitted.save(tmp_path / "m")
    again = ImDiffusion.load(tmp_path / "m")
    assert np.array_equal(
        fitted.decision_function(test), again.decision_function(test), equal_nan=True
    )
    for part in ("channel_scores", "expected", "lower", "upper"):
        one, two = (getattr(model.analyze(test), part) for model in (fitted, again))
        assert np.array_equal(one, two, equal_nan=True)


def test_a_perfectly_told_channel_speaks_in_units_of_the_least_residual():
    """Copies of one another: residuals are far below the noise of the law, and still a fault of a
    tenth of a standard deviation is no alarm by itself.
    """
    values = np.repeat(series(1000, 0, 1), 2, axis=1)
    views, _ = LinearViews.fit(plain_rows(values / values.std()), lags=2, widths=WIDTHS)
    for tail in views.tails:
        assert isinstance(tail, TailLaws)
        assert (tail.excess >= 0.3 * LEAST_RESIDUAL * (1 - 1e-6)).all()


@pytest.mark.filterwarnings("ignore:.*rows are few:imdiffusion.errors.DataWarning")
@pytest.mark.filterwarnings("ignore:.*fewer than two patches:imdiffusion.errors.DataWarning")
def test_more_channels_than_rows():
    values = series(40, 0, channels=60)
    model = detector(values)
    fresh = series(40, 1, channels=60)
    fault = fresh.copy()
    fault[20:30, 33] += 40 * values[:, 33].std()
    one, two = model.decision_function(fresh), model.decision_function(fault)
    assert np.isfinite(one).all()
    assert two[20:30].max() > max(1.0, one.max())
    assert model.analyze(fault).channel_scores[20:30].sum(axis=0).argmax() == 33


@pytest.mark.parametrize("sentinel", [-9999.0, 65535.0, 1e30])
def test_a_sentinel_in_training_is_named_and_costs_nothing(sentinel):
    train, test = series(1000, 0, 3), series(200, 1, 3)
    test[100:110, 0] += 12.0
    plain = detector(train).decision_function(test)
    train[321, 0] = sentinel
    with pytest.warns(DataWarning, match=rf"{sentinel:g} of 'c0' in row 321".replace("+", r"\+")):
        model = detector(train)
    score = model.decision_function(test)
    assert score[100:110].max() > 1.5
    assert score[100:110].max() == pytest.approx(plain[100:110].max(), rel=0.2)
    assert np.abs(entity_of(model).scaler.centre).max() < 5
