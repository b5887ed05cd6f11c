"""Rows in any order, twice, in parts, late, from broken clocks: what goes out is the series."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.frame import Frame
from imdiffusion.errors import ModelError, UsageError
from imdiffusion.live.rows.reorder_buffer import ASIDE, RowBuffer, Run
from imdiffusion.saved_state import State

NAMES = ("cpu", "memory", "disk")
PERIOD = 60 * 10**9
START = 1_767_225_600 * 10**9


def frame(points: list[int], values: np.ndarray | None = None, names=NAMES) -> Frame:
    """Rows of these points of the grid; without values those of `value`."""
    if values is None:
        values = np.stack([value(point) for point in points]) if points else np.empty((0, 3))
    times = (START + PERIOD * np.array(points, np.int64)).astype("datetime64[ns]")
    return Frame(values, ~np.isnan(values), times, tuple(names))


def value(point: int) -> np.ndarray:
    return np.array([point, -point, 0.5 * point])


def buffer(**options) -> RowBuffer:
    return RowBuffer(NAMES, **{"period": PERIOD, "phase": START % PERIOD, **options})


def points_of(runs: list[Run]) -> list[int]:
    times = [run.frame.timestamps.view(np.int64) for run in runs]
    return ((np.concatenate(times) - START) // PERIOD).tolist() if times else []


def table(runs: list[Run]) -> tuple[list[int], np.ndarray]:
    values = [run.frame.values for run in runs]
    return points_of(runs), np.concatenate(values) if values else np.empty((0, 3))


def pushed(one: RowBuffer, frames: list[Frame]) -> list[Run]:
    return [run for piece in frames for run in one.push(piece)] + one.flush()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 8), st.integers(1, 12))
def test_any_shuffle_within_the_limit_in_any_frames_gives_the_same_rows(
    seed, lateness, gaps, most
) -> None:
    rng = np.random.default_rng(seed)
    missing = set(rng.integers(1, 29, gaps).tolist())
    # Cells one by one: a row may come in up to three parts, some of it never, some of it twice.
    cells = [(point, k) for point in range(30) if point not in missing for k in range(3)]
    cells = [cell for cell in cells if cell == (0, 0) or rng.random() > 0.1]
    cells += [cell for cell in cells if rng.random() < 0.1]
    delay = rng.integers(0, lateness + 1, len(cells)).tolist()
    order = sorted(range(len(cells)), key=lambda i: (cells[i][0] + delay[i], i))
    one = buffer(lateness=lateness)
    runs: list[Run] = []
    while order:
        count = int(rng.integers(1, most + 1))
        some, order = order[:count], order[count:]
        values = np.full((len(some), 3), np.nan)
        for row, i in enumerate(some):
            values[row, cells[i][1]] = value(cells[i][0])[cells[i][1]]
        runs += one.push(frame([cells[i][0] for i in some], values))
        state = State.from_bytes(one.to_state().to_bytes())
        one = RowBuffer.from_state(state, buffer(lateness=lateness))
    runs += one.flush()
    points, rows = table(runs)
    last = max(point for point, _ in cells)
    assert points == list(range(last + 1))
    expected = np.full((last + 1, 3), np.nan)
    for point, k in cells:
        expected[point, k] = value(point)[k]
    assert np.array_equal(rows, expected, equal_nan=True)
    assert [run.fresh for run in runs] == [True] + [False] * (len(runs) - 1)
    assert one.counts["late"] == one.counts["ahead"] == one.counts["restart"] == 0
    assert one.counts["filled"] == last + 1 - len({point for point, _ in cells})


def test_a_whole_row_in_order_goes_out_at_once_and_others_wait() -> None:
    one = buffer(lateness=2)
    assert points_of(one.push(frame([0, 1]))) == []  # a row before the first may still come
    assert points_of(one.push(frame([2]))) == [0, 1, 2]
    assert points_of(one.push(frame([3]))) == [3]
    half = value(4)
    half[1] = np.nan
    assert points_of(one.push(frame([4], half[None]))) == []
    assert points_of(one.push(frame([6]))) == []
    rest = one.push(frame([4], np.array([[np.nan, 9.0, np.nan]])))
    assert points_of(rest) == [4]
    assert rest[0].frame.values.tolist() == [[4.0, 9.0, 2.0]]
    assert points_of(one.push(frame([7, 8]))) == [5, 6, 7, 8]
    assert one.counts["filled"] == 1


def test_of_two_values_for_a_cell_the_first_stays() -> None:
    one = buffer(lateness=3)
    one.push(frame([0, 1]))
    one.push(frame([1], 2 + value(1)[None]))
    one.push(frame([1]))
    points, rows = table(one.push(frame([2, 3])))
    assert points == [0, 1, 2, 3]
    assert rows[1].tolist() == value(1).tolist()
    assert one.counts["conflict"] == 3
    assert one.counts["duplicate"] == 1


def test_a_later_row_is_counted_and_kept_to_look_at() -> None:
    one = buffer(lateness=1)
    one.push(frame([0, 1, 2, 3]))
    assert one.push(frame([1])) == []
    assert one.counts["late"] == 1
    (aside,) = one.aside
    assert (aside.timestamp, aside.reason) == (START + PERIOD, "late")
    assert aside.values == (1.0, -1.0, 0.5)
    for _ in range(2 * ASIDE):
        one.push(frame([1]))
    assert one.counts["late"] == 1 + 2 * ASIDE
    assert len(one.aside) == ASIDE


def test_jitter_snaps_to_the_grid() -> None:
    one = RowBuffer(NAMES, period=PERIOD, lateness=0)
    jitter = np.array([0, 9, -20, 25, -3]) * 10**9
    given_ = frame([0, 1, 2, 3, 4])
    moved = Frame(given_.values, given_.observed, given_.timestamps + jitter, NAMES)
    points, rows = table(one.push(moved) + one.flush())
    assert points == [0, 1, 2, 3, 4]
    assert np.array_equal(rows, given_.values)


def test_unknown_channels_infinities_and_absent_channels() -> None:
    one = buffer(lateness=0)
    values = np.array([[1.0, np.inf, 7.0], [2.0, 3.0, np.nan]])
    observed = np.array([[True, True, True], [True, True, False]])
    times = frame([0, 1]).timestamps
    runs = one.push(Frame(values, observed, times, ("disk", "cpu", "gpu"))) + one.flush()
    points, rows = table(runs)
    assert points == [0, 1]
    assert np.array_equal(rows, [[np.nan, np.nan, 1.0], [3.0, np.nan, 2.0]], equal_nan=True)
    assert one.counts["unknown_channel"] == 1
    assert one.counts["not_finite"] == 1
    assert dict(one.matched.unknown) == {"gpu": 1}
    assert all(np.array_equal(run.frame.observed, ~np.isnan(run.frame.values)) for run in runs)


def test_a_gap_is_filled_up_to_the_limit_and_beyond_it_the_stream_starts_afresh() -> None:
    one = buffer(lateness=0, fill=4, confirm=2)
    runs = pushed(one, [frame([0, 1, 6, 7]), frame([13]), frame([14]), frame([15])])
    assert points_of(runs) == [0, 1, 2, 3, 4, 5, 6, 7, 13, 14, 15]
    assert [run.frame.timestamps[0] for run in runs if run.fresh] == [
        frame([0]).timestamps[0],
        frame([13]).timestamps[0],
    ]
    assert one.counts["filled"] == 4
    assert one.counts["restart"] == 1
    assert one.counts["ahead"] == 0


def test_one_stray_timestamp_far_ahead_stops_nothing() -> None:
    one = buffer(lateness=1)
    runs = pushed(one, [frame([0, 1, 2]), frame([5_000]), *(frame([p]) for p in range(3, 20))])
    assert points_of(runs) == list(range(20))
    assert one.counts["ahead"] == 1
    assert one.counts["restart"] == one.counts["filled"] == 0


def test_a_clock_an_hour_ahead_is_followed_once_it_is_confirmed_and_no_row_is_lost() -> None:
    one = buffer(lateness=1, fill=10, confirm=3)
    there = [100, 101, 102, 103, 104]
    out = [points_of(one.push(frame([point]))) for point in [*range(5), *there]]
    assert out[5:] == [[], [], [100, 101, 102], [103], [104]]
    back = [points_of(one.push(frame([point]))) for point in range(40, 46)]
    assert back == [[], [], [40, 41, 42], [43], [44], [45]]
    assert one.counts["restart"] == 2
    assert one.counts["late"] == one.counts["ahead"] == 0


def test_old_rows_that_come_again_do_not_move_the_stream() -> None:
    one = buffer(lateness=1, fill=5, confirm=3)
    one.push(frame(list(range(200))))
    assert one.push(frame(list(range(100)))) == []  # one push, however many rows
    assert points_of(one.push(frame([200]))) == [200]
    assert one.counts["late"] == 100
    assert one.counts["restart"] == 0


@given(st.lists(st.integers(-(10**6), 10**6), max_size=80), st.integers(1, 7))
def test_whatever_the_clock_says_memory_is_bounded_and_the_stream_goes_on(jumps, size) -> None:
    one = buffer(lateness=2, fill=10, confirm=3)
    given_ = 0
    for first in range(0, len(jumps), size):
        piece = jumps[first : first + size]
        one.push(frame(piece))
        given_ += len(piece)
        held = len(one._waiting) + len(one._leap.rows)
        assert held <= 2 + 10 + 3 + 1
    now = 5 * 10**6
    out = [run for step in range(20) for run in one.push(frame([now + step]))]
    assert points_of(out)[-1] == now + 19
    gone = sum(one.counts[name] for name in ("late", "ahead"))
    assert gone <= given_
    assert one.counts["filled"] <= 10 * given_


def test_state_of_another_entity_is_refused() -> None:
    state = buffer().to_state()
    with pytest.raises(ModelError, match="other channels or another period"):
        RowBuffer.from_state(state, RowBuffer(("a",), period=PERIOD))


def test_rows_without_times_and_limits_without_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="without timestamps"):
        buffer().push(Frame(np.ones((1, 3)), np.ones((1, 3), bool), None, NAMES))
    with pytest.raises(UsageError, match="lateness is too small"):
        buffer(lateness=-1)
    with pytest.raises(UsageError, match="period is too small"):
        buffer(period=0)
