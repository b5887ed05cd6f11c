"""Windows: every row kept once, whatever the pieces."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from imdiffusion.data.windows import Rows, WindowGrid, starts, window_batches


def series(length: int) -> Rows:
    values = np.arange(length * 2, dtype=np.float32).reshape(length, 2)
    return Rows(values, values >= 0, np.arange(length, dtype=np.int64))


def kept(pieces: list[Rows], **how: int) -> tuple[np.ndarray, list[int]]:
    runs, first = [], []
    for batch in window_batches(pieces, **how):
        assert len(batch.values) <= how["batch"]
        runs.append(batch.stitch(batch.values))
        first += batch.keys[:, 0].tolist()
    return (np.concatenate(runs) if runs else np.empty((0, 2), np.float32)), first


@given(
    st.integers(0, 130),
    st.integers(2, 20),
    st.integers(1, 20),
    st.integers(1, 5),
    st.lists(st.integers(1, 60), max_size=8),
)
def test_every_row_is_kept_once_in_order(
    length: int, window: int, stride: int, batch: int, cuts: list[int]
) -> None:
    stride = min(stride, window)
    rows = series(length)
    edges = np.unique(np.clip(np.cumsum([0, *cuts, length]), 0, length))
    pieces = [rows.slice(a, b) for a, b in itertools.pairwise(edges)]
    whole, windows = kept([rows] if length else [], length=window, stride=stride, batch=batch)
    cut, windows_cut = kept(pieces, length=window, stride=stride, batch=batch)
    expected = rows.values if length >= window else rows.values[:0]
    assert np.array_equal(whole, expected)
    assert np.array_equal(cut, expected)
    assert windows == windows_cut


def test_the_middle_of_a_window_is_kept() -> None:
    # Windows of 100 at stride 50: the first keeps 0..75, the second 75..125, the third 125..200.
    batches = list(window_batches([series(200)], length=100, stride=50, batch=8))
    keep = [k for batch in batches for k in batch.keep]
    assert [k for batch in batches for k in batch.keys[:, 0]] == [0, 50, 100, 100]
    assert keep == [(0, 75), (25, 75), (25, 75), (75, 100)]


def test_starts_end_with_the_series() -> None:
    assert starts(10, 4, 3).tolist() == [0, 3, 6]
    assert starts(11, 4, 3).tolist() == [0, 3, 6, 7]
    assert starts(3, 4, 1).tolist() == []


@given(
    rows=st.integers(0, 90),
    cuts=st.lists(st.integers(0, 40), max_size=8),
    stride=st.integers(1, 12),
    lead=st.none() | st.integers(0, 4),
)
def test_pushed_windows_are_those_of_the_whole_series(rows, cuts, stride, lead) -> None:
    how = {"length": 12, "stride": stride, "batch": 3, "lead": lead}
    if lead is not None and lead + stride > 12:
        return
    edges = np.unique(np.clip(np.cumsum([0, *cuts, rows]), 0, rows))
    grid, found = WindowGrid(**how), []
    for a, b in itertools.pairwise(edges):
        found += list(grid.push(series(rows).slice(int(a), int(b))))
        assert grid.done == grid.final(int(b))
        assert len(grid.held) < 12 + stride
    found += list(grid.finish())
    whole = list(window_batches([series(rows)] if rows else [], **how))
    for name in ("values", "keys"):
        found_, whole_ = (
            [batch.stitch(getattr(batch, name)) for batch in batches] for batches in (found, whole)
        )
        assert sum(map(len, found_)) == sum(map(len, whole_)) == (rows if rows >= 12 else 0)
        if found_:
            assert np.array_equal(np.concatenate(found_), np.concatenate(whole_))
