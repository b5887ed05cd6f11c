"""The view `memory` beside the others: its column, channels and rows, on the way and on disk."""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_series import entity_of, rows_of, stream_of

from imdiffusion import ImDiffusion
from imdiffusion.calibration import WEIGHTS, view_weights
from imdiffusion.diffusion.denoisers.nearest import NearestStream
from imdiffusion.errors import DataWarning
from imdiffusion.linear import LinearRun, LinearStream, LinearViews
from imdiffusion.saved_state import State
from imdiffusion.scored_run import linear_parts

LAW = ("forecast", "channel")
THREE = (*LAW, "memory")


def waves(rows, seed, channels=3):
    time = np.arange(rows)[:, None]
    noise = np.random.default_rng(seed).normal(size=(rows, channels))
    return np.sin(time / np.array([3.0, 5.0, 8.0, 13.0])[:channels]) + 0.1 * noise


def detector(train, **more):
    return ImDiffusion("linear", **{"alarm_rate": 0.01, "absence": False, **more}).fit(train)


def both(stream, rows):
    """What is said of rows online, and offline."""
    early, late = stream.push(rows)
    return early, late.join(stream.finish())


def same(one, two, **how):
    others = two.to_state().arrays
    for name, array in one.to_state().arrays.items():
        other = others[name]
        if how:
            assert np.allclose(array, other, equal_nan=True, **how), name
        else:
            assert np.array_equal(array, other, equal_nan=array.dtype.kind == "f"), name


@pytest.fixture(scope="module", params=[8, 32, 64])
def scanned(request):
    """Windows of a scan that are shorter, as long, and longer than a patch."""
    return detector(waves(800, 0), scan=request.param)


# -- its column


