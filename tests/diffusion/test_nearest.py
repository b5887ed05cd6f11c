"""Distances to the nearest normal patch: exact where directions span all, the same in pieces."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers.memory import PatchMemory
from imdiffusion.diffusion.denoisers.nearest import (
    MOST_UNITS,
    NearestPatches,
    NearestRun,
    NearestStream,
    principal_directions,
    shapes,
)
from imdiffusion.errors import DataError


def rows_of(total: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    time = np.arange(total)[:, None]
    noise = np.random.default_rng(seed).normal(size=(total, channels))
    return np.sin(time / np.array([3.0, 5.0])[:channels]) + 0.2 * noise


def whole(rows: np.ndarray) -> np.ndarray:
    return np.ones(rows.shape, bool)


def test_where_directions_span_all_the_distance_is_that_of_the_memory() -> None:
    rows, others = rows_of(200), rows_of(80, seed=1)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=8, every=1)  # 16 numbers a patch
    memory = PatchMemory.fit(rows, whole(rows), width=8, most=1_000, noise=0.1)
    level = memory.patches.mean(axis=1, keepdims=True)
    memory = PatchMemory(memory.patches - level, memory.observed, noise=0.1)
    patches = np.lib.stride_tricks.sliding_window_view(others, 8, axis=0).transpose(0, 2, 1)
    seen = np.ones(patches.shape, bool)
    found = model.distances(patches, seen)
    exact = np.sqrt(memory.distances(patches - patches.mean(axis=1, keepdims=True), seen))
    np.testing.assert_allclose(found, exact, atol=2e-3)
    online = NearestStream(model).push(others, whole(others))[0].score
    np.testing.assert_allclose(online[7:], np.minimum(exact / model.unit[0], 3), atol=5e-3)


def test_what_lies_beside_the_directions_counts_by_its_size() -> None:
    along, beside = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
    directions = (along / np.sqrt(2.0))[:, None].astype(np.float32)
    model = NearestPatches(
        directions, np.array([[0.5], [-0.5]]), np.array([0.25, 0.5]), 2, 1, np.ones(2),
        np.zeros(2),
    )  # fmt: skip
    patch = (7.0 + 0.3 * along / np.sqrt(2.0) + 2.0 * beside / np.sqrt(2.0)).reshape(1, 2, 2)
    found = model.distances(patch, np.ones(patch.shape, bool))
    np.testing.assert_allclose(found, [np.sqrt((0.2**2 + 2.0**2) / 4)], rtol=1e-5)


def test_a_shape_is_less_its_mean_over_what_is_visible() -> None:
    patch = np.array([[[1.0, 5.0], [3.0, 0.0], [8.0, 9.0]]], np.float32)
    seen = np.array([[[True, True], [True, False], [True, True]]])
    assert shapes(patch, seen).tolist() == [[-3.0, -2.0, -1.0, 0.0, 4.0, 2.0]]
    assert shapes(patch[:, :, :1], seen[:, :, :1]).tolist() == [[-3.0, -1.0, 4.0]]
    nothing = shapes(np.zeros((1, 3, 2), np.float32), np.zeros((1, 3, 2), bool))
    assert nothing.tolist() == [[0.0] * 6]


def test_principal_directions_are_orthonormal_and_hold_the_variance() -> None:
    generator = np.random.default_rng(0)
    patches = generator.normal(size=(400, 30)) * np.r_[np.full(4, 5.0), np.full(26, 0.1)]
    found = principal_directions(patches, 4)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)
    exact = np.linalg.svd(patches, compute_uv=False)
    kept = np.square(patches @ found).sum() / np.square(exact[:4]).sum()
    assert kept == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 23), min_size=1, max_size=12), st.integers(0, 20))
def test_pieces_and_restarts_say_what_the_whole_says(sizes: list[int], seed: int) -> None:
    rows, total = rows_of(200), sum(sizes)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=12, every=4)
    others = rows_of(max(total, 1), seed=seed)[:total]
    observed = np.random.default_rng(seed).random(others.shape) < 0.8
    observed[20:60] = False  # longer than a patch and a step of the grid
    stream = NearestStream(model)
    early, final = stream.push(others, observed)
    final = final.join(stream.finish())
    pieces, at = NearestStream(model), 0
    arrivals, late = [], []
    for size in sizes:
        online, done = pieces.push(others[at : at + size], observed[at : at + size])
        at += size
        arrivals.append(online)
        late.append(done)
        fresh = NearestStream(NearestPatches.from_dict(model.to_dict("x"), "x"))
        pieces = NearestStream.from_state(pieces.to_state(), fresh)
    late.append(pieces.finish())
    for found, same in ((arrivals, early), (late, final)):
        assert len(same.score) == len(same.apart) == total
        joined = reduce(NearestRun.join, found)
        np.testing.assert_allclose(joined.score, same.score, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(joined.apart, same.apart, rtol=1e-3, atol=1e-4)


def test_online_looks_back_alone_and_offline_as_far_as_a_patch() -> None:
    rows, others = rows_of(300), rows_of(120, seed=1)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=16, every=4)
    changed = others.copy()
    changed[80:] += 9.0 * (-1.0) ** np.arange(40)[:, None]
    said = []
    for series in (others, changed):
        stream = NearestStream(model)
        online, final = stream.push(series, whole(series))
        said.append((online.score, final.join(stream.finish()).score))
    for (one, other), until in zip(zip(*said, strict=True), (80, 65), strict=True):
        np.testing.assert_array_equal(one[:until], other[:until])
        assert (other[88:] == MOST_UNITS).all()
        assert (one[88:] < 2.0).all()
    assert np.isnan(said[0][0][:7]).all()
    assert not np.isnan(said[0][0][7:]).any()
    assert not np.isnan(said[0][1]).any()


def test_a_series_without_values_has_no_distance() -> None:
    rows = rows_of(100)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=8, every=4)
    online, _ = NearestStream(model).push(rows[:40], np.zeros((40, 2), bool))
    assert np.isnan(online.score).all()
    assert (online.apart == 0).all()


def test_what_is_not_visible_is_no_difference() -> None:
    rows = rows_of(2_000)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=16)
    others = rows_of(1_000, seed=1)
    thin = np.random.default_rng(0).random(others.shape) < 0.7
    found = NearestStream(model).push(others, thin)[0].score
    assert np.nanmedian(found) < 1.0
    assert np.nanquantile(found, 0.99) < 1.5
    # Of one channel alone it is the distance of that channel: nothing is added for the other.
    patch, seen = others[None, 100:116].copy(), whole(others[None, 100:116])
    patch[:, :, 1], seen[:, :, 1] = 0.0, False
    own = patch[0, :, 0] - patch[0, :, 0].mean()
    patches = (model.codes @ model.directions.T).reshape(-1, 16, 2)  # all of them: 32 directions
    nearest = np.argmin(0.5 * model.sizes - 2.0 * patches[:, :, 0] @ own)
    apart = np.square(own - patches[nearest, :, 0]).mean()
    np.testing.assert_allclose(model.distances(patch, seen), [np.sqrt(apart)], rtol=1e-3)


def test_the_channel_that_sets_a_patch_apart_is_named_while_it_does() -> None:
    rows, others = rows_of(2_000, channels=2), rows_of(200, seed=1)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=16, every=4)
    # By hand: one patch, one channel off by 3 and -3 in turn.
    patch = np.zeros((1, 16, 2), np.float32)
    patch[0, :, 1] = 3.0 * (-1.0) ** np.arange(16)
    one = NearestPatches(
        np.eye(32, 1, dtype=np.float32), np.zeros((1, 1), np.float32), np.zeros(1, np.float32),
        16, 4, np.ones(2), np.array([1.0, 2.0], np.float32),
    )  # fmt: skip
    squares = one._judged(patch, np.ones(patch.shape, bool))[1]
    np.testing.assert_allclose(squares, [[0.0, 9.0]], atol=1e-6)
    np.testing.assert_allclose(one.beyond_usual(squares), [[0.0, 7.0 / 3.0]], rtol=1e-5)
    others[100:130, 1] += 3.0 * (-1.0) ** np.arange(30)
    stream = NearestStream(model)
    early, late = stream.push(others, whole(others))
    late = late.join(stream.finish())
    for run, first, last in ((early, 112, 130), (late, 100, 125)):
        assert (run.apart[first:last, 1] > 5 * run.apart[first:last, 0]).all()
        assert (run.apart[first:last].sum(axis=1) > 1.0).all()
        assert np.median(run.apart[20:90].sum(axis=1)) < 0.05
    seen = whole(others)
    seen[:, 1] = False
    assert (NearestStream(model).push(others, seen)[0].apart[:, 1] == 0).all()


def test_training_rows_are_judged_by_the_other_half() -> None:
    # The second half is another regime: no row of it may find itself in the memory.
    rows = rows_of(400)
    rows[200:] += 5.0 * (-1.0) ** np.arange(200)[:, None]
    model, early, late = NearestPatches.fit(rows, whole(rows), width=8, every=2)
    assert np.nanmin(early[210:]) * model.unit[0] > 2.0
    assert np.nanmin(late[:190]) * model.unit[1] > 2.0
    seen = NearestStream(model).push(rows, whole(rows))[0].score
    assert np.nanmax(seen[215:]) * model.unit[0] < 1.0
    assert len(early) == len(late) == 400
    with pytest.raises(DataError, match="fewer than two patches"):
        NearestPatches.fit(rows[:15], whole(rows[:15]), width=8)


def test_scores_are_in_units_of_training_rows_judged_by_the_other_half() -> None:
    rows = rows_of(2_000)
    _, early, late = NearestPatches.fit(rows, whole(rows), width=16)
    assert np.nanquantile(early, 0.99) == pytest.approx(1.0)
    assert np.nanquantile(late, 0.99) == pytest.approx(1.0)
    still = np.zeros((200, 2))  # nothing moves: nothing is far, and nothing is divided by 0
    model, early, _ = NearestPatches.fit(still, whole(still), width=16)
    assert np.nanmax(early) == 0.0
    moved = still + 1.0
    assert NearestStream(model).push(moved, whole(still))[0].score[-1] == 0.0  # a level is no shape
    moved[::2] = 0.0
    assert NearestStream(model).push(moved, whole(still))[0].score[-1] == MOST_UNITS
