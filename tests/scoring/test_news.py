"""News of absence: a few times, for a while, and again after long quiet."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imdiffusion.scoring.absence_fit import FROZEN, LEFT_CONSTANT
from imdiffusion.scoring.news import INCIDENTS, MARGIN, MEMORY, NEWS, NewsFilter

BEFORE = 8  # rows a channel repeats its value before that is one of the kinds


def story(*runs: tuple[int, int, int]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """kind and since (n, 1) of runs (quiet rows before it, rows, code)."""
    kind: list[int] = []
    since: list[int] = []
    for quiet, rows, code in runs:
        kind += [0] * quiet + [code] * rows
        since += [0] * quiet + [BEFORE + k for k in range(rows)]
    return np.array(kind, np.int8)[:, None], np.array(since)[:, None]


def told(*runs: tuple[int, int, int]) -> list[int]:
    """Rows of each run that are news."""
    kind, since = story(*runs)
    news = NewsFilter(1).push(kind, since)[:, 0]
    ends = np.cumsum([quiet + rows for quiet, rows, _ in runs])
    starts = ends - [rows for _, rows, _ in runs]
    assert not news[kind[:, 0] == 0].any()
    return [int(news[a:b].sum()) for a, b in zip(starts, ends, strict=True)]


def test_a_run_is_news_for_a_while() -> None:
    assert told((5, 20, FROZEN)) == [20]
    assert told((5, NEWS + 30, FROZEN)) == [NEWS]


def test_what_happens_time_and_again_is_news_only_where_it_lasts_longer() -> None:
    often = [(50, 10, FROZEN)] * INCIDENTS
    longest = int(MARGIN * (BEFORE + 10))
    assert told(*often, (50, 10, FROZEN)) == [10] * INCIDENTS + [0]
    # Rows from the one on that is beyond the longest by the margin.
    assert told(*often, (50, 40, FROZEN))[-1] == 40 - (longest - BEFORE)


def test_another_kind_and_another_time_are_news() -> None:
    often = [(50, 10, FROZEN)] * INCIDENTS
    assert told(*often, (50, 10, LEFT_CONSTANT))[-1] == 10
    assert told(*often, (MEMORY + 200, 10, FROZEN))[-1] == 10


def test_a_channel_that_often_rests_for_long_is_no_news() -> None:
    kind, since = story((0, 100, FROZEN))
    assert not NewsFilter(1).push(kind, since + NEWS).any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    cuts=st.lists(st.integers(1, 399), max_size=5, unique=True),
    again=st.booleans(),
)
def test_what_is_news_depends_on_the_rows_alone(seed: int, cuts: list[int], again: bool) -> None:
    generator = np.random.default_rng(seed)
    channels = []
    for _ in range(3):
        runs = [
            (int(generator.integers(1, 30)), int(generator.integers(1, 90)), code)
            for code in generator.choice([FROZEN, LEFT_CONSTANT], 12)
        ]
        channels.append(story(*runs, (1, 400, FROZEN)))  # 400 rows at least
    kind, since = (np.concatenate([one[place][:400] for one in channels], 1) for place in (0, 1))
    whole = NewsFilter(3).push(kind, since)
    stream, parts = NewsFilter(3), []
    for rows in np.split(np.arange(len(kind)), sorted(cuts)):
        if again:
            stream = NewsFilter.from_state(stream.to_state(), NewsFilter(3))
        parts.append(stream.push(kind[rows], since[rows]))
    assert np.array_equal(np.concatenate(parts), whole)