def test_its_score_is_the_distance_of_measured_channels_within_their_usual_range():
    train = np.column_stack([waves(900, 0), np.arange(900) // 50 % 2])  # a command of 0 and 1
    fitted = detector(train)
    entity, test = entity_of(fitted), np.column_stack([waves(200, 1), np.arange(200) % 2])
    test[90, 1] = 1e5
    test[120:123, 2] = np.nan
    rows, views = rows_of(entity, test), entity.linear
    assert views.measured.tolist() == [True, True, True, False]
    values = np.clip(rows.values, views.low, views.high)[:, :3]
    assert values.max() < 100
    alone = NearestStream(views.memory)
    early, late = alone.push(values, rows.observed[:, :3])
    late = late.join(alone.finish())
    for run, by_itself in zip(both(stream_of(entity), rows), (early, late), strict=True):
        assert np.allclose(run.views[:, 2], by_itself.score, equal_nan=True)
        assert np.allclose(run.apart[:, :3], by_itself.apart, atol=1e-5)
        assert (run.apart[:, 3] == 0).all()


def test_columns_weights_and_units_stand_in_one_order():
    fitted = detector(waves(900, 0))
    entity = entity_of(fitted)
    assert entity.view_names == ("forecast", "channel", "memory")
    for join in entity.joins.values():
        assert join.weight.tolist() == [WEIGHTS[name] for name in (*entity.view_names, "sparse")]
        assert join.unit[2] == pytest.approx(1.0, abs=0.02)  # it has its own unit already
    assert WEIGHTS["memory"] == 0.5
    without = entity_of(detector(waves(900, 0), views=LAW))
    assert without.view_names == ("forecast", "channel")
    assert without.linear.memory is None
    one, two = (model.joins["offline"].unit for model in (entity, without))
    assert np.array_equal(np.delete(one, 2), two)  # what stands beside it is the same


@pytest.mark.parametrize(
    ("rows", "weight"), [(300, 0.1), (3_000, 1.0), (7_200, 2.4), (12_000, 4.0), (60_000, 4.0)]
)
def test_a_network_counts_as_much_as_the_rows_it_learned_from_allow(rows, weight):
    assert view_weights(("forecast", "network"), rows).tolist() == [1.0, weight, 0.25]


@pytest.mark.filterwarnings("ignore::imdiffusion.errors.ConvergenceWarning")
def test_beside_a_network_each_view_has_its_own_weight_and_unit():
    small = {"window": 20, "max_steps": 4, "validate_every": 4, "width": 8, "layers": 1}
    small |= {"feedforward": 8, "mask_groups": 2}
    fitted = ImDiffusion("fast", views=(*THREE, "network"), **small).fit(waves(200, 0))
    entity = entity_of(fitted)
    names = ("forecast", "channel", "memory", "network")
    assert entity.view_names == names
    for join in entity.joins.values():
        assert join.weight.tolist() == [1.0, 1.0, 0.5, 200 / 3_000, 0.25]
        assert join.unit.shape == (5,)
    late, early = entity.joins["offline"].unit, entity.joins["online"].unit
    assert np.allclose([early[2], late[2]], 1.0, atol=0.02)
    assert early[3] == late[3] != early[4]  # the network's online is that of offline
    found = fitted.analyze(waves(120, 1))
    assert np.isfinite(found.score).all()
    assert np.isfinite(found.channel_scores).all()
    assert np.isfinite(fitted.decision_function(waves(120, 1), mode="online")[20:]).all()


@pytest.mark.filterwarnings("ignore:.*repeat themselves:imdiffusion.errors.DataWarning")
def test_a_shape_that_never_was_is_heard_where_each_row_is_told_well():
    """A slow wave instead of a square one: every step of it is one that a square had too."""
    square = np.sign(np.sin(np.arange(3000) / 6.0))
    train = np.column_stack([square, -square]) + 0.2 * np.random.default_rng(0).normal(
        size=(3000, 2)
    )
    test = train[1000:1400].copy()
    test[200:260] = 0.2 * np.random.default_rng(1).normal(size=(60, 2))
    run = both(stream_of(entity_of(detector(train))), rows_of(entity_of(detector(train)), test))[1]
    assert run.views[215:245, 2].min() > 1.2
    assert np.nanmax(run.views[50:150, 2]) < 1.2


# -- in pieces, over a restart


def test_pieces_of_any_size_are_the_whole(scanned):
    entity = entity_of(scanned)
    values = waves(150, 1)
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    values[70:72] = np.nan
    rows = rows_of(entity, values)
    early, late = both(stream_of(entity), rows)
    assert len(early) == len(late) == 150
    assert np.isnan(early.views[:15, 2]).all()  # half a patch must have come
    assert np.isfinite(late.views[:70]).all()
    assert np.isnan(late.views[70:72]).all()

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.integers(0, 60), max_size=6))
    def pieces(sizes):
        cut = [0, *np.minimum(np.cumsum(sizes, dtype=int), 150).tolist(), 150]
        again = stream_of(entity)
        runs = [again.push(rows.slice(a, b)) for a, b in pairwise(cut)]
        online, final = runs[0]
        for one, two in runs[1:]:
            online, final = online.join(one), final.join(two)
        same(online, early, rtol=1e-3, atol=1e-4)
        same(final.join(again.finish()), late, rtol=1e-3, atol=1e-4)

    pieces()
    single = stream_of(entity)
    said = [single.push(rows.slice(t, t + 1))[1] for t in range(150)]
    assert [len(run) for run in said] == [int(t >= entity.linear.reach) for t in range(150)]
    assert entity.linear.reach == max(31, entity.settings.scan - 1)


def test_over_a_restart_it_goes_on_to_the_last_bit(scanned):
    entity = entity_of(scanned)
    rows, stream = rows_of(entity, waves(150, 2)), stream_of(entity)
    for start, stop in pairwise([0, 3, 40, 90, 150]):
        state = State.from_bytes(stream.to_state().to_bytes())
        resumed = LinearStream.from_state(state, stream_of(entity))
        piece = rows.slice(start, stop)
        for one, two in zip(stream.push(piece), resumed.push(piece), strict=True):
            same(one, two)
    same(stream.finish(), resumed.finish())


# -- rows: few, half gone, faulty


def test_with_fewer_rows_than_two_patches_it_is_left_out_and_that_is_told():
    with pytest.warns(DataWarning, match="63 rows are fewer than two patches .64 rows.: the view"):
        fitted = detector(waves(63, 0))
    assert entity_of(fitted).view_names == ("forecast", "channel")
    plain = detector(waves(63, 0), views=LAW)  # says nothing, for nothing is left out
    test = waves(100, 1)
    assert np.array_equal(fitted.decision_function(test), plain.decision_function(test))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        enough = detector(waves(64, 0))
    assert entity_of(enough).linear.memory is not None
    assert np.isfinite(enough.decision_function(test)).all()


