"""After how many rows training repeats itself: found where it does, and not where it does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imdiffusion.data.calendar import LEAST_ROWS, Rhythm, in_words, rhythm_of


def walk(rows, memory, seed):
    """A course with a memory and no rhythm."""
    push = np.random.default_rng(seed).normal(size=rows)
    found = np.zeros(rows)
    for t in range(1, rows):
        found[t] = memory * found[t - 1] + push[t]
    return found


def seen(values):
    return ~np.isnan(values)


@pytest.mark.parametrize("period", [24, 144, 288])
def test_a_season_under_noise_is_found(period):
    wave = np.sin(2 * np.pi * np.arange(20 * period + 1000) / period)
    values = np.stack([1.5 * wave + np.random.default_rng(0).normal(size=len(wave)), -wave], axis=1)
    found = rhythm_of(values, seen(values))
    assert found.channels == 2
    assert abs(found.rows - period) <= max(1, 0.03 * period)


def test_a_nightly_batch_alone_is_a_rhythm():
    values = 5.0 * (np.arange(4000) % 288 < 9) + 0.5 * np.random.default_rng(0).normal(size=4000)
    assert rhythm_of(values[:, None], seen(values)[:, None]) == Rhythm(288, 1)


@pytest.mark.parametrize("memory", [0.0, 0.9, 0.99, 0.999, 1.0])
def test_a_slow_course_is_none(memory):
    values = np.stack([walk(3000, memory, seed) for seed in range(20)], axis=1)
    assert rhythm_of(values, seen(values)) is None


def test_the_rhythm_of_most_channels_counts_and_gaps_are_nothing_to_it():
    t = np.arange(4000)
    values = np.stack([np.sin(2 * np.pi * t / p) for p in (100, 300, 300, 302)], axis=1)
    values = np.concatenate([values, np.zeros((4000, 1)), np.full((4000, 1), np.nan)], axis=1)
    values[np.random.default_rng(0).random(values.shape) < 0.3] = np.nan
    found = rhythm_of(np.nan_to_num(values), seen(values))
    assert found.channels == 3
    assert abs(found.rows - 300) <= 3


def test_too_few_rows_or_cycles_say_nothing():
    wave = np.sin(2 * np.pi * np.arange(LEAST_ROWS) / 50)[:, None]
    assert rhythm_of(wave, seen(wave)) == Rhythm(50, 1)
    assert rhythm_of(wave[1:], seen(wave)[1:]) is None
    slow = np.sin(2 * np.pi * np.arange(1200) / 400)[:, None]
    assert rhythm_of(slow, seen(slow)) is None


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e6), st.floats(-1e6, 1e6), st.integers(5, 150))
def test_units_and_levels_are_nothing_to_it(factor, level, period):
    wave = np.sin(2 * np.pi * np.arange(1500) / period)[:, None]
    found = rhythm_of(factor * wave + level, seen(wave))
    assert found is not None
    assert abs(found.rows - period) <= 1


def test_spans_in_words():
    assert [in_words(s) for s in (5, 100, 5400, 86_400, 360_000)] == [
        "5 s", "100 s", "90 min", "24 h", "4.17 d",
    ]  # fmt: skip
