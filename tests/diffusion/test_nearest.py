"""Distances to the nearest normal patch: exact where directions span all, the same in pieces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.diffusion.denoisers.memory import PatchMemory
from imdiffusion.diffusion.denoisers.nearest import (
    MOST_UNITS,
    NearestPatches,
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
    arrival, _ = NearestStream(model).push(others, whole(others))
    np.testing.assert_allclose(arrival[7:], np.minimum(exact / model.unit[0], 3), atol=5e-3)


def test_what_lies_beside_the_directions_counts_by_its_size() -> None:
    along, beside = np.array([1.0, 0.0, -1.0, 0.0]), np.array([0.0, 1.0, 0.0, -1.0])
    directions = (along / np.sqrt(2.0))[:, None].astype(np.float32)
    model = NearestPatches(
        directions, np.array([[0.5], [-0.5]]), np.array([0.25, 0.5]), 2, 1, np.ones(2)
    )
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
    final = np.concatenate([final, stream.finish()])
    pieces, late, at = NearestStream(model), [], 0
    arrivals = []
    for size in sizes:
        arrival, done = pieces.push(others[at : at + size], observed[at : at + size])
        at += size
        arrivals.append(arrival)
        late.append(done)
        state = {name: array.copy() for name, array in pieces.state().items()}
        pieces = NearestStream(NearestPatches.from_dict(model.to_dict("x"), "x"))
        pieces.resume(state)
    late.append(pieces.finish())
    assert len(final) == len(early) == total
    np.testing.assert_allclose(np.concatenate(arrivals), early, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate(late), final, rtol=1e-5)


def test_arrival_looks_back_alone_and_hindsight_as_far_as_a_patch() -> None:
    rows, others = rows_of(300), rows_of(120, seed=1)
    model, _, _ = NearestPatches.fit(rows, whole(rows), width=16, every=4)
    changed = others.copy()
    changed[80:] += 9.0 * (-1.0) ** np.arange(40)[:, None]
    said = []
    for series in (others, changed):
        stream = NearestStream(model)
        arrival, final = stream.push(series, whole(series))
        said.append((arrival, np.concatenate([final, stream.finish()])))
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
    arrival, _ = NearestStream(model).push(rows[:40], np.zeros((40, 2), bool))
    assert np.isnan(arrival).all()


def test_training_rows_are_judged_by_the_other_half() -> None:
    # The second half is another regime: no row of it may find itself in the memory.
    rows = rows_of(400)
    rows[200:] += 5.0 * (-1.0) ** np.arange(200)[:, None]
    model, early, late = NearestPatches.fit(rows, whole(rows), width=8, every=2)
    assert np.nanmin(early[210:]) * model.unit[0] > 2.0
    assert np.nanmin(late[:190]) * model.unit[1] > 2.0
    seen = NearestStream(model).push(rows, whole(rows))[0]
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
    assert NearestStream(model).push(moved, whole(still))[0][-1] == 0.0  # a level is no shape
    moved[::2] = 0.0
    assert NearestStream(model).push(moved, whole(still))[0][-1] == MOST_UNITS