def test_of_few_rows_its_units_hold_on_rows_that_had_no_part_in_them():
    rows = entity_of(detector(waves(300, 0)))
    views, fit = LinearViews.fit(
        rows_of(rows, waves(300, 0)), lags=4, widths=(1, 2, 4), memory=True
    )
    stream = LinearStream(views, rows.checks, rate=0.01)
    fresh = both(stream, rows_of(rows, waves(300, 7)))[1].views[:, 2]
    # Training rows were judged by half the patches that fresh rows meet.
    assert np.mean(fresh > np.nanquantile(fit.views_offline[:, 2], 0.99)) < 0.02


def test_half_the_values_missing_are_no_news():
    entity, values = entity_of(detector(waves(2000, 0, 4))), waves(1000, 1, 4)
    whole = both(stream_of(entity), rows_of(entity, values))[1].views[:, 2]
    values[np.random.default_rng(0).random(values.shape) < 0.5] = np.nan
    thin = both(stream_of(entity), rows_of(entity, values))[1].views[:, 2]
    assert np.nanmedian(thin) < 1.15 * np.nanmedian(whole)
    gone = waves(200, 1, 4)
    gone[60:120] = np.nan  # longer than a patch
    run = both(stream_of(entity), rows_of(entity, gone))[1]
    assert np.isnan(run.views[60:120]).all()
    assert np.isfinite(run.views[np.r_[:60, 120:200]]).all()


def test_without_offline_online_is_the_same_and_no_row_waits():
    entity = entity_of(detector(waves(400, 0)))
    rows = rows_of(entity, waves(200, 1))
    with_it, without = stream_of(entity), entity.linear_stream(entity.linear, offline=False)
    for start in range(0, 120, 40):
        early, late = without.push(rows.slice(start, start + 40))
        same(early, with_it.push(rows.slice(start, start + 40))[0])
        assert len(late) == 0
    assert "waiting" in with_it.to_state().parts
    assert "waiting" not in without.to_state().parts
    assert len(without.finish()) == 0


# -- reasons


def test_a_channel_has_what_the_memory_adds_as_far_as_it_sets_the_patch_apart():
    names = ("forecast", "channel", "memory")
    blank = np.zeros(2)
    run = LinearRun(
        np.ones((2, 3)), blank, np.array([[2.0, 6.0], [2.0, np.nan]], np.float32),
        np.zeros((2, 2), np.float32), np.ones(2, bool), blank.astype(np.float32),
        np.zeros((2, 2), np.int8), np.zeros((2, 2), np.int32),
        np.array([[3.0, 0.0], [0.0, 0.0]], np.float32), np.ones((2, 2), np.float32),
    )  # fmt: skip
    added = np.array([[0.1, 0.2, 0.2, 0.1], [0.1, 0.2, 0.0, 0.1]])
    # 8 by the law for .4 of the score: .2 more are 4, three quarters of it where a patch is apart.
    found = linear_parts(run, names, added)
    assert np.allclose(found, [[2.0 + 3.0, 6.0], [2.0, np.nan]], equal_nan=True)
    network = np.insert(added, 3, [0.7, 0.9], axis=1)
    assert np.allclose(linear_parts(run, (*names, "network"), network), found, equal_nan=True)
    assert linear_parts(run, names[:2], added) is run.parts


@pytest.mark.parametrize("kind", ["shift", "noise", "turned"])
def test_the_right_channel_keeps_its_share(kind):
    train = waves(3000, 0, 4)
    with_it, without = detector(train), detector(train, views=LAW)
    test, rng = waves(600, 1, 4), np.random.default_rng(4)
    part = slice(300, 330)
    if kind == "shift":
        test[part, 2] += 1.5
    elif kind == "noise":
        test[part, 2] += rng.normal(size=30)
    else:
        test[part, 2] *= -1.0
    shares = []
    for model in (with_it, without):
        parts = np.nan_to_num(model.analyze(test).channel_scores[part]).sum(axis=0)
        assert parts.argmax() == 2
        shares.append(parts[2] / parts.sum())
    assert shares[0] > shares[1] - 0.01
